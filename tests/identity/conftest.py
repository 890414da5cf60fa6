"""Fixtures of the tests of identity."""

import os
from pathlib import Path

import pytest
from support.identity_desk import IdentityDesk


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IdentityDesk:
    """A fresh home, whatever the environment says."""
    for name in [key for key in os.environ if key.startswith("USERGROWTH_")]:
        monkeypatch.delenv(name)
    return IdentityDesk(tmp_path / "home")
