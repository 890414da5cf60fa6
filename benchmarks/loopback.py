"""A server as a process of its own: when it listens, and what it takes."""

import os
import socket
import time
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, seconds: float = 120.0) -> None:
    """Wait until something listens.

    Raises:
        TimeoutError: nothing does.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), 5):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("the service does not listen")


def cpu(process: int) -> float:
    """CPU seconds of a process, its own and the system's for it."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory(process: int) -> float:
    """Resident MB of a process."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024
