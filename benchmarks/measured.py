"""What one row of the table holds, and how a process is measured.

A row compares one piece of work of the product with its rival, both run by the same command on the
same machine, one after the other. Only their ratio is judged; the seconds are shown beside it.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

ROOT = Path(__file__).resolve().parents[1]
Size = Literal["tiny", "normal", "full"]
"""tiny: seconds, for CI, where only equality counts; normal: ``make bench``; full: for a night."""

# Linux counts into a child's peak what its parent held when it forked, and a benchmark's parent
# holds a lot. This parent holds nothing.
_LAUNCHER = """
import os, sys, time
started = time.monotonic()
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(child, 0)
wall = time.monotonic() - started
print(f"\\n[{wall}, {used.ru_utime + used.ru_stime}, {used.ru_maxrss}]")
sys.exit(os.waitstatus_to_exitcode(status) and 1)
"""


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        work: what the product did, with its size.
        rival: what it is compared with.
        ours: of the product, in ``unit``.
        theirs: of the rival, in ``unit``; None where the target is an amount and not a ratio.
        target: the target as people read it, such as ``≥ 5× faster``.
        bound: the number in the target.
        kind: ``faster``: theirs / ours has to reach the bound; ``slower``: ours / theirs may not
            pass it; ``amount``: ours may not pass it.
        unit: ``s``, ``s CPU`` or ``MB``.
        note: why the target is missed and what was tried, or what the reader should know.
    """

    work: str
    rival: str
    ours: float
    theirs: float | None
    target: str
    bound: float
    kind: Literal["faster", "slower", "amount"]
    unit: str = "s"
    note: str = ""

    @property
    def figure(self) -> float:
        """What is held against the bound."""
        if self.kind == "amount" or self.theirs is None:
            return self.ours
        return self.theirs / self.ours if self.kind == "faster" else self.ours / self.theirs

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.figure >= self.bound if self.kind == "faster" else self.figure <= self.bound


class Measure(Protocol):
    """The function ``measure`` that each module in ``benchmarks/rows`` has."""

    def __call__(self, size: Size, work: Path) -> Iterator[Row]:
        """Measure the module's rows.

        Args:
            size: how large.
            work: an empty folder of the module's own.

        Raises:
            AssertionError: the product and its rival gave different results.
        """
        ...


@dataclass(frozen=True)
class Used:
    """What a process took: wall seconds, CPU seconds with its children's, peak MB, and its answer.

    The answer is the JSON value in the last line that it printed; None when that is none.
    """

    wall: float
    cpu: float
    peak: float
    answer: object = None


def run(command: Sequence[str | Path], *, folder: Path = ROOT, **environment: str) -> Used:
    """Run a command to its end in a process of its own, in a folder.

    Raises:
        RuntimeError: it failed; the text is the end of what it printed.
    """
    words = [str(part) for part in command]
    ran = subprocess.run(
        [sys.executable, "-S", "-c", _LAUNCHER, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=os.environ | environment,
    )
    printed, _, measured = ran.stdout.rstrip().rpartition("\n")
    if ran.returncode:
        raise RuntimeError(f"{' '.join(words)}:\n{ran.stdout[-3000:]}")
    wall, cpu, peak = json.loads(measured)
    try:
        answer = json.loads(printed.rstrip().rpartition("\n")[2])
    except ValueError:
        answer = None
    return Used(wall, cpu, peak / 1024, answer)


def python(*arguments: str | Path, **environment: str) -> Used:
    """Run this interpreter with some arguments."""
    return run([sys.executable, *arguments], **environment)


def median(work: Callable[[], object], times: int = 3) -> float:
    """Median wall seconds of a call, after one that warms up."""
    work()
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def interleaved(
    ours: Callable[[], object], theirs: Callable[[], object], times: int = 3
) -> tuple[float, float]:
    """Median wall seconds of two calls that take turns, so that a busy minute hits both."""
    ours(), theirs()
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(times):
        for call, seconds in zip((ours, theirs), taken, strict=True):
            started = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - started)
    return statistics.median(taken[0]), statistics.median(taken[1])
