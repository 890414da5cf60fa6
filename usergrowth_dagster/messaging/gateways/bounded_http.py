"""HTTP to a provider that may be slow, endless or hostile; every HTTP gateway's calls go this way.

One deadline holds over the whole exchange: connection, request, head and body, however slowly they
come. A time-out of each read does not do that, since it begins anew with each byte. The body is
bounded as well, and taken as it comes: an encoding would let a few bytes become gigabytes.

The vendors' SDKs are built on ``requests``; they get :class:`BoundedAdapter`.
"""

import os
import ssl
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore

MOST_BYTES = 2 * 2**20
"""Of a body; the longest lists that the gateways ask for are a tenth of it."""
CONNECT_SECONDS = 5.0
_IDLE_SECONDS = 10.0
_PIECE = 16_384
_end: ContextVar[float | None] = ContextVar("end", default=None)


class BadAnswerError(ValueError):
    """The answer is too long, or encoded although that was not asked for."""


@dataclass(frozen=True)
class Answered:
    """A provider's answer; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8; what is none is replaced."""
        return self.body.decode("utf-8", "replace")


class BoundedClient:
    """Requests under a deadline; connections are kept for ten idle seconds. Safe for threads.

    Args:
        connections: most at once.
        proxies: whether the environment's proxies are used, which see the host, or with ``http``
            all that is sent.
    """

    def __init__(self, connections: int = 10, *, proxies: bool = True) -> None:
        self._connections, self._proxies = connections, proxies
        self._pools: dict[tuple[str | None, bool], httpcore.ConnectionPool] = {}

    def __enter__(self) -> "BoundedClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; the next exchange opens new ones."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()

    def exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        seconds: float,
        *,
        proxy: str | None = None,
    ) -> Answered:
        """One request and its answer, without repeats and redirects.

        Args:
            method: such as POST.
            url: with http or https.
            headers: Content-Length, Accept-Encoding and a missing Host are added.
            body: its bytes, or None.
            seconds: for everything together.
            proxy: address of a proxy, in place of the environment's.

        Raises:
            httpcore.ConnectError: nothing was said; nor with ConnectTimeout and PoolTimeout.
            httpcore.TimeoutException: the provider may have got the request; so it may with
                NetworkError and ProtocolError.
            BadAnswerError: as those.
        """
        proxy = proxy or (proxy_of(url) if self._proxies else None)
        pool = self._pool(proxy, url.lower().startswith("https:"))
        limits = {"connect": min(CONNECT_SECONDS, seconds)}
        limits |= dict.fromkeys(("read", "write", "pool"), seconds)
        sent = [(name, value) for name, value in headers.items() if name.lower() not in _OURS]
        encoded = [(name.encode("ascii"), value.encode("utf-8")) for name, value in sent]
        token = _end.set(time.monotonic() + seconds)
        try:
            with pool.stream(
                method,
                url,
                headers=[*encoded, (b"Accept-Encoding", b"identity")],
                content=body,
                extensions={"timeout": limits},
            ) as response:
                answer_headers = {
                    name.decode("latin-1").lower(): value.decode("latin-1")
                    for name, value in response.headers
                }
                encoding = answer_headers.get("content-encoding", "identity")
                if encoding.strip().lower() not in _PLAIN:
                    raise BadAnswerError("the answer is encoded, which was not asked for")
                return Answered(response.status, answer_headers, _bounded(response.iter_stream()))
        finally:
            _end.reset(token)

    def _pool(self, proxy: str | None, tls: bool) -> httpcore.ConnectionPool:
        key = proxy, tls
        if key not in self._pools:
            shared: dict[str, Any] = {
                "ssl_context": trusted() if tls else None,
                "max_connections": self._connections,
                "keepalive_expiry": _IDLE_SECONDS,
                "network_backend": _Backend(),
            }
            if proxy is None:
                self._pools[key] = httpcore.ConnectionPool(**shared)
            else:
                parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
                login = (unquote(parts.username or ""), unquote(parts.password or ""))
                self._pools[key] = httpcore.HTTPProxy(
                    f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
                    proxy_auth=login if parts.username else None,
                    **shared,
                )
        return self._pools[key]


_OURS = ("content-length", "transfer-encoding", "accept-encoding")
_PLAIN = ("", "identity")


def _bounded(parts: Iterable[bytes]) -> bytes:
    body = bytearray()
    for part in parts:
        body += part
        if len(body) > MOST_BYTES:
            raise BadAnswerError(f"the answer is longer than {MOST_BYTES} bytes")
    return bytes(body)


def trusted() -> ssl.SSLContext:
    """The authorities of this system, of certifi, and of the file that requests is set to use.

    Reading them takes a tenth of a second, so that is done once for each setting of the variables.
    """
    return _trusted(tuple(os.environ.get(name) for name in _BUNDLES))


_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


@cache
def _trusted(named: tuple[str | None, ...]) -> ssl.SSLContext:
    import httpx

    context = httpx.create_ssl_context()
    context.load_default_certs()
    bundle = named[0] or named[1]
    if bundle and os.path.isdir(bundle):  # noqa: PTH112
        context.load_verify_locations(capath=bundle)
    elif bundle:
        context.load_verify_locations(cafile=bundle)
    return context


def proxy_of(url: str) -> str | None:
    """The proxy that the environment names for an address, or None."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


class _Stream(httpcore.NetworkStream):
    """A connection of which each step takes at most what is left of the exchange's time."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for at in range(0, len(buffer), _PIECE):
            self._inner.write(buffer[at : at + _PIECE], _left(timeout, httpcore.WriteTimeout))

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left))

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.SyncBackend):
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(super().connect_tcp(host, port, left, local_address, socket_options))


def _left(timeout: float | None, error: type[Exception]) -> float | None:
    end = _end.get()
    if end is None:
        return timeout
    left = end - time.monotonic()
    if left <= 0:
        raise error("the deadline of the exchange has passed")
    return left if timeout is None else min(left, timeout)
