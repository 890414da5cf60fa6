"""From a campaign file to the control records, in one transaction."""

from datetime import datetime

from sqlalchemy import select

from usergrowth_dagster.control import audit, schema
from usergrowth_dagster.control.campaign import CampaignSpec
from usergrowth_dagster.control.codes import (
    JobStatus,
    Kind,
    RepeatUnit,
    ScheduleStatus,
)
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.control.tasks import refresh_tasks, register
from usergrowth_dagster.control.texts import apply_content
from usergrowth_dagster.control.upserts import Applied, Work
from usergrowth_dagster.control.wall_clock import moment_of
from usergrowth_dagster.errors import UserError


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
        signature_id, template_ids = apply_content(work, spec, campaign_id)
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
