"""A run of a date on a home that is up to date, beside the import of Dagster alone."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from example_home import DAY, decided_home, landed_home, usergrowth
from measured import Row, Size, python

from usergrowth_dagster.runs.last_run import LastRun
from usergrowth_dagster.settings import load_settings

TIMES: dict[Size, int] = {"normal": 5, "full": 5}
ALLOWED = 2.0
"""Seconds of CPU beside the import."""


def _marks(home: Path) -> Iterator[Row]:
    landed_home(home)
    taken = []
    for _ in range(2):
        last = LastRun(load_settings(home), DAY, asked=True)
        began = time.process_time()
        last.begin()
        taken.append((last.before, time.process_time() - began))
    assert taken[0][0] == taken[1][0] is not None
    theirs = python("-c", "import dagster").cpu
    yield Row(
        "a look at all that a run depends on",
        "python -c 'import dagster'",
        taken[1][1],
        theirs,
        "≤ 2 s CPU",
        ALLOWED / theirs,
        "slower",
        unit="s CPU",
    )


def measure(size: Size, work: Path) -> Iterator[Row]:
    """Two rows: the run that is answered by its record, and one through every step.

    The tiny size trains nothing: it only looks twice at all that a run depends on.
    """
    home = work / "home"
    if size == "tiny":
        yield from _marks(home)
        return
    decided_home(home)
    every = usergrowth(home, "run", "--date", f"{DAY}")  # changes nothing, and is kept
    assert (home / "last_run.json").exists(), "the run is not kept"
    ours, theirs = [], []
    for _ in range(TIMES[size]):
        ours.append(usergrowth(home, "run", "--date", f"{DAY}").cpu)
        theirs.append(python("-c", "import dagster").cpu)
    bound = statistics.median(theirs) + ALLOWED
    for work_done, seconds, note in (
        (
            "run of a date that a run has found unchanged",
            statistics.median(ours),
            "answered from the record of the run that changed nothing",
        ),
        (
            "run of an unchanged date, through every step",
            every.cpu,
            "the first run after one that changed something; two runs of Dagster with thirty "
            "steps, their events, and MLflow's import are most of it",
        ),
    ):
        yield Row(
            work_done,
            "python -c 'import dagster'",
            seconds,
            statistics.median(theirs),
            f"≤ {bound:.1f} s CPU (rival + {ALLOWED:.0f} s)",
            bound / statistics.median(theirs),
            "slower",
            unit="s CPU",
            note=note,
        )
