"""Peak memory of one date as the people grow, under one memory_limit."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from measured import ROOT, Row, Size, python
from rows.features import copy
from world import World, build_facts, make_world

USERS: dict[Size, int] = {"tiny": 50, "normal": 10_000, "full": 100_000}
LIMIT_MB = 1_000
PROGRAM = ROOT / "benchmarks" / "one_date.py"


def measure(size: Size, work: Path) -> Iterator[Row]:
    """The rows of this module; see :class:`measured.Measure`."""
    users = USERS[size]
    small, large = (
        peak(make_world(work / f"{times}", users * times, 120), work) for times in (1, 10)
    )
    what = f"facts and features of one date, {10 * users:,} users, memory_limit {LIMIT_MB} MB: peak"
    yield Row(
        what,
        f"{users:,} users",
        large,
        small,
        "≤ 1.3×",
        1.3,
        "slower",
        "MB",
        note="the smaller world does not fill the limit; the larger one spills and stays at it",
    )
    yield Row(what, "–", large, None, "≤ 1.2× memory_limit", 1.2 * LIMIT_MB, "amount", "MB")


def peak(world: World, work: Path) -> float:
    """Peak resident set of a process that builds the execution date, in MB."""
    build_facts(world)
    home = copy(world, work / "turn")
    used = python(
        PROGRAM,
        home,
        "--dates",
        world.execution_date.isoformat(),
        USERGROWTH_MEMORY_LIMIT=f"{LIMIT_MB}MB",
    )
    shutil.rmtree(home)
    shutil.rmtree(world.settings.home)
    return used.peak
