"""What ends a command early is one sentence, in the real command line."""

import json
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from usergrowth_dagster import cli
from usergrowth_dagster.errors import UserError


def fails_with(error: BaseException) -> Callable[..., None]:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (
            UserError("the file x is missing; make it", code="landing.bad_file"),
            2,
            "error: the file x is missing; make it",
        ),
        (
            FileNotFoundError(2, "No such file or directory", "/x/y"),
            2,
            "error: No such file or directory: /x/y",
        ),
        (
            UserError("the file x is bad\nthe file y too", code="landing.bad_file"),
            2,
            "error: the file x is bad\nerror: the file y too",
        ),
        (
            UserError("\n".join(f"file {n}" for n in range(30)), code="landing.bad_file"),
            2,
            "\n".join(
                [
                    *(f"error: file {n}" for n in range(20)),
                    "error: and 10 more; usergrowth dev shows all of them",
                ]
            ),
        ),
        (OSError("the disk is odd"), 2, "error: the disk is odd"),
        (OSError(28, "No space left on device"), 2, "error: No space left on device"),
        (
            KeyboardInterrupt(),
            130,
            "interrupted; the same command goes on where this one stopped",
        ),
        (
            OperationalError("select 1", {}, sqlite3.OperationalError("disk I/O error")),
            2,
            "error: the control store cannot be used: disk I/O error",
        ),
    ],
)
def test_the_end_of_a_command(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    error: BaseException,
    code: int,
    sentence: str,
) -> None:
    """A full disk, a stopped database or Ctrl-C is a traceback, or ends as if all were well."""
    from usergrowth_dagster.homes import home

    monkeypatch.setattr(home, "open_home", fails_with(error))
    monkeypatch.setattr(sys, "argv", ["usergrowth", "run", "--home", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    assert ended.value.code == code
    assert printed.err.splitlines() == sentence.splitlines()
    assert printed.out == ""


def test_a_fault_of_the_product_is_no_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A bug is hidden behind a sentence that blames the user."""
    from usergrowth_dagster.homes import home

    monkeypatch.setattr(home, "open_home", fails_with(ZeroDivisionError("ours")))
    monkeypatch.setattr(sys, "argv", ["usergrowth", "run", "--home", str(tmp_path)])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_a_failing_command_names_its_code_in_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A script must match on an English sentence to learn why a command failed."""
    monkeypatch.setattr(
        sys, "argv", ["usergrowth", "status", "--json", "--home", str(tmp_path / "none")]
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    assert ended.value.code == 2
    (error,) = json.loads(printed.out)["errors"]
    assert error["code"] == "home.missing"
    assert "usergrowth init" in error["hint"]
    assert printed.err == f"error: {error['message']}\n"
