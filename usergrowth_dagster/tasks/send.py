"""Step 4 of a task: its batches in the ledger, and the dispatch of what is due."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from usergrowth_dagster.control.codes import JobStatus
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.messaging.billing import billing_of
from usergrowth_dagster.messaging.content import message_columns_sql
from usergrowth_dagster.messaging.dispatch import DispatchCounts, dispatch
from usergrowth_dagster.messaging.plan import SendPlan, plan_send
from usergrowth_dagster.tasks.decide import bind_standing_decision
from usergrowth_dagster.tasks.each import NotReadyError
from usergrowth_dagster.tasks.people import attribute_sql, consent_sql
from usergrowth_dagster.tasks.project import Project
from usergrowth_dagster.warehouse.engine import Engine, open_engine

if TYPE_CHECKING:
    import pyarrow as pa


def plan_task(project: Project, task: Task) -> SendPlan:
    """Write the selected treatment users of a decided task into the ledger, once.

    Raises:
        UserError: signature or template is not approved; the decision stays, and planning goes on
            when it is.
        NotReadyError: the task is not decided on its present inputs, or its output not written.
    """
    if task.status != JobStatus.SUCCESS:
        raise NotReadyError(task.task_id)
    with open_engine(project.settings) as engine:
        bind_standing_decision(engine, project, task)
        return plan_send(
            project.store,
            project.settings,
            task,
            _recipients(engine, project, task),
            progress=lambda rows: project.progress(f"plan {task.task_id}", rows, rows),
        )


def _recipients(engine: Engine, project: Project, task: Task) -> "Iterator[pa.RecordBatch]":
    spec, settings = task.spec, project.settings
    billing = billing_of(settings, spec.channel)
    text = (spec.template.content, spec.signature.name, billing, "p.variables")
    yield from engine.stream(
        "select user_id, item_id, phone, email, zone, params, segments, "
        "case when consents then reason else 'no_consent' end as reason from ("
        "select p.user_id, p.item_id, p.phone, p.variables['email'] as email, d.rank, "
        f"{attribute_sql(settings.timezone_key)} as zone, "
        f"{consent_sql(spec.contact.require_consent)} as consents, {message_columns_sql(*text)} "
        'from decisions as d inner join task_population as p using ("row") '
        "left join user_attributes as a on a.user_id = p.user_id "
        "where d.outcome = 'selected') order by rank"
    )


def dispatch_due(project: Project) -> DispatchCounts:
    """Submit every message that is due now; what is past its send-by expires unsent."""
    return dispatch(
        project.store,
        project.settings,
        progress=lambda done, total: project.progress("dispatch", done, total),
    )
