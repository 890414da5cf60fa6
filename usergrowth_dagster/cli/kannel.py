"""The command of the local Kannel."""

import typer

from usergrowth_dagster.cli.common import Home, say

app = typer.Typer()


@app.command()
def kannel(home: Home = None) -> None:
    """Run a local Kannel with a fake operator and the receiver of its reports, to try sending."""
    from usergrowth_dagster.examples.kannel import serve_kannel
    from usergrowth_dagster.homes.home import open_home

    serve_kannel(open_home(home), say)
