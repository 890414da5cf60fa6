"""Commands about landing files: quarantine."""

from typing import Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Page, day_of

app = typer.Typer()


@app.command()
def quarantine(
    name: Annotated[
        str | None,
        typer.Option("--table", help="user, item, behavior, operation, population[.<task>]."),
    ] = None,
    day: Annotated[str, typer.Option("--date", help="Landing day, or execution date.")] = "",
    rule: Annotated[str | None, typer.Option(help="Only rows that break this rule.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Rows that are listed at most.")] = 20,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show rejected rows: file, line, every rule they break, and the value seen."""
    from usergrowth_dagster.commands.quarantine import show_quarantine

    page = Page(as_json)
    chosen = day_of(day) if day else None
    show_quarantine(home, page, table=name, day=chosen, rule=rule, limit=limit)
    page.finish()
