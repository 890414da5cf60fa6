"""The command that goes from an event log to a first audience, by questions or by flags."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Page
from usergrowth_dagster.cli.sources import PasswordEnv, PasswordFile, Query, Table
from usergrowth_dagster.errors import UserError

if TYPE_CHECKING:
    from usergrowth_dagster.quickstart import FirstAudience
    from usergrowth_dagster.sources.suggest import Suggestion

app = typer.Typer()

_ZONE = "Asia/Shanghai"


@app.command()
def quickstart(
    log: Annotated[
        str,
        typer.Option(help="1. Where the log is: a file, a pattern, or the URL of a database."),
    ] = "",
    table: Table = None,
    query: Query = None,
    password_env: PasswordEnv = None,
    password_file: PasswordFile = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="2. Which column is what, as columns.user_id=customer."),
    ] = None,
    timezone: Annotated[str, typer.Option(help="3. Business time zone.")] = "",
    activity: Annotated[
        list[str] | None, typer.Option(help="4. A kind that counts as activity; default: all.")
    ] = None,
    contacts: Annotated[
        Path | None,
        typer.Option(help="5. CSV with user_id and phone; default: fictional numbers, a dry run."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing; take what is proposed.")] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Go from an event log to a first audience: five questions, or the same answers as flags."""
    from usergrowth_dagster.cli.pages.chain import show_chain
    from usergrowth_dagster.cli.progress import chain_progress
    from usergrowth_dagster.quickstart import Answers, corrected, kinds_of, start
    from usergrowth_dagster.sources.databases.keys import is_database_url
    from usergrowth_dagster.views.sources import database_keys, suggest_for

    page, ask = Page(as_json), not (yes or as_json)
    log = log or _asked("1. Where is the log (a file, a pattern, a database's URL)?", "", ask)
    if ask and table is None and query is None and is_database_url(log):
        table, password_env = _asked_of_database(password_env, password_file)
    database = database_keys(log, table, query, password_env, password_file)
    timezone = timezone or _asked("2. Which time zone does the business go by?", _ZONE, ask)
    suggestion = suggest_for(timezone, log, database)
    _show_proposal(suggestion, page)
    source = corrected(suggestion.text, changes or [])
    if ask and not changes:
        source = _corrected(source, page)
    if ask and not activity:
        kinds = kinds_of(timezone, source)
        page.table("Kinds", ("kind", "rows"), kinds)
        answer = _asked("4. Which of them count as activity (separated by commas)?", "all", ask)
        activity = [] if answer == "all" else [one.strip() for one in answer.split(",")]
    if ask and contacts is None:
        answer = _asked("5. A CSV with user_id and phone? none: a dry run", "none", ask)
        contacts = None if answer == "none" else Path(answer)
    with chain_progress():
        audience = start(home, Answers(source, timezone, tuple(activity or ()), contacts), page.say)
    failures = show_chain(audience.report, page)
    if not failures:
        _show_next(audience, page)
    page.finish(failures)


def _asked_of_database(
    password_env: str | None, password_file: str | None
) -> tuple[str, str | None]:
    """The table of a database, and the variable that holds the password; it is never asked for."""
    table = _asked("   Which table of it?", "", ask=True)
    if password_env is None and password_file is None:
        question = "   Which environment variable holds the password? none: no password"
        answer = _asked(question, "none", ask=True)
        password_env = None if answer == "none" else answer
    return table, password_env


def _corrected(source: str, page: Page) -> str:
    """The proposal as a person corrects it, key by key; a wrong correction is asked for again."""
    from usergrowth_dagster.quickstart import corrected

    question = "3. Is that so? Enter, or a key that is not: columns.user_id=customer"
    while change := _asked(question, "", ask=True):
        try:
            source = corrected(source, [change])
        except UserError as error:
            page.say(str(error))
    return source


def _asked(question: str, default: str, ask: bool) -> str:
    """A person's answer; the default where nobody is asked.

    Raises:
        BadParameter: there is no default, and nobody is asked.
    """
    if ask:
        return str(typer.prompt(question, default=default, show_default=bool(default))).strip()
    if not default:
        raise typer.BadParameter("name the log with --log")
    return default


def _show_proposal(suggestion: "Suggestion", page: Page) -> None:
    page.say(suggestion.text)
    page.table(suggestion.counted, list(suggestion.counts), [list(suggestion.counts.values())])


def _show_next(audience: "FirstAudience", page: Page) -> None:
    """Where the audience is, and what comes next."""
    home = shlex.quote(str(audience.home))
    if audience.with_number < audience.people:
        page.say(f"\n{audience.people - audience.with_number:,} people have no phone number.")
    page.say(f"\nThe audience of {audience.execution_date}, with its scores: {audience.output}")
    page.say(
        "Nothing has been sent: the texts wait for a review, and the gateway writes files.\n"
        f"The campaign is {audience.campaign}. Then:\n\n"
        f"  export USERGROWTH_HOME={home}\n"
        "  usergrowth preview first\n"
        "  usergrowth review signature Example\n"
        '  usergrowth review template "first text"\n'
        f"  usergrowth run --date {audience.execution_date}"
    )
