"""What other policies would have earned on a task's people, from its outcomes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import get_args

from usergrowth_dagster.audience.policy import Policy, parse_policy
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.effects.outcomes import OUTCOME_COLUMNS
from usergrowth_dagster.effects.outcomes import TABLE as OUTCOMES
from usergrowth_dagster.effects.policies import (
    Option,
    People,
    Valued,
    Worth,
    named,
    policy_values,
    usual_options,
)
from usergrowth_dagster.effects.result import Effect
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.pipeline.decide import Decision, read_decision
from usergrowth_dagster.project import Project
from usergrowth_dagster.ranks import RankBy
from usergrowth_dagster.warehouse.columns import types_of
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.relation import Relation, bind_days, bind_query


@dataclass(frozen=True)
class Question:
    """A policy to ask about, one of the first four; none: the usual ones.

    ``by`` ranks top_n and budget; ``money`` chooses by what a return is worth, within ``budget`` if
    that is given too. ``value`` is that worth instead of the campaign's; profit is reckoned by it
    too, unless the campaign names an amount: then it is what people brought.
    """

    threshold: float | None = None
    top_n: int | None = None
    budget: float | None = None
    money: bool = False
    by: str = "score"
    value: float | None = None


def worth_of(project: Project, task: Task, question: Question | None = None) -> Worth:
    """What a return of a task's campaign is worth, or is asked to be."""
    effect = task.spec.effect
    worth = Worth(
        effect.amount is not None,
        effect.margin,
        effect.value_per_return,
        project.settings.currency,
    )
    if question is None or question.value is None:
        return worth
    return replace(worth, value_per_return=question.value)


def task_policies(
    engine: Engine,
    outcomes: Relation,
    project: Project,
    decision: Decision,
    effect: Effect,
    asked: Sequence[Policy] = (),
    question: Question | None = None,
) -> list[Valued]:
    """What policies would have earned on a task's people.

    Args:
        engine: holds the outcomes.
        outcomes: the task's.
        project: the home.
        decision: of the task.
        effect: what was measured of it; while nothing can be concluded from it, no answer is given.
        asked: policies to ask about beside the one that was used; default: the usual ones.
        question: may say what a return is worth.
    """
    task = decision.task
    people = People(engine, outcomes.name, task.task_id, task.execution_date)
    worth = worth_of(project, task, question)
    options = usual_options(people, decision.policy, worth)
    if asked:
        options = [options[0], *(named(one, worth) for one in asked), Option("nobody")]
    blocked = None
    if effect.verdict in ("not_yet", "uneven_split", "nothing_sent", "dry_run"):
        blocked = effect.sentence.rstrip(".")
    return policy_values(people, options, worth, level=effect.level, blocked=blocked)


def ask(project: Project, task: Task, effect: Effect, question: Question) -> list[Valued]:
    """Ask about one policy, or about the usual ones, by the outcomes that are written.

    Raises:
        UserError: the policy is none, or it needs what the task does not have.
    """
    policy = policy_asked(task, question)
    with open_engine(project.settings) as engine:
        measured = written_outcomes(engine, project, task)
        decision = read_decision(engine, project, task)
        if policy is None:
            return task_policies(engine, measured, project, decision, effect)
        if policy.by_uplift and not engine.value(f"select count(uplift) > 0 from {measured}"):
            raise UserError(
                f"task {task.task_id!r} was scored without an uplift model, so no policy can "
                "choose by uplift; ask by score",
                code="task.undecided",
            )
        return task_policies(engine, measured, project, decision, effect, [policy], question)


def written_outcomes(engine: Engine, project: Project, task: Task) -> Relation:
    """The outcomes of a task as they were written last; empty where it was never measured."""
    kinds = types_of(OUTCOME_COLUMNS)
    days = bind_days(engine, project.warehouse, OUTCOMES, [task.execution_date], kinds)
    mine = f"select * from {days} where task_id = '{task.task_id}'"
    return bind_query(engine, "measured", mine, of=[days], keep=True)


def policy_asked(task: Task, question: Question) -> Policy | None:
    """The policy that a question is about; None for none.

    Raises:
        UserError: several are named, or it cannot be.
    """
    given = {
        "--threshold": question.threshold is not None,
        "--top-n": question.top_n is not None,
        "--money": question.money,
        "--budget": question.budget is not None and not question.money,
    }
    if question.value is not None and not 0 < question.value < inf:
        raise UserError(
            f"what-if: --value must be above 0, not {question.value:g}", code="command.invalid"
        )
    if not any(given.values()):
        return None
    if sum(given.values()) != 1:
        raise UserError(
            "what-if: give one of --threshold, --top-n, --budget and --money "
            "(--money may have a --budget)",
            code="command.invalid",
        )
    if question.by not in get_args(RankBy):
        raise UserError(
            f"what-if: --by is {' or '.join(get_args(RankBy))}, not {question.by!r}",
            code="command.invalid",
        )
    if question.money:
        return _money(task, question)
    asked = {"threshold": question.threshold, "n": question.top_n, "budget": question.budget}
    values = {name: value for name, value in asked.items() if value is not None}
    kind = {"threshold": "threshold", "n": "top_n", "budget": "budget"}[next(iter(values))]
    if kind != "threshold":
        values["rank_by"] = question.by  # type: ignore[assignment]
    elif question.by != "score":
        raise UserError(
            "what-if: a threshold is one of the score; use --top-n or --budget",
            code="command.invalid",
        )
    return parse_policy({"kind": kind, **values}, "what-if")


def _money(task: Task, question: Question) -> Policy:
    value = task.spec.effect.value_per_return if question.value is None else question.value
    if value is None:
        raise UserError(
            f"what-if: --money needs the worth of a return: --value, or effect.value_per_return "
            f"of campaign {task.campaign!r}",
            code="command.invalid",
        )
    values = {"kind": "money", "value_per_return": value, "budget": question.budget}
    return parse_policy({k: v for k, v in values.items() if v is not None}, "what-if")
