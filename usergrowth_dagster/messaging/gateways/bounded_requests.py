"""An adapter that lets a ``requests`` session, as the vendors' SDKs use it, make bounded calls."""

from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import select_proxy

from usergrowth_dagster.messaging.gateways.bounded_http import BoundedClient

_SECONDS = 10.0


class BoundedAdapter(BaseAdapter):
    """Sends through a :class:`BoundedClient`; ``timeout`` is for the whole exchange.

    The address of a redirect is left out, so that no library submits a request again there.

    Args:
        connections: most at once.
    """

    def __init__(self, connections: int = 10) -> None:
        super().__init__()
        self._client = BoundedClient(connections, proxies=False)

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: dict[str, str] | None = None,
    ) -> Response:
        """One exchange; the errors are those of :meth:`BoundedClient.exchange`."""
        seconds = timeout[1] if isinstance(timeout, tuple) else timeout
        body = request.body.encode() if isinstance(request.body, str) else request.body
        if not isinstance(body, bytes | None):
            raise TypeError("a body must be bytes")
        url = request.url or ""
        answered = self._client.exchange(
            request.method or "GET",
            url,
            {_text(name): _text(value) for name, value in request.headers.items()},
            body,
            float(seconds or _SECONDS),
            proxy=select_proxy(url, proxies or {}),
        )
        response = Response()
        response.status_code = answered.status
        response.headers = CaseInsensitiveDict(answered.headers)
        response.headers.pop("location", None)
        response.encoding = "utf-8"
        response._content = answered.body
        response.url, response.request = url, request
        return response

    def close(self) -> None:
        """Close all connections; the next request opens new ones."""
        self._client.close()


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
