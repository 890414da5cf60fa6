"""Step 4 of a task: its batches in the ledger, and the dispatch of what is due."""

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from usergrowth_dagster.control.codes import JobStatus
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.messaging.dispatching.dispatch import DispatchCounts, dispatch
from usergrowth_dagster.messaging.plans.plan import SendPlan, plan_send
from usergrowth_dagster.messaging.policy.zones import UNKNOWN_ZONE
from usergrowth_dagster.messaging.texts.billing import billing_of
from usergrowth_dagster.messaging.texts.by_variant import message_columns_by_variant_sql
from usergrowth_dagster.tasks.decide import bind_standing_decision
from usergrowth_dagster.tasks.each import NotReadyError
from usergrowth_dagster.tasks.people import (
    attribute_sql,
    consent_sql,
)
from usergrowth_dagster.tasks.project import Project
from usergrowth_dagster.tasks.smart import bind_smart_times
from usergrowth_dagster.tasks.variants import contents_of
from usergrowth_dagster.tasks.zones import bind_unknown_zones, unknown_zone_sql
from usergrowth_dagster.warehouse.engine import Engine, open_engine

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
    billing, texts = billing_of(settings, spec.channel), contents_of(task)
    columns = message_columns_by_variant_sql(
        texts, spec.signature.name, billing, "p.variables", "d.variant"
    )
    bind_unknown_zones(engine, settings)
    engine.run(
        "create or replace temp view recipients as select * exclude (consents, nowhere) replace ("
        f"case when not consents then 'no_consent' when nowhere then '{UNKNOWN_ZONE}' "
        "else reason end as reason) from ("
        "select d.\"row\", d.rank, p.user_id, p.item_id, p.phone, p.variables['email'] as email, "
        f"{attribute_sql(settings.timezone_key)} as zone, "
        f"{consent_sql(spec.contact.require_consent)} as consents, "
        f"{unknown_zone_sql(settings)} as nowhere, d.variant, {columns} "
        'from decisions as d inner join task_population as p using ("row") '
        "left join user_attributes as a on a.user_id = p.user_id "
        "where d.arm = 'treatment')"
    )
    if spec.schedule.smart_send is None:
        yield from engine.stream('select * exclude ("row", rank) from recipients order by rank')
        return
    bind_smart_times(
        engine, project, task, "recipients", "email" if spec.channel == "email" else "phone"
    )
    yield from engine.stream(
        'select r.* exclude ("row", rank, reason), coalesce(r.reason, t.reason) as reason, '
        't.not_before from recipients as r left join smart_times as t on t."row" = r."row" '
        "order by r.rank"
    )


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
