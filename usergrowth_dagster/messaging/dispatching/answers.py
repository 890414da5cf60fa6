"""What a provider's answers mean: for each row of the ledger, and for the sums of a round."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.store import utc_now
from usergrowth_dagster.messaging.dispatching.results import Settled
from usergrowth_dagster.messaging.gateways.protocol import Answer, OutMessage, Result

RETRY_AFTER = 60.0
"""Seconds until a deferred message is tried again, where the provider does not say."""


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

    def add(self, answer: Answer, number: int) -> None:
        """Count the answer of so many messages."""
        if answer is Answer.ACCEPTED:
            self.accepted += number
        elif answer is Answer.REJECTED:
            self.rejected += number
        elif answer is Answer.IN_DOUBT:
            self.in_doubt += number
        else:
            self.deferred += number

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def sort_answers(
    messages: Sequence[OutMessage], answers: Mapping[str, Result], counts: DispatchCounts
) -> tuple[list[Settled], str]:
    """How each message of a batch ended, and the code of a stop, if any.

    Messages with equal answers are counted together. All that are deferred alike are due again at
    one time, so that one statement records them.

    Args:
        messages: those of the batch.
        answers: what :func:`one_answer_each` made of the provider's answers.
        counts: added to.
    """
    alike: dict[tuple[Any, ...], list[Result]] = {}
    for message in messages:
        one = answers[message.out_id]
        alike.setdefault((one.answer, one.code, one.request_id, one.retry_after), []).append(one)
    settled: list[Settled] = []
    stop = ""
    for group in alike.values():
        first = group[0]
        end = _settled(first)
        settled += (Settled(int(one.out_id), *end[1:]) for one in group)
        counts.add(first.answer, len(group))
        if first.answer is Answer.STOP:
            stop = stop or first.code or "unknown"
    return settled, stop


def _settled(result: Result) -> Settled:
    """The ledger's form of an answer."""
    row, code = int(result.out_id), result.code or None
    if result.answer in (Answer.DEFERRED, Answer.STOP):
        wait = timedelta(seconds=result.retry_after or RETRY_AFTER)
        retry_at = utc_now() + wait if result.answer is Answer.DEFERRED else None
        return Settled(row, MessageState.PLANNED, result.answer.value, code, None, retry_at)
    if result.answer is Answer.ACCEPTED:
        return Settled(row, MessageState.ACCEPTED, None, code, result.request_id)
    reason = f"provider_{result.answer.value}"
    return Settled(row, MessageState(result.answer.value), reason, code, result.request_id)
