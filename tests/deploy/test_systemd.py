"""The units of systemd: valid, locked down, and with commands that exist."""

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from commands import BIN, DEPLOY, check

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
INSTALLED = "/opt/usergrowth/bin"
MOST_EXPOSED = 20
"""What systemd-analyze calls the exposure of a unit, of 100; a unit without options has 96."""


def command(unit: Path) -> list[str]:
    line = re.search(r"^ExecStart=(.*)$", unit.read_text("utf-8"), re.MULTILINE)
    assert line is not None
    program, *rest = shlex.split(line[1])
    assert program.startswith(f"{INSTALLED}/"), program
    return [program.removeprefix(f"{INSTALLED}/"), *rest]


def test_each_process_has_a_unit_whose_command_exists() -> None:
    """Guards against a service that ends at once with a usage message."""
    names = [unit.stem for unit in UNITS]
    assert names == [
        f"usergrowth-{one}"
        for one in ("daemon", "dispatcher", "models", "receiver", "rta", "webserver")
    ]
    for unit in UNITS:
        check(command(unit))


def test_no_unit_runs_as_root_or_leaves_a_dispatcher_no_time() -> None:
    """Guards against a stop that kills a dispatcher while the provider has a batch."""
    for unit in UNITS:
        parsed = configparser.ConfigParser(strict=False, interpolation=None)
        parsed.optionxform = str  # type: ignore[assignment,method-assign]
        parsed.read_string(unit.read_text("utf-8"))
        service = parsed["Service"]
        assert service["User"] == service["Group"] == "usergrowth"
        assert service["Restart"] == "on-failure"
        assert int(service["TimeoutStopSec"]) >= (100 if "dispatcher" in unit.name else 30)


@pytest.mark.systemd
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """Guards against options that systemd does not know, and against a unit that is laid open."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    copies = []
    programs = tmp_path / "bin"  # a unit's line ends a path at a blank, and a checkout may have one
    programs.symlink_to(BIN)
    for unit in UNITS:  # the programs must be where a unit says
        copy = tmp_path / unit.name
        copy.write_text(unit.read_text("utf-8").replace(INSTALLED, str(programs)), encoding="utf-8")
        copies.append(str(copy))
    done = subprocess.run(["systemd-analyze", "verify", *copies], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for copy in copies:
        exposed = ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}"]
        done = subprocess.run([*exposed, "--no-pager", copy], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-300:]
