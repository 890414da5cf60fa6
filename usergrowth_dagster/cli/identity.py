"""Commands about identity: check, run, show, conflicts, history, suggest, schema."""

from typing import TYPE_CHECKING, Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Output, Page, day_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usergrowth_dagster.identity.answers import Answer
    from usergrowth_dagster.views.identity import ShownConflict, Suggestions

app = typer.Typer()
group = typer.Typer(help="One person behind many ids, by the types of <home>/identity.yml.")
app.add_typer(group, name="identity")

Day = Annotated[str, typer.Option("--date", help="Execution date; default: today.")]
MadeDay = Annotated[str, typer.Option("--date", help="Execution date; default: the newest made.")]
Limit = Annotated[int, typer.Option(min=0, help="Rows that are listed at most.")]


@group.command()
def check(day: Day = "", as_json: Json = False, home: Home = None) -> None:
    """Read identity.yml and count what has landed by type; nothing is written."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.identity import check_identity

    page = Page(as_json)
    look = check_identity(Project(open_home(home)), day_of(day) if day else None)
    page.say(f"{look.origin}; {look.rows:,} rows landed before {look.execution_date}.")
    page.section(
        "types",
        ("type", "priority", "rule", "rows", "ids"),
        [(one.name, one.priority, one.rule, one.rows, one.ids) for one in look.types],
    )
    page.table("rows that cannot link", ("reason", "rows"), list(look.left_out.items()))
    page.finish()


@group.command()
def run(day: Day = "", as_json: Json = False, home: Home = None) -> None:
    """Land identity/ and make the persons of a date of all links before it."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.identity import run_identity

    page = Page(as_json)
    ran = run_identity(Project(open_home(home)), day_of(day) if day else None)
    page.say(f"{ran.rows_landed:,} rows landed.")
    if ran.rows_quarantined:
        page.say(
            f"{ran.rows_quarantined:,} rows break the contract and are set aside: "
            "usergrowth quarantine --table identity."
        )
    for notice in ran.notices:
        page.say(f"{notice}.")
    page.say(f"{ran.made.sentence}.")
    page.document(ran)
    page.finish()


@group.command()
def show(
    user: Annotated[str, typer.Argument(help="The user.")],
    day: MadeDay = "",
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show the person of a user: other users, ids (masked), and links that join nobody."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.identity import show_person

    page = Page(as_json)
    person = show_person(Project(open_home(home)), user, day_of(day) if day else None)
    page.document(person)
    if person.one_id is None:
        page.say(f"user {user} has no id that links on {person.execution_date}")
    else:
        page.say(f"user {user} is {person.one_id} since {person.since}")
    page.section("users", ("user",), [(one,) for one in person.users])
    page.section(
        "ids",
        ("user", "type", "value", "source", "rows", "first day", "last day"),
        [
            (one.user, one.id_type, one.value, one.source, one.rows, one.first_day, one.last_day)
            for one in person.ids
        ],
    )
    _show_conflicts(page, person.conflicts)
    if person.users_in_all > len(person.users) or person.ids_in_all > len(person.ids):
        page.say(f"{person.users_in_all:,} users and {person.ids_in_all:,} ids in all.")
    page.finish()


def _show_conflicts(page: Page, links: "Sequence[ShownConflict]") -> None:
    page.table(
        "links that join nobody",
        ("reason", "type", "id", "user", "because", "person", "other", "source", "seen", "rows"),
        [
            (
                one.reason,
                one.id_type,
                one.id,
                one.user,
                one.because,
                one.one_id,
                one.other_one_id,
                one.source,
                one.first_seen,
                one.rows,
            )
            for one in links
        ],
    )


@group.command()
def conflicts(
    day: MadeDay = "",
    reason: Annotated[str | None, typer.Option(help="Only links with this reason.")] = None,
    limit: Limit = 20,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """List the links that join nobody, and why."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.identity import read_conflicts

    page = Page(as_json)
    chosen = day_of(day) if day else None
    listed = read_conflicts(Project(open_home(home)), chosen, reason, limit)
    page.document(listed)
    page.section(
        f"{listed.execution_date}",
        ("reason", "type", "links", "rows", "meaning"),
        [(one.reason, one.id_type, one.links, one.rows, one.meaning) for one in listed.counts],
    )
    _show_conflicts(page, listed.links)
    in_all = sum(one.links for one in listed.counts)
    if in_all > len(listed.links):
        page.say(f"{in_all - len(listed.links):,} more; give --limit, or choose by --reason")
    page.finish()


@group.command()
def history(
    one_id: Annotated[
        str | None, typer.Argument(help="Only changes from or to this one_id.")
    ] = None,
    limit: Limit = 20,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """List who became whom, when, and through which link; newest first."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.identity import read_history

    page = Page(as_json)
    listed = read_history(Project(open_home(home)), one_id, limit)
    page.document(listed)
    page.section(
        "changes by date",
        ("date", "why", "changes"),
        [(one.execution_date, one.why, one.changes) for one in listed.counts],
    )
    page.table(
        "newest changes",
        ("date", "why", "old", "new", "type", "source", "ids"),
        [
            (c.execution_date, c.why, c.old, c.new, c.id_type, c.source, c.ids)
            for c in listed.changes
        ],
    )
    in_all = sum(one.changes for one in listed.counts)
    if in_all > len(listed.changes):
        page.say(f"{in_all - len(listed.changes):,} more; give --limit")
    page.finish()


@group.command()
def schema(output: Output = None) -> None:
    """Write the JSON schema of identity.yml, so that editors complete and check its keys."""
    from usergrowth_dagster.cli.common import write_schema
    from usergrowth_dagster.identity.definition import Identity
    from usergrowth_dagster.yaml_file import schema_of

    write_schema(schema_of(Identity, "usergrowth identity.yml"), output)


@group.command()
def suggest(
    day: Day = "",
    limit: Limit = 20,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Find pairs of users who may be one person although no id links them; nobody is joined."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.identity.suggest import suggest as find
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.identity import list_suggestions

    page = Page(as_json)
    project = Project(open_home(home))
    made = find(project, day_of(day) if day else project.settings.current_date())
    page.say(f"{made.sentence}.")
    page.document(made)
    _show_suggestions(page, list_suggestions(project, limit))
    page.finish()


@group.command()
def suggestions(
    every: Annotated[bool, typer.Option("--all", help="Pairs with an answer too.")] = False,
    limit: Limit = 20,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """List the pairs of users who may be one person."""
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.identity import list_suggestions

    page = Page(as_json)
    listed = list_suggestions(Project(open_home(home)), limit, answered=every)
    page.document(listed)
    _show_suggestions(page, listed)
    page.finish()


def _show_suggestions(page: Page, listed: "Suggestions") -> None:
    page.say(f"{listed.waiting:,} pairs wait for an answer, {listed.answered:,} have one.")
    page.table(
        "pairs that may be one person",
        ("user", "other", "chance", "agree on", "differ in", "answer"),
        [
            (one.user, one.other, f"{one.chance:.4f}", one.agree, one.differ, one.answer)
            for one in listed.pairs
        ],
    )


@group.command()
def approve(
    user: Annotated[str, typer.Argument(help="One user of a suggested pair.")],
    other: Annotated[str, typer.Argument(help="The other.")],
    home: Home = None,
) -> None:
    """Link both users of a suggested pair."""
    _answer(user, other, "approved", home)


@group.command()
def reject(
    user: Annotated[str, typer.Argument(help="One user of a suggested pair.")],
    other: Annotated[str, typer.Argument(help="The other.")],
    home: Home = None,
) -> None:
    """Keep a suggested pair from being suggested again."""
    _answer(user, other, "rejected", home)


def _answer(user: str, other: str, said: "Answer", home: Home) -> None:
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.identity.answers import answer
    from usergrowth_dagster.project import Project

    page = Page(False)
    page.say(f"{answer(Project(open_home(home)), user, other, said, whoami())}.")
    page.finish()
