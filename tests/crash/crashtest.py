"""Kill dispatchers at every named place and at random moments, and count what the provider got.

    python tests/crash/crashtest.py [--kills 500] [--seed 1] [--databases sqlite,postgres]

Each world is a small ledger with two due campaigns, the second one with two texts, three
dispatchers and a receiver of delivery reports, all of them killed again and again and started anew, against a provider in a process of
its own that fails in every way it can. Kinds of world:

* ``plain``; ``stop``: the provider stops campaigns, an operator resumes them; ``late``: the
  send-by passes; ``full``: the disk is full for a while (SQLite); ``restart``: the database server
  is stopped in a crash and started again (PostgreSQL);
* ``hostile``: the receiver of the webhook gateway contradicts itself, answers without end or byte by
  byte, with NaN, surrogates, NUL, doubled ids; ``frozen``: dispatchers are stopped (SIGSTOP) for
  longer than their lease and waked (SIGCONT).

At the end of each: no recipient was accepted twice, and each was sent their own text; everybody has
a terminal state, or is in doubt with a reason; ledger and provider agree on every row.
"""

import argparse
import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from audit_world import audit_world
from children import (
    DATABASE_FAILED,
    DONE,
    FROZEN,
    Child,
    dispatcher,
    end,
    fork,
    on_small_disk,
    reap,
    receiver,
    reconciler,
    stopped_at,
)
from databases import Postgres, SmallDisk
from worlds import RANDOM, RECEIVER, SEND_BY, World, make_world

from usergrowth_dagster.messaging.dispatching.failpoints import (
    ANSWERED,
    CLAIMED,
    CLAIMING,
    EXPIRED,
    PLACES,
    RECORDED,
    RECORDING,
    STOPPING,
    SUBMITTING,
    TAKEN_BACK,
    WRITING,
)
from usergrowth_dagster.messaging.operations.controls import resume

PEOPLE = 200
WORKERS = 3
UNPROVOKED = 2  # failures of an undisturbed database that a run may meet
TROUBLE = 0.3
PATIENCE = 60.0
KILLS_A_WORLD = 30
OFTEN = (CLAIMING, CLAIMED, WRITING, SUBMITTING, ANSWERED, RECORDING, RECORDED)
"""Places that a dispatcher passes with each claim or call."""

KINDS = {
    "sqlite": ("hostile", "stop", "frozen", "late", "plain", "full"),
    "postgres": ("frozen", "hostile", "plain", "stop", "late", "restart"),
}
SHORT = 80
"""With fewer kills than these, worlds are smaller, so that several kinds of them come."""


class Run:
    """The whole test: its provider, its databases and its sums."""

    def __init__(self, folder: Path, seed: int, say: Callable[[str], None]) -> None:
        self.folder, self.random, self.say = folder, random.Random(seed), say
        self.accepted, self.log = folder / "accepted.txt", folder / "children.log"
        self.accepted.touch()
        self.kills: Counter[str] = Counter()
        self.states: Counter[str] = Counter()
        self.worlds: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()  # how often the provider went wrong in each way
        self.database_errors = self.frozen = 0
        self.unprovoked = 0
        self.postgres: Postgres | None = None
        self.provider, self.port = self._provider(seed)

    def _provider(self, seed: int) -> "tuple[subprocess.Popen[str], int]":
        script = str(Path(__file__).with_name("gateway_process.py"))
        command = [sys.executable, script, str(self.accepted), str(TROUBLE), str(seed)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    @property
    def dispatchers_killed(self) -> int:
        """Without the receivers of reports."""
        return self.kills.total() - self.kills[RECEIVER]

    def close(self) -> None:
        """End the provider and the database server."""
        path = self.accepted.with_name(self.accepted.name + ".faults")
        if path.exists():
            self.faults.update(json.loads(path.read_text()))
        self.provider.kill()
        self.provider.wait()
        if self.postgres:
            self.postgres.close()

    def world(self, database: str, number: int, kills: int) -> None:
        """One world from its beginning to its audit."""
        kinds = KINDS[database]
        kind = kinds[number % len(kinds)]
        name = f"{kind}-{database}-{number}"
        home = self.folder / name
        with self._disk(home, kind) as disk:
            world = make_world(name, kind, self._url(database, name, home), home, PEOPLE)
            began = time.monotonic()
            self._storm(world, kills, disk)
            self._calm(world)
            states = audit_world(world, self.accepted)
        self.states += states
        self.kills += world.kills
        self.worlds[f"{database} {kind}"] += 1
        self.database_errors += world.database_errors
        summary = ", ".join(f"{state} {count}" for state, count in sorted(states.items()))
        errors = f", {world.database_errors} database failures" if world.database_errors else ""
        self.say(
            f"{name}: {world.dispatchers_killed} dispatchers killed{errors} in {time.monotonic() - began:.1f} s; "
            f"{summary}"
        )
        shutil.rmtree(home, ignore_errors=True)

    @contextlib.contextmanager
    def _disk(self, home: Path, kind: str) -> Iterator[SmallDisk | None]:
        if kind != "full":
            yield None
            return
        disk = SmallDisk(home)
        try:
            yield disk
        finally:
            disk.close()

    def _url(self, database: str, name: str, home: Path) -> str:
        if database == "sqlite":
            return f"sqlite:///{home / 'control.db'}"
        if self.postgres is None:
            self.postgres = Postgres()
        return self.postgres.database(name)

    def _storm(self, world: World, kills: int, disk: SmallDisk | None) -> None:
        """Processes die and are replaced until so many have, or nothing is left to do."""
        children: list[Child] = []
        troubles = self.random.randint(2, 4) if world.kind in ("full", "restart") else 0
        finished = False
        if disk and disk.mounted:
            disk.shrink(self.random.choice((4096, 16384, 65536)))
        stop_at = time.monotonic() + PATIENCE
        try:
            while not finished and world.dispatchers_killed < kills and time.monotonic() < stop_at:
                while len(children) < WORKERS:
                    children.append(self._dispatcher(world, disk))
                if not any(child.place == RECEIVER for child in children):
                    children.append(self._receiver(world))
                finished = self._reap(world, children)
                if world.kind == "stop":
                    self._operator(world)
                if disk and disk.mounted and world.database_errors >= troubles:
                    disk.grow()
                if world.kind == "restart" and self.random.random() < 0.02 and troubles:
                    troubles -= 1
                    assert self.postgres is not None
                    self.postgres.stop()
                    time.sleep(self.random.uniform(0, 0.3))
                    self.postgres.start()
                time.sleep(0.004)
        finally:
            end(children)
            if disk and disk.mounted:
                disk.grow()
        for child in children:
            world.kills[child.place if child.place == RECEIVER else RANDOM] += 1

    def _dispatcher(self, world: World, disk: SmallDisk | None) -> Child:
        late = world.kind == "late" and world.dispatchers_killed > 8
        now = {"now": SEND_BY} if late else {}
        if self.random.random() < 0.3:
            wait = time.monotonic() + self.random.uniform(0.005, 0.4)
            return fork(dispatcher(world, self.port, **now), RANDOM, wait, self.log)
        if world.kind == "frozen" and self.random.random() < 0.5:
            return self._freezing(world)
        place = self._place(world, late)
        passes = self.random.choice((0, 0, 1, 2)) if place in OFTEN else 0
        work = dispatcher(world, self.port, place=place, passes=passes, **now)
        if disk and not disk.mounted and world.database_errors < 4:
            work = on_small_disk(work, self.random.choice((0, 8192)), disk.folder / "control.db")
        # one whose place is never reached must not go on for ever
        return fork(work, place, time.monotonic() + 2.5, self.log)

    def _freezing(self, world: World) -> Child:
        """A dispatcher that stops for longer than its lease, at a place or at a random moment."""
        end = time.monotonic() + FROZEN + 2.5
        if self.random.random() < 0.3:
            child = fork(dispatcher(world, self.port), RANDOM, end, self.log)
            child.freeze = time.monotonic() + self.random.uniform(0.005, 0.4)
            return child
        place, passes = self.random.choice(OFTEN), self.random.choice((0, 0, 1, 2))
        work = dispatcher(world, self.port, place=place, passes=passes, at=stopped_at)
        return fork(work, RANDOM, end, self.log)

    def _place(self, world: World, late: bool) -> str:
        """A fail point: those that were the least often reached come first."""
        can = [
            place
            for place in PLACES
            if (place != EXPIRED or late)
            and (place not in (STOPPING, TAKEN_BACK) or world.kind == "stop")
        ]
        if late and self.random.random() < 0.6:
            return EXPIRED
        died = self.kills + world.kills
        return self.random.choices(can, [1 / (1 + died[place]) for place in can])[0]

    def _receiver(self, world: World) -> Child:
        work = receiver(world, self.accepted, self.random.randrange(1 << 30))
        wait = time.monotonic() + self.random.uniform(0.2, 1.0)
        return fork(work, RECEIVER, wait, self.log)

    def _reap(self, world: World, children: list[Child]) -> bool:
        """Count the dead; says whether one found that nothing is left."""
        finished = False
        for child in list(children):
            aimed = child.deadline is not None
            waked = child.waked
            code = reap(child)
            self.frozen += child.waked - waked
            if code is None:
                continue
            children.remove(child)
            if code == -9:
                by_timer = not aimed or child.deadline is None
                place = RANDOM if by_timer and child.place != RECEIVER else child.place
                world.kills[place] += 1
            elif code == DATABASE_FAILED:
                world.database_errors += 1
                if world.kind not in ("full", "restart"):
                    self._unprovoked(world)
            elif code == DONE:
                finished = True
            else:
                raise AssertionError(f"{world.name}: a process ended with {code}; see {self.log}")
        return finished

    def _unprovoked(self, world: World) -> None:
        """A database that fails though nothing was done to it: one more way to die, but a rare one."""
        why = self.log.read_text().splitlines()[-1]
        self.say(f"{world.name}: the database failed a process: {why}")
        self.unprovoked += 1
        if self.unprovoked > UNPROVOKED:
            raise AssertionError(f"{world.name}: the database fails again and again: {why}")

    @staticmethod
    def _operator(world: World) -> None:
        """Somebody resumes what the provider has stopped."""
        store = world.open()
        for number in range(2):
            resume(store, f"{world.name}-{number}", "operator")
        store.close()

    def _calm(self, world: World) -> None:
        """A dispatcher brings it to its end, with nobody killed; then doubts are looked up."""
        now = {"now": SEND_BY} if world.kind == "late" else {}
        stop_at = time.monotonic() + PATIENCE
        for work in (
            lambda: dispatcher(world, self.port, **now),
            lambda: reconciler(world, self.port),
            lambda: dispatcher(world, self.port, **now),  # applies the last receipts
        ):
            code = None
            while code != DONE:
                if time.monotonic() > stop_at:
                    raise AssertionError(f"{world.name}: rows are stuck")
                if world.kind == "stop":
                    self._operator(world)
                child = fork(work(), RANDOM, time.monotonic() + 5, self.log)
                while (code := reap(child)) is None:
                    time.sleep(0.01)
                if code not in (DONE, -9):
                    raise AssertionError(f"{world.name}: ended with {code}; see {self.log}")


def crashtest(kills: int, seed: int, databases: list[str], say: Callable[[str], None]) -> Run:
    """Run until so many dispatchers were killed, evenly over the databases.

    Raises:
        AssertionError: a promise is broken, or a process ended by itself.
    """
    folder = Path(tempfile.mkdtemp(prefix="ugcrash-"))
    run = Run(folder, seed, say)
    try:
        for index, database in enumerate(databases):
            number, share = 0, kills * (index + 1) // len(databases)
            while (left := share - run.dispatchers_killed) > 0:
                most = KILLS_A_WORLD if kills >= SHORT else max(8, kills // 6)
                run.world(database, number, min(left, most))
                number += 1
    except BaseException:
        if run.log.exists():
            say(run.log.read_text("utf-8")[-4000:])
        say(f"kept for a look: {folder}")
        raise
    finally:
        run.close()
    shutil.rmtree(folder, ignore_errors=True)
    return run


def report(run: Run, seconds: float, say: Callable[[str], None]) -> None:
    """The sums, for a person."""
    say(f"\nworlds: {', '.join(f'{n} {kind}' for kind, n in sorted(run.worlds.items()))}")
    say(f"dispatchers killed by SIGKILL: {run.dispatchers_killed}")
    for place in (*PLACES, RANDOM, RECEIVER):
        say(f"  {run.kills[place]:5} at {place}")
    say(f"dispatchers stopped for longer than their lease and waked: {run.frozen}")
    faults = ", ".join(f"{name} {count}" for name, count in sorted(run.faults.items()))
    say(f"calls that the provider let go wrong: {faults}")
    say(f"database failures met: {run.database_errors}")
    say("people by state: " + ", ".join(f"{n} {s}" for s, n in sorted(run.states.items())))
    say(
        f"accepted twice: 0; lost: 0; without an end or a reason: 0; ledger and provider agree on all "
        f"{run.states.total()} people ({seconds:.0f} s)"
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--databases", default="sqlite,postgres")
    options = parser.parse_args()
    names = options.databases.split(",")
    if "postgres" in names and (lacking := Postgres.lacking()):
        sys.exit(f"error: PostgreSQL cannot be run here, {lacking} is missing; use --databases")

    def say(text: str) -> None:
        print(text, flush=True)

    began = time.monotonic()
    run = crashtest(options.kills, options.seed, names, say)
    report(run, time.monotonic() - began, say)


if __name__ == "__main__":
    main()
