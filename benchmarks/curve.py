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
from collections.abc import Iterator, Mapping, Sequence
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
            int(used.answer["rows"][stage]),
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
    home, events = _home(folder, users, limit, settings)
    yield from measure_home(home, users, events, stages, limit)


def _home(folder: Path, users: int, limit: str, settings: Mapping[str, object]) -> tuple[Path, int]:
    """The home of a world, made where there is none yet, and the world's events."""
    home, known = folder / f"home-{users}", folder / f"home-{users}.json"
    if not known.exists():
        shutil.rmtree(home, ignore_errors=True)
        made = make_big_world(home, users, memory_limit=limit, **settings)
        known.write_text(json.dumps(made.events))
    return home, int(json.loads(known.read_text()))


def check(made: Mapping[str, int], users: int) -> None:
    """Refuse stages whose rows, by their names, do not fit together.

    Raises:
        AssertionError: they do not; the text has all counts.
    """
    everybody = {made.get(stage, users) for stage in ("population", "score", "decide")}
    sent = {made[stage] for stage in ("output", "plan") if stage in made}
    assert everybody == {users} and len(sent) <= 1 and all(made.values()), made


def run_together(folder: Path, users: int) -> None:
    """Run all stages of a small world in one process, which imports once; only rows are looked at.

    Raises:
        AssertionError: they do not fit together.
    """
    home, _ = _home(folder, users, "512MB", {})
    answer = python(PROGRAM, home, *STAGES).answer
    assert isinstance(answer, dict)
    check(answer["rows"], users)
    print(f"{users} users: " + ", ".join(f"{name} {n:,}" for name, n in answer["rows"].items()))


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
    parser.add_argument("--together", action="store_true", help="one process; measures nothing")
    given = parser.parse_args()
    limit, settings = given.memory_limit, {"max_training_rows": given.training_rows}
    points = []
    with tempfile.TemporaryDirectory(prefix="usergrowth-bench-") as scratch:
        folder = given.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if given.together:
            run_together(folder, given.users[0])
            return
        for users in given.users:
            for point in measure_world(folder, users, given.stages, limit, **settings):
                print(
                    f"{point.stage:13} {point.users:>10,} {point.events:>12,} {point.rows:>12,} "
                    f"{point.seconds:>8.1f} s {point.cpu:>8.1f} s CPU {point.memory:>8.0f} MB "
                    f"{point.written:>9.0f} MB",
                    flush=True,
                )
                points.append(point)
    for users in given.users:
        check({point.stage: point.rows for point in points if point.users == users}, users)
    if given.write:
        keep(points, given.write)


if __name__ == "__main__":
    main()
