"""A training from end to end, beside the fits that it cannot do without."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from learned import Learned, make_learned
from lightgbm import LGBMClassifier
from measured import Row, Size
from sklearn.linear_model import LogisticRegression

from usergrowth_dagster.learning.training import TrainedModels, train
from usergrowth_dagster.training.features import bind_table
from usergrowth_dagster.warehouse.engine import open_engine

WORLDS: dict[Size, tuple[int, int]] = {
    "tiny": (300, 120),
    "normal": (1_500, 200),
    "full": (10_000, 200),
}
"""Users and days."""


def measure(size: Size, work: Path) -> Iterator[Row]:
    """One row; two trainings must give the same scores."""
    users, days = WORLDS[size]
    world = make_learned(work / "home", users, days)
    once = trained(world)  # libraries and files are warm from here on
    began, fits = cpu_seconds(), Fits()
    with fits.timed():
        again = trained(world)
    taken = cpu_seconds() - began
    for kind, fitted in once.models.items():
        scores = (one.score(once.test.frame) for one in (fitted.model, again.models[kind].model))
        assert (next(scores) == next(scores)).all(), f"{kind} scores otherwise when trained again"
    rows = sum(rows for rows, _ in once.counts.values())
    yield Row(
        f"training end to end, {rows:,} rows of {users:,} users, "
        f"{len(once.spec.features)} features",
        f"its {fits.count} fits of LightGBM and of logistic regressions, on the finished matrix",
        taken,
        fits.seconds,
        "≤ 2×",
        2,
        "slower",
        "s CPU",
        note="fits are those of the choices, the candidates and the leakage gate; the rest is "
        "rows, matrices, scores, intervals and pictures",
    )


def trained(world: Learned) -> TrainedModels:
    """The training, with nothing registered."""
    with open_engine(world.settings) as engine:
        bind_table(engine, world.project, "churn_training", world.days)
        job = (engine, "churn_training", world.config, world.execution_date, world.settings)
        return train(*job)


def cpu_seconds() -> float:
    """CPU seconds of this process so far."""
    used = os.times()
    return used.user + used.system


class Fits:
    """CPU seconds that pass within estimators' fits, and their number."""

    def __init__(self) -> None:
        self.seconds, self.count = 0.0, 0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """While this is open every fit counts."""
        with ExitStack() as patches:
            for kind in (LGBMClassifier, LogisticRegression):
                patches.enter_context(patch.object(kind, "fit", self._timing(kind.fit)))
            yield

    def _timing(self, fit: Any) -> Any:
        def timing(*given: Any, **named: Any) -> Any:
            began = cpu_seconds()
            try:
                return fit(*given, **named)
            finally:
                self.seconds += cpu_seconds() - began
                self.count += 1

        return timing
