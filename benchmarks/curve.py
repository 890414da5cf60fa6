"""Seconds, peak memory and bytes of every stage as users and events grow; see docs/benchmarks.md.

    .venv/bin/python benchmarks/curve.py --users 20000 200000 --memory-limit 512MB
    .venv/bin/python benchmarks/curve.py --users 20000 --keep /tmp/homes --stages score decide

Every stage runs in a process of its own. Its peak is the resident set with the interpreter and its
libraries; DuckDB may use ``memory_limit`` of it.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import bench
import curve_page
from big_world import make_big_world
from measured import ROOT, python
from stages import STAGES

PROGRAM = ROOT / "benchmarks" / "stages.py"


@dataclass(frozen=True)
class Point:
    """One stage of one world.

    Attributes:
        stage: its name.
        users: of the world.
        events: of the world.
        rows: that the stage made.
        seconds: of its process, imports included.
        cpu: CPU seconds of its process.
        memory: peak resident set, in MB.
        written: bytes written, in MB, spilled ones included.
        limit: the setting memory_limit.
    """

    stage: str
    users: int
    events: int
    rows: int
    seconds: float
    cpu: float | None
    memory: float
    written: float
    limit: str


def measure_home(
    home: Path, users: int, events: int, stages: Sequence[str], limit: str
) -> Iterator[Point]:
    """Run some stages on a home with a memory_limit, each in a process of its own."""
    for stage in stages:
        used = python(PROGRAM, home, stage)
        assert isinstance(used.answer, dict)
        yield Point(
            stage,
            users,
            events,
            int(used.answer["rows"]),
            round(used.wall, 2),
            round(used.cpu, 2),
            round(used.peak, 1),
            round(used.answer["written"] / 2**20, 1),
            limit,
        )


def measure_world(
    folder: Path, users: int, stages: Sequence[str], limit: str, **settings: object
) -> Iterator[Point]:
    """Make a world where there is none yet, and run some stages on it.

    Args:
        folder: where its home is, or is made.
        users: people; each has about a hundred events.
        stages: their names, in order.
        limit: the setting memory_limit.
        settings: further ones of the home.
    """
    home, known = folder / f"home-{users}", folder / f"home-{users}.json"
    if not known.exists():
        shutil.rmtree(home, ignore_errors=True)
        made = make_big_world(home, users, memory_limit=limit, **settings)
        known.write_text(json.dumps(made.events))
    yield from measure_home(home, users, int(json.loads(known.read_text())), stages, limit)


def check(points: Sequence[Point]) -> None:
    """Refuse stages whose rows do not fit together.

    Raises:
        AssertionError: they do not; the text has all counts.
    """
    for users in {point.users for point in points}:
        made = {point.stage: point.rows for point in points if point.users == users}
        everybody = {made.get(stage, users) for stage in ("population", "score", "decide")}
        sent = {made[stage] for stage in ("output", "plan") if stage in made}
        assert everybody == {users} and len(sent) <= 1 and all(made.values()), made


def keep(points: Sequence[Point], note: str) -> None:
    """Write the points into the record of the benchmarks, the page, and its picture."""
    known = json.loads(bench.RECORD.read_text("utf-8"))
    listed = [asdict(point) for point in points]
    known["stages"] = {"machine": bench.machine(), "note": note, "points": listed}
    bench.write(known)
    curve_page.draw(listed, bench.TABLE.with_name(curve_page.PICTURE))


def main() -> None:
    """Measure worlds, and print a line a stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--memory-limit", default="512MB")
    parser.add_argument("--training-rows", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="folder of the homes; default: removed")
    parser.add_argument("--write", metavar="NOTE", help="write the page; says what else ran")
    given = parser.parse_args()
    limit, settings = given.memory_limit, {"max_training_rows": given.training_rows}
    points = []
    with tempfile.TemporaryDirectory(prefix="usergrowth-bench-") as scratch:
        folder = given.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for users in given.users:
            for point in measure_world(folder, users, given.stages, limit, **settings):
                print(
                    f"{point.stage:13} {point.users:>10,} {point.events:>12,} {point.rows:>12,} "
                    f"{point.seconds:>8.1f} s {point.cpu:>8.1f} s CPU {point.memory:>8.0f} MB "
                    f"{point.written:>9.0f} MB",
                    flush=True,
                )
                points.append(point)
    check(points)
    if given.write:
        keep(points, given.write)


if __name__ == "__main__":
    main()
