"""Replies for a person to read, and the mark of those that refuse."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from usergrowth_dagster.commands.show import Say, Shows
from usergrowth_dagster.commands.suppressions import open_ledger
from usergrowth_dagster.control.audit import whoami
from usergrowth_dagster.messaging.operations.replies import (
    ShownReply,
    mark_refusal,
    read_replies,
    reveal,
)

_WIDTH = 120


def show_replies(home: Path | None, page: Shows, *, everything: bool, limit: int) -> None:
    """Print the newest replies, with numbers masked."""
    with open_ledger(home) as (ledger, settings):
        replies = read_replies(ledger.store, ledger.vault, everything=everything, limit=limit)
        zone = settings.zone
    replies = [replace(one, received=one.received.astimezone(zone)) for one in replies]
    page.document(replies)
    if not replies:
        nothing = "no replies that a person should read; --all shows all"
        page.say("no replies" if everything else nothing)
        return
    header = ("id", "received", "gateway", "from", "did", "text")
    page.table(
        f"Replies: {len(replies)}",
        header,
        [
            (
                one.id,
                one.received,
                one.gateway,
                one.sender,
                one.action.replace("_", " "),
                _short(one),
            )
            for one in replies
        ],
    )


def _short(one: ShownReply) -> str:
    text = " ".join(one.text.split())
    cut = text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…"
    return f"({one.note}) {cut}" if one.note else cut


def mark_replies(home: Path | None, ids: Sequence[str], say: Say) -> None:
    """Take replies for refusals."""
    with open_ledger(home) as (ledger, settings):
        for given in ids:
            say(mark_refusal(ledger.store, ledger.vault, settings, given, whoami()))


def reveal_reply(home: Path | None, given: str, say: Say) -> None:
    """Print a reply in the clear."""
    with open_ledger(home) as (ledger, _):
        say(reveal(ledger.store, ledger.vault, given, whoami()))
