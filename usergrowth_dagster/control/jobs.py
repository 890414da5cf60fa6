"""Status changes of tasks and training jobs while they run."""

from typing import Any

from sqlalchemy import Connection, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import GroupStatus, JobStatus, Kind
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError


def _job(connection: Connection, task_id: str) -> Any:
    table = schema.inference_job
    row = connection.execute(select(table).where(table.c.name == task_id)).mappings().first()
    if row is None:
        raise UserError(
            f"no task is called {task_id!r}; apply its campaign or upload its folder",
            code="task.unknown",
        )
    return row


def _group(
    store: ControlStore,
    connection: Connection,
    group_id: int,
    status: GroupStatus,
    actor: str,
    amount: int | None = None,
) -> None:
    table = schema.group
    present = connection.scalar(select(table.c.status).where(table.c.id == group_id))
    values = {} if amount is None else {"amount": amount}
    if present is not status:
        store.move(connection, Kind.GROUP, group_id, status, actor, values=values)
    elif values:
        connection.execute(table.update().where(table.c.id == group_id).values(values))


def task_running(store: ControlStore, task_id: str, actor: str = "run", note: str = "") -> None:
    """A run of the task has begun; its groups are checked again.

    Raises:
        UserError: no such task.
    """
    with store.write() as connection:
        job = _job(connection, task_id)
        store.move(connection, Kind.INFERENCE_JOB, job["id"], JobStatus.RUNNING, actor, note=note)
        for group_id in (job["group_id"], job["target_group_id"]):
            _group(store, connection, group_id, GroupStatus.CHECKING, actor)


def task_succeeded(
    store: ControlStore,
    task_id: str,
    *,
    population: int,
    selected: int,
    actor: str = "run",
    note: str = "",
) -> None:
    """The task is decided: rows of its population and people selected go to its groups.

    A second run of the date that finds the task decided by the first changes nothing.

    Raises:
        UserError: no such task, or it is not running.
    """
    with store.write() as connection:
        job = _job(connection, task_id)
        if job["status"] is JobStatus.SUCCESS:
            return
        store.move(connection, Kind.INFERENCE_JOB, job["id"], JobStatus.SUCCESS, actor, note=note)
        passed = GroupStatus.PASSED
        _group(store, connection, job["group_id"], passed, actor, population)
        _group(store, connection, job["target_group_id"], passed, actor, selected)


def task_failed(store: ControlStore, task_id: str, error: UserError, actor: str = "run") -> None:
    """The task's run failed; the error's sentence, code and hint go to its history.

    Raises:
        UserError: no such task, or it had succeeded.
    """
    with store.write() as connection:
        job = _job(connection, task_id)
        store.move(
            connection,
            Kind.INFERENCE_JOB,
            job["id"],
            JobStatus.FAILED,
            actor,
            note=str(error),
            error=error,
        )
        table = schema.group
        for group_id in (job["group_id"], job["target_group_id"]):
            present = connection.scalar(select(table.c.status).where(table.c.id == group_id))
            if present is GroupStatus.CHECKING:
                _group(store, connection, group_id, GroupStatus.FAILED, actor)


def training_moved(
    store: ControlStore,
    campaign_name: str,
    status: JobStatus,
    actor: str = "run",
    note: str = "",
    *,
    has_model_info: bool | None = None,
    error: UserError | None = None,
) -> None:
    """Change the status of a campaign's training job.

    Args:
        store: the control store.
        campaign_name: whose training it is.
        status: the job's status from now on.
        actor: who changes it.
        note: a sentence for its history.
        has_model_info: whether the job has a model; None leaves that as it is.
        error: what the training failed with; its code and hint go to the history.

    Raises:
        UserError: no such campaign, or a forbidden change.
    """
    table = schema.training_job
    with store.write() as connection:
        job_id = connection.scalar(
            select(table.c.id).where(table.c.name == f"{campaign_name}-training")
        )
        if job_id is None:
            raise UserError(
                f"no campaign is called {campaign_name!r}; apply its YAML file first",
                code="campaign.unknown",
            )
        values = {} if has_model_info is None else {"has_model_info": has_model_info}
        store.move(
            connection,
            Kind.TRAINING_JOB,
            job_id,
            status,
            actor,
            note=note,
            values=values,
            error=error,
        )


def training_failure(store: ControlStore, campaign_name: str) -> str:
    """Why a campaign's last training failed; empty when it did not, or when there was none."""
    table = schema.training_job
    with store.read() as connection:
        job = connection.execute(
            select(table.c.id, table.c.status).where(table.c.name == f"{campaign_name}-training")
        ).first()
    if job is None or job[1] is not JobStatus.FAILED:
        return ""
    return store.history(Kind.TRAINING_JOB, job[0])[-1].note
