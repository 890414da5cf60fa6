"""Commands of what comes back: the service for providers, replies, and the suppression list."""

from pathlib import Path
from typing import Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Page, say

app = typer.Typer()
suppress = typer.Typer(help="Manage the people who must not be texted.", no_args_is_help=True)
app.add_typer(suppress, name="suppress")

Phone = Annotated[
    str | None, typer.Option("--phone", help="Phone number or e-mail address; asked for with '-'.")
]
User = Annotated[str | None, typer.Option("--user", help="User id.")]
Channel = Annotated[str, typer.Option(help="sms, email or * (all).")]
Scope = Annotated[str, typer.Option(help="A signature's name, or * (all).")]


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port; default: the setting serve_port.")] = None,
    home: Home = None,
) -> None:
    """Receive delivery reports and replies from providers, until interrupted."""
    from usergrowth_dagster.commands.serve import serve as listen
    from usergrowth_dagster.settings import load_settings

    settings = load_settings(home)
    listen(settings, host, port or settings.serve_port, say)


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
    from usergrowth_dagster.commands.replies import mark_replies, reveal_reply, show_replies

    page = Page(as_json)
    if mark:
        mark_replies(home, mark, page.say)
    elif reveal:
        reveal_reply(home, reveal, page.say)
    else:
        show_replies(home, page, everything=everything, limit=limit)
    page.finish()


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
    from usergrowth_dagster.commands import suppressions

    new = suppressions.add(home, _asked(phone), user, channel, scope, note)
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
    from usergrowth_dagster.commands import suppressions

    lifted = suppressions.lift(home, _asked(phone), user, channel, scope, forgotten)
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
    from usergrowth_dagster.commands import suppressions

    done = suppressions.load(home, file, channel, scope, skip_bad)
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
    from usergrowth_dagster.commands import suppressions

    done = suppressions.save(home, file, force)
    say(f"Wrote {done.rows} suppressions to {file}.")
    if done.withheld:
        say(f"{done.withheld} more stand for forgotten people, whose numbers nobody has.")


@suppress.command()
def count(as_json: Json = False, home: Home = None) -> None:
    """Count the suppressions in force."""
    from usergrowth_dagster.commands import suppressions

    page = Page(as_json)
    page.table("", ("channel", "scope", "reason", "suppressions"), suppressions.count(home))
    page.finish()


def _asked(phone: str | None) -> str | None:
    """A number that is asked for stays out of the shell's history and the process list."""
    if phone == "-":
        return str(typer.prompt("phone number or e-mail address", hide_input=True))
    return phone
