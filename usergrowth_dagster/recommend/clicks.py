"""What of the recommended items users clicked on: rates by bucket, route and scene.

An item of an answer counts as shown, and as clicked where a click names the answer and the item.
Items of one user are not independent, so a rate has Wilson's interval at its effective items: those
of a simple random sample whose rate would vary as much as the users' shares do.
"""

from dataclasses import dataclass
from datetime import date
from math import sqrt
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.effects.lift import wilson
from usergrowth_dagster.effects.result import Estimate
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.intake.row_logs import land_log, table_columns
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.recommend.answer_log import (
    ANSWER_COLUMNS,
    ANSWERS,
    CLICK_COLUMNS,
    CLICKS,
    log_folders,
)
from usergrowth_dagster.warehouse.columns import types_of
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.relation import Relation, bind_days, bind_query

if TYPE_CHECKING:
    from numpy.typing import NDArray

GROUPS = {
    "bucket": "bucket",
    "route": "unnest(string_split(routes, ','))",
    "scene": "scene",
    "answer": "if(fallback, 'fallback', 'own order')",
}
"""What rates are given by, as DuckDB expressions over the rows of answers."""


@dataclass(frozen=True)
class Rate:
    """The clicks of a group.

    Attributes:
        by: one of :data:`GROUPS`.
        name: of the group.
        people: users, and answers without one.
        shown: items of answers.
        clicked: of them.
        rate: clicked / shown, with its 95 % interval; none with fewer than two people.
    """

    by: str
    name: str
    people: int
    shown: int
    clicked: int
    rate: Estimate


@dataclass(frozen=True)
class Clicks:
    """The clicks on the answers of some days.

    Attributes:
        first, last: business days of the answers.
        event: what counts as a click.
        answers: how many there were.
        rates: by group.
        difference: the rate of the trial less that of main, with Newcombe's interval; None without
            both.
    """

    first: date
    last: date
    event: str
    answers: int
    rates: tuple[Rate, ...]
    difference: Estimate | None


def read_clicks(project: Project, first: date, last: date, event: str = "click") -> Clicks:
    """Land the log of the service, and compare what was clicked.

    Args:
        project: the home.
        first: first day of the answers.
        last: last day of the answers; clicks on them count whenever they came.
        event: what counts as a click.

    Raises:
        UserError: the days hold no answer.
    """
    answers, clicks = log_folders(project)
    land_log(project, ANSWERS, ANSWER_COLUMNS, answers)
    land_log(project, CLICKS, CLICK_COLUMNS, clicks)
    with open_engine(project.settings) as engine:
        shown = _bind_shown(engine, project, first, last, event)
        count = int(engine.value(f"select count(distinct request_id) from {shown}"))
        if not count:
            raise UserError(
                f"no answer from {first} to {last} is in the log; the service writes what it "
                "answered every 30 seconds",
                code="recommend.not_made",
            )
        rates = tuple(rate for by in GROUPS for rate in _rates(engine, shown, by))
    return Clicks(first, last, event, count, rates, _difference(rates))


def _bind_shown(engine: Engine, project: Project, first: date, last: date, event: str) -> Relation:
    """Each item of each answer once, whether it was clicked, and by which person."""
    answers, clicks = (
        bind_days(
            engine,
            project.warehouse,
            table,
            [day for day in project.warehouse.days(table) if first <= day <= until],
            types_of(table_columns(columns)),
        )
        for table, columns, until in (
            (ANSWERS, ANSWER_COLUMNS, last),
            (CLICKS, CLICK_COLUMNS, date.max),
        )
    )
    sql = f"""
        select a.*, c.item_id is not null as clicked,
            coalesce(nullif(person, ''), a.request_id) as one
        from (select distinct on (request_id, item_id) * from {answers}) as a
        left join (
            select distinct request_id, item_id from {clicks} where event = {literal(event)}
        ) as c using (request_id, item_id)"""
    return bind_query(engine, "shown", sql, of=[answers, clicks], keep=True)


def _rates(engine: Engine, shown_items: Relation, by: str) -> list[Rate]:
    rows = engine.arrow(f"""
        select name, one, count(*) as shown, count(*) filter (clicked) as clicked
        from (select {GROUPS[by]} as name, one, clicked from {shown_items})
        group by name, one order by name, one""")
    columns = {name: rows[name].to_numpy() for name in rows.column_names}
    made = []
    for name in dict.fromkeys(columns["name"].tolist()):
        mine = columns["name"] == name
        shown, clicked = columns["shown"][mine], columns["clicked"][mine]
        sums = len(shown), int(shown.sum()), int(clicked.sum())
        made.append(Rate(by, name, *sums, rate_of(shown, clicked)))
    return made


def rate_of(shown: "NDArray[Any]", clicked: "NDArray[Any]") -> Estimate:
    """The share of the items shown that were clicked, with its interval.

    Args:
        shown: items shown to each person, above 0.
        clicked: of them, those that the person clicked on.
    """
    people, items = len(shown), float(shown.sum())
    rate = float(clicked.sum()) / items
    if people < 2:
        return Estimate(rate)
    effective = effective_items(shown, clicked)
    return Estimate(rate, *wilson(rate * effective, effective))


def effective_items(shown: "NDArray[Any]", clicked: "NDArray[Any]") -> float:
    """Items of a simple random sample whose rate varies as that of these people; at most all.

    Where all or none were clicked nothing varies, and a person counts as one item.
    """
    people, items = len(shown), float(shown.sum())
    rate = float(clicked.sum()) / items
    apart = clicked - rate * shown
    variance = people / (people - 1) * float((apart**2).sum()) / items**2
    if not variance > 0:
        return float(people)
    return min(items, rate * (1 - rate) / variance)


def _difference(rates: tuple[Rate, ...]) -> Estimate | None:
    """The trial less main, by Newcombe's bounds of two intervals."""
    buckets = {one.name: one.rate for one in rates if one.by == "bucket"}
    if not {"main", "trial"} <= buckets.keys():
        return None
    main, trial = buckets["main"], buckets["trial"]
    value = trial.value - main.value
    if trial.low is None or trial.high is None or main.low is None or main.high is None:
        return Estimate(value)
    return Estimate(
        value,
        value - sqrt((trial.value - trial.low) ** 2 + (main.high - main.value) ** 2),
        value + sqrt((trial.high - trial.value) ** 2 + (main.value - main.low) ** 2),
    )
