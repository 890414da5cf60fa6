"""Commands of what comes back: the service for providers, replies, and the suppression list."""

from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usergrowth_dagster.cli.common import (
    Home,
    Json,
    LogFormat,
    MetricsHost,
    MetricsPort,
    Page,
    logged,
    say,
)

if TYPE_CHECKING:
    from usergrowth_dagster.messaging.operations.replies import ShownReply

app = typer.Typer()
suppress = typer.Typer(help="Manage the people who must not be texted.", no_args_is_help=True)
app.add_typer(suppress, name="suppress")

Phone = Annotated[
    str | None, typer.Option("--phone", help="Phone number or e-mail address; asked for with '-'.")
]
User = Annotated[str | None, typer.Option("--user", help="User id.")]
Channel = Annotated[str, typer.Option(help="sms, email or * (all).")]
_WIDTH = 120  # characters of a reply that a table shows
Scope = Annotated[str, typer.Option(help="A signature's name, or * (all).")]


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port; default: the setting serve_port.")] = None,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
    log_format: LogFormat = "text",
    home: Home = None,
) -> None:
    """Receive delivery reports and replies from providers, until interrupted."""
    from usergrowth_dagster.homes.home import require_home
    from usergrowth_dagster.monitoring.endpoint import Watched
    from usergrowth_dagster.serve.listening import listen
    from usergrowth_dagster.settings import load_settings

    settings = load_settings(home)
    require_home(settings)
    watched = Watched(log_format, metrics_host, metrics_port)
    speak = say if log_format == "text" else logged("usergrowth.serve")
    listen(settings, host, port or settings.serve_port, speak, watched)


@app.command()
def replies(
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that refused or lifted a refusal.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="Number of the newest replies.")] = 50,
    mark: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Record this reply as a refusal; may be given repeatedly."),
    ] = None,
    reveal: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Show one reply with its number; recorded in the audit log."
        ),
    ] = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show replies that match no known word, numbers masked; mark those that refuse."""
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.homes.stores import open_ledger
    from usergrowth_dagster.messaging.operations.replies import mark_refusal
    from usergrowth_dagster.messaging.operations.replies import reveal as reveal_reply
    from usergrowth_dagster.views.replies import read_replies

    page = Page(as_json)
    with open_ledger(home) as (ledger, settings):
        if mark:
            for reply in mark:
                page.say(mark_refusal(ledger.store, ledger.vault, settings, reply, whoami()))
        elif reveal:
            page.say(reveal_reply(ledger.store, ledger.vault, reveal, whoami()))
        else:
            shown = read_replies(ledger, settings, everything=everything, limit=limit)
            _show_replies(shown, page, everything)
    page.finish()


def _show_replies(replies: "list[ShownReply]", page: Page, everything: bool) -> None:
    page.document(replies)
    if not replies:
        nothing = "no replies that a person should read; --all shows all"
        page.say("no replies" if everything else nothing)
        return
    header = ("id", "received", "gateway", "from", "did", "text")
    lines = [
        (one.id, one.received, one.gateway, one.sender, one.action.replace("_", " "), _short(one))
        for one in replies
    ]
    page.table(f"Replies: {len(replies)}", header, lines)


def _short(reply: "ShownReply") -> str:
    text = " ".join(reply.text.split())
    cut = text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…"
    return f"({reply.note}) {cut}" if reply.note else cut


@suppress.command()
def add(
    phone: Phone = None,
    user: User = None,
    channel: Channel = "sms",
    scope: Scope = "*",
    note: Annotated[str, typer.Option(help="Why, or where it comes from.")] = "",
    home: Home = None,
) -> None:
    """Suppress a person, by number, by user, or both."""
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.control.store import utc_now
    from usergrowth_dagster.homes.stores import open_ledger
    from usergrowth_dagster.messaging.policy import suppression

    phone = _asked(phone)
    with open_ledger(home) as (ledger, _):
        new = suppression.suppress(
            ledger.store,
            ledger.vault,
            phone=phone,
            user_id=user,
            channel=channel,
            scope=scope,
            reason=suppression.BY_HAND,
            source=note or f"by {whoami()}",
            now=utc_now(),
            actor=whoami(),
        )
    say("Suppressed." if new else "Was suppressed already.")


@suppress.command()
def lift(
    phone: Phone = None,
    user: User = None,
    channel: Annotated[str | None, typer.Option(help="Only of this channel.")] = None,
    scope: Annotated[str | None, typer.Option(help="Only of this signature (or *).")] = None,
    forgotten: Annotated[
        bool, typer.Option("--forgotten", help="Also the suppression of a forgotten person.")
    ] = False,
    home: Home = None,
) -> None:
    """Let a person be texted again."""
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.control.store import utc_now
    from usergrowth_dagster.homes.stores import open_ledger
    from usergrowth_dagster.messaging.policy import suppression

    phone = _asked(phone)
    with open_ledger(home) as (ledger, _):
        lifted = suppression.lift(
            ledger.store,
            ledger.vault,
            phone=phone,
            user_id=user,
            channel=channel,
            scope=scope,
            forgotten=forgotten,
            now=utc_now(),
            actor=whoami(),
        )
    say(f"Lifted {lifted} suppressions.")


@suppress.command(name="import")
def load(
    file: Annotated[Path, typer.Argument(help="CSV with the columns phone and/or user_id.")],
    channel: Channel = "sms",
    scope: Scope = "*",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad lines out; default: refuse the file.")
    ] = False,
    home: Home = None,
) -> None:
    """Suppress everybody in a file; optional columns channel, scope, reason, source."""
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.control.store import utc_now
    from usergrowth_dagster.homes.stores import open_ledger
    from usergrowth_dagster.messaging.policy.suppression_files import import_csv

    with open_ledger(home) as (ledger, _):
        done = import_csv(
            ledger.store,
            ledger.vault,
            file,
            channel=channel,
            scope=scope,
            skip_bad=skip_bad,
            now=utc_now(),
            actor=whoami(),
        )
    for problem in done.problems:
        typer.echo(f"skipped: {problem}", err=True)
    if done.skipped > len(done.problems):
        typer.echo(f"skipped: {done.skipped - len(done.problems)} more lines", err=True)
    say(
        f"Read {done.lines} lines: {done.added} suppressions are new, {done.known} were in force "
        f"already, {done.skipped} bad lines were skipped."
    )
    if done.unread:
        say(
            f"The people of {done.unread} lines stay textable, since their numbers cannot be read: "
            "add the country code, or set default_country, and import the file again."
        )


@suppress.command()
def export(
    file: Annotated[Path, typer.Argument(help="CSV file to write; it holds real numbers.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    home: Home = None,
) -> None:
    """Write all suppressions in force to a file that only you can read."""
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.homes.stores import open_ledger
    from usergrowth_dagster.messaging.policy.suppression_files import export_csv

    with open_ledger(home) as (ledger, _):
        done = export_csv(ledger.store, ledger.vault, file, force=force, actor=whoami())
    say(f"Wrote {done.rows} suppressions to {file}.")
    if done.withheld:
        say(f"{done.withheld} more stand for forgotten people, whose numbers nobody has.")


@suppress.command()
def count(as_json: Json = False, home: Home = None) -> None:
    """Count the suppressions in force."""
    from usergrowth_dagster.homes.stores import control_store
    from usergrowth_dagster.views.suppressions import count_suppressions

    with control_store(home) as (store, _):
        counts = count_suppressions(store)
    page = Page(as_json)
    header = ("channel", "scope", "reason", "suppressions")
    page.table("", header, [astuple(count) for count in counts])
    page.finish()


def _asked(phone: str | None) -> str | None:
    """A number that is asked for stays out of the shell's history and the process list."""
    if phone == "-":
        return str(typer.prompt("phone number or e-mail address", hide_input=True))
    return phone
