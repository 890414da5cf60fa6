"""Limits of what a stranger's connection may cost, beneath the application.

uvicorn waits without end for a request that does not come, or comes byte by byte. Here a connection

* that has not brought a whole request head within ``head_seconds`` is cut, as is an idle one;
* that has not brought the whole request within ``request_seconds`` is cut;
* that brings more than ``head_bytes`` of head, ``most_headers`` headers or ``most_pieces`` small
  pieces of body (chunks of a byte each cost much time) is refused or cut.

When one peer has ``most_half_open`` connections that never brought a whole request, each further
one ends those that have waited for more than ``grace_seconds``: a burst of good ones passes. When
``most_open`` connections are open, a new one takes the place of the one that has waited longest for
a request; if all are being answered, the new one is cut.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_PIECE = 100  # bytes; smaller pieces are no network's doing
_LOG_SECONDS = 60.0
LOG = logging.getLogger("usergrowth.serve")


@dataclass(frozen=True)
class Limits:
    """Limits of connections; see the module's text."""

    most_open: int = 500
    most_half_open: int = 50
    grace_seconds: float = 2.0
    head_seconds: float = 10.0
    request_seconds: float = 60.0
    head_bytes: int = 32 << 10
    most_headers: int = 100
    most_pieces: int = 20_000


class Door:
    """The connections that wait for a request, the longest-waiting first."""

    def __init__(self, limits: Limits, cut: Callable[[str], None]) -> None:
        self.limits, self._noted = limits, cut
        self._waiting: dict[GuardedProtocol, float] = {}
        self._new: dict[str, dict[GuardedProtocol, None]] = {}
        self._cut: Counter[str] = Counter()
        self._logged = -_LOG_SECONDS

    def note(self, why: str, now: float) -> None:
        """Count a connection that is cut; the log gets a line a minute at most."""
        self._cut[why] += 1
        self._noted(why)
        if now - self._logged >= _LOG_SECONDS:
            for reason, number in self._cut.items():
                LOG.warning("connections cut: %d, %s", number, reason)
            self._cut.clear()
            self._logged = now

    def admit(self, one: "GuardedProtocol", others: int) -> bool:
        """Whether a new connection may stay, beside so many others that are open."""
        long_ago = one.loop.time() - self.limits.grace_seconds
        of_peer = self._new.setdefault(one.peer, {})
        while len(of_peer) >= self.limits.most_half_open:
            oldest = next(iter(of_peer))
            if self._waiting.get(oldest, 0.0) > long_ago:
                break
            oldest.cut("its peer holds too many")
        if others >= self.limits.most_open:
            if not self._waiting:
                return False
            next(iter(self._waiting)).cut("a newer connection took its place")
        self._new.setdefault(one.peer, {})[one] = None
        self.waits(one)
        return True

    def waits(self, one: "GuardedProtocol") -> None:
        """A connection waits for a request, or for the rest of one."""
        self._waiting.setdefault(one, one.loop.time())

    def has_asked(self, one: "GuardedProtocol") -> None:
        """A connection has brought a whole request, or is gone."""
        self._waiting.pop(one, None)
        if of_peer := self._new.get(one.peer):
            of_peer.pop(one, None)
            if not of_peer:
                del self._new[one.peer]


class GuardedProtocol(HttpToolsProtocol):
    """A connection that keeps to the limits of its door."""

    door: ClassVar[Door]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let a connection in, or cut it."""
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._received = self._pieces = self._size = 0
        self._within = False  # a request whose head has come and whose end has not
        self._moved = False  # a head or a request ended within the piece that is being read
        limits = self.door.limits
        self.peer = peer_of(self.client)
        if self.door.admit(self, len(self.connections) - 1):
            self._wait(limits.head_seconds, "no request came")
        else:
            self.cut("too many connections wait")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.door.has_asked(self)
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def cut(self, why: str) -> None:
        """End the connection at once."""
        self.door.note(why, self.loop.time())
        self.door.has_asked(self)
        self.transport.abort()

    def _wait(self, seconds: float, why: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self.cut, why)

    def data_received(self, data: bytes) -> None:
        """Read what came, unless the connection has been cut."""
        if self.parser is None or self.transport.is_closing():
            return
        self._moved = False
        super().data_received(data)
        if not self._within and not self._moved:  # else most of the piece may have been body
            self._received += len(data)
            if self._received > self.door.limits.head_bytes:
                self.cut("the head of a request is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; too many make the request invalid."""
        if len(self.headers) >= self.door.limits.most_headers:
            raise ValueError("too many headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head has come: from now on the whole request has its time."""
        self._within = self._moved = True
        self._received = self._pieces = self._size = 0
        self.door.waits(self)
        self._wait(self.door.limits.request_seconds, "a request did not end")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._pieces += 1
        self._size += len(body)
        if self._pieces >= self.door.limits.most_pieces and self._size < _PIECE * self._pieces:
            self.cut("a body comes in too many pieces")
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole; the application sees to it that its answer comes in time."""
        self._within, self._moved = False, True
        self._received = 0
        self.door.has_asked(self)
        super().on_message_complete()
        self._rest()

    def on_response_complete(self) -> None:
        """Answered: the next request has its time, once this one is whole."""
        super().on_response_complete()
        self._rest()

    def _rest(self) -> None:
        """Wait for the next request, once the last one is whole and answered."""
        if self._within or self.transport.is_closing():
            return
        if self.cycle.response_complete:
            self.door.waits(self)
            self._wait(self.door.limits.head_seconds, "no further request came")
        elif self._timer is not None:
            self._timer.cancel()


def guarded(limits: Limits, cut: Callable[[str], None] = lambda _why: None) -> type[Any]:
    """The protocol of one server: the argument ``http`` of ``uvicorn.Config``.

    Args:
        limits: what a connection may cost.
        cut: called with the reason for each connection that is cut.
    """
    return type("Guarded", (GuardedProtocol,), {"door": Door(limits, cut)})


def peer_of(client: tuple[str, int] | None) -> str:
    """Whose connection it is: an address, of IPv6 the network of 64 bits."""
    try:
        address = ip_address(client[0] if client else "")
    except ValueError:
        return ""
    return str(int(address) >> 64) if isinstance(address, IPv6Address) else str(address)
