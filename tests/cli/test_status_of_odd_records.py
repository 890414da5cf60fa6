"""`status` and `delivery` show what they can, whatever one record holds."""

import contextlib
import sqlite3
from pathlib import Path

import pytest
from chain_world import World, cli, copy_home, errors, succeeded


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("update inference_job set execution_date = '0001-01-01'", "when it is due next"),
        ("update inference_job set execution_date = 'last week'", "when it is due next"),
        ("update schedule set execute_time = '9999-12-31 23:59:59', repeat_cycle_unit = 2", ""),
        ("update inference_job set user_config = '{}'", "when it is due next"),
    ],
)
def test_an_odd_record_hides_nothing_else(
    world: World, tmp_path: Path, change: str, sentence: str
) -> None:
    """One record from the end of the calendar, or by another program, ends the whole command."""
    home = copy_home(world.decided, tmp_path / "home")
    with contextlib.closing(sqlite3.connect(home / "control.db")) as connection, connection:
        connection.execute("delete from message")  # the tasks are due again
        connection.execute("delete from batch")
        connection.execute("delete from occurrence")
        connection.execute(f"{change} where id = 1")
    for command in ("status", "delivery"):
        done = cli(home, command)
        if sentence:
            assert any(sentence in line for line in errors(done)), done.stderr
        else:
            succeeded(done)
        if command == "status":
            assert "raw_behavior" in done.stdout and "comeback" in done.stdout
