"""One dispatcher's work on one occurrence: claim, write down, submit, record."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.store import utc_now
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging import failpoints
from usergrowth_dagster.messaging.alerts import post
from usergrowth_dagster.messaging.claims import Claims, Screen
from usergrowth_dagster.messaging.contact import ContactRules, contact_rules, screen
from usergrowth_dagster.messaging.content import render, shown_signature
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Gateway,
    OutBatch,
    OutMessage,
    Result,
)
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.occurrences import Occurrence, change_state
from usergrowth_dagster.messaging.phones import UnknownKeyError
from usergrowth_dagster.messaging.results import Settled, record, record_in
from usergrowth_dagster.messaging.throttle import Bucket
from usergrowth_dagster.settings import Settings

RETRY_AFTER = 60.0
READY = (OccurrenceState.READY, OccurrenceState.SENDING)
_CLAIM_BATCHES = 10
_CLAIM_ROWS = 1_000
"""A claim is for several calls, up to so many rows: a commit less for each of them."""


@dataclass
class DispatchCounts:
    """What one call of ``dispatch`` did, in recipients; ``batches`` in provider calls.

    ``lost`` rows were found submitting with nobody at work on them and are in doubt now;
    ``settled`` doubtful rows got their answer by look-up, ``matched`` rows by a receipt that had
    come before; ``waiting`` rows may not go out yet by the contact rules. ``stopped`` has a
    sentence for each campaign that was stopped, ``failed`` one for each gateway that did not work.
    """

    accepted: int = 0
    rejected: int = 0
    deferred: int = 0
    in_doubt: int = 0
    skipped: int = 0
    waiting: int = 0
    expired: int = 0
    lost: int = 0
    settled: int = 0
    matched: int = 0
    batches: int = 0
    stopped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Step:
    """What came of one claim: rows ``handled``; ``wait`` seconds for tokens; ``over``: no more."""

    handled: int = 0
    wait: float = 0.0
    over: bool = False


class GatewayBrokenError(Exception):
    """The gateway raised; its sentence holds no text of the error, which might hold a number."""


class Sender:
    """Sends one occurrence through a gateway, a claim at a time.

    Args:
        ledger: whose rows.
        claims: this worker's claims.
        gateway: the occurrence's channel's.
        occurrence: what to send.
        settings: rate, contact rules, webhook.
        counts: added to.
    """

    def __init__(
        self,
        ledger: Ledger,
        claims: Claims,
        gateway: Gateway,
        occurrence: Occurrence,
        settings: Settings,
        counts: DispatchCounts,
    ) -> None:
        self.ledger, self.claims, self.gateway = ledger, claims, gateway
        self.occurrence, self.settings, self.counts = occurrence, settings, counts
        self.rules: ContactRules = contact_rules(settings, occurrence.contact)
        self.bucket = Bucket.of(
            gateway.name,
            occurrence.signature,
            settings.gateway_rate or gateway.rate,
            settings.gateway_burst,
        )
        self.claim_rows = max(
            gateway.max_batch, min(_CLAIM_ROWS, _CLAIM_BATCHES * gateway.max_batch)
        )
        self.last = 0  # rows up to here were passed in this round
        self.answered: tuple[int, list[Settled]] | None = None  # not written down yet

    def begin(self) -> None:
        """Mark the occurrence as sending."""
        if self.occurrence.state is OccurrenceState.READY:
            change_state(
                self.ledger.store, self.occurrence, OccurrenceState.SENDING, [OccurrenceState.READY]
            )

    def step(self, clock: Callable[[], datetime]) -> Step:
        """One claim and its calls.

        Raises:
            GatewayBrokenError: the gateway raised; the batch that it was given is in doubt, and
                what was claimed beyond it is planned again.
        """
        claimed = self.claims.claim(
            self.occurrence.id,
            self.claim_rows,
            clock(),
            after=self.last,
            bucket=self.bucket,
            full=self.gateway.max_batch,
        )
        if not claimed.rows:
            if claimed.wait or not self.last:
                return Step(wait=claimed.wait, over=not claimed.wait)
            self.last = 0  # rows that came free meanwhile stand before the others
            return Step()
        failpoints.reach(failpoints.CLAIMED)
        self.last = int(claimed.rows[-1]["id"])
        size = self.gateway.max_batch
        for start in range(0, len(claimed.rows), size):
            part = claimed.rows[start : start + size]
            messages = self._prepare(part)
            if messages and not self._submit(messages, clock()):
                self.claims.give_back()
                return Step(handled=start, over=True)
        self._write_down()
        return Step(handled=len(claimed.rows))

    def _write_down(self) -> None:
        """Record the last answer; mostly that is done together with the next write-ahead."""
        if self.answered is not None:
            record(self.ledger.store, *self.answered)
            self._written()

    def _written(self) -> None:
        self.answered = None
        failpoints.reach(failpoints.RECORDED)

    def _prepare(self, rows: Sequence[dict[str, Any]]) -> list[OutMessage]:
        """The rows' messages; one that cannot be made is skipped and blocks no other."""
        made, bad = [], []
        signature = shown_signature(self.occurrence.channel, self.occurrence.signature)
        for row in rows:
            try:
                params = json.loads(row["template_params"])
                text = render(self.occurrence.content, params, signature)
                phone = self.ledger.vault.open(row["phone_number"])
            except UnknownKeyError:  # the key was rotated: no fault of the row
                raise
            except (UserError, ValueError, TypeError, AttributeError):
                text = None
            if text is None:
                bad.append(Settled(row["id"], MessageState.SKIPPED, "unusable_row"))
                continue
            made.append(
                OutMessage(str(row["id"]), row["user_id"], phone, text, params, row["segments"])
            )
        if bad:
            self.counts.skipped += record(self.ledger.store, None, bad)
        return made

    def _screen(self, now: datetime) -> Screen:
        return partial(
            _screen,
            rules=self.rules,
            occurrence_id=self.occurrence.id,
            channel=self.occurrence.channel,
            signature=self.occurrence.signature,
            template_type=self.occurrence.template_type,
            now=now,
        )

    def _submit(self, messages: Sequence[OutMessage], now: datetime) -> bool:
        """One call of the provider; says whether the occurrence goes on."""
        answered = self.answered
        cleared = self.claims.submitting(
            self.occurrence.id,
            [int(m.out_id) for m in messages],
            self.gateway.name,
            now,
            screen=self._screen(now),
            bucket=self.bucket,
            first=(lambda connection: record_in(connection, *answered)) if answered else None,
        )
        if answered:
            self._written()
        self.counts.skipped += cleared.skipped
        self.counts.waiting += cleared.waiting
        messages = [message for message in messages if int(message.out_id) in cleared.mine]
        if not messages:
            return cleared.open
        failpoints.reach(failpoints.SUBMITTING)
        self.counts.batches += 1
        try:
            results = self.gateway.submit(self._batch(cleared.batch_id, messages))
        except Exception as error:
            why = type(error).__name__[:64]  # the text of the error might hold a number
            doubt = [Settled(int(m.out_id), MessageState.IN_DOUBT, why) for m in messages]
            self.counts.in_doubt += record(self.ledger.store, cleared.batch_id, doubt)
            raise GatewayBrokenError(f"gateway {self.gateway.name}: {why}") from None
        failpoints.reach(failpoints.ANSWERED)
        settled, stop = self._sorted(messages, results)
        self.answered = (cleared.batch_id, settled)
        if stop:
            self._write_down()
            self.stop(f"the gateway {self.gateway.name} stopped the campaign with code {stop}")
        return not stop

    def _batch(self, batch_id: int, messages: Sequence[OutMessage]) -> OutBatch:
        return OutBatch(
            batch_id=str(batch_id),
            schedule=self.occurrence.schedule,
            occurrence=self.occurrence.name,
            channel=self.occurrence.channel,
            signature=self.occurrence.signature,
            template_code=self.occurrence.template_code,
            template_type=self.occurrence.template_type,
            submitted_time=utc_now(),
            messages=messages,
            subject=self.occurrence.subject,
        )

    def _sorted(
        self, messages: Sequence[OutMessage], results: Sequence[Result]
    ) -> tuple[list[Settled], str]:
        """What the answers mean for the rows, and the code of a stop, if any."""
        answers = {result.out_id: result for result in reversed(results)}
        settled, stop = [], ""
        for message in messages:
            result = answers.get(message.out_id) or Result(
                message.out_id, Answer.IN_DOUBT, "no_answer"
            )
            settled.append(_settled(result))
            if result.answer is Answer.ACCEPTED:
                self.counts.accepted += 1
            elif result.answer is Answer.REJECTED:
                self.counts.rejected += 1
            elif result.answer is Answer.IN_DOUBT:
                self.counts.in_doubt += 1
            else:
                self.counts.deferred += 1
            if result.answer is Answer.STOP:
                stop = stop or result.code or "unknown"
        return settled, stop

    def stop(self, reason: str) -> None:
        """Stop the occurrence and tell the webhook; of several workers, one does."""
        store, occurrence = self.ledger.store, self.occurrence
        if not change_state(store, occurrence, OccurrenceState.STOPPED, READY, reason):
            return
        failpoints.reach(failpoints.STOPPING)
        self.counts.stopped.append(f"{occurrence.schedule}: {occurrence.name}: {reason}")
        post(
            self.settings,
            "campaign_stopped",
            schedule=occurrence.schedule,
            occurrence=occurrence.name,
            task=occurrence.task_id,
            reason=reason,
        )

    def finish(self) -> None:
        """Mark the occurrence as done when none of its rows is left to move."""
        finished = change_state(
            self.ledger.store,
            self.occurrence,
            OccurrenceState.DONE,
            READY,
            only_if=lambda connection: not self.ledger.has_open(connection, self.occurrence.id),
        )
        if finished:
            failpoints.reach(failpoints.FINISHED)


def _screen(connection: Any, message_ids: Sequence[int], **rules: Any) -> Sequence[Any]:
    return screen(connection, rules.pop("rules"), message_ids=message_ids, **rules)


def _settled(result: Result) -> Settled:
    """The ledger's form of an answer."""
    row, code = int(result.out_id), result.code or None
    if result.answer in (Answer.DEFERRED, Answer.STOP):
        wait = timedelta(seconds=result.retry_after or RETRY_AFTER)
        retry_at = utc_now() + wait if result.answer is Answer.DEFERRED else None
        return Settled(row, MessageState.PLANNED, result.answer.value, code, None, retry_at)
    reason = None if result.answer is Answer.ACCEPTED else f"provider_{result.answer.value}"
    return Settled(row, MessageState(result.answer.value), reason, code, result.request_id)
