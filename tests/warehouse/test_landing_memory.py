"""The memory of a landing process, measured in a process of its own."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import landing

from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import open_engine, part_of


def test_an_upload_lands_within_half_more_than_the_limit() -> None:
    """``memory_limit`` held for DuckDB alone: the writer of the table took as much again.

    A tenth of what benchmarks/landing.py measures by default; the interpreter and its libraries
    are 130 MiB of the peak.
    """
    measured = landing.measure("population", 45, "400MB", threads=2, timeout=600)
    assert measured["peak_bytes"] < 1.5 * 400e6


@pytest.mark.parametrize(
    ("limit", "part"), [("4GB", "2.400GB"), ("500 MiB", "300.000MiB"), ("1.5gb", "0.900gb"), ("80%", "80%")]
)  # fmt: skip
def test_a_part_of_the_limit(limit: str, part: str) -> None:
    """A size in a form that is not understood must not turn the limit off."""
    assert part_of(limit, 0.6) == part


def test_an_engine_has_its_part(settings: Settings) -> None:
    """The part is asked for and the engine has it."""
    chosen = settings.model_copy(update={"memory_limit": "1000MB"})
    with open_engine(chosen, 0.6) as engine:
        assert engine.value("select current_setting('memory_limit')") == "572.2 MiB"
