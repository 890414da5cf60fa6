"""Delivery from a command: dispatch, controls, and what is in doubt.

It imports no engine and no orchestration, so that a dispatcher starts in a moment and stays small.
"""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from usergrowth_dagster.addresses.shown import mask
from usergrowth_dagster.control.audit import whoami
from usergrowth_dagster.control.store import ControlStore, open_store
from usergrowth_dagster.control.wall_clock import shown_moment
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.dispatching.dispatch import DispatchCounts, dispatch
from usergrowth_dagster.messaging.dispatching.look_ups import settle
from usergrowth_dagster.messaging.gateways.registry import gateway_named
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.operations import controls
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.settings import Settings, load_settings

_ROUND = timedelta(seconds=60)
_LISTED = 500


@contextmanager
def opened(home: Path | None) -> Iterator[tuple[ControlStore, Settings]]:
    """The control store and the settings of a home.

    Raises:
        UserError: there is no such home yet.
    """
    settings = load_settings(home)
    if not settings.home.is_dir():
        raise UserError(
            f"{settings.home}: no home folder; make one with usergrowth init", code="home.missing"
        )
    store = open_store(settings)
    try:
        yield store, settings
    finally:
        store.close()


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


def dispatch_once(home: Path | None, say: Callable[[str], None]) -> list[str]:
    """Send everything that is due; returns a sentence for each gateway or campaign that failed."""
    with opened(home) as (store, settings), _stop_flag() as stop:
        counts = dispatch(store, settings, stop=stop)
    failures = [*counts.stopped, *counts.failed]
    done = counts_line(counts) or ("" if failures else "Nothing is due.")
    if done:
        say(done)
    return failures


def dispatch_forever(home: Path | None, interval: float, say: Callable[[str], None]) -> None:
    """Send what becomes due, round after round, until the process receives a signal to stop.

    A database or provider that fails is reported and tried again.
    """
    with opened(home) as (store, settings), _stop_flag() as stop:
        say(f"Dispatching every {interval:g} s; interrupt to stop.")
        while not stop():
            began = time.monotonic()
            try:
                counts = dispatch(store, settings, patience=_ROUND, stop=stop)
            except DBAPIError as error:
                say(f"{_clock(settings)} the control store cannot be used: {_short(error)}")
            except UserError:
                raise
            except Exception as error:  # its text might hold a number
                why = type(error).__name__
                say(f"{_clock(settings)} a round failed with {why}; the next one goes on")
            else:
                for line in filter(None, (counts_line(counts), *counts.stopped, *counts.failed)):
                    say(f"{_clock(settings)} {line}")
            if time.monotonic() - began < _ROUND.total_seconds():  # else there is more at once
                _wait(interval, stop)


def _short(error: DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _clock(settings: Settings) -> str:
    return shown_moment(datetime.now(settings.zone))


def _wait(seconds: float, stop: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not stop() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.2))


def control(home: Path | None, action: str, name: str) -> list[str]:
    """Pause, resume or cancel; a sentence for each schedule."""
    do = {"pause": controls.pause, "resume": controls.resume, "cancel": controls.cancel}[action]
    with opened(home) as (store, _):
        return [_sentence(action, one) for one in do(store, name, whoami())]


def _sentence(action: str, one: controls.Controlled) -> str:
    name = f"schedule {one.schedule!r}"
    if not one.changed:
        already = {"pause": "was paused already", "resume": "was neither paused nor stopped"}
        return f"{name}: {already.get(action, 'has nothing left to cancel')}"
    if action == "pause":
        return f"{name}: paused; go on with usergrowth resume"
    if action == "resume":
        more = f", {one.occurrences} stopped occurrences reopened" if one.occurrences else ""
        return f"{name}: resumed{more}"
    flight = f"; up to {one.in_flight} are with the provider and finish" if one.in_flight else ""
    later = "; it is paused, so nothing later goes out" if one.repeats else ""
    return (
        f"{name}: {one.occurrences} occurrences cancelled, {one.messages} messages not sent"
        f"{flight}{later}"
    )


@dataclass
class Doubts:
    """Rows in doubt for a person, what a command did about them, and what failed."""

    lines: list[tuple[Any, ...]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def reconcile_doubts(
    home: Path | None,
    *,
    look_up: bool,
    release: Sequence[int],
    close: Sequence[int],
    why: str,
) -> Doubts:
    """Look doubtful rows up, release or close some, and list what is left.

    Raises:
        UserError: a row is to be released and closed, or no reason is given.
    """
    if both := sorted(set(release) & set(close)):
        raise UserError(
            f"message {both[0]} cannot be released and closed at once", code="command.invalid"
        )
    with opened(home) as (store, settings):
        ledger = Ledger(store, open_vault(settings.home, settings.default_country))
        doubts = Doubts()
        if look_up:
            _look_up(ledger, settings, doubts)
        for ids, act, word in (
            (release, controls.release, "released"),
            (close, controls.close, "closed"),
        ):
            if ids:
                outcome = act(store, ids, whoami(), why)
                doubts.done.append(f"{outcome.changed} messages {word}")
                if outcome.left:
                    doubts.done.append(f"{outcome.left} are not in doubt (any more)")
                if outcome.cancelled:
                    doubts.done.append(
                        f"{outcome.cancelled} belong to a cancelled occurrence: close them instead"
                    )
        doubts.lines = _doubtful(ledger, settings)
    return doubts


def _look_up(ledger: Ledger, settings: Settings, doubts: Doubts) -> None:
    for name in ledger.doubtful():
        try:
            gateway = gateway_named(settings, name)
        except UserError as error:
            doubts.failed.append(f"its messages cannot be looked up: {error}")
            continue
        settled = settle(ledger, gateway, everything=True)
        doubts.done.append(
            f"gateway {name}: {settled.settled} settled, {settled.unknown} not known to it"
        )
        doubts.failed += settled.failed


def _doubtful(ledger: Ledger, settings: Settings) -> list[tuple[Any, ...]]:
    rows = ledger.in_doubt(None, 0, _LISTED)
    return [
        (
            row["id"],
            row["schedule"],
            row["occurrence"],
            row["user_id"],
            mask(ledger.vault.open(row["phone_number"])),
            row["gateway"],
            row["reason"],
            row["submitted_time"].astimezone(settings.zone),
        )
        for row in rows
    ]
