"""Cohorts by the week in which people registered or were first seen, and who was active since."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal, get_args

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.profiles.journeys import Cohort
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.tags.inputs import bind_facts, bind_features
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation

Began = Literal["registration", "first_seen"]
"""What puts people into a cohort."""

_DAYS_AGO: dict[Began, str] = {"registration": "tenure_days", "first_seen": "first_seen_days"}
VERBS: dict[Began, str] = {"registration": "registered", "first_seen": "were first seen"}
"""What people of a cohort did in its week, for sentences."""


@dataclass(frozen=True)
class CohortWeek:
    """People who began in one week.

    Attributes:
        week: its Monday.
        people: of the cohort, active or not.
        active: of them, those active in week 0, 1, 2 … after it; None for weeks that are not over.
    """

    week: date
    people: int
    active: tuple[int | None, ...]


@dataclass(frozen=True)
class CohortTable:
    """The weekly cohorts of a group.

    Attributes:
        by: what puts people into a cohort.
        cohorts: one for each whole week before the date, the oldest first.
        people: of the group.
        before: people of it who began before the first cohort.
        later: people of it who began after the last one, in the week that is not over.
        unknown: people of it without a known beginning.
    """

    by: Began
    cohorts: tuple[CohortWeek, ...]
    people: int
    before: int
    later: int
    unknown: int

    @property
    def shares(self) -> tuple[Cohort, ...]:
        """The cohorts with shares in place of people."""
        return tuple(
            Cohort(
                one.week,
                one.people,
                tuple(None if n is None else n / (one.people or 1) for n in one.active),
            )
            for one in self.cohorts
        )

    @property
    def sentences(self) -> list[str]:
        """How many people are in no cohort, by reason."""
        counts = (
            (self.before, f"{VERBS[self.by]} before the first week"),
            (self.later, f"{VERBS[self.by]} in the week that is not over"),
            (self.unknown, "have no known beginning"),
        )
        return [
            f"{count:,} of {self.people:,} people {words}, and are in no cohort."
            for count, words in counts
            if count
        ]


def began_by(text: str) -> Began:
    """What puts people into a cohort, by its name.

    Raises:
        UserError: there is no such thing.
    """
    for one in get_args(Began):
        if one == text:
            return one  # type: ignore[no-any-return]
    raise UserError(f"{text!r}: choose {' or '.join(get_args(Began))}", code="command.invalid")


def cohorts_of(
    engine: Engine,
    project: Project,
    group: Relation,
    *,
    day: date,
    by: Began = "registration",
    weeks: int = 12,
) -> CohortTable:
    """Count who of each week's new people was active in it and in the weeks after.

    Args:
        engine: holds the group.
        project: the home.
        group: relation with ``user_id``, each once.
        day: the execution date; whole weeks before it count.
        by: what puts people into a cohort.
        weeks: so many of them.

    Raises:
        UserError: features of the date are not there.
    """
    monday = day - timedelta(days=day.weekday())
    first = monday - timedelta(weeks=weeks)
    features = bind_features(engine, project, day)
    facts = bind_facts(engine, project, monday, 7 * weeks)
    sizes, active = _counts(engine, group, features, facts, day, by)
    cohorts = []
    for place in range(weeks):
        week = first + timedelta(weeks=place)
        counts = [
            active.get((week, later), 0) if later < weeks - place else None
            for later in range(weeks)
        ]
        cohorts.append(CohortWeek(week, sizes.get(week, 0), tuple(counts)))
    return CohortTable(
        by=by,
        cohorts=tuple(cohorts),
        people=sum(sizes.values()),
        before=sum(n for week, n in sizes.items() if week is not None and week < first),
        later=sum(n for week, n in sizes.items() if week is not None and week >= monday),
        unknown=sizes.get(None, 0),
    )


def _counts(
    engine: Engine, group: Relation, features: Relation, facts: Relation, day: date, by: Began
) -> tuple[dict[date | None, int], dict[tuple[date, int], int]]:
    """People by cohort, None for no known beginning; and the active ones by cohort and week."""
    began = (
        "began as (select g.user_id, cast(date_trunc('week', "
        f"date {literal(day.isoformat())} - cast(f.{identifier(_DAYS_AGO[by])} as integer)) as "
        f"date) as cohort from {group} as g left join {features} as f using (user_id))"
    )
    sizes = engine.rows(f"with {began} select cohort, count(*) from began group by cohort")
    active: Sequence[tuple[date, int, int]] = engine.rows(
        f"with {began}, weeks as (select distinct user_id, "
        f"cast(date_trunc('week', ds) as date) as week from {facts}) "
        "select cohort, date_diff('week', cohort, week), count(*) from began "
        "inner join weeks using (user_id) where week >= cohort group by all"
    )
    return dict(sizes), {(cohort, later): count for cohort, later, count in active}
