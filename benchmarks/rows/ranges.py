"""Many dates in one range, weekly snapshots, and a longer history, each beside one date."""

import shutil
import statistics
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path

from measured import ROOT, Row, Size, python
from rows.features import copy, seconds
from world import LAST, World, build_facts, make_world

USERS: dict[Size, int] = {"tiny": 200, "normal": 10_000, "full": 20_000}
DAYS: dict[Size, int] = {"tiny": 420, "normal": 840, "full": 840}
RANGE: dict[Size, tuple[int, int]] = {"tiny": (5, 4), "normal": (90, 52), "full": (90, 52)}
"""Dates in a row, and weekly snapshots."""
TIMES: dict[Size, int] = {"tiny": 1, "normal": 3, "full": 3}
PROGRAM = ROOT / "benchmarks" / "one_date.py"

WHY = (
    "a date adds rows of its own: 131 columns of each person, made, tested and committed. A person "
    "has some twenty days of a kind in a year, so that prefix sums, with two look-ups for each of "
    "nine windows, would read as many values as the days themselves; larger parts of a range are a "
    "tenth faster and need twice the memory"
)
"""Why a range costs more than the targets."""


def measure(size: Size, work: Path) -> Iterator[Row]:
    """The rows of this module; see :class:`measured.Measure`."""
    users = USERS[size]
    long = make_world(work / "long", users, DAYS[size])
    build_facts(long)
    day = long.execution_date
    keep_months(long, work, day)
    one = statistics.median(features(long, work, [day]) for _ in range(TIMES[size]))
    dates, weeks = RANGE[size]
    many = features(long, work, long.dates(dates))
    weekly = statistics.median(
        features(long, work, [day - timedelta(days=7)], "churn_training")
        for _ in range(TIMES[size])
    )
    snapshots = [day - timedelta(days=7 * week) for week in range(1, weeks + 1)]
    trained = features(long, work, snapshots, "churn_training")
    what = f"{users:,} users, {DAYS[size]} days"
    yield Row(
        f"features of {dates} dates in one range, {what}",
        "one date",
        many,
        one,
        "≤ 20×",
        20,
        "slower",
        note=WHY,
    )
    yield Row(
        f"training set of {weeks} weekly snapshots, {what}",
        "one snapshot",
        trained,
        weekly,
        "≤ 12×",
        12,
        "slower",
        note=WHY,
    )
    short = make_world(work / "short", users, 366)
    build_facts(short)
    keep_months(short, work, day)
    year = statistics.median(features(short, work, [day]) for _ in range(TIMES[size]))
    yield Row(
        f"features of one date with {DAYS[size]} days of history, {users:,} users",
        "with 366",
        one,
        year,
        "≤ 1.1×",
        1.1,
        "slower",
    )


def keep_months(world: World, work: Path, day: date) -> None:
    """Keep the closed months, as an earlier date would have done."""
    home = copy(world, work / "warm")
    dates = [(day - timedelta(days=days)).isoformat() for days in (1, 90, 365)]
    python(PROGRAM, home, "--dates", *dates)
    shutil.copytree(home / "storage" / "months", world.settings.home / "storage" / "months")
    shutil.rmtree(home)


def features(world: World, work: Path, days: Sequence[date], *models: str) -> float:
    """Seconds of some dates' features, and of what is made from them, in a copy of the home."""
    home = copy(world, work / "turn")
    made = ["user_features", *(["churn_label"] if models else []), *models]
    dates = [day.isoformat() for day in sorted(days)]
    used = python(PROGRAM, home, "--dates", *dates, "--models", *made)
    shutil.rmtree(home)
    assert max(days) <= LAST + timedelta(days=1)
    return seconds(used)
