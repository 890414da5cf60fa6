"""What a group did over time: a funnel of behaviors, and who came back (retention by cohort)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.tags.inputs import bind_facts
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation

MOST_STEPS = 10


@dataclass(frozen=True)
class Step:
    """A step of a funnel: people who reached it, of all of the group, of the step before."""

    behavior: str
    people: int
    of_all: float
    of_before: float


@dataclass(frozen=True)
class Funnel:
    """People of a group who did the steps in order, the last within a window of the first.

    Two steps may be on one day: days are all that is kept of the order.
    """

    first: date
    last: date
    within_days: int
    people: int
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Cohort:
    """People whose first active day of the window lies in one week, and who came back when.

    Attributes:
        week: its Monday.
        people: of the cohort.
        shares: active in week 0, 1, 2 … after it; None for weeks that are not over on the date.
    """

    week: date
    people: int
    shares: tuple[float | None, ...]


def _bind(engine: Engine, project: Project, first: date, last: date) -> Relation:
    return bind_facts(engine, project, last + timedelta(days=1), (last - first).days + 1)


def funnel_of(
    engine: Engine,
    project: Project,
    group: Relation,
    steps: Sequence[str],
    *,
    day: date,
    days: int = 90,
    within_days: int = 30,
) -> Funnel:
    """Count how far people of a group got.

    Args:
        engine: holds the group.
        project: the home.
        group: relation with ``user_id``.
        steps: kinds of behavior in order.
        day: the execution date; days before it count.
        days: so many of them.
        within_days: from the first step to the last.

    Raises:
        UserError: there are no steps, or too many.
    """
    if not 1 <= len(steps) <= MOST_STEPS:
        raise UserError(f"a funnel has 1 to {MOST_STEPS} steps", code="command.invalid")
    first, last = day - timedelta(days=days), day - timedelta(days=1)
    facts = _bind(engine, project, first, last)
    done = [
        f"done_{n} as (select ds, user_id from {facts} semi join {group} using (user_id) "
        f"where kinds[{literal(step)}] > 0)"
        for n, step in enumerate(steps)
    ]
    # For each first step, the earliest day on which the next one can follow.
    reached = ["reached_0 as (select user_id, ds as began, ds as at from done_0)"]
    for n in range(1, len(steps)):
        reached.append(
            f"reached_{n} as (select r.user_id, r.began, min(d.ds) as at from reached_{n - 1} as r "
            f"inner join done_{n} as d on r.user_id = d.user_id and d.ds >= r.at "
            f"and d.ds <= r.began + {within_days} group by all)"
        )
    counts = ", ".join(
        f"(select count(distinct user_id) from reached_{n})" for n in range(len(steps))
    )
    people, *numbers = engine.rows(
        f"with {', '.join([*done, *reached])} select (select count(*) from {group}), {counts}"
    )[0]
    before = [people, *numbers]
    return Funnel(
        first,
        last,
        within_days,
        people,
        tuple(
            Step(step, number, number / (people or 1), number / (previous or 1))
            for step, number, previous in zip(steps, numbers, before, strict=False)
        ),
    )


def retention_of(
    engine: Engine, project: Project, group: Relation, *, day: date, weeks: int = 12
) -> list[Cohort]:
    """Weekly cohorts of a group by their first active day of the window, and who came back.

    Args:
        engine: holds the group.
        project: the home.
        group: relation with ``user_id``.
        day: the execution date; whole weeks before it count.
        weeks: so many of them.
    """
    monday = day - timedelta(days=day.weekday())
    first = monday - timedelta(weeks=weeks)
    facts = _bind(engine, project, first, monday - timedelta(days=1))
    rows = engine.rows(
        f"with active as (select distinct user_id, cast(date_trunc('week', ds) as date) as week "
        f"from {facts} semi join {group} using (user_id)), "
        "cohorts as (select user_id, min(week) as cohort from active group by user_id) "
        "select cohort, date_diff('week', cohort, week) as later, count(*) from active "
        "inner join cohorts using (user_id) group by all"
    )
    counts = {(cohort, later): number for cohort, later, number in rows}
    cohorts = []
    for place in range(weeks):
        week = first + timedelta(weeks=place)
        people = counts.get((week, 0), 0)
        shares = [
            counts.get((week, later), 0) / (people or 1) if later < weeks - place else None
            for later in range(weeks)
        ]
        cohorts.append(Cohort(week, people, tuple(shares)))
    return cohorts
