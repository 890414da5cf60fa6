"""The job of the vendor's own example: a log is landed, trained on and selected from."""

import json
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import duckdb
from measured import ROOT, Row, Size, Used, python

from usergrowth_dagster.campaigns.files import apply_files
from usergrowth_dagster.examples.datasets import SYNTHETIC_DAYS, example
from usergrowth_dagster.examples.worlds.synthetic import (
    SyntheticWorld,
    write_landing,
    write_population,
)
from usergrowth_dagster.homes.home import make_home, open_home
from usergrowth_dagster.project import Project
from usergrowth_dagster.runs.execute import execute

WORLDS: dict[Size, tuple[int, int]] = {
    "tiny": (200, 75),
    "normal": (10_000, 200),
    "full": (10_000, 200),
}
"""People and days."""
CAMPAIGN = "care.yaml"  # whoever is about to be silent: the vendor's question
START = date(2017, 1, 2)
STAGES = ("landed", "trained", "selected")
VENDOR_SECONDS = 30 * 60


def measure(size: Size, work: Path) -> Iterator[Row]:
    """Two rows: the seconds, and the memory of the process that needs most."""
    users, days = WORLDS[size]
    used = whole_job(work / "home", users, days)
    what = f"{users:,} people, {days} days: landed, trained, selected"
    yield Row(
        what,
        f"the vendor's stated {VENDOR_SECONDS // 60} minutes",
        sum(one.wall for one in used.values()),
        None,
        "≤ 60 s",
        60,
        "amount",
        "s",
        note=f"{by_stage(used)}. Two thirds of the training are the fits",
    )
    yield Row(
        f"peak memory of {what}",
        "–",
        max(one.peak for one in used.values()),
        None,
        "≤ 1,500 MB",
        1500,
        "amount",
        "MB",
        note="of the largest of three processes, with its libraries",
    )


def whole_job(home: Path, users: int, days: int) -> dict[str, Used]:
    """What each stage of the job takes, in a home that is made for it.

    Raises:
        AssertionError: nobody was selected.
    """
    day = START + timedelta(days=days - 1)
    first = START - timedelta(days=7)  # the first snapshots lie before the first event
    values = {"today": str(day), "start_date": str(first), "fictional_numbers": True}
    project = Project(make_home(home, values))
    world = SyntheticWorld(users=users, days=days, start=START, seed=project.settings.seed)
    write_landing(world, project.landing)
    write_population(world, project.landing, "care", day)
    path = home / CAMPAIGN
    text = example("synthetic", users).campaigns[CAMPAIGN]
    usual = START + timedelta(days=SYNTHETIC_DAYS - 1)
    text = text.replace(str(usual), str(day)).replace(
        "window_days: 170", f"window_days: {days - 30}"
    )
    path.write_text(text, encoding="utf-8")
    list(apply_files(project, [path], "benchmark"))
    used = {stage: _run(home, stage, first, day) for stage in STAGES}
    assert used["selected"].answer, "nobody was selected"
    return used


def by_stage(used: dict[str, Used]) -> str:
    """Seconds and peak memory of each stage, in words."""
    return ", ".join(
        f"{stage} {one.wall:.0f} s and {one.peak:,.0f} MB" for stage, one in used.items()
    )


def _run(home: Path, stage: str, first: date, day: date) -> Used:
    """One stage in a process of its own."""
    benchmarks = str(ROOT / "benchmarks")
    return python(Path(__file__), str(home), stage, str(first), str(day), PYTHONPATH=benchmarks)


def _child(home: Path, stage: str, first: date, day: date) -> None:
    """One stage, as the commands run it; prints the number of selected people."""
    from usergrowth_dagster.defs.jobs import CHOOSE, INGEST, TRAIN, range_tags

    settings = open_home(home)
    if stage == "landed":
        execute(INGEST, tags=range_tags(first, day - timedelta(days=1)))
    else:
        execute(TRAIN if stage == "trained" else CHOOSE, partition=day.isoformat())
    landed = Project(settings).warehouse.files("decisions").values()
    files = [name for names in landed for name in names]
    selected = 0
    if files:
        ((selected,),) = duckdb.sql(
            f"select count(*) filter (where outcome = 'selected') from read_parquet({files})"
        ).fetchall()
    print(json.dumps(selected))


if __name__ == "__main__":
    _child(Path(sys.argv[1]), sys.argv[2], *map(date.fromisoformat, sys.argv[3:5]))
