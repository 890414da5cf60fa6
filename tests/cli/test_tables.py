"""The command that holds what is kept of the tables against their logs."""

import contextlib
import sqlite3
from pathlib import Path

import pytest
from chain_world import World, cli, copy_home, errors, succeeded

from usergrowth_dagster.homes import doctor
from usergrowth_dagster.settings import load_settings


@pytest.mark.usefixtures("here")
def test_changed_state_is_named_and_mended(world: World, tmp_path: Path) -> None:
    """A state that says other things than its log is found by no command, or only by chance."""
    home = copy_home(world.landed, tmp_path / "home")
    assert "is what their logs say" in succeeded(cli(home, "tables"))
    with contextlib.closing(sqlite3.connect(home / "tables.db")) as connection:
        connection.execute("update page set content = replace(content, '-01', '-02')")
        connection.commit()
    (home / "tables.db").chmod(0o600)
    before = (home / "tables.db").read_bytes()
    faults = errors(cli(home, "tables"))
    assert faults and all(line.startswith("error: what is kept of table ") for line in faults)
    unwell = {f.name: f.detail for f in doctor.examine(load_settings(home)) if not f.well}
    assert "usergrowth tables --rebuild" in unwell["tables"]
    assert (home / "tables.db").read_bytes() == before  # looking changes nothing
    assert "raw_behavior" in succeeded(cli(home, "tables", "--rebuild"))
    assert "is what their logs say" in succeeded(cli(home, "tables"))
