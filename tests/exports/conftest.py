"""Fixtures of the tests of exports."""

import os
from pathlib import Path

import pytest
from support.export_desk import ExportDesk


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExportDesk:
    """A fresh home, whatever the environment says."""
    for name in [key for key in os.environ if key.startswith("USERGROWTH_")]:
        monkeypatch.delenv(name)
    return ExportDesk(tmp_path / "home")
