"""Fixtures that several packages' tests share."""

from pathlib import Path

import pytest

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.warehouse.tables import Warehouse


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a fresh home folder, whatever the environment says."""
    import os

    for name in [key for key in os.environ if key.startswith("USERGROWTH_")]:
        monkeypatch.delenv(name)
    return load_settings(tmp_path / "home", memory_limit="2GB")


@pytest.fixture
def warehouse(settings: Settings) -> Warehouse:
    """An empty warehouse."""
    return Warehouse(Storage(settings.storage_root))
