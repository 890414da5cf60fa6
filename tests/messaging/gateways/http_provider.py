"""A provider's HTTP endpoint in a thread of the test, which counts, checks, and can misbehave."""

import contextlib
import json
import socket
import ssl
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl, urlsplit

from conformance import HOSTILE, TIMEOUT, Case, Mood

from usergrowth_dagster.settings import Settings


@dataclass(frozen=True)
class Request:
    """A request as it came; header names in lower case."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answered:
    """An answer; ``submission``: the mood may spoil it."""

    status: int
    content: Any
    submission: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """The content as JSON; a text as it is."""
        if isinstance(self.content, str):
            return self.content.encode()
        return json.dumps(self.content, ensure_ascii=False).encode()


class Provider:
    """Base of the endpoints: subclasses answer requests in :meth:`handle`.

    A request that is not as it must be makes :meth:`handle` raise an AssertionError; the sentence
    is kept in ``problems`` and the answer is 400.
    """

    def __init__(self) -> None:
        self.mood, self.bad = Mood.TAKE, ""
        self.taken: list[str] = []
        self.attempts: list[str] = []
        self.texts: dict[str, str] = {}
        self.problems: list[str] = []
        self.requests = 0
        self.lock = threading.Lock()
        self.url = ""

    def handle(self, request: Request) -> Answered:
        """The answer, by the wire format of the provider."""
        raise NotImplementedError

    def answer(self, request: Request) -> Answered:
        """One request at a time."""
        with self.lock:
            self.requests += 1
            try:
                return self.handle(request)
            except (AssertionError, KeyError, ValueError) as problem:
                self.problems.append(repr(problem))
                return Answered(400, {"code": 99999, "message": "bad request"})

    @property
    def takes(self) -> bool:
        """Whether submissions are taken in this mood."""
        return self.mood in (
            *(Mood.TAKE, Mood.REFUSE_ONE),
            *(Mood.TAKE_AND_HANG, Mood.TAKE_AND_RESET, Mood.NONSENSE, Mood.AWAY, *HOSTILE),
        )


@contextmanager
def serving(provider: Provider, tls: ssl.SSLContext | None = None) -> Iterator[None]:
    """Serve a provider; its ``url`` is set meanwhile."""
    hanging = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            parts = urlsplit(self.path)
            request = Request(
                self.command,
                parts.path,
                parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)),
                {key.lower(): value for key, value in self.headers.items()},
                self.rfile.read(length),
            )
            answered = provider.answer(request)
            hostile = provider.mood in HOSTILE
            mood = provider.mood if answered.submission or hostile else Mood.TAKE
            if hostile or mood is Mood.AWAY:
                self.be_hostile(mood, answered)
                return
            if mood is Mood.TAKE_AND_HANG:
                hanging.wait(6 * TIMEOUT)
                self.close_connection = True
                return
            body = b"<html>\xff" if mood is Mood.NONSENSE else answered.body
            if mood is Mood.RESET:
                self.reset()
                return
            self.send_response(500 if mood is Mood.ERROR else answered.status)
            self.send_header("Content-Type", "application/json;charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            for key, value in answered.headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if mood is Mood.TAKE_AND_RESET else body)
            self.wfile.flush()
            if mood is Mood.TAKE_AND_RESET:
                self.reset()

        do_GET = do_POST

        def be_hostile(self, mood: Mood, answered: Answered) -> None:
            self.close_connection = True
            head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n" % answered.status
            with contextlib.suppress(OSError):
                if mood is Mood.AWAY:
                    there = provider.url + self.path
                    self.connection.sendall(
                        b"HTTP/1.1 307 X\r\nContent-Length: 0\r\nLocation: %b\r\n\r\n"
                        % there.encode()
                    )
                elif mood is Mood.PACKED:
                    body = packed()
                    self.connection.sendall(
                        head + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
                    )
                    self.connection.sendall(body)
                elif mood in (Mood.FLOOD, Mood.FLOOD_HEAD):
                    self.connection.sendall(head if mood is Mood.FLOOD_HEAD else head + b"\r\n")
                    while not hanging.is_set():
                        self.connection.sendall(b"X-More: 1\r\n" * 5_000)
                else:
                    whole = head + b"Content-Length: %d\r\n\r\n" % len(answered.body)
                    whole += answered.body
                    if mood is Mood.DRIP:
                        at = whole.index(b"\r\n\r\n") + 4
                        self.connection.sendall(whole[:at])
                        whole = whole[at:]
                    for byte in whole:
                        if hanging.wait(0.1):
                            return
                        self.connection.sendall(bytes([byte]))

        def reset(self) -> None:
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

        def finish(self) -> None:
            if self.connection.fileno() >= 0:
                super().finish()

        def log_message(self, *_: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

        def handle_error(self, *_: object) -> None:
            return  # a client that went away

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    scheme, host = ("https", "localhost") if tls else ("http", "127.0.0.1")
    provider.url = f"{scheme}://{host}:{server.server_address[1]}"
    try:
        yield
    finally:
        hanging.set()
        server.shutdown()
        server.server_close()
        thread.join()


@cache
def packed() -> bytes:
    """Blanks that gzip packs a thousandfold."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(b" " * 1_000_000) for _ in range(400)) + packer.flush()


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


P = TypeVar("P", bound=Provider)


class ServedCase(Case, Generic[P]):
    """A case whose provider is one of these: it counts what it takes, and what is wrong with it."""

    provider: P

    def taken(self) -> Sequence[str]:
        return self.provider.taken

    def attempts(self) -> Sequence[str]:
        return self.provider.attempts

    def contents(self) -> Mapping[str, str]:
        return self.provider.texts

    def check(self) -> None:
        assert not self.provider.problems, self.provider.problems


def with_credentials(settings: Settings, **values: str) -> Settings:
    """The same settings, whose home has these credentials."""
    settings.home.mkdir(parents=True, exist_ok=True)
    path = settings.home / "credentials.toml"
    path.write_text("".join(f'{name} = "{value}"\n' for name, value in values.items()))
    path.chmod(0o600)
    return settings
