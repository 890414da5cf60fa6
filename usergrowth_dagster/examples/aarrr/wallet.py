"""The share of wallet of a category: how well a user's own share predicts that of the next days.

It needs no model: the share of the user's amounts of the 90 days before a day that fell on the
category stands for that of the 30 days from it on. Beside it stands that of all users together.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.examples.aarrr.category import Category, bind_landed
from usergrowth_dagster.examples.aarrr.table import Figure, Line
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.warehouse.engine import open_engine

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BEFORE, AHEAD = 90, 30
"""Days before the snapshot, and days from it on."""
_DRAWS = 1000
_FEWEST = 20


def wallet_line(project: Project, category: Category, data: str) -> Line:
    """Measure on the last snapshot whose days are over, and give the line.

    Args:
        project: the home.
        category: whose share it is, as of the execution date.
        data: what the home holds.
    """
    import numpy as np

    snapshot = category.day - timedelta(days=AHEAD)
    question = f"share of wallet, {AHEAD} days: how much of a user's spending falls on "
    question += category.value
    with open_engine(project.settings) as engine:
        behavior, items = bind_landed(engine, project, category)
        rows = engine.rows(
            _SQL.format(
                behavior=behavior,
                items=items,
                values=category.values_sql,
                value=literal(category.value),
                kind=literal(category.behavior),
                amount=literal(category.amount),
                snapshot=f"date {literal(snapshot.isoformat())}",
                before=BEFORE,
                ahead=AHEAD,
            )
        )
    if len(rows) < _FEWEST:
        few = f"{len(rows)} users spent in the {BEFORE} days before {snapshot} and in the {AHEAD} "
        return Line("revenue", question, data, note=f"{few}days after, and {_FEWEST} are needed")
    past, past_all, ahead, ahead_all = np.array(rows, dtype=np.float64).T
    real = ahead / ahead_all
    own, everyone = past / past_all, np.full(len(real), past.sum() / past_all.sum())
    measure = "mean error of the share"
    return Line(
        "revenue",
        question,
        data,
        measure,
        _figure(f"own share of {BEFORE} days, no model", np.abs(own - real), project.settings.seed),
        _figure("share of all users", np.abs(everyone - real), project.settings.seed),
    )


def _figure(order: str, errors: "Floats", seed: int) -> Figure:
    """The mean of errors with its 95 % bootstrap interval over users."""
    import numpy as np

    random: Any = np.random.default_rng(seed)
    drawn = random.poisson(1.0, (_DRAWS, len(errors)))
    means = drawn @ errors / drawn.sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return Figure(order, float(errors.mean()), float(low), float(high))


_SQL = """
with spent as (
    select
        b.user_id,
        date_diff('day', {snapshot}, b.ds) as day,
        coalesce(b.amounts[{amount}], 0) as amount,
        coalesce(list_contains(string_split(i.{values}, '|'), {value}), false) as within
    from {behavior} as b
    left join {items} as i using (item_id)
    where b.behavior = {kind} and day between -{before} and {ahead} - 1
)
select
    coalesce(sum(amount) filter (where day < 0 and within), 0),
    sum(amount) filter (where day < 0),
    coalesce(sum(amount) filter (where day >= 0 and within), 0),
    sum(amount) filter (where day >= 0)
from spent
group by user_id
having sum(amount) filter (where day < 0) > 0 and sum(amount) filter (where day >= 0) > 0
order by user_id
"""
