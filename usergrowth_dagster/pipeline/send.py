"""Step 5 of a task: its batches in the ledger, and the dispatch of what is due."""

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from usergrowth_dagster.audience.records import decided_rows
from usergrowth_dagster.control.codes import JobStatus
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.messaging.dispatching.dispatch import DispatchCounts, dispatch
from usergrowth_dagster.messaging.plans.plan import SendPlan, plan_send
from usergrowth_dagster.messaging.policy.zones import UNKNOWN_ZONE
from usergrowth_dagster.messaging.texts.billing import billing_of
from usergrowth_dagster.messaging.texts.content import message_columns_by_variant_sql
from usergrowth_dagster.pipeline.attributes import (
    attribute_sql,
    bind_unknown_zones,
    consent_sql,
    unknown_zone_sql,
)
from usergrowth_dagster.pipeline.choice import contents_of
from usergrowth_dagster.pipeline.each import NotReadyError
from usergrowth_dagster.pipeline.inputs import DecisionInputs, inputs_as_decided
from usergrowth_dagster.pipeline.send_times import choose_send_times
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.relation import Relation, bind_query

if TYPE_CHECKING:
    import pyarrow as pa


def plan_task(project: Project, task: Task) -> SendPlan:
    """Write the treatment users of a decided task into the ledger, once.

    Raises:
        UserError: signature or a text is not approved; the decision stays, and planning goes on
            when it is.
        NotReadyError: the task is not decided on its present inputs, or its output not written.
    """
    if task.status != JobStatus.SUCCESS:
        raise NotReadyError(task.task_id)
    with open_engine(project.settings) as engine:
        inputs = inputs_as_decided(engine, project, task)
        decision = decided_rows(engine, project.warehouse, task.execution_date, task.task_id)
        return plan_send(
            project.store,
            project.settings,
            task,
            _batches(inputs, decision),
            progress=lambda rows: project.progress(f"plan {task.task_id}", rows, rows),
        )


def _batches(inputs: DecisionInputs, decision: Relation) -> "Iterator[pa.RecordBatch]":
    """The recipients, the best ranked first; computed when the plan asks for the first."""
    people = _recipients(inputs, decision)
    if inputs.task.spec.schedule.smart_send is None:
        yield from inputs.engine.stream(
            f'select * exclude ("row", rank) from {people} order by rank'
        )
        return
    times = choose_send_times(inputs, people)
    yield from inputs.engine.stream(
        'select r.* exclude ("row", rank, reason), coalesce(r.reason, t.reason) as reason, '
        f't.not_before from {people} as r left join {times} as t on t."row" = r."row" '
        "order by r.rank"
    )


def _recipients(inputs: DecisionInputs, decision: Relation) -> Relation:
    """Whom a decision texts: address, text and why somebody gets none after all (``reason``)."""
    spec, settings = inputs.task.spec, inputs.project.settings
    columns = message_columns_by_variant_sql(
        contents_of(inputs.task),
        spec.signature.name,
        billing_of(settings, spec.channel),
        "p.variables",
        "d.variant",
    )
    unknown_zones = bind_unknown_zones(
        inputs.engine, settings, inputs.population, inputs.attributes
    )
    sql = (
        "select * exclude (consents, nowhere) replace ("
        f"case when not consents then 'no_consent' when nowhere then '{UNKNOWN_ZONE}' "
        "else reason end as reason) from ("
        "select d.\"row\", d.rank, p.user_id, p.item_id, p.phone, p.variables['email'] as email, "
        f"{attribute_sql(settings.timezone_key)} as zone, "
        f"{consent_sql(spec.contact.require_consent)} as consents, "
        f"{unknown_zone_sql(settings, unknown_zones)} as nowhere, d.variant, {columns} "
        f'from {decision} as d inner join {inputs.population} as p using ("row") '
        f"left join {inputs.attributes} as a on a.user_id = p.user_id "
        "where d.arm = 'treatment')"
    )
    return bind_query(inputs.engine, "recipients", sql)


def dispatch_due(project: Project, patience: timedelta | None = None) -> DispatchCounts:
    """Submit every message that is due now; what is past its send-by expires unsent.

    Args:
        project: the opened home.
        patience: how long to go on at most; default: until all is out.
    """
    return dispatch(
        project.store,
        project.settings,
        progress=lambda done, total: project.progress("dispatch", done, total),
        patience=patience,
    )
