"""Counters of a process that answers exchanges."""

from datetime import date

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.5)


class RtaFigures:
    """What exchanges were answered, and by which snapshot.

    Args:
        registry: where the figures are shown.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers = Counter(
            "usergrowth_rta_answers",
            "Requests by what came of them: accept, reject, ping, shed, late, failed, or the "
            "status of a refusal",
            ["exchange", "outcome"],
            registry=registry,
        )
        self._seconds = Histogram(
            "usergrowth_rta_seconds",
            "Seconds from the head of a request to its answer",
            ["exchange"],
            buckets=SECONDS,
            registry=registry,
        )
        self._day = Gauge(
            "usergrowth_rta_snapshot_timestamp_seconds",
            "The day of the snapshot that answers, in seconds since 1970; 0: none",
            registry=registry,
        )
        self._devices = Gauge(
            "usergrowth_rta_snapshot_devices",
            "Ids that the snapshot knows",
            ["kind"],
            registry=registry,
        )
        self._lost = Counter(
            "usergrowth_rta_log_lost", "Decisions that the log had no room for", registry=registry
        )
        # finding a child by its labels would cost as much as a decision
        self._counters: dict[tuple[str, str], Counter] = {}
        self._timers: dict[str, Histogram] = {}

    def answered(self, exchange: str, outcome: str, seconds: float) -> None:
        """A request was answered."""
        counter = self._counters.get((exchange, outcome))
        if counter is None:
            counter = self._counters[exchange, outcome] = self._answers.labels(exchange, outcome)
            self._timers[exchange] = self._seconds.labels(exchange)
        counter.inc()
        self._timers[exchange].observe(seconds)

    def holds(self, day: date, devices: dict[str, int]) -> None:
        """Another snapshot answers."""
        self._day.set((day - date(1970, 1, 1)).days * 86_400)
        for kind, number in devices.items():
            self._devices.labels(kind).set(number)

    def lost(self, rows: int) -> None:
        """Decisions were not logged."""
        self._lost.inc(rows)
