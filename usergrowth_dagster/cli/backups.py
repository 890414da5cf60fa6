"""Commands of copies of a home: make one, restore it, and decide on what the restore holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usergrowth_dagster.cli.common import Home, Json, Page, say, warn

if TYPE_CHECKING:
    from usergrowth_dagster.messaging.operations.holds import Decided

app = typer.Typer()

Secrets = Annotated[
    Path | None,
    typer.Option(
        "--secrets",
        help="Folder for the secret key and the credentials; default: secrets in the copy.",
    ),
]


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="New folder for the copy.")],
    secrets: Secrets = None,
    home: Home = None,
) -> None:
    """Copy a home, consistently, while it goes on working."""
    from usergrowth_dagster.homes.backup import make_backup
    from usergrowth_dagster.settings import load_settings

    made = make_backup(load_settings(home), folder, secrets_folder=secrets)
    say(
        f"Made {folder}: {len(made.files):,} files, {made.size / 1e6:,.1f} MB, "
        f"{len(made.tables)} tables, as of {made.copied:%Y-%m-%d %H:%M:%S} UTC."
    )
    if made.secrets:
        place = folder / "secrets" if secrets is None else secrets
        say(f"{place} holds {' and '.join(made.secrets)}: who has them reads every number.")
    for sentence in made.left_out:
        warn(sentence)


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="Folder of the copy.")],
    home: Annotated[Path, typer.Option("--home", help="New home folder.")],
    secrets: Secrets = None,
) -> None:
    """Make a new home from a copy; hold every message that may have gone out since."""
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.homes.restore import restore_backup

    restored = restore_backup(folder, home, whoami(), secrets_folder=secrets)
    since = f"{restored.manifest.copied:%Y-%m-%d %H:%M:%S} UTC"
    say(f"Made {restored.home} from the copy of {since}.")
    say(
        f"{restored.held:,} messages may have gone out since and are held: the next dispatch looks "
        "them up; then usergrowth held shows the rest."
    )
    warn(
        "never send from this home and from the one that was copied: stop dispatch, dev and serve "
        "there first"
    )
    warn(
        f"refusals, replies and reports that came after {since} are not in this home: have your "
        "providers send them again, and import your do-not-call list, before anything is sent"
    )
    warn(f"people who were forgotten after {since} are back: run usergrowth forget for them again")
    for sentence in restored.manifest.left_out:
        warn(sentence)


@app.command()
def held(
    release: Annotated[
        str, typer.Option(metavar="NAME", help="Schedule or campaign to send after all.")
    ] = "",
    cancel: Annotated[
        str, typer.Option(metavar="NAME", help="Schedule or campaign that is not to be sent.")
    ] = "",
    why: Annotated[
        str, typer.Option(help="The reason, kept on record; --release and --cancel need it.")
    ] = "",
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show the messages that a restore holds; release them, or cancel them."""
    from usergrowth_dagster.control.audit import whoami
    from usergrowth_dagster.homes.stores import open_ledger
    from usergrowth_dagster.messaging.operations.holds import (
        close_held,
        held_messages,
        release_held,
    )

    if release and cancel:
        raise typer.BadParameter("--release and --cancel exclude each other; give one of them")
    page = Page(as_json)
    with open_ledger(home) as (ledger, settings):
        if release:
            _say(page, release_held(ledger, settings, release, whoami(), why), "released")
        if cancel:
            _say(page, close_held(ledger.store, cancel, whoami(), why), "cancelled")
        rows = held_messages(ledger.store)
        zone = settings.zone
    header = ("schedule", "occurrence", "gateway", "people", "asked", "send_by")
    page.table(
        "Held since a restore",
        header,
        [
            (
                *(one.schedule, one.occurrence, one.gateway, one.people, one.asked),
                one.send_by.astimezone(zone),
            )
            for one in rows
        ],
    )
    page.finish()


def _say(page: Page, decided: "Decided", word: str) -> None:
    if decided.settled:
        page.say(f"{decided.settled} messages are known to their gateway and stay sent")
    page.say(f"{decided.done.changed} messages {word}")
    if decided.done.cancelled:
        page.say(
            f"{decided.done.cancelled} belong to a cancelled occurrence and are not sent; "
            "cancel them here too"
        )
