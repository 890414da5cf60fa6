"""Callers who try unknown tokens: refused for a while, in bounded memory.

A caller is a peer as :func:`usergrowth_dagster.serve.connections.peer_of` names it; behind a proxy
all are one. After :data:`MOST` unknown tokens within :data:`WINDOW` seconds its unknown tokens are
refused for :data:`PAUSE` seconds. A token of a message is never refused, whoever calls: many people
share an address, such as that of a proxy or of a mobile network. What is known of callers is in
memory alone, and is never logged.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MOST = 30
"""Unknown tokens of one caller within the window that are still answered."""
WINDOW, PAUSE = 60.0, 300.0
MOST_CALLERS = 10_000
"""Callers that are remembered; beyond, the one that called longest ago is dropped."""


@dataclass
class _Caller:
    since: float
    unknown: int = 0
    refused_until: float = 0.0


class Guesses:
    """Counts unknown tokens by caller; for one event loop.

    Args:
        clock: seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._callers: OrderedDict[str, _Caller] = OrderedDict()

    def __len__(self) -> int:
        return len(self._callers)

    def refuse(self, peer: str) -> int | None:
        """Count an unknown token; seconds to wait where it is refused, None: it is answered."""
        now = self._clock()
        caller = self._callers.pop(peer, None)
        if caller is None or (now >= caller.since + WINDOW and now >= caller.refused_until):
            caller = _Caller(now)
        self._callers[peer] = caller  # the last of all: it has just called
        while len(self._callers) > MOST_CALLERS:
            self._callers.popitem(last=False)
        if now < caller.refused_until:
            return int(caller.refused_until - now) + 1
        caller.unknown += 1
        if caller.unknown <= MOST:
            return None
        caller.refused_until = now + PAUSE
        return int(PAUSE)
