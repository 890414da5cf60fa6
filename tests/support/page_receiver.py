"""A really listening receiver of an export's pages, which takes each idempotency key once."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[int, dict[str, Any]], tuple[int, dict[str, Any] | str] | None]
"""Called with the number of the request and its page; None hangs up after taking the page."""


def takes_all(_number: int, _page: dict[str, Any]) -> tuple[int, dict[str, Any] | str] | None:
    return 200, {}


@dataclass
class PageReceiver:
    """What came in.

    Attributes:
        answer: decides on each request; 2xx and None take the page.
        requests: keys and headers of all requests, in order.
        pages: the pages taken, by key.
        lines: everything that the receiver has had, as bytes.
    """

    answer: Answer = takes_all
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    pages: dict[str, dict[str, Any]] = field(default_factory=dict)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook/secret-path"

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of all pages taken, by their numbers."""
        rows = [row for page in self.pages.values() for row in page["rows"]]
        return [row["data"] for row in sorted(rows, key=lambda row: row["row"])]

    @property
    def numbers(self) -> list[int]:
        return sorted(row["row"] for page in self.pages.values() for row in page["rows"])


@contextmanager
def receiving() -> Iterator[PageReceiver]:
    """A receiver on a port of its own."""
    receiver = PageReceiver()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            page = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            key = self.headers["Idempotency-Key"]
            with lock:
                receiver.requests.append((key, dict(self.headers)))
                answer = receiver.answer(len(receiver.requests), page)
                if answer is None or 200 <= answer[0] < 300:
                    receiver.pages.setdefault(key, page)
            if answer is None:
                self.close_connection = True
                return
            status, content = answer
            body = content if isinstance(content, str) else json.dumps(content)
            self.send_response(status)
            if status == 429:
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
