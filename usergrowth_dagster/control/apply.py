"""From a campaign file to the control records, in one transaction.

Records are created or changed field by field, and :class:`Applied` reports what was done. Signature
and texts are records with a review of their own, which several campaigns may share.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, func, select

from usergrowth_dagster.control import audit, schema
from usergrowth_dagster.control.campaign import CampaignSpec
from usergrowth_dagster.control.campaign_blocks import CampaignText
from usergrowth_dagster.control.codes import (
    JobStatus,
    Kind,
    RepeatUnit,
    ReviewStatus,
    ScheduleStatus,
    TemplateType,
)
from usergrowth_dagster.control.store import TABLES, ControlStore, utc_now
from usergrowth_dagster.control.tasks import refresh_tasks, register
from usergrowth_dagster.control.wall_clock import moment_of
from usergrowth_dagster.errors import UserError


@dataclass
class Applied:
    """What applying a campaign did.

    ``created`` and ``changed`` name records (``template 'winter'``; changed ones with their
    fields), ``notes`` say what a person should know, ``task_id`` is the task registered, if any.
    """

    campaign: str
    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    task_id: str | None = None

    @property
    def unchanged(self) -> bool:
        """Whether everything was there already."""
        return not self.created and not self.changed

    def __str__(self) -> str:
        """One sentence for a person."""
        if self.unchanged:
            parts = ["nothing has changed"]
        else:
            parts = [f"created {', '.join(self.created)}"] if self.created else []
            parts += [f"changed {', '.join(self.changed)}"] if self.changed else []
        return f"campaign {self.campaign!r}: " + "; ".join([*parts, *self.notes])


class Work:
    """One application inside one transaction."""

    def __init__(self, store: ControlStore, connection: Connection, actor: str, name: str) -> None:
        self.store, self.connection, self.actor = store, connection, actor
        self.applied = Applied(name)

    def upsert(
        self, kind: Kind, name: str, values: Mapping[str, Any], fresh: Mapping[str, Any]
    ) -> tuple[int, set[str]]:
        """Create the named record, or change the fields that differ; returns id and those."""
        table, now = TABLES[kind], utc_now()
        label = f"{kind.replace('_', ' ')} {name!r}"
        row = self.connection.execute(select(table).where(table.c.name == name)).mappings().first()
        if row is None:
            made = self.connection.execute(
                table.insert().values(
                    name=name, created_time=now, updated_time=now, **values, **fresh
                )
            )
            record_id = int(made.inserted_primary_key[0])  # type: ignore[index]
            self.applied.created.append(label)
            status = fresh.get("status")
            self.store.note(
                self.connection, kind, record_id, self.actor, target=status, note="created"
            )
            return record_id, set()
        differing = {key: value for key, value in values.items() if row[key] != value}
        if differing:
            self.connection.execute(
                table.update().where(table.c.id == row["id"]).values(updated_time=now, **differing)
            )
        if names := ", ".join(sorted(_named(differing, row))):
            self.applied.changed.append(f"{label}: {names}")
            self.store.note(self.connection, kind, row["id"], self.actor, note=f"changed: {names}")
        return int(row["id"]), set(differing)

    def review_again(self, kind: Kind, record_id: int, name: str) -> None:
        """Send a changed signature or template back to review."""
        table = TABLES[kind]
        status = self.connection.scalar(select(table.c.status).where(table.c.id == record_id))
        if status is not ReviewStatus.REVIEWING:
            self.store.move(
                self.connection,
                kind,
                record_id,
                ReviewStatus.REVIEWING,
                self.actor,
                note="content changed",
                values={"reason": None},
            )
        self.applied.notes.append(f"{kind} {name!r} has changed and must be reviewed again")


def _named(differing: Mapping[str, Any], row: RowMapping) -> list[str]:
    """Names of changed fields; those of a campaign by their key paths in its file."""
    if "spec" not in differing:
        return list(differing)
    new, old = _flat(differing["spec"]), _flat(row["spec"])
    return [key for key in {**old, **new} if new.get(key) != old.get(key)]


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {path: value}
    return {
        key: part
        for name, inner in value.items()
        for key, part in _flat(inner, f"{path}.{name}" if path else name).items()
    }


def apply_campaign(store: ControlStore, spec: CampaignSpec, actor: str) -> Applied:
    """Create or update the campaign's records; the same file twice changes nothing.

    All or nothing, in one transaction. A signature or template whose content changes goes back to
    reviewing. A campaign with a fixed date and one population folder gets its task at once.

    Raises:
        UserError: a name belongs to another campaign, or its text would change under that one.
    """
    with store.write(alone=True) as connection:
        work = Work(store, connection, actor, spec.name)
        campaign_id, _ = work.upsert(
            Kind.CAMPAIGN,
            spec.name,
            {
                "remark": spec.remark,
                "spec": spec.model_dump(mode="json"),
                "spec_hash": spec.digest,
            },
            {},
        )
        signature_id, template_ids = _apply_content(work, spec, campaign_id)
        _schedule(work, spec, campaign_id, signature_id, template_ids)
        _training(work, spec, campaign_id)
        frozen, removed = refresh_tasks(store, connection, campaign_id, spec, actor)
        work.applied.changed += [
            f"task {task_id!r}: removed, since the population is now {spec.population!r}"
            for task_id in removed
        ]
        for task_id in frozen:
            work.applied.notes.append(
                f"task {task_id!r} has its send plan already and keeps its earlier settings"
            )
        if not spec.on_upload and not spec.is_glob:
            assert not isinstance(spec.execution_date, str)
            task_id = spec.population.rsplit("/", 1)[-1]
            work.applied.task_id = task_id
            if task_id not in frozen:
                done = register(store, connection, spec.name, task_id, spec.execution_date, actor)
                if done == "created":
                    work.applied.created.append(f"task {task_id!r}")
                elif done:
                    work.applied.changed.append(f"task {task_id!r}: {done}")
        if not work.applied.unchanged:
            audit.record(connection, actor, "apply", f"campaign {spec.name}", str(work.applied))
    return work.applied


def _zoned(store: ControlStore, moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment_of(moment, store.zone)


def _guard_begun(work: Work, spec: CampaignSpec) -> None:
    """Refuse another rhythm for a repeating schedule that has begun: its times are counted."""
    table, plan = schema.schedule, spec.schedule
    row = work.connection.execute(select(table).where(table.c.name == plan.name)).mappings().first()
    if row is None or row["repeat_cycle_unit"] is RepeatUnit.NEVER:
        return
    rhythm = (RepeatUnit[plan.repeat_unit.upper()], plan.repeat_cycle)
    if rhythm == (row["repeat_cycle_unit"], row["repeat_cycle"]):
        return
    begun = select(schema.occurrence.c.id).where(schema.occurrence.c.schedule_id == row["id"])
    if work.connection.scalar(begun.limit(1)) is not None:
        raise UserError(
            f"campaign {spec.name!r}: schedule.repeat_unit: schedule {plan.name!r} has begun to "
            f"repeat every {row['repeat_cycle']} {row['repeat_cycle_unit'].name.lower()}; end it "
            "with end_time and give the new rhythm a schedule.name of its own",
            code="record.forbidden_change",
        )


def _schedule(
    work: Work, spec: CampaignSpec, campaign_id: int, signature_id: int, template_ids: list[int]
) -> None:
    owner = work.connection.execute(
        select(schema.campaign.c.id, schema.campaign.c.name)
        .join(schema.schedule, schema.schedule.c.campaign_id == schema.campaign.c.id)
        .where(schema.schedule.c.name == spec.schedule.name)
    ).first()
    if owner is not None and owner[0] != campaign_id:
        raise UserError(
            f"campaign {spec.name!r}: schedule.name: schedule {spec.schedule.name!r} belongs to "
            f"campaign {owner[1]!r}; choose another name",
            code="campaign.conflict",
        )
    plan, start, smart = spec.schedule, spec.schedule.execute_time, spec.schedule.smart_send
    _guard_begun(work, spec)
    schedule_id, _ = work.upsert(
        Kind.SCHEDULE,
        plan.name,
        {
            "campaign_id": campaign_id,
            "signature_id": signature_id,
            "template_id": template_ids[0],
            "channel": spec.channel,
            # as in the vendor's API, no time is now (or the task's day, when it has a fixed one)
            "execute_time": _zoned(work.store, start) if isinstance(start, datetime) else None,
            "end_time": _zoned(work.store, plan.end_time),
            "repeat_cycle": plan.repeat_cycle,
            "repeat_cycle_unit": RepeatUnit[plan.repeat_unit.upper()],
            "repeat_times": plan.repeat_times,
            "ai_send_start_date": smart.start_date if smart else None,
            "ai_send_end_date": smart.end_date if smart else None,
            "max_cost": plan.max_cost,
        },
        {"status": ScheduleStatus.CHECKING, "paused": False},
    )
    _link_variants(work, schedule_id, set(template_ids[1:]))


def _link_variants(work: Work, schedule_id: int, wanted: set[int]) -> None:
    """Keep which further texts a schedule has; the template record of a dropped one stays."""
    table = schema.schedule_variant
    mine = table.c.schedule_id == schedule_id
    linked = set(work.connection.scalars(select(table.c.template_id).where(mine)))
    if gone := linked - wanted:
        work.connection.execute(table.delete().where(mine, table.c.template_id.in_(gone)))
    if new := sorted(wanted - linked):
        links = [{"schedule_id": schedule_id, "template_id": one} for one in new]
        work.connection.execute(table.insert(), links)


def _training(work: Work, spec: CampaignSpec, campaign_id: int) -> None:
    config = spec.model_dump(mode="json", include={"algorithm", "training"})
    job_id, changed = work.upsert(
        Kind.TRAINING_JOB,
        f"{spec.name}-training",
        {
            "algorithm": spec.algorithm.kind,
            "campaign_id": campaign_id,
            "data_path": ".",  # the landing root: all four tables
            "user_config": config,
        },
        {"status": JobStatus.QUEUED, "remark": "", "has_model_info": False},
    )
    end, day = spec.training.end_date, spec.execution_date
    if (changed or any("training job" in name for name in work.applied.created)) and (
        end is not None and not isinstance(day, str) and end > day
    ):
        note = f"training.end_date {end} is after the execution date and is clamped to {day}"
        work.store.note(work.connection, Kind.TRAINING_JOB, job_id, work.actor, note=note)
        work.applied.notes.append(note)
    if changed:
        status = work.connection.scalar(
            select(schema.training_job.c.status).where(schema.training_job.c.id == job_id)
        )
        if status in (JobStatus.SUCCESS, JobStatus.FAILED):
            work.store.move(
                work.connection,
                Kind.TRAINING_JOB,
                job_id,
                JobStatus.QUEUED,
                work.actor,
                note="settings changed",
            )


def _apply_content(work: Work, spec: CampaignSpec, campaign_id: int) -> tuple[int, list[int]]:
    """Signature and template records; returns their ids, the template's own text first."""
    reviewing = {"status": ReviewStatus.REVIEWING, "reason": None}
    description = {"description": spec.signature.description}
    name, key = spec.signature.name, "signature.name"
    _guard_shared(work, Kind.SIGNATURE, name, description, campaign_id, key)
    signature_id, changed = work.upsert(Kind.SIGNATURE, spec.signature.name, description, reviewing)
    if changed:
        work.review_again(Kind.SIGNATURE, signature_id, spec.signature.name)
    texts = [_template(work, spec, text, signature_id, campaign_id) for text in spec.template.texts]
    return signature_id, texts


def _template(
    work: Work, spec: CampaignSpec, text: CampaignText, signature_id: int, campaign_id: int
) -> int:
    """The template record of one text; returns its id."""
    content = {
        "content": text.content,
        "subject": text.subject,
        "link": text.link,
        "type": TemplateType[spec.template.type.upper()],
        "signature_id": signature_id,
    }
    fresh: dict[str, Any] = {"status": ReviewStatus.REVIEWING, "reason": None}
    if text.code:
        content["template_code"] = text.code
        _guard_code(work, text)
    else:
        newest = work.connection.scalar(select(func.max(schema.template.c.id)))
        fresh["template_code"] = f"UG_{(newest or 0) + 1:06d}"
    key = "template.name" if text.key == "template" else text.key
    _guard_shared(work, Kind.TEMPLATE, text.name, content, campaign_id, key)
    template_id, changed = work.upsert(Kind.TEMPLATE, text.name, content, fresh)
    if changed:
        work.review_again(Kind.TEMPLATE, template_id, text.name)
    return template_id


def _guard_code(work: Work, text: CampaignText) -> None:
    """Refuse a provider's template code that another template has."""
    table = schema.template
    other = work.connection.scalar(
        select(table.c.name).where(table.c.template_code == text.code, table.c.name != text.name)
    )
    if other:
        raise UserError(
            f"campaign {work.applied.campaign!r}: {text.key}.code: {text.code} is the code of "
            f"template {other!r}; a template has one name and one code",
            code="campaign.conflict",
        )


def _guard_shared(
    work: Work, kind: Kind, name: str, values: Mapping[str, Any], campaign_id: int, key: str
) -> None:
    """Refuse to change a text that another campaign sends: each apply would undo the other's."""
    table = TABLES[kind]
    row = work.connection.execute(select(table).where(table.c.name == name)).mappings().first()
    if row is None or all(row[field] == value for field, value in values.items()):
        return
    used = schema.schedule.c[f"{kind}_id"] == row["id"]
    if kind is Kind.TEMPLATE:
        used |= schema.schedule.c.id.in_(_schedules_of_variant(row["id"]))
    other = work.connection.scalar(
        select(schema.campaign.c.name)
        .join(schema.schedule, schema.schedule.c.campaign_id == schema.campaign.c.id)
        .where(used, schema.campaign.c.id != campaign_id)
        .limit(1)
    )
    if other:
        raise UserError(
            f"campaign {work.applied.campaign!r}: {key}: {kind} {name!r} is used by "
            f"campaign {other!r} with another content; choose another name",
            code="campaign.conflict",
        )


def _schedules_of_variant(template_id: int) -> Select[tuple[int]]:
    """Ids of the schedules that have a template as one of several texts, beside their own."""
    table = schema.schedule_variant
    return select(table.c.schedule_id).where(table.c.template_id == template_id)
