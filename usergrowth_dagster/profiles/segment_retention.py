"""Who came back, of each of the largest segments of a home: kept as a table by execution date."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from usergrowth_dagster.profiles.journeys import Cohort, retention_of
from usergrowth_dagster.profiles.people import SEGMENT, bind_people
from usergrowth_dagster.profiles.segment_tables import RETENTION, RETENTION_COLUMNS, replace_rows
from usergrowth_dagster.project import Project
from usergrowth_dagster.tags.inputs import bind_facts
from usergrowth_dagster.warehouse.columns import types_of
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.relation import bind_days

WEEKS = 8
"""Whole weeks before the date that are looked at."""


def retention_inputs(engine: Engine, project: Project, day: date) -> str:
    """Fingerprint of the facts that the retention of a date is made from."""
    monday = day - timedelta(days=day.weekday())
    return bind_facts(engine, project, monday, 7 * WEEKS).fingerprint


def write_retention(project: Project, names: Sequence[str], day: date, mark: str) -> None:
    """Replace the cohorts of some segments on a date.

    Args:
        project: the home.
        names: the segments; each has a snapshot.
        day: the execution date.
        mark: fingerprint of what the rows were made from.
    """
    rows = []
    for name in names:
        with open_engine(project.settings) as engine:
            people = bind_people(engine, project, f"{SEGMENT}:{name}", day)
            cohorts = retention_of(engine, project, people, day=day, weeks=WEEKS)
        rows += [
            {
                "ds": day,
                "segment": name,
                "week": one.week,
                "people": one.people,
                "later": later,
                "share": share,
            }
            for one in cohorts
            for later, share in enumerate(one.shares)
            if share is not None
        ]
    replace_rows(project, RETENTION, RETENTION_COLUMNS, rows, day, mark)


def read_retention(project: Project, day: date) -> Mapping[str, Sequence[Cohort]]:
    """The cohorts of a date by segment, as its table has them."""
    types = types_of(RETENTION_COLUMNS)
    with open_engine(project.settings) as engine:
        table = bind_days(engine, project.warehouse, RETENTION, [day], types)
        rows = engine.rows(
            "select segment, week, any_value(people), list(share order by later) "
            f"from {table} group by segment, week order by segment, week"
        )
    cohorts: dict[str, list[Cohort]] = {}
    for segment, week, people, shares in rows:
        missing: list[float | None] = [None] * (WEEKS - len(shares))
        cohorts.setdefault(segment, []).append(Cohort(week, people, (*shares, *missing)))
    return cohorts
