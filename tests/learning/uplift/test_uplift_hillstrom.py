"""The protocol and the metric on the Hillstrom e-mail test are those that others report."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usergrowth_dagster.learning.uplift.controls import Response, SingleFeature
from usergrowth_dagster.learning.uplift.curves import qini

DATA = Path(__file__).parents[4] / "shared" / "data" / "hillstrom" / "hillstrom.csv"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the Hillstrom table is not there")


def arm(name: str) -> tuple[Any, Any, Any]:
    import pandas as pd

    table = pd.read_csv(DATA)
    table = table[table["segment"].isin([name, "No E-Mail"])]
    x = table[["recency", "history", "mens", "womens", "newbie"]].to_numpy(dtype=float)
    return x, table["visit"].to_numpy(), (table["segment"] == name).to_numpy().astype(int)


def mean_qini(x: Any, y: Any, t: Any, learner: Any) -> float:
    """Mean Qini on the test halves of five splits by arm and visit."""
    from sklearn.model_selection import train_test_split

    figures = []
    for seed in range(5):
        train, test = train_test_split(
            np.arange(len(y)), test_size=0.5, random_state=seed, stratify=2 * t + y
        )
        made = learner.fresh().fit(x[train], y[train], t[train])
        figures.append(qini(y[test], made.uplift(x[test]), t[test]))
    return float(np.mean(figures))


def test_the_flag_reaches_what_is_known_of_it() -> None:
    """Another split or another Qini would make every comparison with others' figures void."""
    x, y, t = arm("Womens E-Mail")
    assert mean_qini(x, y, t, SingleFeature(column=3)) == pytest.approx(0.0641, abs=0.00005)
    assert mean_qini(x, y, t, SingleFeature()) >= 0.064  # found among all, on each training half


def test_who_returns_anyway_ranks_the_mens_arm() -> None:
    """A response model that ranks worse than others' does."""
    x, y, t = arm("Mens E-Mail")
    assert mean_qini(x, y, t, Response(boosted=False)) >= 0.0208
