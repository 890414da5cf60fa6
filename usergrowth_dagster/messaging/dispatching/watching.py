"""Dispatching until all is out, or round after round, in a process that signals stop."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy.exc import DBAPIError

from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.dispatching.dispatch import DispatchCounts, Held, dispatch
from usergrowth_dagster.settings import Settings

_ROUND = timedelta(seconds=60)


@contextmanager
def _stop_flag() -> Iterator[Callable[[], bool]]:
    """A flag that the first SIGINT or SIGTERM raises; the second ends the process at once."""
    raised: list[int] = []

    def handler(number: int, _frame: Any) -> None:
        if raised:
            raise KeyboardInterrupt
        raised.append(number)

    before = {one: signal.signal(one, handler) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(raised)
    finally:
        for one, old in before.items():
            signal.signal(one, old)


def counts_line(counts: DispatchCounts) -> str:
    """What a round did, in few words; empty when nothing."""
    numbers = {key: value for key, value in counts.as_dict().items() if isinstance(value, int)}
    return ", ".join(
        f"{key.replace('_', ' ')} {value:,}" for key, value in numbers.items() if value
    )


def dispatch_once(store: ControlStore, settings: Settings, held: Held) -> DispatchCounts:
    """Send everything that is due and not held; a signal ends the round early."""
    with _stop_flag() as stop:
        return dispatch(store, settings, stop=stop, held=held)


def dispatch_forever(
    store: ControlStore,
    settings: Settings,
    interval: float,
    say: Callable[[str], None],
    held: Held,
    after_round: Callable[[DispatchCounts | None], None] = lambda _counts: None,
) -> None:
    """Send what becomes due, round after round, until the process receives a signal to stop.

    A database or provider that fails is reported and tried again.

    Args:
        store: the control store.
        settings: of the home.
        interval: seconds between two rounds.
        say: takes a sentence about each round that did something or failed, and about what is held
            when that has changed.
        held: says which occurrences must not begin.
        after_round: called with what a round did; None: it failed.
    """
    with _stop_flag() as stop:
        say(f"Dispatching every {interval:g} s; interrupt to stop.")
        waits: list[str] = []
        while not stop():
            began = time.monotonic()
            counts = None
            try:
                counts = dispatch(store, settings, patience=_ROUND, stop=stop, held=held)
            except DBAPIError as error:
                say(f"the control store cannot be used: {_short(error)}")
            except UserError:
                raise
            except Exception as error:  # its text might hold a number
                why = type(error).__name__
                say(f"a round failed with {why}; the next one goes on")
            else:
                news = [one for one in counts.held if one not in waits]
                waits = counts.held
                lines = (counts_line(counts), *counts.stopped, *news, *counts.failed)
                for line in filter(None, lines):
                    say(line)
            after_round(counts)
            if time.monotonic() - began < _ROUND.total_seconds():  # else there is more at once
                _wait(interval, stop)


def _short(error: DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _wait(seconds: float, stop: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not stop() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.2))
