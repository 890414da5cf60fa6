"""How long tests wait: so long that a busy machine is never taken for a hang."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 240.0
"""Seconds after which something that has not come counts as never coming."""


def until(
    done: Callable[[], object],
    what: Callable[[], str] | str = "it",
    every: float = 0.02,
    seconds: float = PATIENCE,
) -> None:
    """Wait until something holds.

    Args:
        done: whether it does.
        what: is waited for, or its state at the end of the patience, for the error.
        every: seconds between two looks.
        seconds: after which it counts as never coming.

    Raises:
        AssertionError: it does not hold in this time.
    """
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"waited in vain: {what() if callable(what) else what}"
        time.sleep(every)


@contextmanager
def no_hang() -> Iterator[None]:
    """Check that something ends, where without the rule under test it would go on much longer.

    Raises:
        AssertionError: it took :data:`PATIENCE` or more.
    """
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < PATIENCE, f"it took {took:.0f} s"
