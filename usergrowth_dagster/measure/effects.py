"""The effect of a task: its outcomes from behavior that has landed since, compared between arms."""

import hashlib
import json
from dataclasses import replace
from datetime import date, timedelta

from usergrowth_dagster.code_meaning import source_hash
from usergrowth_dagster.control.campaign import CampaignSpec
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.effects import texts
from usergrowth_dagster.effects.analysis import analyse
from usergrowth_dagster.effects.interim import analyses_due, analysis_day
from usergrowth_dagster.effects.outcomes import OUTCOME_COLUMNS, Window, bind_outcomes
from usergrowth_dagster.effects.outcomes import TABLE as OUTCOMES
from usergrowth_dagster.effects.result import ArmFigures, Effect
from usergrowth_dagster.effects.returns import return_rule
from usergrowth_dagster.effects.rows import DRAWN, NEEDED, Plan
from usergrowth_dagster.effects.sample_ratio import Refused
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.problems import problem_called
from usergrowth_dagster.measure.intact import altered_decision
from usergrowth_dagster.measure.policies import task_policies
from usergrowth_dagster.measure.refusals import refused_since
from usergrowth_dagster.pipeline.choice import drawn_since
from usergrowth_dagster.pipeline.decide import Decision, read_decision
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import identifier, literals
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.relation import Relation, bind_days

BEHAVIOR = "stg_behavior"


def window_of(spec: CampaignSpec, execution_date: date, until: date | None = None) -> Window:
    """What counts as a return of a campaign's task, and when."""
    rule = return_rule(spec)
    return Window(
        execution_date,
        rule.days,
        rule.behaviors,
        rule.on_item,
        spec.effect.amount,
        spec.effect.pre_days,
        until,
        rule.same_day,
    )


def measure(project: Project, task: Task, *, as_of: date | None = None) -> Effect:
    """Measure a decided task, and record its outcomes in the table ``outcomes``.

    Args:
        project: the home.
        task: the task.
        as_of: measure as in the morning of that day, from behavior of the days before it; default:
            all that has landed. Outcomes that count more days stay in the table.

    Returns:
        The effect; its funnel is left to the report.

    Raises:
        UserError: the task has not been decided.
    """
    landed = [d for d in project.warehouse.days(BEHAVIOR) if as_of is None or d < as_of]
    window, plan = _plan(project, task, landed)
    with open_engine(project.settings) as engine:
        decision = read_decision(engine, project, task)
        if not engine.value(f"select count(*) from {decision.rows}"):
            raise UserError(
                f"task {task.task_id!r} has not been decided; run its date "
                f"(usergrowth run --date {task.execution_date}) first",
                code="task.undecided",
            )
        ledger = texts.bind_texts(
            engine,
            project.store,
            [task.task_id],
            task.execution_date,
            window.last,
            project.settings.zone,
            until=plan.sent_until,
        )
        outcomes = _record_outcomes(
            engine, project, decision, window, ledger, landed, looks_back=as_of is not None
        )
        plan = replace(
            plan,
            decided=_drawn_arms(engine, decision),
            altered=altered_decision(engine, project, decision, ledger.own),
            sent_later=int(engine.value(f"select count(*) from {ledger.own} where later")),
        )
        effect = analyse(engine.arrow(drawn_sql(outcomes)), plan)
        if lost_by_chance(effect):
            plan = replace(plan, refused=_refused(engine, project, decision))
            effect = analyse(engine.arrow(drawn_sql(outcomes)), plan)
        valued = task_policies(engine, outcomes, project, decision, effect)
        explored = _explored(engine, outcomes, plan)
    return replace(effect, policies=[one.value for one in valued], explored=explored)


def _drawn_arms(engine: Engine, decision: Decision) -> dict[str, int]:
    """Rows by arm of those who were drawn for one."""
    drawn = "outcome in ('selected', 'holdout')"
    return dict(
        engine.rows(f"select arm, count(*) from {decision.rows} where {drawn} group by arm")
    )


def lost_by_chance(effect: Effect) -> bool:
    """Whether the arms are of other sizes than drawn, of a decision that is as it was made."""
    ratio = effect.sample_ratio
    return ratio is not None and not ratio.passed and not ratio.altered


def _refused(engine: Engine, project: Project, decision: Decision) -> Refused:
    """Those who refused, and how many of them would have been chosen: as of everybody else.

    By a score they would have had to reach the lowest that was chosen.
    """
    task, decided = decision.task, decision.rows
    since, keys = drawn_since(project.settings, task)
    drawn = f"outcome in ({', '.join(repr(name) for name in DRAWN)})"
    left_out, share = f"select user_id from {decided} where outcome = 'suppressed'", 1.0
    if task.spec.selection.by_uplift:
        chosen, ranked = engine.rows(
            f"select count(*) filter (where {drawn}), count(rank) from {decided}"
        )[0]
        share = chosen / ranked if ranked else 0.0
    else:
        left_out += f" and score >= (select min(score) from {decided} where {drawn})"
    return refused_since(
        engine, project, since, task.execution_date, left_out=left_out, keys=keys, share=share
    )


def _explored(engine: Engine, outcomes: Relation, plan: Plan) -> ArmFigures | None:
    """Those who were texted at random below the cut; None without any."""
    users, returned, amount, messages, cost, delivered = engine.rows(
        "select count(*), count(*) filter (where returned), coalesce(sum(amount), 0), "
        "coalesce(sum(messages), 0), coalesce(sum(cost), 0), count(*) filter (where delivered) "
        f"from {outcomes} where outcome = 'explored'"
    )[0]
    if not users:
        return None
    value = amount * plan.margin if plan.has_amount else returned * (plan.value_per_return or 0.0)
    return ArmFigures(
        name="explored",
        users=int(users),
        returned=int(returned),
        rate=returned / users,
        amount=float(value),
        messages=int(messages),
        cost=float(cost),
        delivered=int(delivered),
    )


def drawn_sql(outcomes: Relation) -> str:
    """The rows and columns of outcomes that are analyzed."""
    columns = ", ".join(map(identifier, NEEDED))
    wanted = literals(DRAWN)
    # in one order, so that sums of floats come out the same each time
    return f'select {columns} from {outcomes} where outcome in ({wanted}) order by "row"'


def _plan(project: Project, task: Task, landed: list[date]) -> tuple[Window, Plan]:
    """What to count until the newest look, and how to read it."""
    effect = task.spec.effect
    window = window_of(task.spec, task.execution_date)
    newest = max(landed, default=None)
    reached = 0 if newest is None else max(0, (newest - task.execution_date).days)
    look = analyses_due(reached, effect.looks, window.return_days)
    counted = None if newest is None else min(newest, window.last)
    if effect.looks > 1 and look:
        days = analysis_day(look, effect.looks, window.return_days)
        counted = task.execution_date + timedelta(days=days)
    if counted is not None and counted < window.first:
        counted = None
    window = window_of(task.spec, task.execution_date, counted)
    inside = [d for d in landed if window.first <= d <= window.counted]
    return window, Plan(
        task_id=task.task_id,
        campaign=task.campaign,
        execution_date=task.execution_date,
        return_days=window.return_days,
        same_day=window.same_day,
        landed_until=newest,
        counted_until=None if counted is None else window.counted,
        complete=window.counted == window.last,
        looks=effect.looks,
        look=look,
        currency=project.settings.currency,
        margin=effect.margin,
        has_amount=effect.amount is not None,
        value_per_return=effect.value_per_return,
        gaps=window.counted_days - len(inside),
        stays=problem_called(task.spec.algorithm.kind).staying,
        # an open window has texts to come; a planned look concludes from what was sent before it
        sent_until=window.counted if effect.looks > 1 and look else window.last,
    )


def _record_outcomes(
    engine: Engine,
    project: Project,
    decision: Decision,
    window: Window,
    ledger: texts.LedgerTexts,
    landed: list[date],
    *,
    looks_back: bool,
) -> Relation:
    """Work out what came after a decision; record it when its inputs have changed."""
    task = decision.task
    scope, day = {"task_id": task.task_id}, task.execution_date
    read = window.days(landed)
    behavior = bind_days(engine, project.warehouse, BEHAVIOR, read, load_graph().types(BEHAVIOR))
    inside = [d for d in landed if window.first <= d <= window.counted]
    outcomes = bind_outcomes(
        engine, window, len(inside), decisions=decision.rows, behavior=behavior, texts=ledger
    )
    inputs = [*decision.rows.files, *behavior.files, ledger.fingerprint]
    mark, *earlier = (_mark(inputs, window, code) for code in _outcome_code())
    known = project.warehouse.fingerprint(OUTCOMES, day, scope) or ""
    # a look back in time is no reason to forget what has been seen since
    forgets = looks_back and known.partition("-")[0] > mark.partition("-")[0]
    if known not in (mark, *earlier) and not forgets:
        project.warehouse.replace(
            OUTCOMES,
            lambda: engine.stream(f'select * from {outcomes} order by "row"'),
            days=[day],
            scope=scope,
            fingerprints={day: mark},
        )
    return outcomes


SAME_OUTCOMES = "0b2307072a100dfc"
"""Hash of the code that makes the outcomes that the code of :data:`_EARLIER_OUTCOMES` made.

Whoever changes that code writes its new hash here when every row stays what it was; otherwise the
hash of before stays, and the outcomes of tasks that are still measured are made once more.
"""

_EARLIER_OUTCOMES: tuple[str, ...] = ("bb5981fbb69cbc16",)


def _outcome_code() -> tuple[str, ...]:
    """Hash of the code that makes outcomes, then those of earlier code that made the same."""
    present = source_hash(("effects/outcomes.py", "effects/texts.py"))
    return (present, *(_EARLIER_OUTCOMES if present == SAME_OUTCOMES else ()))


def _mark(inputs: list[str], window: Window, code: str) -> str:
    """What outcomes are made from: the day they count until; files, ledger, window and code."""
    parts = {
        "inputs": sorted(part.rsplit("/", 1)[-1] for part in inputs),
        "window": repr(window),
        "code": code,
        "columns": sorted(OUTCOME_COLUMNS),
    }
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
    return f"{window.counted:%Y%m%d}-{digest}"
