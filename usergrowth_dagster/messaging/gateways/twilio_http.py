"""The HTTP client that Twilio's SDK is given: one try, no redirects, no logs, another root.

The SDK's own client logs addresses with numbers and keeps the last request in memory.
"""

import logging
import threading
from typing import Any
from urllib.parse import urlsplit

from requests import Session
from twilio.http import HttpClient
from twilio.http.response import Response

from usergrowth_dagster.messaging.gateways.bounded_requests import BoundedAdapter
from usergrowth_dagster.messaging.gateways.wire import Idle

_silent = logging.Logger("silent", logging.CRITICAL)  # nobody's child, so nothing gets out


class OneTry(HttpClient):  # type: ignore[misc]
    """A client for many threads.

    Args:
        root: replaces scheme and host of every address; None: as the SDK says.
        timeout: seconds.
        connections: as many are kept open.
    """

    def __init__(self, root: str | None, timeout: float, connections: int) -> None:
        super().__init__(_silent, False, timeout)
        self.root, self.seconds = root, timeout
        self._local, self._idle = threading.local(), Idle()
        self.session = Session()
        for scheme in ("https://", "http://"):
            self.session.mount(scheme, BoundedAdapter(connections))

    def limit(self, seconds: float) -> None:
        """Let this thread's next requests take at most so long, instead of the time-out."""
        self._local.seconds = seconds

    def request(
        self,
        method: str,
        uri: str,
        params: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,
        allow_redirects: bool = False,
    ) -> Response:
        """Make one request; the SDK calls this."""
        if self.root:
            parts = urlsplit(uri)
            uri = self.root.rstrip("/") + parts.path + (f"?{parts.query}" if parts.query else "")
        limit: float = getattr(self._local, "seconds", self.seconds)
        seconds = limit if timeout is None else timeout
        if self._idle.too_long():
            self.session.close()  # its connections; it opens new ones
        with self.session.request(
            method.upper(),
            uri,
            params=params,
            data=data,
            headers=headers,
            auth=auth,
            timeout=seconds,
            allow_redirects=False,
        ) as answer:
            text = answer.content.decode("utf-8", "replace")
            return Response(answer.status_code, text, dict(answer.headers))
