"""A bounded sample of training rows, and the weights that restore what it was drawn from.

The strata are the rows of one day with one label. Each stratum keeps at most so many rows that all
of them together are no more than ``max_training_rows``: small strata whole, large ones down to one
ceiling. So a rare label and a thin day lose nothing while others have more than they need. Within a
stratum rows are drawn by a hash of the user, the same on every day, so that a user who is in the
sample is in it again and again.

A row weighs as many rows as its stratum has for each one that is kept (post-stratification; Holt
and Smith 1979, JRSS A 142:33-46). Days and labels then have the shares that all rows have; models
are fitted, calibrated and judged by weight, and a figure of the sample is an estimate of that of
all rows, with an interval that is the wider for what was left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.config import Snapshots, TrainingConfig
from usergrowth_dagster.learning.dataset import all_rows, count_rows, draw_sql
from usergrowth_dagster.learning.splits import Counts
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MILLION = 1_000_000


@dataclass(frozen=True)
class Sample:
    """Which rows a training has of those that there are.

    Attributes:
        whole: rows and positive rows of each day.
        kept: the same of the sample.
        scope: the SQL condition of all rows.
    """

    whole: Counts
    kept: Counts
    scope: str

    @property
    def rows(self) -> int:
        """Rows that there are."""
        return _total(self.whole)

    def weights(
        self, day: "NDArray[np.datetime64]", label: "NDArray[Any]"
    ) -> "NDArray[np.float64]":
        """How much rows of the sample weigh, 1 on average over all of them.

        Args:
            day: of each row, shape (n,) as datetime64[D].
            label: 0/1, shape (n,).
        """
        import numpy as np

        days, at = np.unique(day, return_inverse=True)
        table = np.array([self._of_day(one.item()) for one in days]).reshape(-1, 2)
        weights: NDArray[np.float64] = table[at, np.asarray(label).astype(np.int64)]
        return weights * (_total(self.kept) / self.rows)

    def _of_day(self, day: date) -> tuple[float, float]:
        """Rows for each one that is kept, of the negative and of the positive ones of a day."""
        (rows, hits), (kept, kept_hits) = self.whole[day], self.kept[day]
        return (rows - hits) / max(kept - kept_hits, 1), hits / max(kept_hits, 1)

    def share(self, days: "tuple[date, ...]") -> float:
        """The share of positive rows that some days have in all."""
        return sum(self.whole[day][1] for day in days) / sum(self.whole[day][0] for day in days)

    def as_dict(self) -> dict[str, Any]:
        """For records."""
        return {"rows": self.rows, "kept": _total(self.kept)}


def sampled_rows(
    engine: Engine, relation: str, config: TrainingConfig, execution_date: date, settings: Settings
) -> tuple[Snapshots, Counts, str, Sample | None]:
    """The job's snapshots, rows and positives by day, the condition of its rows, and the sample.

    The sample is None where all rows are no more than ``max_training_rows``.

    Raises:
        UserError: there is no row.
    """
    snaps, whole, scope = all_rows(engine, relation, config, execution_date)
    if _total(whole) <= settings.max_training_rows:
        return snaps, whole, scope, None
    every = scope
    table = _bind_shares(engine, whole, settings.max_training_rows)
    scope += (
        f" and exists (select 1 from {table} where _day = ds "
        f"and _positive = ({config.problem.positive_sql()}) and {draw_sql(settings)} < _share)"
    )
    kept = count_rows(engine, relation, config, scope)
    return snaps, kept, scope, Sample(whole, kept, every)


def _bind_shares(engine: Engine, whole: Counts, most: int) -> str:
    """A table of the strata with the share of each that is kept, in millionths; its name."""
    strata = {
        (day, positive): count
        for day, (rows, hits) in whole.items()
        for positive, count in ((True, hits), (False, rows - hits))
        if count
    }
    ceiling = even_ceiling(strata, most)
    listed = ", ".join(
        f"(date '{day}', {positive}, {min(MILLION, MILLION * ceiling // count)})"
        for (day, positive), count in strata.items()
    )
    name = engine.unique_name("training_strata")
    engine.run(f"create temp table {name} as from (values {listed}) as t (_day, _positive, _share)")
    return name


def even_ceiling(strata: Mapping[Any, int], most: int) -> int:
    """The most rows of one stratum with which all together have no more than ``most``.

    >>> even_ceiling({"rare": 10, "common": 500, "more": 900}, 210)
    100
    """
    left = most
    sizes = sorted(strata.values())
    for place, size in enumerate(sizes):
        even = left // (len(sizes) - place)
        if size > even:
            return max(1, even)
        left -= size
    return max(sizes)


def _total(counts: Counts) -> int:
    return sum(rows for rows, _ in counts.values())
