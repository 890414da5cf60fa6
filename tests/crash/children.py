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
from usergrowth_dagster.messaging.gateways import webhook
from usergrowth_dagster.messaging.gateways.protocol import Found, Gateway, Receipt
from usergrowth_dagster.messaging.gateways.webhook import WebhookGateway
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.receiving.receipts import take_receipts

DONE, DATABASE_FAILED = 0, 3
LEASE = timedelta(seconds=0.7)
TIMEOUT = 0.3
"""Of one call; shorter than the lease, as it must be, and than the provider's slow answers."""

FROZEN = 2 * LEASE.total_seconds()
"""Seconds for which a dispatcher is stopped."""

MAX_BATCH = 5


SECRET = "secret-of-the-crash-test"
WAIT = 0.05
"""Seconds after which a deferral without a sensible wait is tried again."""


@dataclass
class Child:
    """A running process: where it dies (a fail point, or a random moment at ``deadline``).

    ``freeze`` is when it is stopped (SIGSTOP), if it does not stop itself; ``wake`` when it is
    waked (SIGCONT), once it is stopped.
    """

    pid: int
    place: str
    deadline: float | None
    freeze: float | None = None
    wake: float | None = None
    waked: int = 0


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


def stopped_at(place: str, passes: int) -> None:
    """Stop by SIGSTOP, once, when a place is reached for the n-th time."""
    left = [passes]

    def stop() -> None:
        left[0] -= 1
        if left[0] == -1:
            os.kill(os.getpid(), signal.SIGSTOP)

    failpoints.ACTIONS[place] = stop


def gateway_of(world: World, port: int) -> Gateway:
    """The provider's gateway: the product's own where the provider is hostile."""
    if world.kind != "hostile":
        return HttpGateway(port, world.name, MAX_BATCH, TIMEOUT)
    os.environ["USERGROWTH_WEBHOOK_SECRET"] = SECRET
    webhook._WAIT = WAIT
    gateway = WebhookGateway(
        world.settings.model_copy(
            update={
                "webhook_url": f"http://127.0.0.1:{port}/{world.name}/hook",
                "gateway_timeout": TIMEOUT,
            }
        )
    )
    gateway.max_batch = MAX_BATCH
    return gateway


def dispatcher(
    world: World,
    port: int,
    *,
    place: str = "",
    passes: int = 0,
    now: datetime = NOON,
    at: Callable[[str, int], None] = killed_at,
) -> Callable[[], int]:
    """A dispatcher that works until nothing is left, unless it dies before."""

    def work() -> int:
        if place:
            at(place, passes)
        store = world.open()
        gateway = gateway_of(world, port)
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
        gateway = gateway_of(world, port)
        quiet = 0
        while quiet < (6 if world.kind == "hostile" else 1):  # one that lies says it in the end
            settled = settle(ledger, gateway, everything=True)
            quiet = 0 if settled.failed or settled.settled else quiet + 1
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
        name = "webhook" if world.kind == "hostile" else NAME
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
            take_receipts(store, vault, name, some, utc_now())
            time.sleep(0.1)

    return work


def accepted_of(path: Path, world: str) -> list[tuple[str, str]]:
    """What the provider accepted from a world: out_id and phone, in order, doubles included."""
    text = path.read_text("utf-8")
    whole = text[: text.rfind("\n") + 1]
    lines = (line.split("\t") for line in whole.splitlines())
    return [(line[1], line[2]) for line in lines if line[0] == world]


def codes_accepted(path: Path, world: str) -> dict[int, str]:
    """The template's code that the provider got with each message of a world."""
    lines = (line.split("\t") for line in path.read_text("utf-8").splitlines())
    return {int(line[1]): line[4] for line in lines if line[0] == world}


def reap(child: Child) -> int | None:
    """Exit code of a process that has ended (minus the signal's number), else None.

    One whose moment has come is killed.
    """
    if child.deadline is not None and time.monotonic() >= child.deadline:
        os.kill(child.pid, signal.SIGKILL)
        child.deadline = None
    if child.freeze is not None and time.monotonic() >= child.freeze:
        os.kill(child.pid, signal.SIGSTOP)
        child.freeze = None
    if child.wake is not None and time.monotonic() >= child.wake:
        os.kill(child.pid, signal.SIGCONT)
        child.wake, child.waked = None, child.waked + 1
    pid, status = os.waitpid(child.pid, os.WNOHANG | os.WUNTRACED)
    if pid and os.WIFSTOPPED(status):
        child.wake = time.monotonic() + FROZEN
        return None
    return os.waitstatus_to_exitcode(status) if pid else None


def end(children: list[Child]) -> None:
    """Kill what is left of a test that failed."""
    for child in children:
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
