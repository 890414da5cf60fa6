"""The rows of a training job: which, with what label, flat and in a fixed order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.config import Snapshots, TrainingConfig, snapshots
from usergrowth_dagster.learning.encoding import FeatureSpec, flat_frame
from usergrowth_dagster.learning.rows import Slice
from usergrowth_dagster.learning.splits import Counts, TimeSplit, is_by_user
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


Weights = Callable[[Any, Any], Any]
"""Days of rows, shape (n,), and their labels → their weights, shape (n,)."""


@dataclass(frozen=True)
class TestRows:
    """The test slice: which rows, their labels (or amounts), days, users and items; shape (n,).

    ``weight`` is how many rows of the population each one stands for, 1 on average over the
    training's rows; None: one each.
    """

    where: str
    label: "NDArray[Any]" = field(repr=False)
    day: "NDArray[np.datetime64]" = field(repr=False)
    user: "NDArray[Any]" = field(repr=False)
    item: "NDArray[Any] | None" = field(repr=False)
    frame: "pd.DataFrame" = field(repr=False)
    weight: "NDArray[np.float64] | None" = field(repr=False, default=None)


def job_rows(
    engine: Engine, relation: str, config: TrainingConfig, execution_date: date, settings: Settings
) -> tuple[Snapshots, Counts, str]:
    """The job's snapshots, rows and positives by day, and the SQL condition of its rows.

    More than ``max_training_rows`` are sampled by whole users, each with the same chance.

    Raises:
        UserError: there is no row.
    """
    snaps, counts, scope = all_rows(engine, relation, config, execution_date)
    total = sum(rows for rows, _ in counts.values())
    if total > settings.max_training_rows:
        share = settings.max_training_rows / total
        scope += f" and {draw_sql(settings)} < {int(share * 1_000_000)}"
        counts = count_rows(engine, relation, config, scope)
    return snaps, counts, scope


def all_rows(
    engine: Engine, relation: str, config: TrainingConfig, execution_date: date
) -> tuple[Snapshots, Counts, str]:
    """The job's snapshots, rows and positives by day, and the SQL condition, of all its rows.

    Raises:
        UserError: there is none.
    """
    snaps = snapshots(config, execution_date)
    scope = f"{on_days(snaps.days)} and {config.rows_sql()}"
    counts = count_rows(engine, relation, config, scope)
    if not counts:
        raise UserError(
            f"training: no training row for {config.algorithm} between {snaps.days[0]} and "
            f"{snaps.days[-1]}{config.problem.narrowed()}; "
            f"{config.problem.without_rows()}",
            code="training.insufficient",
        )
    return snaps, counts, scope


def count_rows(engine: Engine, relation: str, config: TrainingConfig, scope: str) -> Counts:
    """Rows and positives by day, of the rows that meet a condition."""
    counted = engine.rows(
        f"select ds, count(*), count(*) filter (where {config.problem.positive_sql()}) "
        f"from {relation} where {scope} group by ds order by ds"
    )
    return {day: (rows, hits) for day, rows, hits in counted}


def draw_sql(settings: Settings) -> str:
    """A number below a million by user, as SQL, that a share of the users is drawn by."""
    return f"md5_number_lower(concat({literal(str(settings.seed))}, user_id)) % 1000000"


def on_days(days: Sequence[date]) -> str:
    """The SQL condition of some days; a run of consecutive days becomes a range."""
    ordered = sorted(days)
    if (ordered[-1] - ordered[0]).days == len(ordered) - 1:
        return f"ds between '{ordered[0]}' and '{ordered[-1]}'"
    return "ds in (" + ", ".join(f"'{day}'" for day in ordered) + ")"


def load_slices(
    engine: Engine,
    relation: str,
    config: TrainingConfig,
    spec: FeatureSpec,
    split: TimeSplit,
    scopes: Mapping[str, str],
    weights: Weights | None = None,
) -> tuple[dict[str, Slice], TestRows]:
    """The flat rows of every slice, in a fixed order.

    ``scopes`` has the SQL condition of each slice's rows, beside its days; ``weights`` gives the
    weights of rows by their days and labels, where the rows are a weighted sample.
    """
    import numpy as np
    import pyarrow.compute as pc

    kind = np.float64 if config.problem.amounts else np.int64
    slices, test = {}, None
    for name, days in (
        ("train", split.train),
        ("calibrate", split.calibrate),
        ("test", split.test),
    ):
        if not days:
            continue
        where = f"{scopes[name]} and {on_days(days)}"
        frame, keys = flat_rows(engine, relation, spec, config, where)
        day = keys.column("_ds").to_numpy().astype("datetime64[D]")
        label = keys.column("_label").to_numpy().astype(kind)
        user = keys.column("_user").to_numpy()
        weight = None if weights is None else weights(day, label)
        slices[name] = Slice(frame, label, day, user if is_by_user(split) else None, weight)
        if name == "test":
            # touches that are about no item are compared with one another
            item = (
                pc.fill_null(keys.column("_item"), "").to_numpy() if config.problem.pairs else None
            )
            test = TestRows(where, label, day, user, item, frame, weight)
    assert test is not None
    return slices, test


def flat_rows(
    engine: Engine, relation: str, spec: FeatureSpec, config: TrainingConfig, where: str
) -> tuple["pd.DataFrame", Any]:
    """Flat feature frame of some training rows, and an Arrow table of their keys and labels.

    The rows are in the order of day, user and item, whatever the storage order is.
    """
    types = engine.describe(f"select * from {relation}")
    order = [c for c in ("ds", "user_id", "item_id", "target") if c in types]
    item = "item_id" if "item_id" in types else "null"
    table = engine.arrow(
        f"select ds as _ds, user_id as _user, {item} as _item, {config.label_sql()} as _label, "
        f"{spec.projection(types)} from {relation} where {where} order by {', '.join(order)}"
    )
    return flat_frame(table, spec), table.select(["_ds", "_user", "_item", "_label"])
