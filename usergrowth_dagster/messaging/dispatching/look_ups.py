"""Settle doubtful rows by asking the provider what became of them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.store import utc_now
from usergrowth_dagster.messaging.dispatching import failpoints
from usergrowth_dagster.messaging.dispatching.results import Settled, record
from usergrowth_dagster.messaging.gateways.cleaning import one_finding_each
from usergrowth_dagster.messaging.gateways.protocol import Finding, Gateway, Inquiry
from usergrowth_dagster.messaging.ledger import Ledger

FIRST_AGAIN = timedelta(minutes=1)
LAST_AGAIN = timedelta(hours=6)
_PAGE = 100
_SECONDS = 20.0


@dataclass
class LookedUp:
    """What a round of look-ups found; ``failed`` has a sentence when the provider could not say."""

    settled: int = 0
    unknown: int = 0
    failed: list[str] = field(default_factory=list)


def settle(
    ledger: Ledger,
    gateway: Gateway,
    *,
    first_again: timedelta = FIRST_AGAIN,
    everything: bool = False,
) -> LookedUp:
    """Ask a gateway for its doubtful rows; those that it does not know stay in doubt.

    A row that is not known is asked for again when its age has doubled, at least ``first_again``
    and at most six hours later, so that old doubts do not use up the provider's patience. A round
    ends after some seconds, and the next one goes on.

    Args:
        ledger: whose rows.
        gateway: the provider that was given the rows.
        first_again: shortest time between two look-ups of a row.
        everything: ask for all rows now, without a limit of time.
    """
    done, last, began = LookedUp(), 0, time.monotonic()
    while rows := ledger.in_doubt(
        gateway.name, last, _PAGE, asked_before=None if everything else utc_now()
    ):
        last = int(rows[-1]["id"])
        try:
            # The address of a forgotten person is gone: only a report can settle such a row.
            asked = [row for row in rows if row["phone_number"]]
            findings = gateway.look_up([_inquiry(ledger, row) for row in asked]) if asked else []
            known = one_finding_each((str(row["id"]) for row in asked), findings)
        except Exception as error:
            why = type(error).__name__  # its text might hold a number
            done.failed.append(f"gateway {gateway.name}: the look-up failed with {why}")
            ledger.ask_again(_again(rows, first_again))  # a provider in trouble is not pressed
            return done
        failpoints.reach(failpoints.LOOKED_UP)
        done.settled += record(ledger.store, None, [_settled(one) for one in known.values()])
        unknown = [row for row in rows if str(row["id"]) not in known]
        done.unknown += len(unknown)
        ledger.ask_again(_again(unknown, first_again))
        failpoints.reach(failpoints.SETTLED)
        if not everything and time.monotonic() - began > _SECONDS:
            break
    return done


def _inquiry(ledger: Ledger, row: Mapping[str, Any]) -> Inquiry:
    return Inquiry(
        out_id=str(row["id"]),
        schedule=row["schedule"],
        occurrence=row["occurrence"],
        submitted_time=row["submitted_time"],
        phone=ledger.vault.open(row["phone_number"]),
        request_id=row["request_id"],
        batch_id=str(row["batch_id"]),
    )


def _settled(finding: Finding) -> Settled:
    return Settled(
        int(finding.out_id),
        MessageState(finding.found.value),
        "looked_up",
        finding.code or None,
        finding.request_id,
    )


def _again(rows: Sequence[Mapping[str, Any]], first_again: timedelta) -> dict[datetime, list[int]]:
    """When each row is asked for next; rows of one batch at one time."""
    now = utc_now()
    by_time: dict[datetime, list[int]] = {}
    for row in rows:
        age = now - row["submitted_time"]
        by_time.setdefault(now + min(max(age, first_again), LAST_AGAIN), []).append(row["id"])
    return by_time
