"""Fixtures that several packages' tests share, and the rule that nothing is skipped in CI."""

import gc
import os
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.warehouse.tables import Warehouse

LONGEST = (
    "crash/test_daemon_disturbed",
    "store/test_store_chain",
    "cli/test_killed_backfill",
    "store/test_store_commits",
    "cli/test_train_and_uploads",
    "cli/test_two_trainings",
    "tasks/test_questions_decided",
    "examples/test_aarrr_homes",
    "tasks/test_question_from_outside",
    "serve/test_service_kills",
    "tasks/test_new_buyers",
    "cli/test_one_database",
)
"""The files that take longest, by what they take."""
SYSTEM_MARKERS = ("postgres", "mariadb", "kannel", "chromium", "systemd", "radosgw", "redis")
# How long one example takes says nothing on a busy machine.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

NO_SKIPS = bool(os.environ.get("USERGROWTH_NO_SKIPS"))  # read before a test clears it


@pytest.fixture(scope="module")
def few_objects() -> Iterator[None]:
    """Take what earlier tests left out of garbage collection, which costs a second each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, then those with the most tests.

    Whoever begins a long file last works on it alone.
    """
    files = [item.nodeid.partition("::")[0] for item in items]
    sizes = Counter(files)
    places = {f"tests/{name}.py": place for place, name in enumerate(LONGEST)}
    order = {name: (places.get(name, len(places)), -sizes[name]) for name in sizes}
    items[:] = [items[n] for n in sorted(range(len(items)), key=lambda n: order[files[n]])]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """With USERGROWTH_NO_SKIPS set, a test that misses its system program fails."""
    report = yield
    needs = [name for name in SYSTEM_MARKERS if item.get_closest_marker(name)]
    if report.skipped and needs and NO_SKIPS:
        report.outcome = "failed"
        report.longrepr = f"skipped where {needs[0]} must be there: {report.longrepr[2]}"
    return report


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a fresh home folder, whatever the environment says."""
    for name in [key for key in os.environ if key.startswith("USERGROWTH_")]:
        monkeypatch.delenv(name)
    return load_settings(tmp_path / "home", memory_limit="2GB")


@pytest.fixture
def warehouse(settings: Settings) -> Warehouse:
    """An empty warehouse."""
    return Warehouse(Storage(settings.storage_root))
