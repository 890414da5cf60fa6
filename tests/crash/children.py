"""The processes that are killed: forked from the test, which has imported what a dispatcher needs.

A forked process begins to work within milliseconds. It ends with 0 when nothing is left to do, with
3 when the database failed it, and otherwise by SIGKILL.
"""

import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from gateway_client import NAME, HttpGateway
from sqlalchemy.exc import DBAPIError
from worlds import NOON, World, open_rows

from usergrowth_dagster.control.store import utc_now
from usergrowth_dagster.messaging.dispatching import failpoints
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.dispatching.look_ups import settle
from usergrowth_dagster.messaging.gateways.protocol import Found, Receipt
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.receiving.receipts import take_receipts

DONE, DATABASE_FAILED = 0, 3
LEASE = timedelta(seconds=0.7)
TIMEOUT = 0.3
"""Of one call; shorter than the lease, as it must be, and than the provider's slow answers."""

MAX_BATCH = 5


@dataclass
class Child:
    """A running process: where it dies (a fail point, or a random moment at ``deadline``)."""

    pid: int
    place: str
    deadline: float | None


def fork(work: Callable[[], int], place: str, deadline: float | None, log: Path) -> Child:
    """Run ``work`` in a new process, whose exit code it returns."""
    pid = os.fork()
    if pid:
        return Child(pid, place, deadline)
    code = 1
    try:
        code = work()
    except DBAPIError as error:
        code = DATABASE_FAILED
        with log.open("a") as file:
            file.write(f"{type(error.orig).__name__}: {' '.join(str(error.orig).split())}\n")
    except BaseException:
        with log.open("a") as file:
            traceback.print_exc(file=file)
    finally:
        sys.stdout.flush()
        os._exit(code)


def killed_at(place: str, passes: int) -> None:
    """Die by SIGKILL when a place is reached for the n-th time."""
    left = [passes]

    def die() -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    failpoints.ACTIONS[place] = die


def dispatcher(
    world: World, port: int, *, place: str = "", passes: int = 0, now: datetime = NOON
) -> Callable[[], int]:
    """A dispatcher that works until nothing is left, unless it dies before."""

    def work() -> int:
        if place:
            killed_at(place, passes)
        store = world.open()
        gateway = HttpGateway(port, world.name, MAX_BATCH, TIMEOUT)
        while True:
            dispatch(
                store,
                world.settings,
                gateway,
                now,
                lease=LEASE,
                look_up_again=timedelta(seconds=0.2),
            )
            if not open_rows(store):
                return DONE
            time.sleep(0.03)

    return work


def reconciler(world: World, port: int) -> Callable[[], int]:
    """Somebody asks the provider for all that is in doubt, until it has answered."""

    def work() -> int:
        store = world.open()
        ledger = Ledger(store, world.vault)
        gateway = HttpGateway(port, world.name, MAX_BATCH, TIMEOUT)
        while settle(ledger, gateway, everything=True).failed:
            time.sleep(0.02)
        return DONE

    return work


def on_small_disk(work: Callable[[], int], spare: int, database: Path) -> Callable[[], int]:
    """The same, where files cannot grow by more than so many bytes over the database's size."""

    def limited() -> int:
        size = database.stat().st_size + spare
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        return work()

    return limited


def receiver(world: World, accepted: Path, seed: int) -> Callable[[], int]:
    """Reports come in while dispatchers work: some never, some twice, in any order."""

    def work() -> int:
        rng = random.Random(seed)
        store, vault = world.open(), world.vault
        while True:
            reports = [
                Receipt(
                    status=Found.UNDELIVERED if int(out_id) % 7 == 0 else Found.DELIVERED,
                    out_id=out_id,
                    phone=phone,
                    code="R1",
                )
                for out_id, phone in accepted_of(accepted, world.name)
                if int(out_id) % 5  # the others are lost
            ]
            some = rng.sample(reports, len(reports) * 2 // 3)
            some += rng.sample(some, len(some) // 3)
            rng.shuffle(some)
            take_receipts(store, vault, NAME, some, utc_now())
            time.sleep(0.1)

    return work


def accepted_of(path: Path, world: str) -> list[tuple[str, str]]:
    """What the provider accepted from a world: out_id and phone, in order, doubles included."""
    text = path.read_text("utf-8")
    whole = text[: text.rfind("\n") + 1]
    lines = (line.split("\t") for line in whole.splitlines())
    return [(line[1], line[2]) for line in lines if line[0] == world]


def codes_accepted(path: Path, world: str) -> dict[int, str]:
    """The template's code that the provider was told with each message of a world."""
    lines = (line.split("\t") for line in path.read_text("utf-8").splitlines())
    return {int(line[1]): line[4] for line in lines if line[0] == world}


def reap(child: Child) -> int | None:
    """Exit code of a process that has ended (minus the signal's number), else None.

    One whose moment has come is killed.
    """
    if child.deadline is not None and time.monotonic() >= child.deadline:
        os.kill(child.pid, signal.SIGKILL)
        child.deadline = None
    pid, status = os.waitpid(child.pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


def end(children: list[Child]) -> None:
    """Kill what is left of a test that failed."""
    for child in children:
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
