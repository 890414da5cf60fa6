"""From rows of the ledger to what a gateway is given."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from usergrowth_dagster.addresses.numbers import Problem, parse
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.store import utc_now
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.dispatching.results import Settled
from usergrowth_dagster.messaging.gateways.protocol import OutBatch, OutMessage
from usergrowth_dagster.messaging.people.phones import PhoneVault, UnknownKeyError
from usergrowth_dagster.messaging.schedules.occurrences import FrozenText, Occurrence
from usergrowth_dagster.messaging.texts.content import render, shown_signature
from usergrowth_dagster.messaging.texts.links import NAME, LinkTokens, short_link


def calls_of(rows: Sequence[dict[str, Any]], size: int) -> list[list[dict[str, Any]]]:
    """The rows of each call of a provider: at most so many, and of one text.

    Calls are in the order of their first rows, so that the texts take turns and none of them goes
    out before the others.
    """
    by_text: dict[str | None, list[dict[str, Any]]] = {}
    for row in rows:
        by_text.setdefault(row["variant"], []).append(row)
    calls = [
        alike[at : at + size] for alike in by_text.values() for at in range(0, len(alike), size)
    ]
    return sorted(calls, key=lambda call: int(call[0]["id"]))


def made_messages(
    vault: PhoneVault, occurrence: Occurrence, rows: Sequence[Mapping[str, Any]]
) -> tuple[list[OutMessage], list[Settled]]:
    """The messages of a call's rows, and those rows of which none can be made.

    Raises:
        UnknownKeyError: the key was rotated, which is no fault of the row.
    """
    made, bad = [], []
    texts: dict[str | None, FrozenText] = {}
    tokens = LinkTokens(vault) if occurrence.link_domain else None
    for row in rows:
        try:
            params = json.loads(row["template_params"])
            if (frozen := texts.get(row["variant"])) is None:
                frozen = texts[row["variant"]] = occurrence.text(row["variant"])
            if frozen.link is not None and tokens is not None:
                params[NAME] = short_link(occurrence.link_domain or "", tokens.token(row["id"]))
            channel = frozen.channel or occurrence.channel
            text = render(frozen.content, params, shown_signature(channel, occurrence.signature))
            phone, problem = _address(vault, vault.open(row["phone_number"]))
        except UnknownKeyError:
            raise
        except (UserError, ValueError, TypeError, AttributeError, KeyError):
            text = None
        if text is None or problem is not None:
            reason = "unusable_row" if text is None else problem
            bad.append(Settled(row["id"], MessageState.SKIPPED, reason))
            continue
        made.append(
            OutMessage(str(row["id"]), row["user_id"], phone, text, params, row["segments"])
        )
    return made, bad


def made_batch(
    occurrence: Occurrence, variant: str | None, batch_id: int, messages: Sequence[OutMessage]
) -> OutBatch:
    """Messages of one text with what they share."""
    text = occurrence.text(variant)
    return OutBatch(
        batch_id=str(batch_id),
        schedule=occurrence.schedule,
        occurrence=occurrence.name,
        channel=occurrence.channel_of(variant),
        signature=occurrence.signature,
        template_code=text.template_code,
        template_type=occurrence.template_type,
        submitted_time=utc_now(),
        messages=messages,
        subject=text.subject,
    )


def _address(vault: PhoneVault, text: str) -> tuple[str, str | None]:
    """What is sent to, and why that is no number: an earlier version planned it as written."""
    if "@" in text:
        return text, None
    number = parse(text, vault.country)
    return (text, str(number)) if isinstance(number, Problem) else (number, None)
