"""The command lines of the files in deploy/, held against the programs themselves."""

import re
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from typer.main import get_command

from usergrowth_dagster.cli import app

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
_WORDS = {"dagster": 2, "dagster-daemon": 1, "dagster-webserver": 0, "mlflow": 1}
"""Words of a command line before its options, by program."""


def check(command: Sequence[str]) -> None:
    """Fail unless the program knows the command, its options and, of our own, their values."""
    program, *rest = command
    if program == "usergrowth":
        _check_ours(rest)
    elif program in _WORDS:
        words = rest[: _WORDS[program]]
        given = rest[_WORDS[program] :]
        options = {one.partition("=")[0] for one in given if re.match(r"--?[a-z]", one)}
        unknown = options - _options(program, *words)
        assert not unknown, (command, unknown)
    elif program == "python":
        assert rest[0] == "-c"
        compile(rest[1], "healthcheck", "exec")
    else:
        assert program in ("sh", "wget", "pg_isready", "mini"), command


def _check_ours(rest: Sequence[str]) -> None:
    group: Any = get_command(app)
    name, *arguments = rest
    group.commands[name].make_context(name, arguments)  # refuses what it does not know


@cache
def _options(program: str, *words: str) -> set[str]:
    """The options that a program's help lists."""
    done = subprocess.run(
        [str(BIN / program), *words, "--help"], capture_output=True, text=True, check=True
    )
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", done.stdout))
