"""granian's server in the process and the loop of a service, which ends by a signal."""

import asyncio
import signal
import socket
from typing import TYPE_CHECKING, Any, Literal

from usergrowth_dagster.errors import UserError

if TYPE_CHECKING:
    from granian.server.embed import Server


async def serve_until_signal(server: "Server") -> None:
    """Listen until a signal to end; granian then waits for the requests that have begun."""
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, server.stop)
    await server.serve()


def embedded(
    app: Any, host: str, port: int, interface: Literal["asginl", "rsgi"], head_seconds: int
) -> "Server":
    """A server that is not started yet.

    Args:
        app: the application, as the interface calls it.
        host: address to listen on.
        port: port to listen on.
        interface: how the application is called.
        head_seconds: in which the head of a request must come, and the time that a client may
            keep a connection between two requests.
    """
    from granian.constants import HTTPModes, Interfaces
    from granian.http import HTTP1Settings
    from granian.server.embed import Server

    return Server(
        app,
        address=host,
        port=port,
        interface=Interfaces(interface),
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=head_seconds * 1000),
        websockets=False,
        backlog=1024,
        log_enabled=False,
    )


def require_free(host: str, port: int) -> None:
    """Refuse a port that something listens on."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"the service cannot listen at {host}:{port}: {error.strerror}; name another place "
                "with --host and --port",
                code="machine.port_taken",
            ) from None
