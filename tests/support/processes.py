"""Processes of their own that begin with the product's libraries loaded.

A new interpreter computes for five to ten seconds on a slow machine until Dagster, MLflow and the
rest are imported. A server that has imported them forks a process for each call instead. What two
new interpreters do not share such processes do not share either, but for one thing: the seed of
hashes. A test of what must not depend on it takes a new interpreter.
"""

import atexit
import gc
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

_LIBRARIES = [
    "usergrowth_dagster.cli",
    "usergrowth_dagster.defs.build",
    "usergrowth_dagster.learning.training",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.lightgbm",
    "mlflow.sklearn",
    "s3fs",
    "skops.io",
    "statsmodels.api",
]
_STREAMS = ("in", "out", "err")
"""The files of the standard streams, in the order of their numbers."""


def run_command(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    given: str = "",
    seconds: float = 900,
) -> "subprocess.CompletedProcess[str]":
    """Run ``usergrowth`` in a folder, with a text as its input.

    Raises:
        subprocess.TimeoutExpired: it did not end in time; it is killed.
    """
    with tempfile.TemporaryDirectory(prefix="command-") as streams:
        places = [Path(streams) / name for name in _STREAMS]
        places[0].write_text(given, encoding="utf-8")
        process = ready_process(
            _command, list(arguments), str(folder), places, environment=environment
        )
        process.start()
        code = _joined(process, seconds)
        out, err = (place.read_text(encoding="utf-8") for place in places[1:])
    return subprocess.CompletedProcess(list(arguments), code, out, err)


def started(program: str, *arguments: str) -> ForkServerProcess:
    """A process at work on a text of Python with these arguments."""
    process = ready_process(_program, program, arguments)
    process.start()
    return process


def exit_code(program: str, *arguments: str, seconds: float = 900) -> int:
    """Run a text of Python with these arguments to its end; -9 where it was killed."""
    return _joined(started(program, *arguments), seconds)


def ready_process(
    function: Callable[..., None], *arguments: Any, environment: Mapping[str, str] | None = None
) -> ForkServerProcess:
    """A process that calls a function of a module, to be started; its environment is that of now."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LIBRARIES)
    values = dict(os.environ if environment is None else environment)
    return context.Process(target=_call, args=(values, function, arguments))


def _joined(process: ForkServerProcess, seconds: float) -> int:
    """Wait for the end of a process, whose exit code it is."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise subprocess.TimeoutExpired(str(process), seconds)
    return process.exitcode


def _call(
    environment: Mapping[str, str], function: Callable[..., None], arguments: Sequence[Any]
) -> None:
    """Take nothing from the server but what is imported there."""
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.modules["numpy"].random.seed()
    function(*arguments)


def _command(arguments: list[str], folder: str, streams: list[Path]) -> None:
    """Become the process that ``python -m usergrowth_dagster`` would be."""
    _redirect(streams)
    os.chdir(folder)
    sys.argv = ["usergrowth", *arguments]
    sys.path.insert(0, folder)
    code = _ran_main()
    gc.collect()  # closes databases that nothing refers to, as the end of an interpreter does
    atexit._run_exitfuncs()
    raise SystemExit(code)


def _ran_main() -> str | int | None:
    """Run the command as the main module; its exit code."""
    try:
        runpy.run_module("usergrowth_dagster", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        return ended.code
    return 0


def _program(program: str, arguments: Sequence[str]) -> None:
    """Become the process that ``python -c`` would be."""
    sys.argv = ["-c", *arguments]
    exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})


def _redirect(streams: list[Path]) -> None:
    """Put files in the place of standard input, output and error."""
    for number, place in enumerate(streams):
        file = os.open(place, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(0, encoding="utf-8", closefd=False),
        os.fdopen(1, "w", encoding="utf-8", closefd=False),
        os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False),
    )
