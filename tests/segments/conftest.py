"""The home that the tests of segments share, and copies of it for those that change it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.segment_world import write_world

from usergrowth_dagster.project import Project


@pytest.fixture(scope="session")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with the tables of the world; read only."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [key for key in os.environ if key.startswith("USERGROWTH_")]:
            patch.delenv(name)
        home = tmp_path_factory.mktemp("segments") / "home"
        write_world(home)
        yield home


@pytest.fixture
def world(shared_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the home."""
    for name in [key for key in os.environ if key.startswith("USERGROWTH_")]:
        monkeypatch.delenv(name)
    shutil.copytree(shared_world, tmp_path / "home")
    return Project.open(tmp_path / "home")
