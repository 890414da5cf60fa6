"""Commands of registered models: models list, show, approve, reject, rollback."""

from typing import Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Page, say
from usergrowth_dagster.learning.problems import problems

app = typer.Typer()
models = typer.Typer(no_args_is_help=True, help="Show and review registered model versions.")
app.add_typer(models, name="models")

Name = Annotated[str, typer.Argument(help=", ".join(problems()))]
Version = Annotated[int, typer.Argument(help="Its number.")]
Why = Annotated[str, typer.Option("--why", help="The reason, kept with the version.")]


@models.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(help="Only this model.")] = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """List every version: its status, who decided it, and whether it scores today."""
    from usergrowth_dagster.commands.models import list_models

    page = Page(as_json)
    list_models(home, name, page)
    page.finish()


@models.command()
def show(name: Name, version: Version, as_json: Json = False, home: Home = None) -> None:
    """Show the model card of a version: its question, quality, slices and limits."""
    from usergrowth_dagster.commands.models import show_model

    page = Page(as_json)
    show_model(home, name, version, page)
    page.finish()


@models.command()
def approve(name: Name, version: Version, why: Why = "", home: Home = None) -> None:
    """Let a version score; one that was rejected or retired needs --why."""
    from usergrowth_dagster.commands.models import review_model

    review_model(home, name, version, approve=True, why=why, say=say)


@models.command()
def reject(name: Name, version: Version, why: Why = "", home: Home = None) -> None:
    """Never let a version score; needs --why."""
    from usergrowth_dagster.commands.models import review_model

    review_model(home, name, version, approve=False, why=why, say=say)


@models.command()
def rollback(
    name: Name,
    version: Annotated[
        int | None, typer.Argument(help="Its number; default: the version that scores.")
    ] = None,
    why: Why = "",
    home: Home = None,
) -> None:
    """Take an approved version back, so that the one before it scores again; needs --why."""
    from usergrowth_dagster.commands.models import rollback_model

    rollback_model(home, name, version, why=why, say=say)
