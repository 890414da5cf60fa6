"""Seconds, peak memory and bytes of every stage as users and events grow; see docs/benchmarks.md.

    .venv/bin/python benchmarks/curve.py --users 20000 200000 --memory-limit 512MB
    .venv/bin/python benchmarks/curve.py --users 20000 --keep /tmp/homes --stages score decide
    .venv/bin/python benchmarks/curve.py --users 20000 --keep /tmp/homes --copies 10 --stages train

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
from typing import Any

import bench
import curve_page
from big_world import BigWorld, make_big_world
from copied_world import copy_world
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
        copied: whether what the stage reads is that of a smaller world, several times over.
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
    copied: bool = False


def measure_home(
    world: BigWorld, stages: Sequence[str], limit: str, *, copied: bool = False
) -> Iterator[Point]:
    """Run some stages on a home with a memory_limit, each in a process of its own."""
    for stage in stages:
        used = python(PROGRAM, world.home, stage)
        assert isinstance(used.answer, dict)
        yield Point(
            stage,
            world.users,
            world.events,
            int(used.answer["rows"][stage]),
            round(used.wall, 2),
            round(used.cpu, 2),
            round(used.peak, 1),
            round(used.answer["written"] / 2**20, 1),
            limit,
            copied,
        )


def measure_world(
    folder: Path, users: int, stages: Sequence[str], limit: str, **settings: Any
) -> Iterator[Point]:
    """Make a world where there is none yet, and run some stages on it.

    Args:
        folder: where its home is, or is made.
        users: people; each has about a hundred events.
        stages: their names, in order.
        limit: the setting memory_limit.
        settings: further ones of the home.
    """
    yield from measure_home(_world(folder, users, limit, settings), stages, limit)


def measure_copy(
    folder: Path, users: int, times: int, stages: Sequence[str], limit: str, **settings: Any
) -> Iterator[Point]:
    """Run stages from training on on a world with the people of a kept one ``times`` over.

    Arguments are those of :func:`measure_world`; the kept world has run all stages up to training.
    The copy learns a model of its own where ``train`` is among the stages.
    """
    known = _world(folder, users, limit, settings)
    home = folder / f"copy-{users * times}"
    if not home.exists():
        copy_world(
            home, known, times, trained="train" not in stages, memory_limit=limit, **settings
        )
    world = BigWorld(home, users * times, known.events * times)
    yield from measure_home(world, stages, limit, copied=True)


def _world(folder: Path, users: int, limit: str, settings: Mapping[str, Any]) -> BigWorld:
    """A world, made where there is none yet."""
    home, known = folder / f"home-{users}", folder / f"home-{users}.json"
    if not known.exists():
        shutil.rmtree(home, ignore_errors=True)
        made = make_big_world(home, users, memory_limit=limit, **settings)
        known.write_text(json.dumps(made.events))
    return BigWorld(home, users, int(json.loads(known.read_text())))


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
    home = _world(folder, users, "512MB", {}).home
    answer = python(PROGRAM, home, *STAGES).answer
    assert isinstance(answer, dict)
    check(answer["rows"], users)
    print(f"{users} users: " + ", ".join(f"{name} {n:,}" for name, n in answer["rows"].items()))


def keep(points: Sequence[Point], note: str, *, add: bool) -> None:
    """Write the points into the record of the benchmarks, the page, and its picture.

    Args:
        points: what was measured.
        note: under what circumstances.
        add: whether points of other stages and sizes stay.
    """
    known = json.loads(bench.RECORD.read_text("utf-8"))
    listed = [asdict(point) for point in points]
    if add:
        new = {(point.stage, point.users) for point in points}
        before = known["stages"]["points"]
        listed = [one for one in before if (one["stage"], one["users"]) not in new] + listed
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
    parser.add_argument("--copies", type=int, help="measure copies with so many times the people")
    parser.add_argument("--write", metavar="NOTE", help="write the page; says what else ran")
    parser.add_argument("--add", action="store_true", help="keep other points of the page")
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
            measured = (
                measure_copy(folder, users, given.copies, given.stages, limit, **settings)
                if given.copies
                else measure_world(folder, users, given.stages, limit, **settings)
            )
            for point in measured:
                print(
                    f"{point.stage:13} {point.users:>10,} {point.events:>12,} {point.rows:>12,} "
                    f"{point.seconds:>8.1f} s {point.cpu:>8.1f} s CPU {point.memory:>8.0f} MB "
                    f"{point.written:>9.0f} MB",
                    flush=True,
                )
                points.append(point)
    for users in sorted({point.users for point in points}):
        check({point.stage: point.rows for point in points if point.users == users}, users)
    if given.write:
        keep(points, given.write, add=given.add)


if __name__ == "__main__":
    main()
