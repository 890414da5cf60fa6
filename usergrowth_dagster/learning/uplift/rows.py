"""The rows that an effect is learned from: both arms, each with the chance it was drawn with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.dataset import on_days
from usergrowth_dagster.learning.encoding import FeatureSpec, flat_frame
from usergrowth_dagster.learning.problems.touches import TouchProblem
from usergrowth_dagster.learning.splits import TimeSplit, is_by_user, split_rows
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

LEAST_RETURNED = 10  # users of an arm: two for each fold that rankings are compared in


@dataclass(frozen=True)
class UpliftRows:
    """Rows of both arms; arrays of shape (n,).

    Attributes:
        frame: the flat features.
        y: 1 where the person returned.
        treated: 1 where texted.
        propensity: chance of treatment as it was drawn.
        user: the user.
    """

    frame: "pd.DataFrame" = field(repr=False)
    y: "NDArray[np.float64]" = field(repr=False)
    treated: "NDArray[np.float64]" = field(repr=False)
    propensity: "NDArray[np.float64]" = field(repr=False)
    user: "NDArray[Any]" = field(repr=False)

    def counts(self) -> dict[str, dict[str, int]]:
        """Rows and returns of either arm."""
        by_arm = {}
        for name, arm in (("treated", 1), ("control", 0)):
            own = self.treated == arm
            by_arm[name] = {"rows": int(own.sum()), "returns": int(self.y[own].sum())}
        return by_arm


@dataclass(frozen=True)
class LeftOut:
    """Rows of the training days that an effect cannot be learned from.

    ``unknown_held_out`` and ``unknown_touched`` have no recorded chance; ``certain`` were drawn by
    a chance of 1 for their arm, so that nobody of the other arm is like them.
    """

    unknown_held_out: int
    unknown_touched: int
    certain: int


def split_days(counts: Mapping[date, tuple[int, int]], config: TrainingConfig) -> TimeSplit:
    """Days to learn from and later ones to test on; no label of the first reaches the second.

    The calibration slice of other models is learned from too: scales are cross-fitted. Rows that
    are too close together are split by user, as :func:`split_rows` says.
    """
    split = split_rows(counts, config)
    if is_by_user(split):
        return split
    horizon = timedelta(days=config.horizon_days)
    days = sorted(day for day, (rows, _) in counts.items() if rows)
    return TimeSplit(tuple(d for d in days if d + horizon <= split.test[0]), (), split.test)


def load_rows(
    engine: Engine,
    relation: str,
    spec: FeatureSpec,
    config: TrainingConfig,
    scope: str,
    days: Sequence[date],
) -> UpliftRows:
    """The rows of some days, in the order of day, user and item."""
    import numpy as np

    types = engine.describe(f"select * from {relation}")
    table = engine.arrow(
        f"select user_id as _user, {config.label_sql()} as _label, treated as _treated, "
        "case when treated then propensity else 1 - propensity end as _chance, "
        f"{spec.projection(types)} from {relation} where {scope} and {on_days(days)} "
        "order by ds, user_id, item_id, target"
    )
    return UpliftRows(
        frame=flat_frame(table, spec),
        y=table.column("_label").to_numpy().astype(np.float64),
        treated=table.column("_treated").to_numpy().astype(np.float64),
        propensity=table.column("_chance").to_numpy().astype(np.float64),
        user=table.column("_user").to_numpy(),
    )


def left_out(
    engine: Engine, relation: str, config: TrainingConfig, days: Sequence[date]
) -> LeftOut:
    """Count what cannot be learned from, among touches of the config's kind and people held out
    from one."""
    problem = config.problem
    assert isinstance(problem, TouchProblem)
    unknown, touched, certain = engine.rows(
        "select count(*) filter (where propensity is null and not treated), "
        "count(*) filter (where propensity is null and treated), "
        "count(*) filter (where propensity <= 0 or propensity >= 1) "
        f"from {relation} where {on_days(days)} and {problem.kind_sql()}"
    )[0]
    return LeftOut(unknown, touched, certain)


def require_arms(rows: UpliftRows, what: str) -> None:
    """Both arms with as many users who returned as folds and figures need.

    Raises:
        UserError: too few users of an arm returned; the sentence says what to change.
    """
    import numpy as np

    for name, arm in (("treated", 1), ("control", 0)):
        own = rows.treated == arm
        users = len(np.unique(rows.user[own]))
        returned = len(np.unique(rows.user[own & (rows.y == 1)]))
        if returned < LEAST_RETURNED:
            change = (
                "keep a control group, or a larger one (holdout.share), and let more rounds land"
                if name == "control"
                else "let more rounds land"
            )
            raise UserError(
                f"training: the {what} slice has {users} {name} users of a known chance, "
                f"{returned} of whom returned, and an effect is learned from both arms with at "
                f"least {LEAST_RETURNED} users who returned in each; {change}",
                code="training.insufficient",
            )
