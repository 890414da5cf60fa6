"""Commands about people: why, forget, rotate-key, audit."""

from dataclasses import astuple
from typing import TYPE_CHECKING, Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Page, day_of, say

if TYPE_CHECKING:
    from usergrowth_dagster.people.forget import ForgetReport

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
    from usergrowth_dagster.cli.pages.why import show_why
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.why import read_why

    wanted = day_of(day) if day else None
    view = read_why(Project(open_home(home)), user, campaign=campaign, day=wanted)
    page = Page(as_json)
    page.document(view.answer)
    show_why(view, page)
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
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.people.forget import forget as erase
    from usergrowth_dagster.project import Project

    project = Project(open_home(home))
    report = erase(project, user, address or [], actor=whoami(), dry_run=dry_run)
    page = Page(as_json)
    _show_erased(report, page)
    if dry_run:
        page.say(
            f"Nothing was changed. With {report.addresses} known addresses the person would be "
            f"suppressed in every channel, and stand as {report.name} in the ledger."
        )
    else:
        what = "Erased" if report.anything else "Nothing was left to erase"
        page.say(
            f"{what}; {report.name} stays suppressed in every channel, with {report.addresses} "
            "addresses found. Landing files are left as they are: rows of the person are set aside "
            "(rule forgotten) whenever they land."
        )
    page.finish(report.failures)


def _show_erased(report: "ForgetReport", page: Page) -> None:
    lines: list[tuple[object, ...]] = [
        (f"table {erased.table}", erased.rows, erased.days, erased.files)
        for erased in report.tables
        if erased.rows or erased.files
    ]
    lines += [
        (f"ledger: {name}" if name.startswith("message") else name, rows, None, None)
        for name, rows in report.store.items()
        if rows
    ]
    lines += [
        (f"output.csv of {task}", rows, None, None) for task, rows in report.outputs.items() if rows
    ]
    if report.outbox:
        lines.append(("outbox", report.outbox, None, None))
    if report.touches:
        lines.append(("landed touches and clicks", report.touches, None, None))
    if report.uploads:
        lines.append(("uploads of segments", report.uploads, None, None))
    if report.sources:
        lines.append(("rows of sources", report.sources, None, None))
    if report.exports:
        lines.append(("rows of exported files", report.exports, None, None))
    if report.affinity:
        lines.append(("rows of affinity jobs' results", report.affinity, None, None))
    if report.recommenders:
        lines.append(("files of recommendations", report.recommenders, None, None))
    if lines:
        page.table("", ("where", "rows", "days rewritten", "files removed"), lines)


@app.command()
def rotate_key(home: Home = None) -> None:
    """Seal all numbers with a new key; safe beside dispatchers, resumes after a kill."""
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.messaging.people.rotation import rotate
    from usergrowth_dagster.project import Project

    project = Project(open_home(home))
    done = rotate(project.store, project.settings.home, whoami(), None)
    if done.resealed:
        counts = ", ".join(f"{number:,} of {name}" for name, number in done.resealed.items())
        say(f"Sealed again with key {done.key_id}: {counts}.")
    if done.todo:
        say(f"To do: {done.todo}.")
    elif done.resealed:
        say(f"The old key is gone; keep a copy of {project.settings.home / 'secret.key'} apart.")


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
    from usergrowth_dagster.homes.home import open_home
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.views.audit import read_audit

    first = day_of(since) if since else None
    entries = read_audit(Project(open_home(home)), since=first, actor=actor, limit=limit)
    page = Page(as_json)
    if entries or as_json:
        header = ("time", "who", "what", "to what", "detail")
        page.table("", header, [astuple(entry) for entry in entries])
    else:
        page.say("no entries")
    page.finish()
