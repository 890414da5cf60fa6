"""The job of the vendor's own example: a log is landed, trained on and selected from."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
from measured import ROOT, Row, Size, Used, python

from usergrowth_dagster.commands.campaigns import apply_files
from usergrowth_dagster.commands.examples import Example, example
from usergrowth_dagster.commands.execute import execute
from usergrowth_dagster.commands.home import make_home, open_home
from usergrowth_dagster.tasks.project import Project

USERS: dict[Size, int] = {"tiny": 300, "normal": 10_000, "full": 10_000}
CAMPAIGN = "care.yaml"  # whoever is about to be silent: the vendor's question
STAGES = ("landed", "trained", "selected")
VENDOR_SECONDS = 30 * 60


def measure(size: Size, work: Path) -> Iterator[Row]:
    """Two rows: the seconds, and the memory of the process that needs most."""
    users = USERS[size]
    home, chosen = work / "home", _one_campaign(users)
    settings = make_home(home, chosen.settings)
    chosen.write(Project(settings))
    path = home / CAMPAIGN
    path.write_text(chosen.campaigns[CAMPAIGN], encoding="utf-8")
    list(apply_files(home, [path]))
    used = {stage: _run(home, users, stage) for stage in STAGES}
    assert used["selected"].answer, "nobody was selected"
    what = f"{users:,} people, 200 days: landed, trained, selected"
    each = ", ".join(
        f"{stage} {one.wall:.0f} s and {one.peak:,.0f} MB" for stage, one in used.items()
    )
    yield Row(
        what,
        f"the vendor's stated {VENDOR_SECONDS // 60} minutes",
        sum(one.wall for one in used.values()),
        None,
        "≤ 60 s",
        60,
        "amount",
        "s",
        note=each,
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


def _one_campaign(users: int) -> Example:
    chosen = example("synthetic", users)
    return replace(chosen, campaigns={CAMPAIGN: chosen.campaigns[CAMPAIGN]})


def _run(home: Path, users: int, stage: str) -> Used:
    """One stage in a process of its own."""
    benchmarks = str(ROOT / "benchmarks")
    return python(Path(__file__), str(home), str(users), stage, PYTHONPATH=benchmarks)


def _child(home: Path, users: int, stage: str) -> None:
    """One stage, as the commands run it; prints the number of selected people."""
    from usergrowth_dagster.defs.jobs import CHOOSE, INGEST, TRAIN, range_tags

    settings = open_home(home)
    chosen = _one_campaign(users)
    day = chosen.execution_date
    if stage == "landed":
        execute(INGEST, tags=range_tags(chosen.first_day, day - timedelta(days=1)))
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
    _child(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
