"""A proxy before an S3 server: it counts requests, and does to them what a bad network does.

As ``HTTP_PROXY`` it also serves names of hosts that no resolver knows.
"""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import unquote, urlsplit

from support.radosgw import Cluster

Fault = Literal["500", "501", "reset", "lost answer", "slow", "overwrites", "hang"]
"""``lost answer``: the server does it, and the client is cut off. ``overwrites``: the server takes
the place of one that does not know the condition of a request. ``hang``: nothing happens, and no
answer comes."""


@dataclass(frozen=True)
class Request:
    """One request: method, host, path, query, whether it must not overwrite, has a checksum."""

    method: str
    host: str
    path: str
    query: str
    is_conditional: bool
    has_checksum: bool


def beyond_oss(request: Request) -> Fault | None:
    """Refuse what clients may ask of Amazon's S3, and not of OSS.

    These are uploads with a checksum of Amazon's, which go in chunks where the connection is
    encrypted, and removals of several files in one request.
    """
    removes_several = request.method == "POST" and request.query.split("=")[0] == "delete"
    return "501" if request.has_checksum or removes_several else None


@dataclass
class Proxy:
    """The proxy of one server.

    Attributes:
        requests: all of them, in order.
        fault: what happens to a request; None: it passes.
    """

    upstream: Cluster
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    fault: Callable[[Request], Fault | None] = lambda _request: None
    slow_seconds: float = 1.0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def count(self, method: str, part: str = "") -> int:
        """How many requests of a method had a part in their path."""
        return sum(one.method == method and part in one.path for one in list(self.requests))


Answer = tuple[int, list[tuple[str, str]], bytes]


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

        def handle_one_request(self) -> None:
            with suppress(ConnectionError, BrokenPipeError):
                super().handle_one_request()

        def pass_on(self) -> None:
            body = self._body()
            parts = urlsplit(self.path)
            conditional = self.headers.get("If-None-Match") is not None
            host = self.headers.get("Host", "")
            checked = any(name.lower().startswith("x-amz-checksum-") for name in self.headers)
            path = unquote(parts.path)
            request = Request(self.command, host, path, parts.query, conditional, checked)
            proxy.requests.append(request)
            fault = proxy.fault(request)
            if fault == "hang":
                time.sleep(proxy.slow_seconds)
            if fault in ("reset", "hang"):
                self._cut()
            elif fault in ("500", "501"):
                self._answer(int(fault), [], b"")
            else:
                if fault == "slow":
                    time.sleep(proxy.slow_seconds)
                ask = self._overwrite if fault == "overwrites" else self._ask
                status, headers, answer = ask(body)
                if fault == "lost answer":
                    self._cut()
                else:
                    self._answer(status, headers, answer)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _overwrite(self, body: bytes) -> Answer:
            # the condition is a part of the signature, so the request cannot just go without it
            bucket, _, key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
            tag = proxy.upstream.client().put_object(Bucket=bucket, Key=key, Body=body)["ETag"]
            return 200, [("ETag", tag)], b""

        def _ask(self, body: bytes) -> Answer:
            upstream = http.client.HTTPConnection("127.0.0.1", proxy.upstream.port, timeout=60)
            try:
                # The signature is over the Host that the client named.
                target = urlsplit(self.path)._replace(scheme="", netloc="").geturl()
                upstream.putrequest(self.command, target, skip_host=True, skip_accept_encoding=True)
                gone = {"transfer-encoding", "expect", "connection", "content-length"}
                for name, value in self.headers.items():
                    if name.lower() not in gone:
                        upstream.putheader(name, value)
                upstream.putheader("Content-Length", str(len(body)))
                upstream.endheaders(body)
                response = upstream.getresponse()
                return response.status, response.getheaders(), response.read()
            finally:
                upstream.close()

        def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response_only(status)
            length = str(len(body))
            for name, value in headers:
                if name.lower() == "content-length":
                    length = value  # of what a HEAD does not send
                elif name.lower() not in {"transfer-encoding", "connection"}:
                    self.send_header(name, value)
            if status not in (204, 304):
                self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _cut(self) -> None:
            self.close_connection = True
            self.connection.shutdown(2)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on

    return Handler


@contextmanager
def proxied(upstream: Cluster) -> Iterator[Proxy]:
    """A proxy of the server at a port of this machine."""
    proxy = Proxy(upstream)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(proxy))
    server.daemon_threads = True
    proxy.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
