"""Tasks: one uploaded population of one campaign on one execution date (an InferenceJob)."""

import json
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy import Connection, RowMapping, String, cast, exists, func, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.campaign import OF_SEGMENT, TASK_ID, CampaignSpec
from usergrowth_dagster.control.codes import (
    GroupSource,
    GroupStatus,
    JobStatus,
    Kind,
)
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.errors import UserError


@dataclass(frozen=True)
class Task:
    """One task: what to score, by which settings, and where the result goes.

    ``population`` and ``output`` are folders below the landing root; ``spec`` is the campaign as
    the task sees it: the newest settings until its send plan is made, frozen from then on.
    """

    task_id: str
    campaign: str
    execution_date: date
    population: str
    output: str
    spec: CampaignSpec
    status: JobStatus
    frozen: bool

    @property
    def upload(self) -> str:
        """Name of the uploaded folder; the task's own id unless it is decided again."""
        return self.population.rpartition("/")[2]


def repeated_task_id(upload: str, execution_date: date) -> str:
    """Id of the task that decides an upload again on a later date."""
    return f"{upload}-{execution_date:%Y%m%d}"


def load_spec(stored: Any) -> CampaignSpec:
    """A campaign from the JSON that the database holds."""
    return CampaignSpec.model_validate_json(json.dumps(stored))


def campaigns(store: ControlStore) -> dict[str, CampaignSpec]:
    """All campaigns, by name."""
    table = schema.campaign
    with store.read() as connection:
        rows = connection.execute(select(table.c.name, table.c.spec).order_by(table.c.name)).all()
    return {name: load_spec(spec) for name, spec in rows}


def campaigns_for_upload(store: ControlStore, folder: str) -> list[str]:
    """Names of the campaigns whose population is (or matches) an upload folder."""
    return [
        name
        for name, spec in campaigns(store).items()
        if fnmatchcase(folder.strip("/"), spec.population)
    ]


def register_task(
    store: ControlStore,
    campaign_name: str,
    task_id: str,
    execution_date: date,
    actor: str,
    *,
    upload: str | None = None,
) -> Task:
    """Create the task and its input and output groups; again for the same date: no change.

    For another date the task moves there, unless its send plan is made.

    Args:
        store: the control store.
        campaign_name: whose task it is.
        task_id: its id.
        execution_date: the date on which it is decided.
        actor: who registers it.
        upload: the folder of its people, when that is not called as the task.

    Raises:
        UserError: unknown campaign, a task id that does not fit the campaign's population or
            belongs to another campaign, or a date that can no longer change.
    """
    with store.write(alone=True) as connection:
        register(store, connection, campaign_name, task_id, execution_date, actor, upload=upload)
    return task(store, task_id)


def register(
    store: ControlStore,
    connection: Connection,
    campaign_name: str,
    task_id: str,
    execution_date: date,
    actor: str,
    *,
    upload: str | None = None,
) -> str:
    """As :func:`register_task`, inside a transaction; returns "created", what changed, or ""."""
    row = (
        connection.execute(select(schema.campaign).where(schema.campaign.c.name == campaign_name))
        .mappings()
        .first()
    )
    if row is None:
        raise UserError(
            f"no campaign is called {campaign_name!r}; apply its YAML file first",
            code="campaign.unknown",
        )
    spec = load_spec(row["spec"])
    population = _population(spec, task_id, upload or task_id)
    job = schema.inference_job
    existing = connection.execute(select(job).where(job.c.name == task_id)).mappings().first()
    if existing is None:
        _create(store, connection, row, spec, task_id, population, execution_date, actor)
        return "created"
    if existing["campaign_id"] != row["id"]:
        other = connection.scalar(
            select(schema.campaign.c.name).where(schema.campaign.c.id == existing["campaign_id"])
        )
        raise UserError(
            f"task {task_id!r} belongs to campaign {other!r}; "
            f"upload the people of {campaign_name!r} into a folder of another name",
            code="task.conflict",
        )
    if existing["data_path"] != population and upload is not None:
        raise UserError(
            f"task {task_id!r} decides {existing['data_path']} and cannot decide {population} "
            "again; upload these people into a folder of another name",
            code="task.conflict",
        )
    if existing["execution_date"] == execution_date:
        return ""
    if _is_frozen(connection, task_id):
        raise UserError(
            f"task {task_id!r} has its send plan for {existing['execution_date']} already and "
            f"cannot move to {execution_date}; upload its people into a folder of another name",
            code="task.conflict",
        )
    connection.execute(
        job.update()
        .where(job.c.id == existing["id"])
        .values(execution_date=execution_date, updated_time=utc_now())
    )
    note = f"execution date {existing['execution_date']} became {execution_date}"
    store.note(connection, Kind.INFERENCE_JOB, existing["id"], actor, note=note)
    if existing["status"] in (JobStatus.SUCCESS, JobStatus.FAILED):
        store.move(connection, Kind.INFERENCE_JOB, existing["id"], JobStatus.QUEUED, actor)
    return note


def _population(spec: CampaignSpec, task_id: str, upload: str) -> str:
    parent, _, last = spec.population.rpartition("/")
    for name in (task_id, upload):
        if not TASK_ID.fullmatch(name):
            raise UserError(
                f"{name!r} cannot name a task: use up to 64 of A-Z a-z 0-9 _ and -",
                code="task.invalid_name",
            )
    if not fnmatchcase(upload, last):
        raise UserError(
            f"task {upload!r} does not fit the population {spec.population!r} "
            f"of campaign {spec.name!r}",
            code="task.invalid_name",
        )
    return f"{parent}/{upload}" if parent else upload


def _create(
    store: ControlStore,
    connection: Connection,
    campaign: RowMapping,
    spec: CampaignSpec,
    task_id: str,
    population: str,
    execution_date: date,
    actor: str,
) -> None:
    now = utc_now()
    common = {
        "remark": "",
        "phone_number": True,
        "status": GroupStatus.CHECKING,
        "campaign_id": campaign["id"],
        "created_time": now,
        "updated_time": now,
    }
    output = spec.output_of(task_id)

    def group(name: str, source: GroupSource, uri: str) -> int:
        made = connection.execute(
            schema.group.insert().values(name=name, source=source, uri=uri, **common)
        )
        record_id = int(made.inserted_primary_key[0])  # type: ignore[index]
        store.note(
            connection, Kind.GROUP, record_id, actor, target=GroupStatus.CHECKING, note="created"
        )
        return record_id

    source = GroupSource.TABLE if spec.of_segment else GroupSource.CSV
    source_id = group(f"{task_id} population", source, population)
    target_id = group(f"{task_id} selected", GroupSource.ALGORITHM, output)
    training = schema.training_job
    made = connection.execute(
        schema.inference_job.insert().values(
            name=task_id,
            remark=spec.remark,
            algorithm=spec.algorithm.kind,
            campaign_id=campaign["id"],
            execution_date=execution_date,
            data_path=population,
            target_path=output,
            training_job_id=connection.scalar(
                select(training.c.id).where(training.c.name == f"{spec.name}-training")
            ),
            user_config=campaign["spec"],
            group_id=source_id,
            target_group_id=target_id,
            status=JobStatus.QUEUED,
            created_time=now,
            updated_time=now,
        )
    )
    job_id = int(made.inserted_primary_key[0])  # type: ignore[index]
    store.note(
        connection, Kind.INFERENCE_JOB, job_id, actor, target=JobStatus.QUEUED, note="created"
    )
    connection.execute(
        schema.group.update()
        .where(schema.group.c.id == target_id)
        .values(inference_job_id=job_id, algorithm=spec.algorithm.kind)
    )
    connection.execute(
        schema.schedule.update()
        .where(
            schema.schedule.c.campaign_id == campaign["id"],
            schema.schedule.c.name == spec.schedule.name,
        )
        .values(group_id=target_id)
    )


def _is_frozen(connection: Connection, task_id: str) -> bool:
    planned = exists().where(schema.occurrence.c.task_id == task_id)
    return bool(connection.scalar(select(planned)))


def refresh_tasks(
    store: ControlStore, connection: Connection, campaign_id: int, spec: CampaignSpec, actor: str
) -> tuple[list[str], list[str]]:
    """Give a campaign's tasks its newest settings.

    Returns:
        Tasks that keep their earlier settings, since their send plan is made; and tasks that were
        removed, since the campaign names another population now and they had not been decided.
    """
    job = schema.inference_job
    stored = spec.model_dump(mode="json")
    kept, removed = [], []
    for row in connection.execute(select(job).where(job.c.campaign_id == campaign_id)).mappings():
        if row["user_config"] == stored:
            continue
        folder, open_statuses = row["data_path"], (JobStatus.QUEUED, JobStatus.FAILED)
        if _is_frozen(connection, row["name"]):
            kept.append(str(row["name"]))
        elif row["status"] in open_statuses and not fnmatchcase(folder, spec.population):
            _remove(store, connection, row, actor)
            removed.append(str(row["name"]))
        else:
            connection.execute(
                job.update()
                .where(job.c.id == row["id"])
                .values(
                    user_config=stored,
                    remark=spec.remark,
                    algorithm=spec.algorithm.kind,
                    target_path=spec.output_of(row["name"]),
                    updated_time=utc_now(),
                )
            )
    return kept, removed


def withdraw_task(store: ControlStore, task_id: str, actor: str, note: str) -> None:
    """Remove a task without a send plan, with the reason in its history; its record's id stays.

    Raises:
        UserError: there is no such task, or its send plan is made.
    """
    job = schema.inference_job
    with store.write(alone=True) as connection:
        row = connection.execute(select(job).where(job.c.name == task_id)).mappings().first()
        if row is None:
            raise UserError(f"no task is called {task_id!r}", code="task.unknown")
        if _is_frozen(connection, task_id):
            raise UserError(
                f"task {task_id!r} has its send plan already and stays", code="plan.begun"
            )
        _remove(store, connection, row, actor, note)


def _remove(
    store: ControlStore,
    connection: Connection,
    job: RowMapping,
    actor: str,
    note: str = "removed",
) -> None:
    """Delete a task without a plan, with its groups; the history stays."""
    groups = (job["group_id"], job["target_group_id"])
    connection.execute(
        schema.schedule.update().where(schema.schedule.c.group_id.in_(groups)).values(group_id=None)
    )
    connection.execute(schema.inference_job.delete().where(schema.inference_job.c.id == job["id"]))
    connection.execute(schema.group.delete().where(schema.group.c.id.in_(groups)))
    store.note(connection, Kind.INFERENCE_JOB, job["id"], actor, note=note)


def _tasks(store: ControlStore, *conditions: Any) -> list[Task]:
    job, owner = schema.inference_job, schema.campaign
    planned = exists().where(schema.occurrence.c.task_id == job.c.name)
    query = (
        select(job, owner.c.name.label("campaign"), planned.label("frozen"))
        .join(owner, owner.c.id == job.c.campaign_id)
        .where(*conditions)
        .order_by(job.c.name)
    )
    with store.read() as connection:
        return [
            Task(
                task_id=row["name"],
                campaign=row["campaign"],
                execution_date=row["execution_date"],
                population=row["data_path"],
                output=row["target_path"],
                spec=load_spec(row["user_config"]),
                status=row["status"],
                frozen=bool(row["frozen"]),
            )
            for row in connection.execute(query).mappings()
        ]


def tasks_for(store: ControlStore, execution_date: date) -> list[Task]:
    """All tasks of an execution date, by task id."""
    return _tasks(store, schema.inference_job.c.execution_date == execution_date)


def tasks_of_segments(store: ControlStore) -> set[str]:
    """Ids of the tasks whose population is the snapshot of a segment; no settings are read."""
    job = schema.inference_job
    query = select(job.c.name).where(job.c.data_path.startswith(f"{OF_SEGMENT}/"))
    with store.read() as connection:
        return set(connection.scalars(query))


def all_tasks(store: ControlStore) -> list[Task]:
    """Every task, by task id."""
    return _tasks(store)


@dataclass(frozen=True)
class TaskFailure:
    """Why a task failed.

    Attributes:
        reason: the sentence of its error.
        code: of the error; None where the task failed before codes were kept.
        hint: what a person can do about it; None likewise.
    """

    reason: str
    code: str | None
    hint: str | None


@dataclass(frozen=True)
class ListedTask:
    """A task as its record shows it to a person: nothing in it is understood yet.

    ``failure`` is that of its last run; None unless its status is failed.
    """

    task_id: str
    campaign: str
    execution_date: str
    status: str
    output: str
    failure: TaskFailure | None


def listed_tasks(store: ControlStore) -> list[ListedTask]:
    """Every task by id, also one whose settings or date this version cannot work with."""
    job, owner, history = schema.inference_job, schema.campaign, schema.history
    past = history.alias()
    last_failure = (
        select(func.max(past.c.id))
        .where(past.c.kind == str(Kind.INFERENCE_JOB), past.c.record_id == job.c.id)
        .where(past.c.to == JobStatus.FAILED.name.lower())
        .scalar_subquery()
    )
    query = (
        select(
            job.c.name,
            owner.c.name,
            cast(job.c.execution_date, String),
            job.c.status,
            job.c.target_path,
            history.c.note,
            history.c.code,
            history.c.hint,
        )
        .join(owner, owner.c.id == job.c.campaign_id)
        .outerjoin(history, history.c.id == last_failure)
        .order_by(job.c.name)
    )
    with store.read() as connection:
        rows = connection.execute(query).tuples().all()
    return [
        ListedTask(
            task_id,
            campaign,
            day,
            status.name.lower(),
            output,
            TaskFailure(note or "", code, hint) if status is JobStatus.FAILED else None,
        )
        for task_id, campaign, day, status, output, note, code, hint in rows
    ]


def task(store: ControlStore, task_id: str) -> Task:
    """One task.

    Raises:
        UserError: no task has that id.
    """
    tasks = _tasks(store, schema.inference_job.c.name == task_id)
    if not tasks:
        raise UserError(
            f"no task is called {task_id!r}; apply its campaign or upload its folder",
            code="task.unknown",
        )
    return tasks[0]
