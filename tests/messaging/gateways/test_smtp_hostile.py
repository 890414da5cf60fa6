"""Mail servers that answer without end, byte by byte, or contradict themselves."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from conformance import TIMEOUT
from support.patience import no_hang

from usergrowth_dagster.messaging.gateways.protocol import Answer, OutBatch, OutMessage
from usergrowth_dagster.messaging.gateways.smtp import SmtpGateway
from usergrowth_dagster.settings import Settings

Say = Callable[[socket.socket], None]


@contextmanager
def mail_server(**replies: Say | bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A server that is told what to answer by command (``banner``, ``ehlo``, ``mail``, ``rcpt``,
    ``data``, ``text``, else 250); yields its port and the texts that it took."""
    taken: list[bytes] = []
    over = threading.Event()

    def answer(connection: socket.socket, command: str, usual: bytes) -> None:
        reply = replies.get(command, usual)
        if callable(reply):
            reply(connection)
        else:
            connection.sendall(reply)

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                answer(connection, "banner", b"220 hello\r\n")
                lines = connection.makefile("rb")
                while line := lines.readline():
                    command = line[:4].strip().decode().lower()
                    if command != "data":
                        answer(connection, command, b"250 ok\r\n")
                        continue
                    answer(connection, "data", b"354 go on\r\n")
                    text = b""
                    while (line := lines.readline()) not in (b".\r\n", b""):
                        text += line
                    taken.append(text)
                    answer(connection, "text", b"250 taken\r\n")
            except OSError:
                return

    def accept() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        listener.settimeout(None)
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1], taken
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def endless(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"250-and so on\r\n" * 100)


def endless_line(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"2" * 4096)


def byte_by_byte(connection: socket.socket) -> None:
    for byte in b"250-" + b"slow " * 10_000:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def batch(size: int = 2) -> OutBatch:
    messages = [
        OutMessage(str(n), f"u{n}", f"user{n}@shop.example", "新年好", {}) for n in range(size)
    ]
    now = datetime.now(UTC)
    return OutBatch("7", "s", "o", "email", "示例商店", "UG_1", "promotion", now, messages)


def submit(settings: Settings, port: int, timeout: float = TIMEOUT) -> list[tuple[Answer, str]]:
    chosen = settings.model_copy(
        update={"smtp_port": port, "smtp_from": "news@shop.example", "gateway_timeout": timeout}
    )
    with no_hang():
        results = SmtpGateway(chosen).submit(batch())
    return [(result.answer, result.code) for result in results]


@pytest.mark.parametrize("how", [endless, endless_line, byte_by_byte])
def test_a_reply_without_end_after_the_text_is_doubt(settings: Settings, how: Say) -> None:
    """Guards against a dispatcher that hangs, or fills the memory, with a server that goes on."""
    with mail_server(text=how) as (port, taken):
        results = submit(settings, port, timeout=2.5)  # in which also a busy machine hands it over
    assert len(taken) == 1
    assert [answer for answer, _ in results] == [Answer.IN_DOUBT, Answer.DEFERRED]


@pytest.mark.parametrize("command", ["banner", "ehlo", "mail", "rcpt", "data"])
@pytest.mark.parametrize("how", [endless, byte_by_byte])
def test_a_reply_without_end_before_the_text_defers(
    settings: Settings, command: str, how: Say
) -> None:
    """Guards against the same at any other command, when nothing was handed over yet."""
    with mail_server(**{command: how}) as (port, taken):
        results = submit(settings, port)
    assert not taken
    assert {answer for answer, _ in results} == {Answer.DEFERRED}


@pytest.mark.parametrize(
    "reply",
    [
        b"250-taken\r\n451 later\r\n",
        b"451-later\r\n250 taken\r\n",
        b"451 later\r\n250 taken\r\n",
        b"550-no\r\n250-yes\r\n550 no\r\n",
        b"\xff\xfe\0\r\n",
    ],
)
def test_contrary_replies_after_the_text_are_doubt(settings: Settings, reply: bytes) -> None:
    """Guards against a second e-mail, since of two codes the one that refuses was believed."""
    with mail_server(text=reply) as (port, taken):
        results = submit(settings, port)
    assert taken
    assert results[0][0] is Answer.IN_DOUBT


def test_a_reply_too_many_is_not_taken_for_the_next_one(settings: Settings) -> None:
    """Guards against replies that are one behind: the refusal of an earlier command would pass for
    the answer to a text that was taken."""
    with mail_server(rcpt=b"250 ok\r\n354 go on\r\n451 later\r\n") as (port, taken):
        results = submit(settings, port)
    assert not taken
    assert results[0] == (Answer.DEFERRED, "out_of_step")
