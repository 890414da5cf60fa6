"""Commands that look back at decisions: replay."""

from typing import Annotated

import typer

from usergrowth_dagster.cli.common import Home, finish, say, table

app = typer.Typer()


@app.command()
def replay(
    task: Annotated[str | None, typer.Argument(help="The task.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every task with a decision.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
    home: Home = None,
) -> None:
    """Rebuild a decision from what it was made from; fails when it is not what was decided."""
    from usergrowth_dagster.commands.replay import replay as run

    finish(run(home, task, every=every, as_json=as_json, say=say, table=table))
