"""One dispatcher's work on one occurrence: claim, write down, submit, record.

While a batch is with the provider, the next one is written ahead; it is handed over only when the
answer is there, and taken back when that says stop, or when somebody refused, paused or cancelled
meanwhile. So a crash leaves at most two batches that may have gone out, and one that did not.
"""

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.store import utc_now
from usergrowth_dagster.messaging.dispatching import failpoints
from usergrowth_dagster.messaging.dispatching.alerts import post
from usergrowth_dagster.messaging.dispatching.claims import Claims, Cleared, Screen
from usergrowth_dagster.messaging.dispatching.outgoing import calls_of, made_batch, made_messages
from usergrowth_dagster.messaging.dispatching.results import (
    DispatchCounts,
    Settled,
    is_of_the_values,
    record,
    record_in,
    sort_answers,
)
from usergrowth_dagster.messaging.dispatching.throttle import Bucket, close_circuit, open_circuit
from usergrowth_dagster.messaging.dispatching.throttle import is_circuit_open as is_open
from usergrowth_dagster.messaging.failures import Outcomes, Stage, failing
from usergrowth_dagster.messaging.gateways.cleaning import one_answer_each
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Gateway,
    OutBatch,
    OutMessage,
    Result,
)
from usergrowth_dagster.messaging.gateways.wire import not_begun
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.policy.contact import ContactRules, contact_rules, screen
from usergrowth_dagster.messaging.policy.suppression import suppress_refused
from usergrowth_dagster.messaging.schedules.occurrences import Occurrence, change_state
from usergrowth_dagster.settings import Settings

LOG = logging.getLogger("usergrowth.dispatch")
READY = (OccurrenceState.READY, OccurrenceState.SENDING)
_FRESH = 5.0
"""Seconds after which a batch that was written ahead is judged anew."""

_EARLY = 4
"""Failures are counted at once when they are this part of what stops an occurrence."""

_CLAIM_BATCHES = 10
_CLAIM_ROWS = 1_000
"""A claim is for several calls, up to so many rows: a commit less for each of them."""


@dataclass(frozen=True)
class Step:
    """What came of one claim: rows ``handled``; ``wait`` seconds for tokens; ``over``: no more."""

    handled: int = 0
    wait: float = 0.0
    over: bool = False


class GatewayBrokenError(Exception):
    """The gateway raised; its sentence holds no text of the error, which might hold a number."""


class Sender:
    """Sends one occurrence's rows of a channel through its gateway, a claim at a time.

    Args:
        ledger: whose rows.
        claims: this worker's claims.
        gateway: the channel's.
        occurrence: what to send.
        settings: rate, contact rules, webhook.
        counts: added to.
        caller: has one thread, which calls the provider while the next batch is written ahead.
        channel: the one whose rows are sent.
    """

    def __init__(
        self,
        ledger: Ledger,
        claims: Claims,
        gateway: Gateway,
        occurrence: Occurrence,
        settings: Settings,
        counts: DispatchCounts,
        caller: Executor,
        channel: str,
    ) -> None:
        self.channel = channel
        self.ledger, self.claims, self.gateway, self.caller = ledger, claims, gateway, caller
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
        self.answered: list[tuple[int, list[Settled]]] = []  # not written down yet
        self.flight: tuple[int, OutBatch, Future[Sequence[Result]]] | None = None
        self.landed = False
        self.outcomes = Outcomes()
        self.circuit_open = is_open(ledger.store, gateway.name)

    def begin(self) -> None:
        """Mark the occurrence as sending."""
        if self.occurrence.state is OccurrenceState.READY:
            LOG.info("sending begins through the gateway %s", self.gateway.name)
            change_state(
                self.ledger.store, self.occurrence, OccurrenceState.SENDING, [OccurrenceState.READY]
            )

    def step(self, clock: Callable[[], datetime]) -> Step:
        """One claim and its calls.

        Raises:
            GatewayBrokenError: the gateway raised; the batch that it was given is in doubt, and
                what was claimed beyond it is planned again.
        """
        if not self._goes_well():
            return Step(over=True)
        claimed = self.claims.claim(
            self.occurrence.id,
            1 if self.circuit_open else self.claim_rows,
            clock(),
            after=self.last,
            bucket=self.bucket,
            full=1 if self.circuit_open else self.gateway.max_batch,
            channel=self.channel if len(self.occurrence.channels) > 1 else None,
        )
        if not claimed.rows:
            if claimed.wait or not self.last:
                return Step(wait=claimed.wait, over=not claimed.wait)
            self.last = 0  # rows that came free meanwhile stand before the others
            return Step()
        failpoints.reach(failpoints.CLAIMED)
        self.last = int(claimed.rows[-1]["id"])
        calls = calls_of(claimed.rows, self.gateway.max_batch)
        try:
            over = not all(self._send(rows, clock) for rows in calls)
            over = not self._land() or over
        except Exception:
            with contextlib.suppress(Exception):
                self._land()  # what is with the provider is waited for all the same
            raise
        finally:
            self._write_down()
        self.outcomes.count(self.ledger.store)
        LOG.info("%d messages handled", len(claimed.rows))
        if over:
            self.claims.give_back()
        return Step(handled=len(claimed.rows), over=over)

    def _send(self, rows: Sequence[dict[str, Any]], clock: Callable[[], datetime]) -> bool:
        """Write one batch ahead while the one before is with the provider, then hand it over.

        Returns:
            Whether the next may follow.
        """
        messages = self._prepare(rows)
        if not messages:
            return True
        ahead = self._write_ahead(messages, clock())
        try:
            goes_on = self._land()
        except GatewayBrokenError:
            self._take_back(ahead)
            raise
        if not goes_on:
            self._take_back(ahead)
            return False
        lease = self.claims.lease.total_seconds()  # which has to last for the call
        late = time.monotonic() - ahead.since > min(_FRESH, lease / 3)
        if late or (self.landed and self._has_changed(ahead)):
            # whoever refused, paused or cancelled during that call is obeyed
            self._take_back(ahead, keep=True)
            messages = [message for message in messages if int(message.out_id) in ahead.mine]
            ahead = self._write_ahead(messages, clock())
        if not ahead.mine:
            return ahead.situation.open
        batch = made_batch(
            self.occurrence,
            rows[0]["variant"],
            ahead.batch_id,
            [message for message in messages if int(message.out_id) in ahead.mine],
        )
        self.counts.batches += 1
        until = ahead.since + lease / 2
        call = self.caller.submit(copy_context().run, self._hand_over, batch, until)
        self.flight = (ahead.batch_id, batch, call)
        return True

    def _hand_over(self, batch: OutBatch, until: float) -> Sequence[Result]:
        """Call the provider, unless this process was stopped for so long that the rows may be
        another worker's by now."""
        if time.monotonic() > until:
            return [not_begun(message.out_id) for message in batch.messages]
        return self.gateway.submit(batch)

    def _land(self) -> bool:
        """Wait for the answer to the batch that is out; says whether the occurrence goes on."""
        flight, self.flight = self.flight, None
        self.landed = flight is not None
        if flight is None:
            return True
        batch_id, batch, future = flight
        try:
            answers = one_answer_each((m.out_id for m in batch.messages), future.result())
        except Exception as error:
            why = type(error).__name__[:64]  # the text of the error might hold a number
            doubt = [Settled(int(m.out_id), MessageState.IN_DOUBT, why) for m in batch.messages]
            self.answered.append((batch_id, doubt))
            self.counts.in_doubt += len(doubt)
            open_circuit(self.ledger.store, self.gateway.name)
            raise GatewayBrokenError(f"gateway {self.gateway.name}: {why}") from None
        failpoints.reach(failpoints.ANSWERED)
        lost = all(one.answer is Answer.IN_DOUBT for one in answers.values())
        if lost:
            open_circuit(self.ledger.store, self.gateway.name)
        elif self.circuit_open:
            close_circuit(self.ledger.store, self.gateway.name)
        self.circuit_open = lost
        settled, stop = sort_answers(batch.messages, answers, self.counts)
        self.answered.append((batch_id, settled))
        ends = Counter((one.state, one.error_code or one.reason) for one in settled)
        for (state, cause), number in ends.items():
            self.outcomes.add(self.occurrence.id, Stage.SUBMISSION, state, cause, number)
        self._suppress(batch, answers)
        if stop:
            self._write_down()
            self.stop(f"the gateway {self.gateway.name} stopped the campaign with code {stop}")
            return False
        return self._goes_well() and not lost

    def _goes_well(self) -> bool:
        """Stop the occurrence where nearly everything fails with one cause, by the answers that
        dispatchers got or the reports that came meanwhile."""
        if not self.settings.stop_after_failures:
            return True
        tally = self.outcomes.tallies[self.occurrence.id, Stage.SUBMISSION]
        if tally.most * _EARLY >= self.settings.stop_after_failures:
            self.outcomes.count(self.ledger.store)
        failure = failing(self.ledger.store, self.settings, self.occurrence.id)
        if failure is None:
            return True
        self._write_down()
        self.stop(str(failure))
        return False

    def _suppress(self, batch: OutBatch, answers: Mapping[str, Result]) -> None:
        """Suppress whom the provider knows as opted out."""
        refused = {out_id for out_id, result in answers.items() if result.opted_out}
        if not refused:
            return
        addresses = [message.phone for message in batch.messages if message.out_id in refused]
        with self.ledger.store.write() as connection:
            suppress_refused(connection, self.ledger.vault, self.gateway.name, addresses, utc_now())

    def _write_down(self) -> None:
        """Record what was answered; mostly that is done together with the next write-ahead."""
        if not self.answered:
            return
        try:
            with self.ledger.store.write() as connection:
                self._record(connection)
        except Exception as error:
            if not is_of_the_values(error):
                raise
            why = f"unwritable_{type(error).__name__}"[:64]
            self.answered = [
                (batch_id, [Settled(one.message_id, MessageState.IN_DOUBT, why) for one in settled])
                for batch_id, settled in self.answered
            ]
            with self.ledger.store.write() as connection:
                self._record(connection)
        self._written()

    def _record(self, connection: Connection) -> None:
        for batch_id, settled in self.answered:
            record_in(connection, batch_id, settled)

    def _written(self) -> None:
        self.answered = []
        failpoints.reach(failpoints.RECORDED)

    def _take_back(self, ahead: Cleared, *, keep: bool = False) -> None:
        """Undo a write-ahead: the batch was not handed over, which only this worker can know."""
        if ahead.mine:
            self.claims.take_back(ahead, None if keep else self.bucket, keep=keep)
            failpoints.reach(failpoints.TAKEN_BACK)

    def _prepare(self, rows: Sequence[dict[str, Any]]) -> list[OutMessage]:
        """The rows' messages; one that cannot be made is skipped and blocks no other."""
        made, bad = made_messages(self.ledger.vault, self.occurrence, rows)
        if bad:
            self.counts.skipped += record(self.ledger.store, None, bad)
        return made

    def _screen(self, now: datetime) -> Screen:
        return partial(
            _screen,
            rules=self.rules,
            occurrence_id=self.occurrence.id,
            channel=self.channel,
            signature=self.occurrence.signature,
            template_type=self.occurrence.template_type,
            now=now,
        )

    def _has_changed(self, ahead: Cleared) -> bool:
        """Whether somebody refused, paused or cancelled since a batch was written ahead."""
        return self.claims.situation(self.occurrence.id) != ahead.situation

    def _write_ahead(self, messages: Sequence[OutMessage], now: datetime) -> Cleared:
        """Commit that a batch is about to go out, and what that depends on."""
        ahead = self.claims.submitting(
            self.occurrence.id,
            [int(m.out_id) for m in messages],
            self.gateway.name,
            now,
            screen=self._screen(now),
            bucket=self.bucket,
            first=self._record,
        )
        if self.answered:
            self._written()
        self.counts.skipped += ahead.skipped
        self.counts.waiting += ahead.waiting
        if ahead.mine:
            failpoints.reach(failpoints.SUBMITTING)
        return ahead

    def stop(self, reason: str) -> None:
        """Stop the occurrence and alert the webhook; of several workers, one does."""
        store, occurrence = self.ledger.store, self.occurrence
        if not change_state(store, occurrence, OccurrenceState.STOPPED, READY, reason):
            return
        failpoints.reach(failpoints.STOPPING)
        LOG.info("sending is stopped: %s", reason)
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
            LOG.info("sending is done")
            failpoints.reach(failpoints.FINISHED)


def _screen(connection: Any, message_ids: Sequence[int], **rules: Any) -> Sequence[Any]:
    return screen(connection, rules.pop("rules"), message_ids=message_ids, **rules)
