"""Commands about landing files: quarantine."""

from typing import TYPE_CHECKING, Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Page, day_of

if TYPE_CHECKING:
    from usergrowth_dagster.warehouse.quarantine import Rejects

app = typer.Typer()


@app.command()
def quarantine(
    name: Annotated[
        str | None,
        typer.Option(
            "--table", help="user, item, behavior, operation, identity, population[.<task>]."
        ),
    ] = None,
    day: Annotated[str, typer.Option("--date", help="Landing day, or execution date.")] = "",
    rule: Annotated[str | None, typer.Option(help="Only rows that break this rule.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Rows that are listed at most.")] = 20,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show rejected rows: file, line, every rule they break, and the value seen."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.quarantine import read_quarantine

    project, chosen = Project(open_home(home)), day_of(day) if day else None
    rejects = read_quarantine(project, table=name, day=chosen, rule=rule, limit=limit)
    page = Page(as_json)
    page.document(rejects)
    show_rejects(rejects, page, chosen=bool(name or day or rule))
    page.finish()


def show_rejects(rejects: "Rejects", page: Page, *, chosen: bool) -> None:
    """Print how many rows were rejected by what, and the first of them.

    Args:
        rejects: what was read.
        page: where they are shown.
        chosen: whether they are only some of all.
    """
    from usergrowth_dagster.cli.cells import Count

    if not rejects.total:
        page.say("no rejected rows" + (" match" if chosen else ""))
        return
    counts = [(one.day, one.table, one.column, one.rule, Count(one.rows)) for one in rejects.counts]
    page.table("Rejected rows", ("date", "table", "column", "rule", "rows"), counts)
    page.say("")
    for one in rejects.rows:
        page.say(f"{one.file}:{one.line}  {one.broken}")
        if one.row is not None:
            page.say(f"    {one.row}")
    if rejects.total > len(rejects.rows):
        page.say(
            f"and {rejects.total - len(rejects.rows):,} more; give --limit, or choose by --table, "
            "--date and --rule"
        )
