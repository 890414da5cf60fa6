"""Commands of campaigns: apply, review."""

from pathlib import Path
from typing import Annotated

import typer

from usergrowth_dagster.cli.common import Home, say

app = typer.Typer()


@app.command()
def apply(
    files: Annotated[
        list[Path], typer.Option("--file", "-f", help="Campaign YAML; may be given repeatedly.")
    ],
    home: Home = None,
) -> None:
    """Create or update campaigns from their YAML files; the same file twice changes nothing."""
    from usergrowth_dagster.commands.campaigns import apply_files

    for line in apply_files(home, files):
        say(line)


@app.command()
def review(
    kind: Annotated[str, typer.Argument(help="signature or template")],
    name: Annotated[str, typer.Argument(help="its name")],
    approve: Annotated[bool, typer.Option("--approve/--reject")] = True,
    reason: Annotated[str | None, typer.Option(help="why, kept in its history")] = None,
    home: Home = None,
) -> None:
    """Approve or reject a signature or a template; only approved ones are sent."""
    from usergrowth_dagster.commands.campaigns import review_record

    say(review_record(home, kind, name, approve, reason))
