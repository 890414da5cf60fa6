"""Step 5 of a task: its batches in the ledger, and the dispatch of what is due.

With send-time optimization people with their zones and hour profiles get their times when the task
is planned.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from usergrowth_dagster.addresses.sql import number_sql
from usergrowth_dagster.audience.records import decided_rows
from usergrowth_dagster.control.codes import JobStatus
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.identity.persons import bind_persons
from usergrowth_dagster.identity.refusals import keys_of_persons
from usergrowth_dagster.messaging.dispatching.dispatch import DispatchCounts, dispatch
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.plans.plan import SendPlan, plan_send
from usergrowth_dagster.messaging.policy.person_keys import known_users, remember
from usergrowth_dagster.messaging.policy.zones import UNKNOWN_ZONE, recipient_zone
from usergrowth_dagster.messaging.schedules.occurrences import business_now
from usergrowth_dagster.messaging.schedules.send_times import SendTimeWindow, choose_times
from usergrowth_dagster.messaging.schedules.windows import first_due, send_times_end
from usergrowth_dagster.messaging.texts.content import message_columns_by_variant_sql
from usergrowth_dagster.pipeline.attributes import (
    attribute_sql,
    bind_unknown_zones,
    consent_sql,
    unknown_zone_sql,
)
from usergrowth_dagster.pipeline.choice import channel_sql, priced_texts
from usergrowth_dagster.pipeline.each import NotReadyError
from usergrowth_dagster.pipeline.exclusions import rules_of
from usergrowth_dagster.pipeline.freshness import held_by_segments, require_fresh
from usergrowth_dagster.pipeline.inputs import DecisionInputs, inputs_as_decided
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.relation import (
    Relation,
    bind_arrow,
    bind_days,
    bind_query,
)

if TYPE_CHECKING:
    import pyarrow as pa

_PREFIX = (
    "left(number, case when starts_with(number, '+1') or starts_with(number, '+86') "
    "then 8 else 11 end)"
)
"""The part of a number that says its zone, at most (see ``messaging.policy.zones``)."""


def plan_task(project: Project, task: Task) -> SendPlan:
    """Write the treatment users of a decided task into the ledger, once.

    Raises:
        UserError: signature or a text is not approved; the decision stays, and planning goes on
            when it is. Or the campaign's segment is stale.
        NotReadyError: the task is not decided on its present inputs, or its output not written.
    """
    if task.status != JobStatus.SUCCESS:
        raise NotReadyError(task.task_id)
    require_fresh(project, task)
    with open_engine(project.settings) as engine:
        inputs = inputs_as_decided(engine, project, task)
        decision = decided_rows(engine, project.warehouse, task.execution_date, task.task_id)
        _remember_persons(inputs, decision)
        return plan_send(
            project.store,
            project.settings,
            task,
            _batches(inputs, decision),
            progress=lambda rows: project.progress(f"plan {task.task_id}", rows, rows),
        )


def _remember_persons(inputs: DecisionInputs, decision: Relation) -> None:
    """Let refusals of the recipients' other users and addresses hold from now on.

    The persons are the newest ones, since the texts go out after the decision.
    """
    engine, project = inputs.engine, inputs.project
    today = max(inputs.task.execution_date, project.settings.current_date())
    persons = bind_persons(engine, project, today)
    had = set(known_users(project.store))
    if persons is None and not had:
        return
    vault = open_vault(project.settings.home, project.settings.default_country)
    users = bind_query(
        engine,
        "recipients_asked",
        f"select distinct user_id from {decision} where arm = 'treatment'",
    )
    keys = keys_of_persons(engine, vault, persons, users)
    remember(
        project.store,
        (
            (user, others)
            for batch in engine.stream(f"select user_hash, keys from {keys}")
            for user, others in zip(*(column.to_pylist() for column in batch.columns), strict=True)
            if others or user in had
        ),
    )


def _batches(inputs: DecisionInputs, decision: Relation) -> "Iterator[pa.RecordBatch]":
    """The recipients, the best ranked first; computed when the plan asks for the first."""
    people = _recipients(inputs, decision)
    if inputs.task.spec.schedule.smart_send is None:
        yield from inputs.engine.stream(
            f'select * exclude ("row", rank) from {people} order by rank'
        )
        return
    times = _choose_send_times(inputs, people)
    yield from inputs.engine.stream(
        'select r.* exclude ("row", rank, reason), coalesce(r.reason, t.reason) as reason, '
        f't.not_before from {people} as r left join {times} as t on t."row" = r."row" '
        "order by r.rank"
    )


def _recipients(inputs: DecisionInputs, decision: Relation) -> Relation:
    """Whom a decision texts: address, text and why somebody gets none after all (``reason``)."""
    spec, settings = inputs.task.spec, inputs.project.settings
    texts = priced_texts(inputs.task, settings)
    columns = message_columns_by_variant_sql(
        {name: text.content for name, text in texts.items()},
        spec.signature.name,
        {name: text.billing for name, text in texts.items()},
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

    What a stale segment holds is not begun.

    Args:
        project: the opened home.
        patience: how long to go on at most; default: until all is out.
    """
    return dispatch(
        project.store,
        project.settings,
        progress=lambda done, total: project.progress("dispatch", done, total),
        patience=patience,
        held=held_by_segments(project.store, project.settings),
    )


def send_time_window(project: Project, task: Task) -> SendTimeWindow:
    """What send-time optimization may choose from; what has passed already is left out."""
    settings, rules = project.settings, rules_of(project.settings, task)
    due = first_due(settings, {"execute_time": None}, task.spec, task.execution_date)
    rate = settings.gateway_rate
    return SendTimeWindow(
        opens=max(due, business_now(settings)),
        closes=send_times_end(settings, task.spec),
        zone=settings.zone,
        send_from=rules.send_from,
        send_until=rules.send_until,
        capacity=None if rate is None else max(1, int(rate * 3600)),
    )


def _choose_send_times(inputs: DecisionInputs, recipients: Relation) -> Relation:
    """Choose a time for each recipient of a task who can be sent to.

    The capacity of an hour is that of the setting ``gateway_rate``; without it there is no limit.

    Args:
        inputs: of a decided task with send-time optimization.
        recipients: ``row``, ``rank``, ``user_id``, ``phone``, ``email``, ``zone`` (the attribute),
            ``segments`` and ``reason`` (why somebody is not sent to).

    Returns:
        ``row``, ``not_before`` (UTC) and ``reason``, why there is no time.
    """
    engine, project, day = inputs.engine, inputs.project, inputs.task.execution_date
    days = [day - timedelta(days=back) for back in range(1, project.settings.lookback_days + 1)]
    activity = bind_days(
        engine, project.warehouse, "user_day", days, load_graph().types("user_day")
    )
    channel = channel_sql(inputs.task, "variant")
    address = f"case {channel} when 'email' then email else phone end"
    reached = bind_query(
        engine,
        "send_time_reached",
        'select "row", rank as place, user_id, zone as attribute, '
        f"coalesce({number_sql('phone')}, '') as number from {recipients} "
        "where reason is null and segments is not null "
        f"and trim(coalesce({address}, '')) != ''",
        keep=True,
    )
    keys = f"attribute, length(number) as size, {_PREFIX} as prefix"
    keyed = bind_query(engine, "send_time_keyed", f"select *, {keys} from {reached}")
    zones = bind_arrow(engine, "send_time_zones", _zones(engine, keyed))
    people = bind_query(
        engine,
        "send_time_people",
        f'select k."row", k.place, k.user_id, z.zone from {keyed} as k left join {zones} as z '
        "on z.size = k.size and z.prefix = k.prefix "
        "and z.attribute is not distinct from k.attribute",
        keep=True,
    )
    return choose_times(engine, people.name, activity.name, send_time_window(project, inputs.task))


def _zones(engine: Engine, keyed: Relation) -> "pa.Table":
    """Zones by attribute, and by length and beginning of the number; so many, not one a person."""
    import pyarrow as pa

    keys = engine.rows(
        f"select attribute, size, prefix, any_value(number) from {keyed} group by all"
    )
    zones = [(row[0], row[1], row[2], recipient_zone(row[0], row[3])) for row in keys]
    layout = pa.schema(
        [
            ("attribute", pa.string()),
            ("size", pa.int64()),
            ("prefix", pa.string()),
            ("zone", pa.string()),
        ]
    )
    columns = [list(column) for column in zip(*zones, strict=True)] or [[] for _ in layout]
    return pa.table(dict(zip(layout.names, columns, strict=True)), schema=layout)
