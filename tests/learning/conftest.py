"""Fixtures of the learning tests: a home folder and an engine."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.warehouse.engine import Engine, open_engine

sys.path.insert(0, str(Path(__file__).parent))  # for the frame generators beside the tests


@pytest.fixture(scope="session", autouse=True)
def few_resamples() -> Iterator[None]:
    """Intervals from 100 draws: their width is tested on its own, here they only cost time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("usergrowth_dagster.learning.training.RESAMPLES", 100)
        patch.setattr("usergrowth_dagster.learning.gates.RESAMPLES", 100)
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(tmp_path / "home")


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    with open_engine(settings) as opened:
        yield opened
