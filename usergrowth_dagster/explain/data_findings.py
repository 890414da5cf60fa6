"""What in the landed data will hurt a decision: counts, and what to do about each."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.models import load_graph

LEAST_DAYS = 42
"""Days that a churn model needs: 28 of activity, and labels of 7 days to learn from and to test."""

LOOKED_AT_DAYS = 90
"""Newest days whose people are looked at, so that the cost does not grow with the history."""

_ACTIVE_HOURS = 22  # of a day in which nobody is awake
_TIMES_USUAL = 100  # events on a day, as a multiple of the usual
_LEAST_EVENTS = 500
_TEST_ACCOUNT = r"(^|[^a-z])(test|tester|testing|demo|dummy|qa|internal|example)([^a-z]|$)"


@dataclass(frozen=True)
class DataFinding:
    """One property of the data that will hurt.

    Attributes:
        name: of the property.
        count: how many days, kinds or people it concerns.
        detail: what was seen.
        remedy: what to do.
    """

    name: str
    count: int
    detail: str
    remedy: str


def data_findings(project: Project) -> list[DataFinding]:
    """What is wrong with the behaviors that have landed; nothing of a home without any."""
    files = project.warehouse.files("user_day")
    if not files:
        return []
    days = sorted(files)
    newest = [day for day in days if day > days[-1] - timedelta(days=LOOKED_AT_DAYS)]
    findings = [*_of_days(days, project.settings.current_date())]
    with open_engine(project.settings) as engine:
        names = [name for day in newest for name in files[day]]
        engine.bind_files("user_day", names, load_graph().types("user_day"))
        findings += [*_of_kinds(engine), *_of_people(engine)]
    return findings


def _of_days(days: list[date], today: date) -> Iterator[DataFinding]:
    """Few days, days between them without a row, days that have not come, and old ones alone."""
    span = (days[-1] - days[0]).days + 1
    if span < LEAST_DAYS:
        yield DataFinding(
            "few days",
            span,
            f"from {days[0]} to {days[-1]}",
            f"land {LEAST_DAYS} days at least; a churn model learns from closed labels alone",
        )
    there = set(days)
    missing = [
        day for day in (days[0] + timedelta(days=n) for n in range(span)) if day not in there
    ]
    if missing:
        shown = ", ".join(map(str, missing[:3])) + (", …" if len(missing) > 3 else "")
        yield DataFinding(
            "days missing",
            len(missing),
            f"no behavior on {shown}",
            "land them, or everybody counts as silent on these days",
        )
    ahead = [day for day in days if day >= today]
    if ahead:
        yield DataFinding(
            "clocks ahead",
            len(ahead),
            f"days up to {ahead[-1]}, and today is {today}",
            "look at the time and its zone in sources.yml; a day that is not over is not complete",
        )
    behind = (today - days[-1]).days - 1
    if behind > 1:
        yield DataFinding(
            "last days missing",
            behind,
            f"the newest day is {days[-1]}, and today is {today}",
            "land the days up to yesterday, or everybody counts as silent",
        )


def _of_kinds(engine: Engine) -> Iterator[DataFinding]:
    """One kind of behavior for everything."""
    kinds = engine.rows("select distinct unnest(map_keys(kinds)) from user_day order by 1")
    if len(kinds) == 1:
        yield DataFinding(
            "one kind of behavior",
            1,
            f"every event is a {kinds[0][0]!r}",
            "name the kinds in sources.yml (columns.behavior), if the log knows them",
        )


def _of_people(engine: Engine) -> Iterator[DataFinding]:
    """Ids that differ in case or spaces alone, test accounts, and people who never sleep."""
    ((ids, accounts),) = engine.rows(
        "select count(*) filter (where alike > 1), "
        f"count(*) filter (where regexp_matches(lower(user_id), '{_TEST_ACCOUNT}')) from ("
        "select user_id, count(*) over (partition by lower(trim(user_id))) as alike "
        "from (select distinct user_id from user_day) as people) as counted"
    )
    if ids:
        yield DataFinding(
            "ids that repeat",
            ids,
            "they differ from another in case or spaces alone",
            "write lower(trim(…)) as columns.user_id in sources.yml, if they are the same people",
        )
    if accounts:
        yield DataFinding(
            "test accounts",
            accounts,
            "their ids hold a word such as test, demo or qa",
            "leave them out by where in sources.yml",
        )
    ((busy, most, usual),) = engine.rows(
        "with usual as (select median(events) as events from user_day) "
        "select count(distinct d.user_id), max(d.events), any_value(u.events) from user_day as d "
        f"cross join usual as u where cardinality(d.hours) >= {_ACTIVE_HOURS} "
        f"or d.events >= greatest({_LEAST_EVENTS}, {_TIMES_USUAL} * u.events)"
    )
    if busy:
        yield DataFinding(
            "impossible activity",
            busy,
            f"active in {_ACTIVE_HOURS} hours of a day, or {most:,.0f} events on one, where "
            f"{usual:,.0f} are usual",
            "leave robots and shared accounts out by where in sources.yml",
        )
