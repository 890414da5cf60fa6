"""Occurrences: one run of a schedule for one task, with its time window and its frozen texts.

Signature and texts must be approved; what they were when the occurrence was planned is sent.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, Table, func, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.campaign import CampaignSpec
from usergrowth_dagster.control.codes import (
    TRANSITIONS,
    GroupStatus,
    Kind,
    MessageState,
    OccurrenceState,
    ReviewStatus,
    ScheduleStatus,
)
from usergrowth_dagster.control.store import TABLES, ControlStore, utc_now
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.policy.checks import check_fresh, check_refusable
from usergrowth_dagster.messaging.schedules.windows import task_window
from usergrowth_dagster.messaging.texts.billing import other_price, price_of
from usergrowth_dagster.messaging.texts.links import link_root
from usergrowth_dagster.settings import Settings


@dataclass(frozen=True)
class FrozenText:
    """One text of an occurrence, as it was when the occurrence was planned."""

    template_code: str
    content: str
    subject: str | None
    link: str | None = None
    channel: str | None = None
    """How it goes; None: by the occurrence's channel."""


def _approved_records(connection: Connection, task: Task) -> tuple[RowMapping, list[RowMapping]]:
    """The signature and the texts of a task's campaign, the template's own text first.

    Raises:
        UserError: one of them is not approved, so nothing of the campaign may be sent; names it.
    """
    (signature,) = _approved(connection, Kind.SIGNATURE, [task.spec.signature.name], task)
    names = [text.name for text in task.spec.template.texts]
    return signature, _approved(connection, Kind.TEMPLATE, names, task)


def _approved(connection: Connection, kind: Kind, names: list[str], task: Task) -> list[RowMapping]:
    table = TABLES[kind]
    query = select(table).where(table.c.name.in_(names))
    by_name = {row["name"]: row for row in connection.execute(query).mappings()}
    if lacking := [name for name in names if name not in by_name]:
        raise UserError(
            f"campaign {task.campaign!r} has no {kind} {lacking[0]!r}; apply its YAML file again",
            code="campaign.unknown",
        )
    rows = [by_name[name] for name in names]
    waiting = [row for row in rows if row["status"] is not ReviewStatus.APPROVED]
    if waiting:
        row = waiting[0]
        why = f" ({row['reason']})" if row["reason"] else ""
        others = ", ".join(repr(other["name"]) for other in waiting[1:])
        more = f", and so are not approved {others}" if others else ""
        raise UserError(
            f"campaign {task.campaign!r}: {kind} {row['name']!r} is "
            f"{row['status'].name.lower()}{why}{more}; only approved ones can be sent, so have it "
            "reviewed and run again",
            code="text.not_approved",
        )
    return rows


def _variants_of(
    spec: CampaignSpec, channel: str, texts: list[RowMapping]
) -> dict[str, Any] | None:
    """The texts by name, as an occurrence of a channel keeps them; None when there is one."""
    if len(texts) == 1:
        return None
    frozen: dict[str, Any] = {}
    for row in texts:
        name, of_text = row["name"], spec.channel_by_text[row["name"]]
        frozen[name] = {key: row[key] for key in ("template_code", "content", "subject")}
        # a link or channel that a text lacks is not kept, so that earlier texts compare equal
        frozen[name] |= {"link": row["link"]} if row["link"] is not None else {}
        frozen[name] |= {"channel": of_text} if of_text != channel else {}
    return frozen


def channel_by_text(
    channel: str, variants: Mapping[str, Mapping[str, Any]] | None
) -> dict[str, str]:
    """The channel of each text of an occurrence, by the name of the text.

    Args:
        channel: the occurrence's, by which its texts go unless they name another.
        variants: its texts as it keeps them; None: it has one text, which goes by its channel.

    Returns:
        Empty without variants.
    """
    return {name: text.get("channel") or channel for name, text in (variants or {}).items()}


def rejected_variants(schedule: Table) -> Select[tuple[int]]:
    """The rejected ones of the further texts of the schedule of an outer query."""
    variant, template = schema.schedule_variant, schema.template
    return (
        select(variant.c.template_id)
        .join(template, template.c.id == variant.c.template_id)
        .where(variant.c.schedule_id == schedule.c.id, template.c.status == ReviewStatus.REJECTED)
        .correlate(schedule)
    )


@dataclass(frozen=True)
class Occurrence:
    """One run of a schedule; times are UTC.

    ``variants`` holds template_code, content, subject, link and channel by variant where people
    have several texts; the fields of these names are then those of the template's own text.
    ``link`` is where the text's short link leads, ``link_domain`` the root of the short links.
    Texts may go by another channel than ``channel``, at ``other_price`` (currency) a message.
    """

    id: int
    schedule_id: int
    schedule: str
    name: str
    task_id: str
    channel: str
    state: OccurrenceState
    reason: str | None
    due: datetime
    send_by: datetime
    signature: str
    template_code: str
    template_type: str
    content: str
    price: float
    currency: str
    sequence: int | None = None
    audience_date: date | None = None
    contact: dict[str, Any] | None = None
    subject: str | None = None
    variants: dict[str, dict[str, Any]] | None = None
    link: str | None = None
    link_domain: str | None = None
    other_price: float | None = None

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels of its texts, each once; the occurrence's channel stands first."""
        others = channel_by_text(self.channel, self.variants).values()
        return tuple(dict.fromkeys([self.channel, *others]))

    def channel_of(self, variant: str | None) -> str:
        """The channel of a text; of the occurrence's only text for None."""
        return self.text(variant).channel or self.channel

    def price_of(self, channel: str) -> float:
        """Price of one message of a channel, in currency."""
        if channel == self.channel or self.other_price is None:
            return self.price
        return self.other_price

    def text(self, variant: str | None) -> FrozenText:
        """The text of a message; that of the occurrence where it has one only.

        Raises:
            KeyError: the occurrence has no such variant.
        """
        if self.variants is None:
            return FrozenText(self.template_code, self.content, self.subject, self.link)
        return FrozenText(**self.variants[variant or ""])


def business_now(settings: Settings) -> datetime:
    """The business clock: now, or 10:00 local time of the pinned date."""
    if settings.today is None:
        return utc_now()
    return datetime.combine(settings.today, time(10), settings.zone).astimezone(UTC)


def occurrence_name(task: Task) -> str:
    """Name of a task's occurrence: its date and id."""
    return f"{task.execution_date:%Y%m%d}-{task.task_id}"


def open_occurrence(
    store: ControlStore, settings: Settings, task: Task, now: datetime | None = None
) -> Occurrence:
    """The task's occurrence, made on first call from the approved signature and template.

    Args:
        store: the control store.
        settings: prices, hours and the business time zone.
        task: a decided task.
        now: business clock; default :func:`business_now`.

    Raises:
        UserError: the output group has not passed, the signature or a text is not approved, or
            the audience would be too old before the schedule ends.
    """
    name = occurrence_name(task)
    now = now or business_now(settings)
    with store.write(alone=True) as connection:
        schedule = (
            connection.execute(
                select(schema.schedule)
                .join(schema.campaign, schema.campaign.c.id == schema.schedule.c.campaign_id)
                .where(
                    schema.campaign.c.name == task.campaign,
                    schema.schedule.c.name == task.spec.schedule.name,
                )
            )
            .mappings()
            .first()
        )
        if schedule is None:
            raise UserError(
                f"campaign {task.campaign!r} has no schedule {task.spec.schedule.name!r}; "
                "apply its YAML file again",
                code="campaign.unknown",
            )
        existing = connection.scalar(
            select(schema.occurrence.c.id).where(
                schema.occurrence.c.schedule_id == schedule["id"], schema.occurrence.c.name == name
            )
        )
        if existing is None:
            existing = _create(store, connection, settings, task, schedule, name, now)
    return occurrence(store, existing)


def _create(
    store: ControlStore,
    connection: Connection,
    settings: Settings,
    task: Task,
    schedule: RowMapping,
    name: str,
    moment: datetime,
) -> int:
    group = schema.group
    passed = connection.scalar(
        select(group.c.status)
        .join(schema.inference_job, schema.inference_job.c.target_group_id == group.c.id)
        .where(schema.inference_job.c.name == task.task_id)
    )
    if passed is not GroupStatus.PASSED:
        raise UserError(
            f"task {task.task_id!r} has no decided audience yet, so nothing can be scheduled; "
            "run its execution date first",
            code="task.undecided",
        )
    signature, texts = _approved_records(connection, task)
    template = texts[0]
    window = task_window(connection, settings, task, schedule, moment)
    check_fresh(settings, task, window.due)
    for text in texts:
        check_refusable(settings, task, text["name"], text["content"], text["type"])
    now = utc_now()
    made = connection.execute(
        schema.occurrence.insert().values(
            **_unused_id(store, connection),
            schedule_id=schedule["id"],
            name=name,
            task_id=task.task_id,
            channel=schedule["channel"],
            state=OccurrenceState.PLANNING,
            due=window.due,
            send_by=window.send_by,
            sequence=window.sequence,
            signature=signature["name"],
            template_code=template["template_code"],
            template_type=template["type"],
            content=template["content"],
            price=price_of(settings, schedule["channel"]),
            other_price=other_price(settings, schedule["channel"], task.spec.channels),
            currency=settings.currency,
            audience_date=task.execution_date,
            contact=task.spec.contact.model_dump(mode="json", exclude_defaults=True) or None,
            subject=template["subject"],
            variants=_variants_of(task.spec, schedule["channel"], texts),
            link=template["link"],
            link_domain=link_root(settings, task.spec),
            created_time=now,
            updated_time=now,
        )
    )
    if schedule["status"] in (ScheduleStatus.CHECKING, ScheduleStatus.CHECK_FAILED):
        for status in (ScheduleStatus.CHECKING, ScheduleStatus.CHECK_OK):
            move_schedule(store, connection, schedule["id"], status, "plan")
    return int(made.inserted_primary_key[0])  # type: ignore[index]


def _unused_id(store: ControlStore, connection: Connection) -> dict[str, int]:
    """An id that no occurrence ever had, where the database itself would use one again.

    SQLite gives the id of the newest row once more after that row was deleted. A dispatcher that
    still knows the deleted occurrence would send its text to the people of the new one.
    """
    if not store.is_sqlite:
        return {}
    history = schema.history
    kept = connection.scalar(
        select(func.max(history.c.record_id)).where(history.c.kind == str(Kind.OCCURRENCE))
    )
    newest = connection.scalar(select(func.max(schema.occurrence.c.id)))
    return {"id": 1 + max(kept or 0, newest or 0)}


def move_schedule(
    store: ControlStore,
    connection: Connection,
    schedule_id: int,
    status: ScheduleStatus,
    actor: str,
    note: str = "",
) -> bool:
    """Change a schedule's status where that is allowed; another worker may have been faster."""
    table = schema.schedule
    present = connection.scalar(
        select(table.c.status).where(table.c.id == schedule_id).with_for_update()
    )
    assert isinstance(present, ScheduleStatus)
    if status not in TRANSITIONS[Kind.SCHEDULE][present]:
        return False
    store.move(connection, Kind.SCHEDULE, schedule_id, status, actor, note=note)
    return True


def _find(store: ControlStore, *conditions: object) -> list[Occurrence]:
    query = (
        select(schema.occurrence, schema.schedule.c.name.label("schedule"))
        .join(schema.schedule, schema.schedule.c.id == schema.occurrence.c.schedule_id)
        .where(*conditions)  # type: ignore[arg-type]
        .order_by(schema.occurrence.c.due, schema.occurrence.c.id)
    )
    names = Occurrence.__dataclass_fields__
    with store.read() as connection:
        rows = connection.execute(query).mappings().all()
    return [
        Occurrence(
            **{
                **{key: row[key] for key in names},
                "template_type": row["template_type"].name.lower(),
            }
        )
        for row in rows
    ]


def occurrence(store: ControlStore, occurrence_id: int) -> Occurrence:
    """One occurrence."""
    return _find(store, schema.occurrence.c.id == occurrence_id)[0]


def find_occurrence(store: ControlStore, task: Task) -> Occurrence | None:
    """A task's occurrence on its execution date, if it is planned."""
    matches = _find(
        store,
        schema.occurrence.c.task_id == task.task_id,
        schema.occurrence.c.name == occurrence_name(task),
    )
    return matches[0] if matches else None


def occurrences_of(store: ControlStore, task_id: str) -> list[Occurrence]:
    """A task's occurrences."""
    return _find(store, schema.occurrence.c.task_id == task_id)


def due_occurrences(store: ControlStore, now: datetime) -> list[Occurrence]:
    """Occurrences to dispatch at ``now`` (business clock), earliest first."""
    return _find(
        store,
        schema.occurrence.c.state.in_((OccurrenceState.READY, OccurrenceState.SENDING)),
        schema.schedule.c.paused.is_(False),
        schema.occurrence.c.due <= now,
        schema.occurrence.c.send_by > now,
    )


def late_occurrences(store: ControlStore, now: datetime) -> list[Occurrence]:
    """Occurrences past their send-by at ``now`` that are not done."""
    states = (OccurrenceState.READY, OccurrenceState.SENDING, OccurrenceState.STOPPED)
    return _find(store, schema.occurrence.c.state.in_(states), schema.occurrence.c.send_by <= now)


def change_state(
    store: ControlStore,
    occurrence: Occurrence,
    state: OccurrenceState,
    sources: Sequence[OccurrenceState],
    reason: str | None = None,
    *,
    only_if: Callable[[Connection], bool] | None = None,
) -> bool:
    """Move an occurrence (and its schedule) on, unless another worker has; says whether.

    ``only_if`` is asked while the occurrence is this transaction's.
    """
    with store.write() as connection:
        if only_if is not None:
            connection.execute(
                select(schema.occurrence.c.id)
                .where(schema.occurrence.c.id == occurrence.id)
                .with_for_update()
            )
            if not only_if(connection):
                return False
        done = connection.execute(
            schema.occurrence.update()
            .where(schema.occurrence.c.id == occurrence.id, schema.occurrence.c.state.in_(sources))
            .values(state=state, reason=reason, updated_time=utc_now())
        )
        if not done.rowcount:
            return False
        store.note(
            connection, Kind.OCCURRENCE, occurrence.id, "dispatch", target=state, note=reason or ""
        )
        status = {
            OccurrenceState.SENDING: ScheduleStatus.SENDING,
            OccurrenceState.DONE: ScheduleStatus.SENT,
            OccurrenceState.STOPPED: ScheduleStatus.FAILED,
        }[state]
        if status is ScheduleStatus.SENT and not _sent_any(connection, occurrence.id):
            status = ScheduleStatus.FAILED
        move_schedule(
            store, connection, occurrence.schedule_id, status, "dispatch", reason or occurrence.name
        )
    return True


def _sent_any(connection: Connection, occurrence_id: int) -> bool:
    """Whether anything went out, or nobody was to be sent to."""
    table = schema.message
    unsent = (MessageState.EXPIRED, MessageState.SKIPPED)
    mine = table.c.occurrence_id == occurrence_id
    sent = connection.scalar(select(table.c.id).where(mine, table.c.state.not_in(unsent)).limit(1))
    late = connection.scalar(
        select(table.c.id).where(mine, table.c.state == MessageState.EXPIRED).limit(1)
    )
    return sent is not None or late is None
