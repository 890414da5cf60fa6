"""Limits of a segment's query: the time it may take, and what running out of memory becomes."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine

_POLL_SECONDS = 0.1
"""How often a query that is to end is asked to: between two steps it does not hear it."""


@contextmanager
def limited(settings: Settings, engines: Sequence[Engine]) -> Iterator[None]:
    """End the queries of some engines when they take longer than ``segment_seconds``.

    Args:
        settings: the limits.
        engines: asked when the time is up, so they may be opened later.

    Raises:
        UserError: the time is up, or the memory; what the query raised then is lost.
    """
    import duckdb

    done, late, seconds = threading.Event(), threading.Event(), settings.segment_seconds

    def watch() -> None:
        if done.wait(seconds):
            return
        late.set()
        while not done.wait(_POLL_SECONDS):
            for engine in list(engines):
                with suppress(duckdb.Error):  # it may be closed by now
                    engine.connection.interrupt()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    except (duckdb.InterruptException, UserError) as error:
        if isinstance(error, UserError) and error.code == "memory.exceeded":
            raise UserError(str(error), code="segment.too_large") from None
        if not late.is_set():
            raise
        raise UserError(
            f"it takes longer than {seconds} seconds, the setting segment_seconds",
            code="segment.too_large",
        ) from None
    finally:
        done.set()
        thread.join()
