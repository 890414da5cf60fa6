"""The RSGI application: reads a request, has it decided, and writes the answer.

====  ===========================================================================================
200   a decision, or a rejection of what is not read because there is too much to do
204   a rejection of OpenRTB
400   the body is none of the exchange's shape
404   no such address; 405: no POST; 408: the body did not come in time; 413: it is too long
====  ===========================================================================================

An exchange that gets no answer in time bids or does not, as it likes, and asks less often from
then on. So nothing here waits: what cannot be answered within the budget is rejected unread, from
bytes that are there already. No line of the log holds an id.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from usergrowth_dagster.acquisition.adapters.base import Adapter, MalformedError, Reply
from usergrowth_dagster.acquisition.adapters.generic import Generic
from usergrowth_dagster.acquisition.adapters.openrtb import OpenRtb
from usergrowth_dagster.acquisition.adapters.tencent import Tencent
from usergrowth_dagster.acquisition.decide import Decider, Decision
from usergrowth_dagster.monitoring.rta_figures import RtaFigures
from usergrowth_dagster.serve.scoring.callers import Pace
from usergrowth_dagster.serve.scoring.exchange import Refusal

LOG = logging.getLogger("usergrowth.rta")
ADAPTERS: Sequence[Adapter] = (Tencent(), Generic(), OpenRtb())
"""The shapes that need no file; each has the address ``/rta/<name>``."""

_TEXT = [("content-type", "text/plain; charset=utf-8")]
_LOG_SECONDS = 60.0


@dataclass(frozen=True)
class Limits:
    """What requests may cost.

    Attributes:
        body: bytes of one.
        body_seconds: in which a body must come.
        budget_seconds: from the start of a request to its decision; a later one is rejected.
        open: requests at once; further ones are rejected.
        per_second: requests a second of an exchange; 0: no limit.
    """

    body: int = 64 << 10
    body_seconds: float = 1.0
    budget_seconds: float = 0.02
    open: int = 256
    per_second: float = 0.0


class App:
    """The application.

    Args:
        decider: decides.
        figures: counts what was answered.
        limits: of requests.
        keep: is given the exchange, each decision and the time, for the log.
        adapters: the shapes that are understood.
        clock: the seconds since 1970 on the business clock.
    """

    def __init__(
        self,
        decider: Decider,
        figures: RtaFigures,
        limits: Limits | None = None,
        keep: Callable[[str, Decision, float], None] | None = None,
        adapters: Sequence[Adapter] = ADAPTERS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._decider, self._figures, self._keep = decider, figures, keep
        self._clock = clock
        self.limits = limits or Limits()
        self._doors: Mapping[str, Adapter] = {f"/rta/{one.name}": one for one in adapters}
        self._headers = {one.name: [("content-type", one.content_type)] for one in adapters}
        self._pace = Pace(self.limits.per_second)
        self._open = 0
        self._logged = float("-inf")

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        """One request."""
        began = time.perf_counter()
        adapter = self._doors.get(scope.path) if scope.proto == "http" else None
        if adapter is None:
            self._answer_elsewhere(scope, protocol)
            return
        self._open += 1
        try:
            reply, outcome = await self._reply(adapter, scope, protocol, began)
        except Refusal as refusal:
            self._figures.answered(adapter.name, str(refusal.status), time.perf_counter() - began)
            protocol.response_str(refusal.status, _TEXT, refusal.sentence)
            return
        finally:
            self._open -= 1
        self._figures.answered(adapter.name, outcome, time.perf_counter() - began)
        protocol.response_bytes(reply.status, self._headers[adapter.name], reply.content)

    def _answer_elsewhere(self, scope: Any, protocol: Any) -> None:
        if scope.proto == "http" and scope.path == "/live":
            protocol.response_str(200, _TEXT, "alive")
        elif scope.proto == "http" and scope.path == "/health":
            ready = self._decider.ready(self._clock())
            protocol.response_str(200 if ready else 503, _TEXT, "ready" if ready else "no snapshot")
        elif scope.proto == "http":
            protocol.response_str(404, _TEXT, "there is no such address")
        else:
            protocol.close(1008)

    async def _reply(
        self, adapter: Adapter, scope: Any, protocol: Any, began: float
    ) -> tuple[Reply, str]:
        """The answer and what the figures call it."""
        limits = self.limits
        if scope.method != "POST":
            raise Refusal(405, "use POST")
        if self._open > limits.open or not self._admits(adapter):
            return adapter.shed, "shed"
        content = await self._body(scope, protocol)
        if time.perf_counter() - began > limits.budget_seconds:
            return adapter.shed, "late"
        try:
            ask = adapter.read(content)
            if ask.ping:
                return adapter.pong(ask), "ping"
            now = self._clock()
            decision = self._decider.decide(ask.devices, ask.experiments, now, ask.targets)
            took = int((time.perf_counter() - began) * 1000)
            reply = adapter.write(ask, decision, took)
        except MalformedError as error:
            raise Refusal(400, str(error)) from None
        except Exception as error:  # its text might hold an id
            self._say(type(error).__name__)
            return adapter.shed, "failed"
        if self._keep is not None:
            self._keep(adapter.name, decision, now)
        return reply, "accept" if decision.accept else "reject"

    def _admits(self, adapter: Adapter) -> bool:
        """Count a request; whether it is within the limit of its exchange."""
        try:
            self._pace.require(adapter.name)
        except Refusal:
            return False
        return True

    async def _body(self, scope: Any, protocol: Any) -> bytes:
        """The whole body.

        Raises:
            Refusal: it is too long, or does not come.
        """
        most = self.limits.body
        too_long = f"a body has at most {most:,} bytes"
        length = scope.headers.get("content-length")
        if length is not None and (not length.isdigit() or int(length[:12]) > most):
            raise Refusal(413, too_long)
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                if length is not None:
                    return bytes(await protocol())
                body = bytearray()
                async for piece in protocol:
                    body += piece
                    if len(body) > most:
                        raise Refusal(413, too_long)
                return bytes(body)
        except TimeoutError:
            seconds = self.limits.body_seconds
            raise Refusal(408, f"the body did not come within {seconds:g} s") from None
        except Refusal:
            raise
        except Exception:  # granian's, of a connection that has gone
            raise Refusal(400, "the body is not whole") from None

    def _say(self, kind: str) -> None:
        """Log a failure, a line a minute at most: at ten thousand a second more would do harm."""
        now = time.monotonic()
        if now - self._logged >= _LOG_SECONDS:
            self._logged = now
            LOG.error("a request failed with %s", kind)
