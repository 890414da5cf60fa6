"""Scores by a challenger of a share of what the champion answers; no caller waits for them."""

import logging
import queue
import random
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.monitoring.scoring_figures import ScoringFigures
from usergrowth_dagster.serve.scoring.services import Served

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LOG = logging.getLogger("usergrowth.scoring")
MOST_WAITING = 100
"""Requests that wait; further ones are not shadowed."""

Work = tuple[Served, Sequence[Any], "NDArray[np.float64]"]


class Shadow:
    """One thread that scores again what was answered, and counts how far apart the two are.

    Args:
        share: of the requests, 0 to 1.
        figures: takes the distances.
    """

    def __init__(self, share: float, figures: ScoringFigures) -> None:
        self._share, self._figures = share, figures
        self._draw = random.Random()
        self._waiting: queue.Queue[Work | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def offer(
        self, challenger: Served | None, rows: Sequence[Any], scores: "NDArray[np.float64]"
    ) -> None:
        """Hand over what the champion answered to the rows; the share is drawn here."""
        if challenger is None or self._draw.random() >= self._share:
            return
        try:
            self._waiting.put_nowait((challenger, rows, scores))
        except queue.Full:
            self._figures.missed(challenger.name)

    def close(self) -> None:
        """Score what waits and end the thread."""
        self._waiting.put(None)
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while (work := self._waiting.get()) is not None:
            challenger, rows, scores = work
            try:
                scorer = challenger.scorer
                # the champion's features are checked already, and its challenger's may be others
                other = scorer.score(scorer.reader.read(rows, extra=True, partial=True))
                self._figures.shadowed(challenger.name, abs(other - scores).tolist())
            except Exception as error:
                LOG.warning("%s: the challenger failed: %s", challenger.name, type(error).__name__)
                self._figures.missed(challenger.name)
