"""Gauges of what the ledger has still to do, read from the control store when they are scraped.

Each process that has an endpoint shows the same figures, since they are the store's. So a
dispatcher that has died is seen at the receiver. A query takes the highest of them, never the sum.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import GaugeMetricFamily, Metric

from usergrowth_dagster.messaging.operations.backlog import Backlog

LOG = logging.getLogger("usergrowth.monitoring")
LEAST_SECONDS = 5.0
"""Seconds that counts are kept, however often they are asked for."""
COST_SHARE = 20
"""Counting takes at most this part of the time: a long count is kept longer."""


@dataclass
class _Kept:
    backlog: Backlog | None = None
    took: float = 0.0
    until: float = field(default=float("-inf"))


class BacklogGauges:
    """A collector of a Prometheus registry; scrapes at the same time count once.

    Args:
        read: counts the backlog.
        clock: seconds that only rise.
    """

    def __init__(
        self, read: Callable[[], Backlog], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read, self._clock = read, clock
        self._lock, self._kept = threading.Lock(), _Kept()

    def describe(self) -> Iterable[Metric]:
        """The gauges without figures, so that registering them asks no database."""
        return _families(Backlog(), 0.0, up=True)

    def collect(self) -> Iterable[Metric]:
        """The gauges; where the store does not answer, only that."""
        kept = self._newest()
        if kept.backlog is None:
            return [_up(False)]
        return _families(kept.backlog, kept.took, up=True)

    def _newest(self) -> _Kept:
        with self._lock:
            began = self._clock()
            if began < self._kept.until:
                return self._kept
            backlog = None
            try:
                backlog = self._read()
            except Exception as error:  # a scrape must say so, and not fail
                LOG.warning("the backlog could not be counted: %s", type(error).__name__)
            ended = self._clock()
            took = ended - began
            self._kept = _Kept(backlog, took, ended + max(LEAST_SECONDS, COST_SHARE * took))
            return self._kept


def _up(up: bool) -> Metric:
    return GaugeMetricFamily(
        "usergrowth_store_up", "1: the control store answers; 0: it does not", value=float(up)
    )


def _families(backlog: Backlog, took: float, *, up: bool) -> Iterator[Metric]:
    yield _up(up)
    for name, text, value in (
        ("due_messages", "Planned messages that may go out now", backlog.due),
        (
            "oldest_due_seconds",
            "Seconds that the due message that waits longest has waited; 0: none is due",
            backlog.oldest_due_seconds,
        ),
        ("receipts_behind", "Delivery reports that wait for their message", backlog.receipts),
        (
            "oldest_receipt_behind_seconds",
            "Seconds that the oldest of these has waited; 0: none waits",
            backlog.oldest_receipt_seconds,
        ),
        ("backlog_read_seconds", "Seconds that counting these figures took", took),
    ):
        yield GaugeMetricFamily(f"usergrowth_{name}", text, value=value)
    yield _labelled("queue_messages", "Messages that are not out yet", "state", backlog.messages)
    yield _labelled("in_doubt_messages", "Messages in doubt", "gateway", backlog.in_doubt)
    yield _labelled("occurrences", "Unfinished occurrences", "state", backlog.occurrences)


def _labelled(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(f"usergrowth_{name}", text, labels=[label])
    for value, number in sorted(counts.items()):
        family.add_metric([value], number)
    return family
