"""Which item a user takes next: the recommendations of a date, and how good their order is."""

from datetime import date

from usergrowth_dagster.affinity.figures import Interval
from usergrowth_dagster.examples.aarrr.table import Figure, Line
from usergrowth_dagster.project import Project
from usergrowth_dagster.recommend.definition import FILE_NAME, read_recommend
from usergrowth_dagster.recommend.landed import bind_inputs, read_landed
from usergrowth_dagster.recommend.leave_one_out import SHIPPED, leave_one_out
from usergrowth_dagster.recommend.nightly import recommend_day
from usergrowth_dagster.warehouse.engine import open_engine

_FEWEST = 3
"""Items of a user that the evaluation needs."""


def recommendation_line(project: Project, day: date, data: str, asked: int | None = None) -> Line:
    """Write the recommendations of a date, leave out each user's newest item, and give the line.

    Args:
        project: the home.
        day: the execution date.
        data: what the home holds.
        asked: users who are asked about at most, drawn at random; None: all.

    Raises:
        UserError: the home has no recommend.yml, or it breaks its format.
    """
    recommend_day(project, day)
    keys = read_recommend(project.settings.home / FILE_NAME)
    with open_engine(project.settings) as engine:
        history = read_landed(engine, bind_inputs(engine, project, keys, day), keys, day).history
    some = history.counts >= _FEWEST
    question = "`recommend`: which item a user takes next that is new to the user"
    if not some.any():
        few = f"no user has taken {_FEWEST} items in the {keys.lookback_days} days before {day}"
        return Line("activation", question, data, note=few)
    known = history.of_users(some.nonzero()[0])
    evaluation = leave_one_out(known, seed=project.settings.seed, most=asked)
    by_order = {one.order: one.ndcg10 for one in evaluation.figures}
    return Line(
        "activation",
        question,
        data,
        "NDCG@10",
        _figure(evaluation.shipped, by_order[SHIPPED]),
        _figure("popularity", by_order["popular"]),
    )


def _figure(order: str, one: Interval) -> Figure:
    return Figure(order, one.value, one.low, one.high)
