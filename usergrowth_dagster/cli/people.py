"""Commands about people: why, forget, rotate-key, audit."""

from typing import Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Page, day_of, say

app = typer.Typer()


@app.command()
def why(
    user: Annotated[str, typer.Argument(help="User id.")],
    campaign: Annotated[str | None, typer.Option(help="Only this campaign.")] = None,
    day: Annotated[str, typer.Option("--date", help="Only this execution date.")] = "",
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Explain why a person got a message or nothing: decision, ledger, receipts, rules."""
    from usergrowth_dagster.commands.why import explain

    page = Page(as_json)
    explain(home, user, campaign=campaign, day=day_of(day) if day else None, page=page)
    page.finish()


@app.command()
def forget(
    user: Annotated[str, typer.Argument(help="User id.")],
    address: Annotated[
        list[str] | None,
        typer.Option(
            "--phone",
            "--email",
            help="A number or e-mail address of the person, beside those that are found; "
            "may be given repeatedly.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be erased, change nothing.")
    ] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Erase a person everywhere, for good, and keep them suppressed on every channel."""
    from usergrowth_dagster.commands.people import forget_person

    page = Page(as_json)
    page.finish(
        forget_person(home, user, address or [], dry_run=dry_run, say=page.say, table=page.table)
    )


@app.command()
def rotate_key(home: Home = None) -> None:
    """Seal all numbers with a new key; safe beside dispatchers, resumes after a kill."""
    from usergrowth_dagster.commands.people import rotate_key as rotate

    rotate(home, say)


@app.command()
def audit(
    since: Annotated[str, typer.Option(help="Only from this day on.")] = "",
    actor: Annotated[
        str | None, typer.Option(help="Only actors whose name begins so: ann, ann@host.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Number of the newest entries.")] = 200,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show who did what: reviews, pauses, suppressions, erasures, keys."""
    from usergrowth_dagster.commands.people import audit_log

    lines = audit_log(home, day_of(since) if since else None, actor, limit)
    page = Page(as_json)
    if lines or as_json:
        page.table("", ("time", "who", "what", "to what", "detail"), lines)
    else:
        page.say("no entries")
    page.finish()
