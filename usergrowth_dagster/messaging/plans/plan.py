"""From decided people to ledger rows: the send plan.

A row has the address of its channel: the phone number of a text, or the e-mail address.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.addresses.emails import BAD_EMAIL, BLANKS, read_email
from usergrowth_dagster.addresses.numbers import Problem, parse
from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.ledger import Count, Ledger
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.plans.planning import finish_planning, segments_for
from usergrowth_dagster.messaging.policy.contact import contact_rules
from usergrowth_dagster.messaging.policy.zones import UNKNOWN_ZONE, is_unknown, recipient_zone
from usergrowth_dagster.messaging.schedules.occurrences import (
    Occurrence,
    business_now,
    occurrence,
    open_occurrence,
)
from usergrowth_dagster.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("user_id", "item_id", "phone", "params", "segments", "reason")
"""Columns of the rows that a plan reads; the last three by ``content.message_columns_sql``.

``email`` is read too when that is the channel, ``variant`` (the name of the row's text) when the
campaign has several, and if they are there ``zone`` (the time zone attribute, as it was given) and
``not_before`` (a row's own time, UTC).
"""


@dataclass(frozen=True)
class SendPlan:
    """What a task's occurrence holds.

    ``states`` counts people by ledger state, ``reasons`` the people who get nothing by reason;
    ``messages`` are billed segments of those who are not skipped, ``cost`` their price.
    ``standing`` counts people by how they stand now, in words: waiting, sent, expired unsent …
    """

    occurrence: Occurrence
    states: dict[str, int]
    reasons: dict[str, int]
    messages: int
    cost: float
    currency: str
    created: bool = field(compare=False, default=False)
    standing: dict[str, int] = field(compare=False, default_factory=dict)

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
    now: datetime | None = None,
) -> SendPlan:
    """Write a task's recipients into the ledger, once, and open them for dispatch.

    A plan that is made is read, not remade, so a second call adds nothing; one that was
    interrupted goes on where it stopped. A plan for a past date is made too, but its send-by has
    passed, so its rows expire and are never sent.

    Args:
        store: the control store.
        settings: prices, contact rules, time zone and home folder.
        task: a decided task.
        rows: batches with the columns :data:`COLUMNS`, the best people first (they win a shared
            address and the budgets): the users of the treatment arm.
        progress: called with the rows read so far.
        now: business clock; default :func:`business_now`.

    Raises:
        UserError: audience not decided or too old, signature or template not approved, a promotion
            that does not say how to refuse, column missing.
    """
    now = now or business_now(settings)
    opened = open_occurrence(store, settings, task, now)
    ledger = Ledger(store, open_vault(settings.home, settings.default_country))
    created = opened.state is OccurrenceState.PLANNING
    if created and ledger.insert(opened.id, _recipients(settings, opened, rows, progress)):
        finish_planning(
            store,
            opened,
            contact_rules(settings, opened.contact),
            max_segments=_max_segments(task, opened),
            now=now,
        )
    return read_plan(ledger, occurrence(store, opened.id), created=created)


def _max_segments(task: Task, opened: Occurrence) -> int | None:
    limit = task.spec.selection.spending_limit
    return None if limit is None else segments_for(limit, opened.price)


def read_plan(ledger: Ledger, opened: Occurrence, *, created: bool = False) -> SendPlan:
    """The plan as the ledger holds it now."""
    states: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    standing: Counter[str] = Counter()
    messages = 0
    for count in ledger.counts(opened.id):
        standing[_standing(count)] += count.rows
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
        standing={word: standing[word] for word in _WORDS_IN_ORDER if standing[word]},
    )


_WORDS = {
    MessageState.PLANNED: "waiting",
    MessageState.CLAIMED: "waiting",
    MessageState.SUBMITTING: "being sent",
    MessageState.IN_DOUBT: "in doubt",
    MessageState.REJECTED: "rejected",
    MessageState.SKIPPED: "skipped",
}
_WORDS_IN_ORDER = (
    "waiting",
    "being sent",
    "sent",
    "in doubt",
    "rejected",
    "expired unsent",
    "skipped",
)


def _standing(count: Count) -> str:
    """How people stand; an expired row that a provider took is one that nobody reported."""
    if count.state is MessageState.EXPIRED and count.reason == "send_by_passed":
        return "expired unsent"
    return _WORDS.get(count.state, "sent")


def _recipients(
    settings: Settings,
    opened: Occurrence,
    batches: "Iterable[pa.RecordBatch | pa.Table]",
    progress: Callable[[int], None] | None,
) -> Iterator[dict[str, Any]]:
    read = 0
    needed = [*COLUMNS]
    needed += ["email"] if opened.channel == "email" else []
    needed += ["variant"] if opened.variants else []
    for batch in batches:
        if lacking := [name for name in needed if name not in batch.schema.names]:
            raise UserError(
                f"the send plan's rows lack the column {', '.join(lacking)}", code="plan.begun"
            )
        present = [*needed, *({"zone", "not_before"} & set(batch.schema.names))]
        for start in range(0, batch.num_rows, 10_000):  # Python objects of a slice at a time
            for row in batch.select(present).slice(start, 10_000).to_pylist():
                yield _recipient(settings, opened, row)
        read += batch.num_rows
        if progress:
            progress(read)


def _recipient(settings: Settings, opened: Occurrence, row: Mapping[str, Any]) -> dict[str, Any]:
    """A ledger row; an address is kept only where it can be sent to."""
    channel, variant = opened.channel, row["variant"] if opened.variants else None
    if opened.variants and variant not in opened.variants:
        raise UserError(
            f"occurrence {opened.name!r} has no text {variant!r}, but somebody was decided to get "
            f"it; it has {', '.join(map(repr, opened.variants))}: decide the task anew",
            code="plan.begun",
        )
    number, problem = _number(settings, row["phone"])
    address, problem = _email(row["email"]) if channel == "email" else (number, problem)
    local_time = row.get("not_before")
    no_text = "missing_variable" if row["segments"] is None else None
    why = problem or row["reason"] or no_text
    why = why or (UNKNOWN_ZONE if is_unknown(row.get("zone")) else None)
    return {
        "user_id": row["user_id"],
        "item_id": row["item_id"],
        "phone": address,
        "zone": None if why else recipient_zone(row.get("zone"), number),
        "not_before": local_time.replace(tzinfo=UTC) if local_time else None,
        "template_params": row["params"] or "{}",
        "variant": variant,
        "segments": row["segments"] or 0,
        "state": MessageState.SKIPPED if why else MessageState.PLANNED,
        "reason": why,
    }


def _number(settings: Settings, text: str | None) -> tuple[str | None, str | None]:
    """A phone number in E.164, or the reason code of a text that is none."""
    if not text or not text.strip():
        return None, "no_phone"
    number = parse(text, settings.default_country, fictional=settings.reads_fictional)
    return (None, str(number)) if isinstance(number, Problem) else (number, None)


def _email(text: str | None) -> tuple[str | None, str | None]:
    """An e-mail address, or the reason code of a text that is none."""
    if not text or not text.strip(BLANKS):
        return None, "no_email"
    address = read_email(text)
    return (address, None) if address else (None, BAD_EMAIL)
