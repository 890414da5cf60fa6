"""A local Kannel with its receiver, to try sending without an operator; and the demo on it."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.examples.kannel_boxes import (
    SENDER,
    UNROUTED,
    Boxes,
    Ports,
    configuration,
    listens,
    new_password,
    run_boxes,
)
from usergrowth_dagster.examples.screen import Say
from usergrowth_dagster.messaging.credentials import FILE_NAME, credential
from usergrowth_dagster.messaging.gateways.kannel import (
    KannelGateway,
    KannelSettings,
    callback_root,
    reply_url,
)
from usergrowth_dagster.messaging.receiving.receipts import match_receipts
from usergrowth_dagster.settings import Settings

_OPEN = (MessageState.CLAIMED, MessageState.SUBMITTING, MessageState.ACCEPTED)
_QUIET_SECONDS = 20.0
"""A wait for receipts ends when so long none has come."""


@dataclass(frozen=True)
class LocalKannel:
    """A running Kannel: settings that reach it, and its programs."""

    settings: Settings
    boxes: Boxes


@contextlib.contextmanager
def receiver(settings: Settings, port: int) -> Iterator[None]:
    """Run `usergrowth serve` within this process until the block ends.

    Raises:
        UserError: the port is taken.
    """
    import uvicorn

    from usergrowth_dagster.serve.app import make_app

    if listens(port):
        raise UserError(
            f"something listens on port {port} of this machine already", code="machine.port_taken"
        )
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(settings), host="127.0.0.1", port=port, log_config=None, access_log=False
        )
    )
    thread = threading.Thread(target=server.run, name="receiver", daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise UserError(
                    f"the receiver does not listen on port {port}", code="program.ended"
                )
            time.sleep(0.02)
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=20)


def prepare_credentials(home: Path) -> tuple[str, str]:
    """User and password of Kannel; made and kept in the home's file where there are none."""
    user, password = (credential(home, name, required=False) for name in KannelGateway.credentials)
    if user and password:
        return user, password
    if user or password:
        raise UserError(
            "the credentials kannel_user and kannel_password belong together: set both",
            code="credential.invalid",
        )
    user, password = "usergrowth", new_password()
    home.mkdir(parents=True, exist_ok=True)
    handle = os.open(home / FILE_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(handle, "r+", encoding="utf-8") as file:
        lines = file.read()
        file.write("\n" if lines and not lines.endswith("\n") else "")
        file.write(f'kannel_user = "{user}"\nkannel_password = "{password}"\n')
    return user, password


@contextlib.contextmanager
def local_kannel(
    settings: Settings,
    ports: Ports,
    receiver_port: int,
    adjust: Callable[[str], str] = lambda text: text,
) -> Iterator[LocalKannel]:
    """Run Kannel and the receiver of its reports until the block ends.

    Args:
        settings: of the home that sends and receives.
        ports: where Kannel's programs listen.
        receiver_port: where the receiver listens.
        adjust: makes another configuration of ours, such as one with more operators.

    Raises:
        UserError: Kannel is not installed, a port is taken, or a program does not start.
    """
    local = settings.model_copy(
        update={
            "gateway": KannelGateway.name,
            "fictional_numbers": True,  # this Kannel reaches nobody
            "kannel_url": f"http://127.0.0.1:{ports.sendsms}/cgi-bin/sendsms",
            "callback_url": f"http://127.0.0.1:{receiver_port}",
        }
    )
    user, password = prepare_credentials(settings.home)
    admin = new_password()
    text = adjust(configuration(ports, user, password, admin, reply_url(local)))
    with (
        receiver(local, receiver_port),
        run_boxes(settings.home / "kannel", text, ports, admin) as boxes,
    ):
        yield LocalKannel(local, boxes)


def serve_kannel(settings: Settings, say: Say) -> None:
    """Run a local Kannel at the addresses that the settings have by default, until Ctrl-C.

    Raises:
        UserError: as :func:`local_kannel`, or a program ended by itself.
    """
    # a service manager stops with SIGTERM
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    with local_kannel(settings, Ports(), settings.serve_port) as kannel:
        for line in _words(kannel):
            say(line)
        threading.Thread(target=_take_replies, args=(kannel.boxes, say), daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                kannel.boxes.require_alive()
                time.sleep(0.5)
    say("Kannel is stopped.")


def _take_replies(boxes: Boxes, say: Say) -> None:
    """What is typed goes out as the replies of phones."""
    for line in sys.stdin:
        phone, _, text = line.strip().partition(" ")
        if not (text := text.strip()):
            say("a number and a text, please")
            continue
        boxes.reply(phone, text)
        time.sleep(1.5)  # fakesmsc reads one line a second


def _words(kannel: LocalKannel) -> Iterator[str]:
    yield f"sendsms    {KannelSettings.of(kannel.settings).kannel_url}"
    yield f"bearerbox  http://127.0.0.1:{kannel.boxes.ports.admin}/status"
    yield f"receiver   {callback_root(kannel.settings)}"
    yield f"files      {kannel.boxes.folder}"
    yield ""
    yield "Send through it: USERGROWTH_GATEWAY=kannel usergrowth dispatch"
    yield f"Every number gets its text, except that {UNROUTED}… is not routable."
    yield "Type a number and a text, such as  +9990000000001 TD,  and the phone sends it as a reply"
    yield f"(to {SENDER}). Ctrl-C stops everything."


@contextlib.contextmanager
def demo_gateway(settings: Settings, name: str, say: Say) -> Iterator[bool]:
    """What the demo sends through: nothing to do, unless it is Kannel.

    A Kannel that listens at ``kannel_url`` is used as it is; else one is run for the block. The
    choice goes into this process's environment, where every later reading of the settings finds it.

    Args:
        settings: of the demo's home.
        name: the gateway; empty: the one of the settings.
        say: prints a line.

    Returns:
        Whether delivery reports will come.
    """
    with contextlib.ExitStack() as stack:
        if name:
            stack.enter_context(_environment(GATEWAY=name))
            settings = settings.model_copy(update={"gateway": name})
        if settings.gateway == KannelGateway.name and not _reachable(settings):
            ports = Ports.free()
            kannel = stack.enter_context(local_kannel(settings, ports, Ports.free().sendsms))
            url = KannelSettings.of(kannel.settings).kannel_url
            callback_url = kannel.settings.callback_url
            stack.enter_context(_environment(KANNEL_URL=url, CALLBACK_URL=callback_url or ""))
            say(f"Kannel runs at {url}, its receiver at {callback_url}\n")
        yield settings.gateway == KannelGateway.name


def _reachable(settings: Settings) -> bool:
    from urllib.parse import urlsplit

    place = urlsplit(KannelSettings.of(settings).kannel_url)
    if place.hostname not in ("127.0.0.1", "localhost"):
        return True
    return listens(place.port or 80)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Settings in the environment of this process, until the block ends."""
    names = {f"USERGROWTH_{name}": value for name, value in values.items()}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def await_receipts(store: ControlStore, say: Say) -> None:
    """Wait until every text that was taken has its receipt, or none comes any more."""
    from sqlalchemy import func, select

    from usergrowth_dagster.control import schema

    table = schema.message
    query = select(func.count()).where(table.c.state.in_(_OPEN))
    open_before, end = -1, time.monotonic() + _QUIET_SECONDS
    while True:
        match_receipts(store)  # those that came before their texts were written down as taken
        with store.read() as connection:
            still_open = connection.scalar(query) or 0
        if still_open != open_before:
            open_before, end = still_open, time.monotonic() + _QUIET_SECONDS
        if not still_open or time.monotonic() > end:
            break
        time.sleep(0.2)
    if still_open:
        say(f"{still_open} texts have no receipt yet")
