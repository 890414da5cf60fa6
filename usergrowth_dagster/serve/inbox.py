"""One writer for all that comes in: what waits is stored together, then everybody is answered.

A provider posts thousands of reports at once, each in a request of its own. SQLite has one writer
and syncs every commit, so requests put their reports in a queue; a thread takes all that is there,
stores it in one transaction a kind and gateway, and wakes the requests **after the commit**. When
nothing comes in, it applies reports whose message was not ready for them.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import InterfaceError, OperationalError

from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.messaging.gateways.protocol import Receipt, Reply, Unread
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.messaging.receiving.receipts import match_receipts, take_receipts
from usergrowth_dagster.messaging.receiving.replies import take_replies
from usergrowth_dagster.messaging.receiving.unread import RECEIPT, REPLY, keep_unread
from usergrowth_dagster.monitoring.process_figures import ReceiverFigures
from usergrowth_dagster.settings import Settings

LOG = logging.getLogger("usergrowth.serve")
MOST_WAITING = 20_000
_MOST_AT_ONCE = 4_000
_SWEEP_SECONDS = 2.0


class Busy(Exception):
    """Too much waits already; the provider should come again."""


@dataclass
class _Parcel:
    """The reports or replies of one request, and the promise of its answer."""

    gateway: str
    items: Sequence[Receipt | Unread] | Sequence[Reply | Unread]
    replies: bool
    done: "Future[None]" = field(default_factory=Future)


class Inbox:
    """The queue and its thread.

    Args:
        store: an opened, migrated store.
        vault: makes the hashes of addresses, seals replies.
        settings: opt-out words and scope.
        figures: counts what is stored.
    """

    def __init__(
        self,
        store: ControlStore,
        vault: PhoneVault,
        settings: Settings,
        figures: ReceiverFigures,
    ) -> None:
        self._store, self._vault, self._settings = store, vault, settings
        self._figures = figures
        self._waiting: queue.Queue[_Parcel | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="inbox", daemon=True)
        self._thread.start()

    def put(
        self,
        gateway: str,
        items: Sequence[Receipt | Unread] | Sequence[Reply | Unread],
        *,
        replies: bool,
    ) -> "Future[None]":
        """Hand over what one request brought; the future is done when it is on disk.

        Raises:
            Busy: the queue is full.
        """
        parcel = _Parcel(gateway, items, replies)
        try:
            self._waiting.put_nowait(parcel)
        except queue.Full:
            raise Busy from None
        return parcel.done

    @property
    def works(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Requests that wait to be written, about."""
        return self._waiting.qsize()

    def close(self) -> None:
        """Write what is there and end the thread."""
        self._waiting.put(None)
        self._thread.join(timeout=60)

    def _run(self) -> None:
        swept = time.monotonic()
        while True:
            parcels, ends = self._take()
            # refusals first: a message may be about to go out
            for replies in (True, False):
                for gateway in sorted({p.gateway for p in parcels if p.replies is replies}):
                    self._write(
                        [p for p in parcels if (p.gateway, p.replies) == (gateway, replies)]
                    )
            if ends:
                return
            if time.monotonic() - swept > _SWEEP_SECONDS:
                self._sweep()
                swept = time.monotonic()

    def _take(self) -> tuple[list[_Parcel], bool]:
        """All that waits, up to a number of reports; waits a while when there is nothing."""
        parcels: list[_Parcel] = []
        size = 0
        try:
            first = self._waiting.get(timeout=_SWEEP_SECONDS)
            while first is not None:
                parcels.append(first)
                size += len(first.items)
                if size >= _MOST_AT_ONCE:
                    return parcels, False
                first = self._waiting.get_nowait()
        except queue.Empty:
            return parcels, False
        return parcels, True

    def _write(self, parcels: list[_Parcel]) -> None:
        try:
            self._store_items(parcels)
        except Exception as error:
            if len(parcels) > 1 and not isinstance(error, OperationalError | InterfaceError):
                for parcel in parcels:  # one request's trouble is not that of the others
                    self._write([parcel])
                return
            LOG.error("storing failed with %s", type(error).__name__)
            self._figures.failed(parcels[0].gateway)
            for parcel in parcels:
                with contextlib.suppress(InvalidStateError):  # nobody waits for it any more
                    parcel.done.set_exception(error)
            return
        for parcel in parcels:
            with contextlib.suppress(InvalidStateError):
                parcel.done.set_result(None)

    def _store_items(self, parcels: list[_Parcel]) -> None:
        gateway, now = parcels[0].gateway, utc_now()
        posted: list[Any] = [item for parcel in parcels for item in parcel.items]
        unread = [item for item in posted if isinstance(item, Unread)]
        items = [item for item in posted if not isinstance(item, Unread)]
        if unread:
            kind = REPLY if parcels[0].replies else RECEIPT
            kept = keep_unread(self._store, self._vault, gateway, kind, unread, now)
            foreign = sum(1 for one in unread if one.raw is None)
            self._figures.unread(gateway, kind, kept)
            line = (gateway, kept, kind, foreign)
            LOG.warning("%s: kept %d unreadable %s entries, passed over %d of others", *line)
        if not items:
            return
        if not parcels[0].replies:
            took = take_receipts(self._store, self._vault, gateway, items, now)
            self._figures.receipts(gateway, took)
            LOG.info("%s: %s", gateway, took)
            return
        answered = take_replies(self._store, self._vault, self._settings, gateway, items, now)
        self._figures.replies(gateway, answered)
        LOG.info("%s: %s", gateway, answered)

    def _sweep(self) -> None:
        try:
            if changed := match_receipts(self._store):
                LOG.info("%d messages settled by earlier reports", changed)
        except Exception as error:
            LOG.error("matching earlier reports failed with %s", type(error).__name__)
