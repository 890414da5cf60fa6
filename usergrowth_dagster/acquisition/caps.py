"""How often a device was accepted in the window of a strategy, in the memory of one process."""

from usergrowth_dagster.acquisition.definition import Strategy

MOST_DEVICES = 500_000
"""Devices that the window of a strategy counts; about 100 bytes each."""


class Caps:
    """Counts by strategy and device; a window's counts end with it.

    Args:
        most: devices of a window.
    """

    def __init__(self, most: int = MOST_DEVICES) -> None:
        self._most = most
        self._windows: dict[str, tuple[int, dict[int, int]]] = {}

    def count(self, strategy: Strategy, key: int, now: float) -> int | None:
        """Acceptances in the window of now; None: no further device can be counted."""
        counts = self._counts(strategy, now)
        if key in counts:
            return counts[key]
        return 0 if len(counts) < self._most else None

    def add(self, strategy: Strategy, key: int, now: float) -> None:
        """Count an acceptance; a device that finds no room is not counted."""
        counts = self._counts(strategy, now)
        if key in counts or len(counts) < self._most:
            counts[key] = counts.get(key, 0) + 1

    def _counts(self, strategy: Strategy, now: float) -> dict[int, int]:
        assert strategy.at_most is not None
        number = int(now // strategy.at_most.seconds)
        window = self._windows.get(strategy.name)
        if window is None or window[0] != number:
            window = self._windows[strategy.name] = number, {}
        return window[1]
