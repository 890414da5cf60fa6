"""Kannel's programs on this machine: bearerbox, smsbox and the fake SMSC, with a network of one.

bearerbox's SMSC of type ``fake`` gives every text to the program fakesmsc, which stands for all
phones at once, and makes the two delivery reports itself (taken by the operator, delivered); see
``gw/smsc/smsc_fake.c`` of 1.4.5. Numbers that begin with :data:`UNROUTED` are taken by nobody.
What is written to fakesmsc's standard input comes in as a phone's reply.

The logs hold errors only, and fakesmsc's output is dropped: both would show numbers. There is no
store file, so nothing outlives the programs.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.parse import quote

from usergrowth_dagster.errors import UserError

UNROUTED = "+99999"
SENDER = "10690000"
"""The number that texts come from and that replies go to."""
_PLACES = ("/usr/sbin", "/usr/lib/kannel/test")
_QUIET = "3"  # errors; warnings name numbers
_PATIENCE = 15.0


@dataclass(frozen=True)
class Ports:
    """Where everything listens, all on 127.0.0.1."""

    sendsms: int = 13013
    admin: int = 13000
    boxes: int = 13001
    operator: int = 13002

    @classmethod
    def free(cls) -> "Ports":
        """Ports that nobody uses at the moment."""
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(4)]
            for one in sockets:
                one.bind(("127.0.0.1", 0))
            return cls(*(one.getsockname()[1] for one in sockets))

    def require_free(self) -> None:
        """Refuse to start beside another Kannel.

        Raises:
            UserError: something listens already.
        """
        for port in (self.sendsms, self.admin, self.boxes, self.operator):
            if listens(port):
                raise UserError(
                    f"something listens on port {port} of this machine already, perhaps another "
                    "Kannel (service kannel stop)",
                    code="machine.port_taken",
                )


def listens(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def find_programs() -> dict[str, str]:
    """Paths of bearerbox, smsbox and fakesmsc.

    Raises:
        UserError: one is not installed.
    """
    path = os.pathsep.join((os.environ.get("PATH", ""), *_PLACES))
    places = {name: shutil.which(name, path=path) for name in ("bearerbox", "smsbox", "fakesmsc")}
    if missing := [name for name, place in places.items() if place is None]:
        raise UserError(
            f"Kannel's {' and '.join(missing)} cannot be found; install it with "
            "apt-get install kannel kannel-extras",
            code="machine.missing",
        )
    return {name: str(place) for name, place in places.items()}


def _group(name: str, values: Mapping[str, object]) -> str:
    lines = [f"group = {name}"]
    for key, value in values.items():
        text = str(value).replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'{key} = "{text}"')
    return "\n".join(lines) + "\n\n"


def configuration(ports: Ports, user: str, password: str, admin: str, reply_url: str) -> str:
    """A configuration of all three programs.

    Args:
        ports: where they listen.
        user: name of the one sendsms-user.
        password: its password.
        admin: password of bearerbox's administration.
        reply_url: what smsbox requests for each reply of a phone.
    """
    return (
        _group(
            "core",
            {
                "admin-port": ports.admin,
                "admin-interface": "127.0.0.1",
                "admin-password": admin,
                "smsbox-port": ports.boxes,
                "smsbox-interface": "127.0.0.1",
                "box-allow-ip": "127.0.0.1",
                "box-deny-ip": "*.*.*.*",
            },
        )
        + _group(
            "smsc",
            {
                "smsc": "fake",
                "smsc-id": "fake",
                "host": "127.0.0.1",
                "port": ports.operator,
                "connect-allow-ip": "127.0.0.1",
                "denied-prefix": UNROUTED,
            },
        )
        + _group(
            "smsbox",
            {
                "bearerbox-host": "127.0.0.1",
                "sendsms-port": ports.sendsms,
                "sendsms-interface": "127.0.0.1",
                "http-request-retry": 30,  # of a report or reply that could not be handed over
                "http-queue-delay": 2,
            },
        )
        + _group(
            "sendsms-user",
            {
                "username": user,
                "password": password,
                "user-allow-ip": "127.0.0.1",
                "default-sender": SENDER,
                "max-messages": 10,
                "concatenation": "true",
            },
        )
        + _group(
            "sms-service",
            {
                "keyword": "default",
                "catch-all": "true",
                "get-url": reply_url,
                "max-messages": 0,  # what the request answers is no text for the phone
            },
        )
    )


class Boxes:
    """The running programs; made by :func:`run_boxes`."""

    def __init__(self, folder: Path, ports: Ports, admin: str) -> None:
        self.folder, self.ports = folder, ports
        self._admin = admin
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: list[str]) -> None:
        """Start one program; it ends with us, however we end."""
        if keeper := shutil.which("setpriv"):  # Linux
            command = [keeper, "--pdeathsig", "TERM", *command]
        log = os.open(self.folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            phones = name == "fakesmsc"
            self.running[name] = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if phones else subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if phones else log,
                stderr=subprocess.DEVNULL if phones else log,
                start_new_session=True,  # Ctrl-C is for us; they are stopped in order
            )
        finally:
            os.close(log)

    def await_port(self, name: str, port: int) -> None:
        """Wait until a program listens."""
        end = time.monotonic() + _PATIENCE
        while not listens(port):
            self.require_alive()
            if time.monotonic() > end:
                raise UserError(
                    f"Kannel's {name} does not listen on port {port}", code="program.ended"
                )
            time.sleep(0.05)

    def await_operator(self) -> None:
        """Wait until bearerbox has its operator."""
        end = time.monotonic() + _PATIENCE
        while "(online" not in self.status().partition("SMSC connections")[2]:
            self.require_alive()
            if time.monotonic() > end:
                raise UserError("Kannel's fakesmsc does not reach bearerbox", code="program.ended")
            time.sleep(0.05)

    def status(self) -> str:
        """What bearerbox says of itself: totals and connections."""
        url = f"http://127.0.0.1:{self.ports.admin}/status.txt?password={quote(self._admin)}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode("utf-8", "replace"))
        except (URLError, OSError):
            return ""

    def require_alive(self) -> None:
        """Refuse to go on without one of the programs.

        Raises:
            UserError: one has ended.
        """
        for name, process in self.running.items():
            if process.poll() is not None:
                raise UserError(
                    f"Kannel's {name} ended by itself; see {self.folder / f'{name}.log'}",
                    code="program.ended",
                )

    def reply(self, phone: str, text: str) -> None:
        """A phone sends a text to :data:`SENDER`; one at a time, a second or more apart."""
        pipe = self.running["fakesmsc"].stdin
        assert pipe is not None
        words = quote(text.encode("utf-16-be"))
        pipe.write(f"{phone} {SENDER} ucs2 {words}\n".encode())
        pipe.flush()

    def stop(self) -> None:
        """Stop the programs, smsbox first: it would start again when bearerbox is gone."""
        for name in ("smsbox", "bearerbox", "fakesmsc"):
            if (process := self.running.pop(name, None)) is None:
                continue
            if process.stdin:
                with contextlib.suppress(OSError):
                    process.stdin.close()
            for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
                if process.poll() is None:
                    process.send_signal(number)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(timeout=5)


@contextlib.contextmanager
def run_boxes(folder: Path, text: str, ports: Ports, admin: str) -> Iterator[Boxes]:
    """Run the programs with a configuration until the block ends.

    Raises:
        UserError: one is not installed, a port is taken, or one does not start.
    """
    programs = find_programs()
    ports.require_free()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "kannel.conf"
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    boxes = Boxes(folder, ports, admin)
    try:
        boxes.start("bearerbox", [programs["bearerbox"], "-v", _QUIET, str(path)])
        boxes.await_port("bearerbox", ports.boxes)
        boxes.start("smsbox", [programs["smsbox"], "-v", _QUIET, str(path)])
        boxes.await_port("smsbox", ports.sendsms)
        boxes.await_port("bearerbox", ports.operator)
        boxes.start(
            "fakesmsc", [programs["fakesmsc"], "-H", "127.0.0.1", "-r", str(ports.operator)]
        )
        boxes.await_operator()
        yield boxes
    finally:
        boxes.stop()


def new_password() -> str:
    """A password that nobody guesses."""
    return secrets.token_urlsafe(18)
