"""The rows of a training job: which, with what label, flat and in a fixed order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.config import Snapshots, TrainingConfig, snapshots
from usergrowth_dagster.learning.encoding import FeatureSpec, flat_frame
from usergrowth_dagster.learning.rows import Slice
from usergrowth_dagster.learning.splits import TimeSplit, is_by_user
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TestRows:
    """The test slice: which rows, their labels (or amounts), days, users and items; shape (n,)."""

    where: str
    label: "NDArray[Any]" = field(repr=False)
    day: "NDArray[np.datetime64]" = field(repr=False)
    user: "NDArray[Any]" = field(repr=False)
    item: "NDArray[Any] | None" = field(repr=False)
    frame: "pd.DataFrame" = field(repr=False)


def job_rows(
    engine: Engine, relation: str, config: TrainingConfig, execution_date: date, settings: Settings
) -> tuple[Snapshots, dict[date, tuple[int, int]], str]:
    """The job's snapshots, rows and positives by day, and the SQL condition of its rows."""
    snaps = snapshots(config, execution_date)
    scope = f"{on_days(snaps.days)} and {config.rows_sql()}"
    total = int(engine.value(f"select count(*) from {relation} where {scope}"))
    if total == 0:
        raise UserError(
            f"training: no training row for {config.algorithm} between {snaps.days[0]} and "
            f"{snaps.days[-1]}{config.problem.narrowed()}; "
            f"{config.problem.without_rows()}",
            code="training.insufficient",
        )
    if total > settings.max_training_rows:
        share = settings.max_training_rows / total
        scope += (
            f" and md5_number_lower(concat({literal(str(settings.seed))}, user_id)) % 1000000 < "
            f"{int(share * 1_000_000)}"
        )
    counted = engine.rows(
        f"select ds, count(*), count(*) filter (where {config.problem.positive_sql()}) "
        f"from {relation} where {scope} group by ds order by ds"
    )
    return snaps, {day: (rows, hits) for day, rows, hits in counted}, scope


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
) -> tuple[dict[str, Slice], TestRows]:
    """The flat rows of every slice, in a fixed order.

    ``scopes`` has the SQL condition of each slice's rows, beside its days.
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
        slices[name] = Slice(frame, label, day, user if is_by_user(split) else None)
        if name == "test":
            # touches that are about no item are compared with one another
            item = (
                pc.fill_null(keys.column("_item"), "").to_numpy() if config.problem.pairs else None
            )
            test = TestRows(where, label, day, user, item, frame)
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
