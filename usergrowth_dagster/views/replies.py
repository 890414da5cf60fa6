"""Replies that a person should read, with numbers masked."""

from dataclasses import replace

from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.operations import replies
from usergrowth_dagster.messaging.operations.replies import ShownReply
from usergrowth_dagster.settings import Settings


def read_replies(
    ledger: Ledger, settings: Settings, *, everything: bool, limit: int
) -> list[ShownReply]:
    """The newest replies, newest first, on the clock of the business time zone.

    Args:
        ledger: whose key opens what is sealed.
        settings: of the home.
        everything: also the replies that refused or lifted a refusal.
        limit: at most so many.
    """
    shown = replies.read_replies(ledger.store, ledger.vault, everything=everything, limit=limit)
    return [replace(one, received=one.received.astimezone(settings.zone)) for one in shown]
