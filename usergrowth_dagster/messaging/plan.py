"""From decided people to ledger rows: the send plan."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.audience.eligibility import PHONE_PATTERN
from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.occurrences import Occurrence, occurrence, open_occurrence
from usergrowth_dagster.messaging.phones import open_vault
from usergrowth_dagster.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("user_id", "item_id", "phone", "params", "segments", "reason")
"""Columns of the rows that a plan reads; the last three by ``content.message_columns_sql``."""

_PHONE = re.compile(PHONE_PATTERN)
_SEPARATORS = re.compile(r"[\s-]")


@dataclass(frozen=True)
class SendPlan:
    """What a task's occurrence holds.

    ``states`` counts people by ledger state, ``reasons`` the people who get nothing by reason;
    ``messages`` are billed segments of those who are not skipped, ``cost`` their price.
    """

    occurrence: Occurrence
    states: dict[str, int]
    reasons: dict[str, int]
    messages: int
    cost: float
    currency: str
    created: bool = field(compare=False, default=False)

    @property
    def people(self) -> int:
        """Recipients who are not skipped."""
        return sum(self.states.values()) - self.states.get(MessageState.SKIPPED, 0)


def plan_send(
    store: ControlStore,
    settings: Settings,
    task: Task,
    rows: "Iterable[pa.RecordBatch | pa.Table]",
    *,
    progress: Callable[[int], None] | None = None,
) -> SendPlan:
    """Write a task's recipients into the ledger, once, and open them for dispatch.

    A plan that is made is read, not remade, so a second call adds nothing; one that was
    interrupted goes on where it stopped. A plan for a past date is made too, but its send-by has
    passed, so its rows expire and are never sent.

    Args:
        store: the control store.
        settings: prices, time zone and home folder.
        task: a decided task.
        rows: batches with the columns :data:`COLUMNS`, the best people first (they win a shared
            phone and the budget): the treatment users that were selected.
        progress: called with the rows read so far.

    Raises:
        UserError: audience not decided, signature or template not approved, column missing.
    """
    opened = open_occurrence(store, settings, task)
    ledger = Ledger(store, open_vault(settings.home))
    created = opened.state is OccurrenceState.PLANNING
    if created and ledger.insert(opened.id, _recipients(rows, progress)):
        ledger.finish_planning(opened.id, _max_segments(task, opened))
    return read_plan(ledger, occurrence(store, opened.id), created=created)


def _max_segments(task: Task, opened: Occurrence) -> int | None:
    budget = task.spec.selection.budget
    if budget is None or not opened.price:
        return None
    return int(Decimal(repr(budget)) / Decimal(repr(opened.price)))  # 0.3 / 0.1 is 3, not 2.99…


def read_plan(ledger: Ledger, opened: Occurrence, *, created: bool = False) -> SendPlan:
    """The plan as the ledger holds it now."""
    states: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    messages = 0
    for count in ledger.counts(opened.id):
        states[str(count.state)] += count.rows
        if count.state is MessageState.SKIPPED:
            reasons[count.reason or "unknown"] += count.rows
        else:
            messages += count.segments
    return SendPlan(
        occurrence=opened,
        states=dict(states),
        reasons=dict(reasons),
        messages=messages,
        cost=round(messages * opened.price, 6),
        currency=opened.currency,
        created=created,
    )


def _recipients(
    batches: "Iterable[pa.RecordBatch | pa.Table]", progress: Callable[[int], None] | None
) -> Iterator[dict[str, Any]]:
    read = 0
    for batch in batches:
        if lacking := [name for name in COLUMNS if name not in batch.schema.names]:
            raise UserError(f"the send plan's rows lack the column {', '.join(lacking)}")
        for start in range(0, batch.num_rows, 10_000):  # Python objects of a slice at a time
            part = batch.select(list(COLUMNS)).slice(start, 10_000).to_pydict()
            for values in zip(*(part[name] for name in COLUMNS), strict=True):
                yield _recipient(*values)
        read += batch.num_rows
        if progress:
            progress(read)


def _recipient(
    user_id: str,
    item_id: str | None,
    phone: str | None,
    params: str | None,
    segments: int | None,
    reason: str | None,
) -> dict[str, Any]:
    """A ledger row; a phone is kept only where it can be sent to."""
    why: str | None
    clean: str | None = _SEPARATORS.sub("", phone or "")
    if not clean:
        clean, why = None, "no_phone"
    elif not _PHONE.fullmatch(clean):
        clean, why = None, "bad_phone"
    else:
        why = reason or ("missing_variable" if segments is None else None)
    return {
        "user_id": user_id,
        "item_id": item_id,
        "phone": clean,
        "template_params": params or "{}",
        "segments": segments or 0,
        "state": MessageState.SKIPPED if why else MessageState.PLANNED,
        "reason": why,
    }
