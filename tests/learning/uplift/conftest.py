"""Small boosters and one round of folds: their number is precision, not what is tested."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the frame generator beside the tests


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usergrowth_dagster.learning.uplift.choose.REPEATS", 1)
    monkeypatch.setattr("usergrowth_dagster.learning.uplift.boosting.MAX_TREES", 60)
