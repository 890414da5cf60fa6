"""Fixtures of the learning tests: a home folder and an engine."""

import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from usergrowth_dagster.learning.store import ModelRef, add_version, client, experiment
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


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A new MLflow is made once, since its tables take seconds; each test has a model name."""
    return load_settings(tmp_path_factory.mktemp("registered") / "home")


@pytest.fixture
def registry(database: Settings, request: pytest.FixtureRequest) -> Any:
    """Registers versions 1, 2, … of a model of this test's own: status, label."""
    from registered import LABEL, learned

    made, name = client(database), request.node.name

    def add(
        status: str = "approved",
        label: str = LABEL,
        gates: str = "leakage passed",
        day: date | None = None,
    ) -> ModelRef:
        run = made.create_run(experiment(made, database, "reviewing"))
        number = len(made.search_model_versions(f"name = '{name}'")) + 1
        days = ("last_label_day", "fit_last_label_day", "execution_date")
        tags = {"config_hash": label, "champion": "x", "status": status, "gates": gates}
        tags |= dict.fromkeys(days, (day or learned(number)).isoformat())
        tags |= {"fingerprint": f"{name}{number}"}
        return add_version(made, database, name, run.info.run_id, tags)

    return database, made, name, add
