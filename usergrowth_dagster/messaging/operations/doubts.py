"""Settling messages in doubt: the providers are asked, then a person's decisions are recorded."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.dispatching.look_ups import LookedUp, settle
from usergrowth_dagster.messaging.gateways.registry import gateway_named
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.operations.controls import Reconciled, close, release
from usergrowth_dagster.settings import Settings


@dataclass(frozen=True)
class Settlement:
    """What became of messages in doubt.

    ``looked_up`` is by gateway; ``released`` and ``closed`` are None where nothing was asked for;
    ``failed`` has a sentence for each gateway that could not be asked.
    """

    looked_up: dict[str, LookedUp] = field(default_factory=dict)
    released: Reconciled | None = None
    closed: Reconciled | None = None
    failed: tuple[str, ...] = ()


def settle_doubts(
    ledger: Ledger,
    settings: Settings,
    *,
    look_up: bool,
    to_release: Sequence[int],
    to_close: Sequence[int],
    actor: str,
    why: str,
) -> Settlement:
    """Look messages in doubt up, then release or close some.

    Args:
        ledger: holds the messages.
        settings: of the home, for its gateways.
        look_up: ask the providers first.
        to_release: ids of messages that certainly never went out.
        to_close: ids of messages that are not to be sent again.
        actor: who decides.
        why: the reason, kept on record.

    Raises:
        UserError: a message is to be released and closed, or no reason is given.
    """
    if both := sorted(set(to_release) & set(to_close)):
        raise UserError(
            f"message {both[0]} cannot be released and closed at once", code="command.invalid"
        )
    looked_up, failed = _look_up(ledger, settings) if look_up else ({}, [])
    return Settlement(
        looked_up,
        release(ledger.store, to_release, actor, why) if to_release else None,
        close(ledger.store, to_close, actor, why) if to_close else None,
        tuple(failed),
    )


def _look_up(ledger: Ledger, settings: Settings) -> tuple[dict[str, LookedUp], list[str]]:
    looked_up: dict[str, LookedUp] = {}
    failed: list[str] = []
    for name in ledger.doubtful():
        try:
            gateway = gateway_named(settings, name)
        except UserError as error:
            failed.append(f"its messages cannot be looked up: {error}")
            continue
        looked_up[name] = settle(ledger, gateway, everything=True)
        failed += looked_up[name].failed
    return looked_up, failed
