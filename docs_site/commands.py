"""The page of the commands, as typer describes them."""

from typer import Context
from typer.cli import get_docs_for_click
from typer.main import get_command

from usergrowth_dagster.cli import app


def page() -> str:
    """Every command with its arguments and options."""
    command = get_command(app)
    context = Context(command, info_name="usergrowth")
    return get_docs_for_click(obj=command, ctx=context, name="usergrowth", title="Commands")
