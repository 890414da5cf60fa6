"""Commands that tests fork from a server are those that a person starts."""

import os
from pathlib import Path

import pytest
from chain_world import cli, new_cli
from support.processes import ready_process


def test_a_forked_command_is_as_a_new_one(tmp_path: Path) -> None:
    """Guards against tests of commands with other streams, exit codes or settings than a person's."""
    command = (tmp_path / "数据", "status", "--json")
    settings = {"USERGROWTH_TIMEZONE": "Mars/Olympus"}
    forked, new = cli(*command, **settings), new_cli(*command, **settings)
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        new.returncode,
        new.stdout,
        new.stderr,
    )
    assert new.returncode == 2 and new.stdout and new.stderr


def _end(folder: Path) -> None:
    (folder / "environment").write_text(" ".join(sorted(os.environ)))
    raise SystemExit(7)


def test_a_process_has_the_environment_of_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against variables of an earlier test, which the server was started in."""
    monkeypatch.setenv("USERGROWTH_EARLIER", "1")
    first = ready_process(_end, tmp_path)  # at the latest, the server starts for it
    first.start()
    first.join(120)
    monkeypatch.delenv("USERGROWTH_EARLIER")
    process = ready_process(_end, tmp_path)
    process.start()
    process.join(120)
    assert process.exitcode == 7
    assert (tmp_path / "environment").read_text() == " ".join(sorted(os.environ))
