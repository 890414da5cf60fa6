"""Commands about tags: check, run, list, show, groups, words, flow, schema."""

from typing import Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Output, Page, optional_day

app = typer.Typer()
group = typer.Typer(help="What is known of people as tags, RFM groups and AIPL stages (tags.yml).")
app.add_typer(group, name="tags")

Day = Annotated[str, typer.Option("--date", help="Execution date; default: the newest there is.")]
Personal = Annotated[
    bool, typer.Option("--personal", help="Show values of personal tags too; never sensitive ones.")
]
Table = Annotated[str, typer.Argument(help="rfm or aipl.")]


def _table(name: str) -> str:
    from usergrowth_dagster.errors import UserError
    from usergrowth_dagster.tags.flows import GROUPED

    if name not in GROUPED:
        raise UserError(f"{name!r}: choose {' or '.join(GROUPED)}", code="command.invalid")
    return name


@group.command()
def check(as_json: Json = False, home: Home = None) -> None:
    """Check every expression and file of tags.yml; nothing is worked out."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.tags import check_catalogue

    page = Page(as_json)
    types = check_catalogue(Project(open_home(home)))
    page.table("tags", ("tag", "type"), list(types.items()))
    page.finish()


@group.command()
def run(
    day: Annotated[str, typer.Option("--date", help="Execution date; default: today.")] = "",
    again: Annotated[
        bool, typer.Option("--again", help="Also work out tags whose refresh is not due.")
    ] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Work out tags, RFM and AIPL of an execution date; what stands already is not written."""
    from usergrowth_dagster.cli.cells import Count
    from usergrowth_dagster.cli.progress import chain_progress
    from usergrowth_dagster.defs.resources import report_progress
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.tags.run import run_tags

    page = Page(as_json)
    settings = open_home(home)
    with chain_progress():
        project = Project(settings, report_progress)
        made = run_tags(project, optional_day(day) or settings.current_date(), again=again)
    page.table(
        f"tags of {made.day}",
        ("table", "rows", "version", "state"),
        [
            (one.table, Count(one.rows), one.version, "unchanged" if one.unchanged else "written")
            for one in made.tables
        ],
    )
    for notice in made.notices:
        page.say(notice)
    page.finish()


@group.command(name="list")
def list_all(
    day: Day = "", personal: Personal = False, as_json: Json = False, home: Home = None
) -> None:
    """List the tags with their coverage, most frequent values, and how old they are."""
    from usergrowth_dagster.cli.cells import Count, Share
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.tags import view_catalogue

    page = Page(as_json)
    view = view_catalogue(Project(open_home(home)), optional_day(day), personal=personal)
    if view.day is None:
        page.say("no tags have been worked out; `usergrowth tags run` does it")
    page.table(
        f"tags of {view.day}" if view.day else "tags",
        (
            *("tag", "name", "name zh", "type", "from", "owner", "sensitivity", "refresh", "as of"),
            *("users", "share", "values", "remark"),
        ),
        [
            (
                one.key,
                one.name,
                one.name_zh,
                one.type,
                one.source,
                one.owner,
                one.sensitivity,
                one.refresh,
                one.as_of,
                None if one.users is None else Count(one.users),
                None if one.share is None else Share(one.share),
                one.top,
                one.remark,
            )
            for one in view.tags
        ],
    )
    for one in view.tags:
        if one.stale:
            page.say(one.stale)
    page.finish()


@group.command()
def show(
    user: Annotated[str, typer.Argument(help="A user id.")],
    day: Day = "",
    personal: Personal = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show the tags of one person; values of personal and sensitive tags are hidden."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.tags import view_person_tags

    page = Page(as_json)
    project = Project(open_home(home))
    values = view_person_tags(project, user, optional_day(day), personal=personal)
    lines = [(one.key, one.value, one.as_of) for one in values]
    page.table("tags", ("tag", "value", "as of"), lines)
    for one in values:
        if one.stale:
            page.say(one.stale)
    page.finish()


@group.command()
def groups(table: Table, day: Day = "", as_json: Json = False, home: Home = None) -> None:
    """Show the users in each RFM group or AIPL stage, and the rule behind them."""
    from usergrowth_dagster.cli.cells import Count, Share
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.tags import view_groups

    page = Page(as_json)
    view = view_groups(Project(open_home(home)), _table(table), optional_day(day))
    page.table(
        f"{view.table} of {view.day}",
        ("group", "name", "name zh", "users", "share"),
        [(g.code, g.name, g.name_zh, Count(g.users), Share(g.share)) for g in view.groups],
    )
    for rule in view.rules:
        page.say(rule)
    page.finish()


@group.command()
def words(
    item: Annotated[str | None, typer.Option(help="Only this item.")] = None,
    top: Annotated[int, typer.Option(min=1, max=10_000, help="Words that are shown.")] = 20,
    day: Day = "",
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show the words of the items' texts, the most frequent first, or those of one item."""
    from usergrowth_dagster.cli.cells import Count
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.tags import view_words

    page = Page(as_json)
    project = Project(open_home(home))
    view = view_words(project, optional_day(day), item_id=item, top=top)
    page.table(
        f"words of the items of {view.snapshot}",
        ("word", "items", "weight"),
        [(one.word, Count(one.items), round(one.weight, 4)) for one in view.words],
    )
    page.finish()


@group.command()
def flow(
    table: Table,
    first: Annotated[
        str, typer.Option("--from", help="First date; default: the one before the last.")
    ] = "",
    last: Annotated[str, typer.Option("--to", help="Last date; default: the newest.")] = "",
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show who went from which group to which between two dates."""
    from usergrowth_dagster.cli.cells import Count
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.tags import view_flow

    page = Page(as_json)
    made = view_flow(
        Project(open_home(home)), _table(table), optional_day(first), optional_day(last)
    )
    page.table(
        f"{made.table}: users by group before and after",
        made.header,
        [[row[0], *map(Count, row[1:])] for row in made.rows],
    )
    page.finish()


@group.command()
def schema(output: Output = None) -> None:
    """Write the JSON schema of tags.yml, so that editors complete and check its keys."""
    from usergrowth_dagster.cli.common import write_schema
    from usergrowth_dagster.tags.definition import Catalogue
    from usergrowth_dagster.yaml_file import schema_of

    write_schema(schema_of(Catalogue, "usergrowth tags.yml"), output)
