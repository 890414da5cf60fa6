"""Send what is due: claim, write down, submit, record.

The order is what makes it safe: a row is committed as ``submitting`` before the provider hears of
it, so after a crash at any place it is known which rows may have gone out. Those are looked up and
never sent again by themselves. Any number of dispatchers may run at once.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging import failpoints
from usergrowth_dagster.messaging.claims import LEASE, Claims, Settled
from usergrowth_dagster.messaging.content import render
from usergrowth_dagster.messaging.gateways.file import FileGateway
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Finding,
    Found,
    Gateway,
    Inquiry,
    OutBatch,
    OutMessage,
    Result,
)
from usergrowth_dagster.messaging.ledger import OPEN_STATES, Ledger
from usergrowth_dagster.messaging.occurrences import (
    Occurrence,
    business_now,
    change_state,
    due_occurrences,
    late_occurrences,
)
from usergrowth_dagster.messaging.phones import open_vault
from usergrowth_dagster.settings import Settings

_RETRY_AFTER = 60.0
_READY = (OccurrenceState.READY, OccurrenceState.SENDING)


@dataclass
class DispatchCounts:
    """What one call of :func:`dispatch` did, in recipients; ``batches`` in provider calls.

    ``lost`` rows were found submitting with nobody at work on them and are in doubt now;
    ``settled`` doubtful rows got their answer by look-up; ``stopped`` has a sentence for each
    campaign that the provider stopped.
    """

    accepted: int = 0
    rejected: int = 0
    deferred: int = 0
    in_doubt: int = 0
    skipped: int = 0
    expired: int = 0
    lost: int = 0
    settled: int = 0
    batches: int = 0
    stopped: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def make_gateway(settings: Settings) -> Gateway:
    """The gateway of the settings.

    Raises:
        UserError: no gateway has that name.
    """
    if settings.gateway != "file":
        raise UserError(f"setting 'gateway': {settings.gateway!r} is not known; known are: file")
    return FileGateway(settings.home)


def dispatch(
    store: ControlStore,
    settings: Settings,
    gateway: Gateway | None = None,
    now: datetime | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    lease: timedelta = LEASE,
) -> DispatchCounts:
    """Send every due occurrence until nothing can be claimed any more.

    Args:
        store: the control store.
        settings: home folder (secret key, outbox), time zone, pinned date.
        gateway: where to submit; default by setting.
        now: business clock; default :func:`~.occurrences.business_now`. What is past its send-by
            at this time expires.
        progress: called with messages handled and messages that were open at the start.
        lease: how long a submission may take before it counts as lost.

    Raises:
        Exception: whatever the gateway raised; the batch is in doubt by then.
    """
    now = now or business_now(settings)
    gateway = gateway or make_gateway(settings)
    ledger = Ledger(store, open_vault(settings.home))
    work = _Worker(ledger, Claims(store, lease), gateway, now)
    work.counts.lost = work.claims.recover()
    work.settle()
    for late in late_occurrences(store, now):
        work.expire(late)
    due = due_occurrences(store, now)
    total = sum(
        count.rows
        for occurrence in due
        for count in ledger.counts(occurrence.id)
        if count.state is MessageState.PLANNED
    )
    try:
        for occurrence in due:
            work.send(occurrence, lambda done: progress(done, total) if progress else None)
    finally:
        work.claims.give_back()
    return work.counts


class _Worker:
    def __init__(self, ledger: Ledger, claims: Claims, gateway: Gateway, now: datetime) -> None:
        self.ledger, self.claims, self.gateway, self.now = ledger, claims, gateway, now
        self.store = ledger.store
        self.counts = DispatchCounts()
        self.handled = 0

    def send(self, occurrence: Occurrence, progress: Callable[[int], None]) -> None:
        """All rows of one occurrence that can be claimed."""
        change_state(self.store, occurrence, OccurrenceState.SENDING, [OccurrenceState.READY])
        while rows := self.claims.claim(occurrence.id, self.gateway.max_batch, self.now):
            failpoints.reach(failpoints.CLAIMED)
            messages = self._prepare(occurrence, rows)
            if messages and self._submit(occurrence, messages):
                return
            self.handled += len(rows)
            progress(self.handled)
        states = {count.state for count in self.ledger.counts(occurrence.id)}
        if not states & set(OPEN_STATES):
            change_state(self.store, occurrence, OccurrenceState.DONE, _READY)

    def _prepare(self, occurrence: Occurrence, rows: Sequence[dict[str, Any]]) -> list[OutMessage]:
        """The rows' messages; one that cannot be made is skipped and blocks no other."""
        made, bad = [], []
        for row in rows:
            try:
                params = json.loads(row["template_params"])
                text = render(occurrence.content, params, occurrence.signature)
                phone = self.ledger.vault.open(row["phone_number"])
            except (UserError, ValueError, TypeError, AttributeError):
                text = None
            if text is None:
                bad.append(Settled(row["id"], MessageState.SKIPPED, "unusable_row"))
                continue
            made.append(
                OutMessage(str(row["id"]), row["user_id"], phone, text, params, row["segments"])
            )
        if bad:
            self.claims.record(None, bad)
            self.counts.skipped += len(bad)
        return made

    def _submit(self, occurrence: Occurrence, messages: Sequence[OutMessage]) -> bool:
        """One call of the provider; says whether the campaign must stop."""
        batch_id, mine = self.claims.submitting(
            occurrence.id, [int(m.out_id) for m in messages], self.gateway.name, self.now
        )
        messages = [message for message in messages if int(message.out_id) in mine]
        if not messages:
            return False
        failpoints.reach(failpoints.SUBMITTING)
        batch = OutBatch(
            batch_id=str(batch_id),
            schedule=occurrence.schedule,
            occurrence=occurrence.name,
            channel=occurrence.channel,
            signature=occurrence.signature,
            template_code=occurrence.template_code,
            template_type=occurrence.template_type,
            submitted_time=utc_now(),
            messages=messages,
        )
        self.counts.batches += 1
        try:
            results = self.gateway.submit(batch)
        except Exception as error:
            why = type(error).__name__[:64]  # the text of the error might hold a number
            doubt = [Settled(int(m.out_id), MessageState.IN_DOUBT, why) for m in messages]
            self.claims.record(batch_id, doubt)
            self.counts.in_doubt += len(doubt)
            raise
        failpoints.reach(failpoints.ANSWERED)
        stop = self._record(batch_id, messages, results)
        failpoints.reach(failpoints.RECORDED)
        if stop:
            reason = f"the gateway {self.gateway.name} stopped the campaign with code {stop}"
            change_state(self.store, occurrence, OccurrenceState.STOPPED, _READY, reason)
            self.claims.give_back()
            self.counts.stopped.append(f"{occurrence.schedule}: {occurrence.name}: {reason}")
        return bool(stop)

    def _record(
        self, batch_id: int, messages: Sequence[OutMessage], results: Sequence[Result]
    ) -> str:
        """Write the answers down; returns the code of a stop, if any."""
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
        self.claims.record(batch_id, settled)
        return stop

    def expire(self, occurrence: Occurrence) -> None:
        """Close an occurrence past its send-by."""
        self.counts.expired += self.ledger.expire(occurrence.id)
        states = {count.state for count in self.ledger.counts(occurrence.id)}
        if not states & set(OPEN_STATES):
            sources = (*_READY, OccurrenceState.STOPPED)
            change_state(
                self.store, occurrence, OccurrenceState.DONE, sources, "its send-by has passed"
            )

    def settle(self) -> None:
        """Look doubtful rows up; those that the provider does not know stay in doubt."""
        last = 0
        while rows := self.ledger.in_doubt(self.gateway.name, last, 500):
            last = int(rows[-1]["id"])
            findings = self.gateway.look_up(
                [
                    Inquiry(
                        out_id=str(row["id"]),
                        schedule=row["schedule"],
                        occurrence=row["occurrence"],
                        submitted_time=row["submitted_time"],
                        phone=self.ledger.vault.open(row["phone_number"]),
                        request_id=row["request_id"],
                    )
                    for row in rows
                ]
            )
            known = [
                _found(finding) for finding in findings if finding.found is not Found.NOT_FOUND
            ]
            self.claims.record(None, known)
            self.counts.settled += len(known)


def _found(finding: Finding) -> Settled:
    return Settled(
        int(finding.out_id),
        MessageState(finding.found.value),
        "looked_up",
        finding.code or None,
        finding.request_id,
    )


def _settled(result: Result) -> Settled:
    """The ledger's form of an answer."""
    row, code = int(result.out_id), result.code or None
    if result.answer in (Answer.DEFERRED, Answer.STOP):
        wait = timedelta(seconds=result.retry_after or _RETRY_AFTER)
        retry_at = utc_now() + wait if result.answer is Answer.DEFERRED else None
        return Settled(row, MessageState.PLANNED, result.answer.value, code, None, retry_at)
    reason = None if result.answer is Answer.ACCEPTED else f"provider_{result.answer.value}"
    return Settled(row, MessageState(result.answer.value), reason, code, result.request_id)
