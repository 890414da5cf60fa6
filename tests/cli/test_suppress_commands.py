"""The suppression list from the command line."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from usergrowth_dagster.cli import main

NUMBER = "+9990000000001"
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in a home: exit code and everything that it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USERGROWTH_HOME", str(tmp_path / "home"))

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["usergrowth", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
            raise SystemExit(0)
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    return call


def test_from_the_command_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a number in the output, a file that is half taken, and a lost exit code."""
    home = tmp_path / "home"
    code, said = run("suppress", "count")
    assert code == 2 and "usergrowth init" in said
    home.mkdir()
    monkeypatch.setattr("typer.prompt", lambda *_, **__: NUMBER)
    assert run("suppress", "add", "--phone", "-")[0] == 0
    code, said = run("suppress", "add", "--phone", f"00{NUMBER[1:]}")
    assert (code, said.strip()) == (0, "Was suppressed already.")
    code, said = run("suppress", "add", "--phone", "12")
    assert code == 2 and said.startswith("error: not a phone number")
    code, said = run("suppress", "add", "--phone", "2125550131")
    assert code == 2 and "set default_country" in said and "555" not in said
    assert run("suppress", "add")[0] == 2
    path = tmp_path / "in.csv"
    path.write_text(f"phone,user_id\n{NUMBER},u1\n12345x,\n,u2\n")
    code, said = run("suppress", "import", "in.csv")
    assert code == 2 and "in.csv: line 3, column phone: not a phone number" in said
    code, said = run("suppress", "import", "in.csv", "--skip-bad")
    assert code == 0 and "Read 3 lines: 2 suppressions are new, 1 were in force" in said
    assert "skipped: in.csv: line 3" in said and "12345" not in said and NUMBER[1:] not in said
    assert "The people of 1 lines stay textable" in said
    assert run("suppress", "export", "out.csv")[0] == 0
    assert run("suppress", "export", "out.csv")[0] == 2
    assert stat.S_IMODE((tmp_path / "out.csv").stat().st_mode) == 0o600
    assert (tmp_path / "out.csv").read_text().count("\n") == 4
    code, said = run("suppress", "lift", "--phone", NUMBER)
    assert (code, said.strip()) == (0, "Lifted 1 suppressions.")
    code, said = run("audit")
    assert code == 0 and "import suppressions" in said and NUMBER[1:] not in said
