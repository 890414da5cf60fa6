"""Counters of one process: what a dispatcher sent, and what a receiver took in."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Info, ProcessCollector

from usergrowth_dagster import __version__
from usergrowth_dagster.control.store import HEAD
from usergrowth_dagster.messaging.dispatching.results import DispatchCounts
from usergrowth_dagster.messaging.receiving.receipts import Taken
from usergrowth_dagster.messaging.receiving.replies import Answered

OUTCOMES = (
    *("accepted", "rejected", "deferred", "in_doubt", "skipped", "waiting", "expired"),
    *("lost", "settled", "matched"),
)
"""Fields of :class:`DispatchCounts` that count recipients."""
OTHER = "other"
"""Label of a call to an address that no gateway has: a stranger's words are no label."""


def new_registry() -> CollectorRegistry:
    """A registry with the process's own figures and the version of the product."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    Info("usergrowth_build", "Version of the product", registry=registry).info(
        {"version": __version__, "migration": HEAD}
    )
    return registry


class DispatchFigures:
    """What a dispatcher did, round by round.

    Args:
        registry: where the figures are shown.
        clock: seconds since 1970.
    """

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._messages = Counter(
            "usergrowth_dispatched_messages",
            "Messages by what came of them in a round",
            ["outcome"],
            registry=registry,
        )
        self._calls = Counter(
            "usergrowth_provider_calls", "Batches handed to providers", registry=registry
        )
        self._rounds = Counter(
            "usergrowth_dispatch_rounds", "Rounds of dispatching", ["result"], registry=registry
        )
        self._stops = Counter(
            "usergrowth_dispatch_stops",
            "Occurrences that the provider or a rule stopped",
            registry=registry,
        )
        self._troubles = Counter(
            "usergrowth_dispatch_troubles",
            "Gateways and steps that did not work, once a round each",
            registry=registry,
        )
        self._held = Gauge(
            "usergrowth_dispatch_held", "Occurrences held in the last round", registry=registry
        )
        self._last = Gauge(
            "usergrowth_dispatch_last_round_timestamp_seconds",
            "When the last round ended well, in seconds since 1970",
            registry=registry,
        )
        for outcome in OUTCOMES:
            self._messages.labels(outcome)  # shown as 0 from the start, so that a rise is seen
        for result in ("done", "failed"):
            self._rounds.labels(result)

    def after_round(self, counts: DispatchCounts | None) -> None:
        """Add what a round did; None: it failed."""
        if counts is None:
            self._rounds.labels("failed").inc()
            return
        for outcome in OUTCOMES:
            self._messages.labels(outcome).inc(getattr(counts, outcome))
        self._calls.inc(counts.batches)
        self._stops.inc(len(counts.stopped))
        self._troubles.inc(len(counts.failed))
        self._held.set(len(counts.held))
        self._rounds.labels("done").inc()
        self._last.set(self._clock())


class ReceiverFigures:
    """What a receiver took in.

    Args:
        registry: where the figures are shown.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "usergrowth_inbound_requests",
            "Calls of providers by the HTTP status of the answer",
            ["gateway", "kind", "code"],
            registry=registry,
        )
        self._items = Counter(
            "usergrowth_inbound_items",
            "Delivery reports and replies that were stored, by what came of them",
            ["gateway", "kind", "outcome"],
            registry=registry,
        )
        self._failures = Counter(
            "usergrowth_inbound_failures",
            "Transactions of reports and replies that could not be stored",
            ["gateway"],
            registry=registry,
        )
        self._links = Counter(
            "usergrowth_link_requests",
            "Calls of short links by the HTTP status of the answer",
            ["code"],
            registry=registry,
        )
        self._cuts = Counter(
            "usergrowth_connections_cut",
            "Connections that were cut at a limit",
            ["reason"],
            registry=registry,
        )
        self._waiting = Gauge(
            "usergrowth_inbound_waiting", "Calls that wait to be written", registry=registry
        )

    def answered(self, gateway: str | None, kind: str, code: int) -> None:
        """A call was answered; ``gateway`` None: its address is none of ours."""
        names = (OTHER, OTHER) if gateway is None else (gateway, kind)
        self._requests.labels(*names, str(code)).inc()

    def link(self, code: int) -> None:
        """A call of a short link was answered."""
        self._links.labels(str(code)).inc()

    def cut(self, reason: str) -> None:
        """A connection was cut, for one of the reasons that the code names."""
        self._cuts.labels(reason).inc()

    def receipts(self, gateway: str, took: Taken) -> None:
        """Reports were stored."""
        self._add(gateway, "receipt", "new", took.new)
        self._add(gateway, "receipt", "repeated", took.received - took.new)
        self._add(gateway, "receipt", "behind", took.pending)

    def replies(self, gateway: str, took: Answered) -> None:
        """Replies were stored."""
        self._add(gateway, "reply", "new", took.new)
        self._add(gateway, "reply", "repeated", took.received - took.new - took.unusable)
        self._add(gateway, "reply", "opt_out", took.opt_outs)
        self._add(gateway, "reply", "opt_in", took.opt_ins)
        self._add(gateway, "reply", "unreadable", took.unusable)

    def unread(self, gateway: str, kind: str, kept: int) -> None:
        """Entries that could not be read were kept for a person."""
        self._add(gateway, kind, "unreadable", kept)

    def failed(self, gateway: str) -> None:
        """Reports or replies could not be stored; the provider comes again."""
        self._failures.labels(gateway).inc()

    def waits(self, count: Callable[[], int]) -> None:
        """How many calls wait is asked when it is shown."""
        self._waiting.set_function(count)

    def _add(self, gateway: str, kind: str, outcome: str, number: int) -> None:
        self._items.labels(gateway, kind, outcome).inc(max(0, number))
