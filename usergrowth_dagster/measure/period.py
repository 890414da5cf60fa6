"""The effect of all campaigns of a period together, by the global control group.

The comparison holds within one draw of that group: a user's arm is that of the draw, and texts that
were decided under another one fell on both arms alike. A period over several draws is cut.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from itertools import groupby, pairwise

from sqlalchemy import func, select

from usergrowth_dagster.audience.decisions import DECISION_COLUMNS
from usergrowth_dagster.audience.holdout import Holdout, drawn_on
from usergrowth_dagster.audience.records import TABLE as DECISIONS
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.tasks import all_tasks
from usergrowth_dagster.control.wall_clock import moment_of
from usergrowth_dagster.effects import texts
from usergrowth_dagster.effects.analysis import analyse
from usergrowth_dagster.effects.everyone import ALL, bind_everyone
from usergrowth_dagster.effects.outcomes import Window, bind_outcomes
from usergrowth_dagster.effects.result import EVERY_TASK, Altered, Effect
from usergrowth_dagster.effects.returns import DEFAULT_RETURN_DAYS
from usergrowth_dagster.effects.rows import Plan
from usergrowth_dagster.effects.sample_ratio import Refused
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.measure.effects import (
    BEHAVIOR,
    drawn_sql,
    lost_by_chance,
)
from usergrowth_dagster.measure.intact import altered_arms
from usergrowth_dagster.measure.refusals import refused_since
from usergrowth_dagster.pipeline.choice import global_holdout
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.relation import Relation, bind_days, bind_files

_KINDS = {
    name: DECISION_COLUMNS[name]
    for name in (
        *("ds", "task_id", "user_id", "rank", "arm", "holdout", "users", "held_globally"),
        "global_epoch",
    )
}


@dataclass(frozen=True)
class Part:
    """Dates of a period within one draw of the global control group.

    ``drawn`` is the first day of the draw; None where it is kept, or not known any more.
    """

    first: date
    last: date
    drawn: date | None


def parts_of(project: Project, first: date, last: date) -> list[Part]:
    """A period cut where the global control group was drawn afresh; by what was decided in it."""
    with open_engine(project.settings) as engine:
        _, draws = _draws(engine, project, first, last)
        return _parts(project, draws, first, last)


def _draws(
    engine: Engine, project: Project, first: date, last: date, only: Collection[date] | None = None
) -> tuple[Relation, dict[date, Holdout]]:
    """The decisions of some dates, and the global draw in force on each of them.

    It is the one that the decisions name. Of decisions that name none, that of the settings.
    ``only`` leaves out the other dates between the first and the last.
    """
    files = project.warehouse.files(DECISIONS, first=first, last=last)
    if only is not None:
        files = {day: names for day, names in files.items() if day in only}
    decisions = bind_files(
        engine, "all_decisions", [f for day in files.values() for f in day], _KINDS
    )
    named = dict(engine.rows(f"select ds, min(global_epoch) from {decisions} group by ds"))
    draws = {}
    for day in sorted(files):
        draw = global_holdout(project.settings, day)
        draws[day] = draw.model_copy(update={"epoch": named.get(day) or draw.epoch})
    return decisions, draws


def _parts(project: Project, draws: Mapping[date, Holdout], first: date, last: date) -> list[Part]:
    """Each part begins where its draw did, or, where dates since were decided under the one before
    (the setting was changed), after the last of them; then nobody knows when it was drawn."""
    runs = [list(days) for _, days in groupby(draws, lambda day: draws[day].epoch)]
    starts, drawn = [first], [_drawn(project, runs[0][0], draws[runs[0][0]]) if runs else None]
    for before, days in pairwise(runs):
        begun, after = _drawn(project, days[0], draws[days[0]]), before[-1] + timedelta(days=1)
        fresh = begun is not None and begun >= after
        starts.append(begun if begun is not None and fresh else days[0])
        drawn.append(begun if fresh else None)
    ends = [start - timedelta(days=1) for start in starts[1:]] + [last]
    return [Part(*part) for part in zip(starts, ends, drawn, strict=True)]


def _drawn(project: Project, day: date, draw: Holdout) -> date | None:
    """First day of a day's draw, if it is that of the settings."""
    if draw.epoch != global_holdout(project.settings, day).epoch:
        return None
    return drawn_on(project.settings.global_holdout_rotate_days, day)


def measure_all(
    project: Project,
    first: date,
    last: date,
    *,
    return_days: int = DEFAULT_RETURN_DAYS,
    as_of: date | None = None,
) -> Effect:
    """Measure all campaigns of a period together, by the global control group.

    A return is any behavior from the day after a user's first date in the period to ``return_days``
    after its last; the amount is that of the campaigns, where those that name one agree. Every text
    that was decided under the same draw and went out in that time is paid for.

    Args:
        project: the home.
        first: first execution date.
        last: last execution date.
        return_days: days after the last date that count too.
        as_of: measure as in the morning of that day; default: all that has landed.

    Raises:
        UserError: no task of the period has been decided, some were under another global control
            group than that of the settings, or it was drawn afresh within the period.
    """
    landed = [d for d in project.warehouse.days(BEHAVIOR) if as_of is None or d < as_of]
    effects = [t.spec.effect for t in all_tasks(project.store) if first <= t.execution_date <= last]
    amounts = {(e.amount, e.margin) for e in effects if e.amount is not None}
    amount, margin = amounts.pop() if len(amounts) == 1 else (None, 1.0)
    newest = max(landed, default=None)
    span = (last - first).days + return_days
    window = Window(first, span, amount=amount, until=newest)
    with open_engine(project.settings) as engine:
        decisions, draws = _draws(engine, project, first, last)
        parts = _parts(project, draws, first, last)
        if len(parts) > 1:
            raise UserError(
                f"the control group of all campaigns was drawn afresh between {first} and {last}; "
                f"ask for {', '.join(f'{part.first} to {part.last}' for part in parts)}",
                code="task.undecided",
            )
        everyone, others = bind_everyone(engine, decisions, draws)
        if not engine.value(f"select count(*) from {everyone}"):
            raise UserError(
                f"no task from {first} to {last} has been decided, or nobody could be texted; run "
                "one of those dates first (usergrowth run --date)",
                code="task.undecided",
            )
        if others:
            raise UserError(
                f"tasks of {', '.join(map(str, others[:3]))} were decided under another global "
                "control group than that of the settings now (global_holdout_share, _epoch, "
                "_rotate_days); choose a period in which they were the same",
                code="task.undecided",
            )
        read, kinds = window.days(landed), load_graph().types(BEHAVIOR)
        behavior = bind_days(engine, project.warehouse, BEHAVIOR, read, kinds)
        task_ids = _own_tasks(project, window, draws)
        zone = project.settings.zone
        ledger = texts.bind_texts(
            engine, project.store, task_ids, first, window.last, zone, in_days=True
        )
        inside = [d for d in landed if window.first <= d <= window.counted]
        outcomes = bind_outcomes(
            engine, window, len(inside), decisions=everyone, behavior=behavior, texts=ledger
        )
        rows = engine.arrow(drawn_sql(outcomes))
        counted = None if newest is None or newest <= first else window.counted
        plan = Plan(
            task_id=EVERY_TASK,
            campaign=ALL,
            execution_date=first,
            return_days=span,
            landed_until=newest,
            counted_until=counted,
            complete=window.counted == window.last,
            look=int(window.counted == window.last),
            currency=project.settings.currency,
            margin=margin,
            has_amount=amount is not None,
            gaps=window.counted_days - len(inside),
            everything=True,
            altered=_altered(engine, project, decisions, first, last),
        )
        effect = analyse(rows, plan)
        if lost_by_chance(effect):
            left_out = (
                f"select user_id from {decisions} where user_id not in "
                f"(select user_id from {everyone})"
            )
            refused = _refused(engine, project, parts[0], left_out)
            effect = analyse(rows, replace(plan, refused=refused))
    return effect


def _own_tasks(project: Project, window: Window, draws: Mapping[date, Holdout]) -> list[str]:
    """Tasks with texts in the window that were decided under the draw of the period."""
    zone, made, job = project.settings.zone, schema.occurrence, schema.inference_job
    begin, end = (
        moment_of(datetime.combine(day, time()), zone)
        for day in (window.execution_date, window.last + timedelta(days=1))
    )
    decided = func.coalesce(made.c.audience_date, job.c.execution_date)
    sent = schema.message.c.sent_time
    query = (
        select(made.c.task_id, decided)
        .join(schema.message, schema.message.c.occurrence_id == made.c.id)
        .join(job, job.c.name == made.c.task_id)
        .where(sent >= begin, sent < end)
        .distinct()
    )
    with project.store.read() as connection:
        decided_on = list(connection.execute(query).tuples())
    epochs = {draw.epoch for draw in draws.values()}
    named = _epochs(project, sorted({day for _, day in decided_on}))
    return sorted({name for name, day in decided_on if named[day] in epochs})


def _epochs(project: Project, days: Sequence[date]) -> dict[date, str]:
    """The epoch of the global draw under which each day's tasks were decided."""
    if not days:
        return {}
    with open_engine(project.settings) as engine:
        _, draws = _draws(engine, project, days[0], days[-1], only=days)
    return {day: (draws.get(day) or global_holdout(project.settings, day)).epoch for day in days}


def _refused(engine: Engine, project: Project, part: Part, left_out: str) -> Refused:
    days = project.settings.global_holdout_rotate_days
    return refused_since(
        engine,
        project,
        part.drawn,
        part.first,
        left_out=left_out,
        keys=f"setting global_holdout_rotate_days: {'null' if days is None else days}",
    )


def _altered(
    engine: Engine, project: Project, decisions: Relation, first: date, last: date
) -> Altered | None:
    """The first task of a period whose decision has other rows than were decided."""
    standing: dict[str, dict[str, int]] = {}
    for name, arm, rows in engine.rows(
        f"select task_id, arm, count(*) from {decisions} group by task_id, arm"
    ):
        standing.setdefault(name, {})[arm] = rows
    for task in all_tasks(project.store):
        if first <= task.execution_date <= last:
            arms = altered_arms(project, task, standing.get(task.task_id, {}))
            if arms is not None:
                return replace(arms, sentence=f"task {task.task_id}: {arms.sentence}")
    return None
