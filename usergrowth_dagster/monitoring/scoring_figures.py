"""Counters of a process that answers with scores."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
DIFFERENCES = (1e-9, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
OTHER = "other"
"""Label of a request for a service that there is not: a stranger's words are no label."""


class ScoringFigures:
    """What a scoring service answered, and by which version.

    Args:
        registry: where the figures are shown.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "usergrowth_scoring_requests",
            "Requests by the HTTP status of the answer",
            ["service", "door", "code"],
            registry=registry,
        )
        self._rows = Counter(
            "usergrowth_scoring_rows", "Rows with an answer", ["service", "door"], registry=registry
        )
        self._seconds = Histogram(
            "usergrowth_scoring_seconds",
            "Seconds from a whole request to its answer",
            ["service", "door"],
            buckets=SECONDS,
            registry=registry,
        )
        self._version = Gauge(
            "usergrowth_scoring_model_version",
            "Number of the version that answers, or answers in its shadow; of recommendations "
            "their date, as 20240301; 0: none",
            ["service", "part"],
            registry=registry,
        )
        self._shadowed = Histogram(
            "usergrowth_scoring_shadow_difference",
            "Distance of the challenger's score from the champion's",
            ["service"],
            buckets=DIFFERENCES,
            registry=registry,
        )
        self._missed = Counter(
            "usergrowth_scoring_shadow_missed",
            "Requests that the challenger did not answer: too many waited, or it failed",
            ["service"],
            registry=registry,
        )

        self._fallbacks = Counter(
            "usergrowth_recommend_fallbacks",
            "Requests that got the popular items, or the fusion: there was no time, or an order "
            "failed",
            ["reason"],
            registry=registry,
        )
        self._lost = Counter(
            "usergrowth_recommend_log_lost",
            "Rows of answers and clicks that were not logged: too many waited, or a disk failed",
            registry=registry,
        )

    def answered(self, service: str, door: str, code: int, rows: int, seconds: float) -> None:
        """A request was answered; rows: with a score, 0 where none was asked for or given."""
        self._requests.labels(service, door, str(code)).inc()
        if rows:
            self._rows.labels(service, door).inc(rows)
            self._seconds.labels(service, door).observe(seconds)

    def holds(self, service: str, champion: int, challenger: int) -> None:
        """Which versions a service holds from now on; 0: none."""
        self._version.labels(service, "champion").set(champion)
        self._version.labels(service, "challenger").set(challenger)

    def shadowed(self, service: str, differences: list[float]) -> None:
        """The challenger scored rows as well."""
        of_service = self._shadowed.labels(service)
        for difference in differences:
            of_service.observe(difference)

    def missed(self, service: str) -> None:
        """The challenger did not answer a request."""
        self._missed.labels(service).inc()

    def fell_back(self, reason: str) -> None:
        """A request did not get the recommendations of its user's own order."""
        self._fallbacks.labels(reason).inc()

    def lost(self, rows: int) -> None:
        """Rows of answers and clicks were not logged."""
        self._lost.inc(rows)
