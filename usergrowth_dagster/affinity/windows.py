"""The periods that follow each other: to fit, to choose, to test, and the one that is foretold."""

from dataclasses import dataclass

from usergrowth_dagster.affinity.log import Log

_SHARES = (0.2, 0.1, 0.05)
"""Shares of the interactions that the last period may hold, tried in this order."""

_HISTORY = 0.25
"""Share of the interactions that must lie before the first period."""

PERIODS = 3
DAY = 86_400.0


@dataclass(frozen=True)
class Windows:
    """Equally long periods up to the end of a log.

    Attributes:
        period: seconds of each.
        fit: start of the period whose outcomes models are fitted on.
        choose: start of the one on which a model is chosen; the end of ``fit``.
        test: start of the one that is reported; the end of ``choose``.
        end: end of the log, from where the next period is foretold.
    """

    period: float
    fit: float
    choose: float
    test: float
    end: float


def windows_of(log: Log) -> Windows | None:
    """The periods of a log; None where it is too short to hold them behind a history."""
    import numpy as np

    if len(log.time) < 20:
        return None
    end = float(log.time[-1]) + 1.0
    for share in _SHARES:
        period = end - float(np.quantile(log.time, 1 - share))
        starts = [end - period * back for back in range(PERIODS, 0, -1)]
        history = len(log.before(starts[0]).time)
        if history >= _HISTORY * len(log.time):
            return Windows(period, starts[0], starts[1], starts[2], end)
    return None
