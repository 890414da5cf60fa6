"""One connection to a mail server, with a time limit over everything that is done on it.

A :class:`Refusal` always means that the message at hand was certainly not taken;
:class:`DoubtError` that it may have been.
"""

import re
import smtplib
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from usergrowth_dagster.messaging.gateways.protocol import Answer, Result

RETRY_SECONDS = 300.0
RESERVE = 0.25
"""Share of the time limit that must be left for a message to be begun."""
_TAKEN = (250, 251, 252, 354)
_LOGIN_WANTED = (530, 535, 538)
_GOING_AWAY = 421
_ENHANCED = re.compile(rb"^([245]\.\d{1,3}\.\d{1,3})\b")
_MOST_BYTES = 65_536
"""Of one reply."""
_QUIT_SECONDS = 2.0
_PIECE = 4_096
T = TypeVar("T")


class Refusal(Exception):
    """The server, or the lack of one, refused before it took the message."""

    def __init__(self, answer: Answer, code: str, seconds: float = RETRY_SECONDS) -> None:
        super().__init__(code)
        self.answer, self.code, self.seconds = answer, code, seconds

    def result(self, out_id: str) -> Result:
        """The refusal as one message's result."""
        wait = self.seconds if self.answer is Answer.DEFERRED else None
        return Result(out_id, self.answer, self.code, retry_after=wait)


class DoubtError(Exception):
    """The connection was lost after the text had begun to go out."""


class _Lines:
    """The lines that a server sends, until a moment of ``time.monotonic`` and so many bytes a
    reply, however slowly they come; a time-out of each read would begin anew with each byte."""

    def __init__(self, connection: socket.socket, end: float) -> None:
        self.end, self._socket = end, connection
        self.begin()
        self.ahead = b""

    def begin(self) -> None:
        """A new reply."""
        self.codes: set[bytes] = set()
        self._bytes = 0

    def readline(self, limit: int) -> bytes:
        """As a file's; smtplib calls it.

        Raises:
            OSError: the time is over, or the reply has no end.
        """
        while b"\n" not in self.ahead and len(self.ahead) < limit:
            left = self.end - time.monotonic()
            if left <= 0:
                raise TimeoutError("the reply came too slowly")
            self._socket.settimeout(left)
            if not (piece := self._socket.recv(_PIECE)):
                break
            self.ahead += piece
        size = min(self.ahead.find(b"\n") + 1 or len(self.ahead), limit)
        line, self.ahead = self.ahead[:size], self.ahead[size:]
        self.codes.add(line[:3])
        self._bytes += size
        if self._bytes > _MOST_BYTES:
            raise OSError("the reply has no end")
        return line

    def close(self) -> None:
        """The socket is closed by itself."""


class _Bounded(smtplib.SMTP):
    """A client whose replies all come from :class:`_Lines`."""

    end: float
    file: _Lines | None

    def getreply(self) -> tuple[int, bytes]:
        """One reply; -1 as its code where its lines have different ones."""
        if self.file is None and self.sock is not None:
            self.file = _Lines(self.sock, self.end)
        lines = self.file
        if lines is not None:
            lines.begin()
        code, said = super().getreply()
        return (-1 if lines is not None and len(lines.codes) > 1 else code), said

    @property
    def in_step(self) -> bool:
        """Whether nothing has come that was not asked for."""
        return self.file is None or not self.file.ahead

    def until(self, end: float) -> None:
        """Set another end."""
        self.end = end
        if self.file is not None:
            self.file.end = end


class _Plain(_Bounded):
    def __init__(self, end: float, *args: Any, **named: Any) -> None:
        self.end = end
        super().__init__(*args, **named)


class _Tls(_Bounded, smtplib.SMTP_SSL):
    def __init__(self, end: float, *args: Any, **named: Any) -> None:
        self.end = end
        super().__init__(*args, **named)


class Session:
    """A connection that is ready for messages; use as a context manager.

    Args:
        host: the mail server.
        port: its port.
        encryption: ``none``, ``starttls`` or ``tls``; certificates are verified.
        login: user and password, or None.
        seconds: limit for everything together.

    Raises:
        Refusal: no connection, no encryption or no login.
    """

    def __init__(
        self,
        host: str,
        port: int,
        encryption: Literal["none", "starttls", "tls"],
        login: tuple[str, str] | None,
        seconds: float,
    ) -> None:
        self._seconds, self._end = seconds, time.monotonic() + seconds
        self._client = _asked(lambda: self._open(host, port, encryption))
        try:
            _asked(lambda: self._prepare(encryption, login))
        except Refusal:
            self.close()
            raise

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, host: str, port: int, encryption: str) -> _Bounded:
        if encryption == "tls":
            context = ssl.create_default_context()
            return _Tls(self._end, host, port, timeout=self._left(), context=context)
        return _Plain(self._end, host, port, timeout=self._left())

    def _prepare(self, encryption: str, login: tuple[str, str] | None) -> None:
        if encryption == "starttls":
            self._client.starttls(context=ssl.create_default_context())
        self._client.ehlo_or_helo_if_needed()
        if login:
            self._client.login(*login)

    def _left(self) -> float:
        return max(self._end - time.monotonic(), 0.1)

    @property
    def alive(self) -> bool:
        """Whether the connection stands."""
        return self._client.sock is not None

    def offers(self, extension: str) -> bool:
        """Whether the server has an extension."""
        return self._client.has_extn(extension)

    def require_time(self) -> None:
        """Refuse to begin a message that might not be done in time."""
        if self._left() < RESERVE * self._seconds:
            raise Refusal(Answer.DEFERRED, "not_begun", 1.0)

    def command(self, worst: Answer, line: str) -> None:
        """Say one line.

        Args:
            worst: what a 5xx means; a 4xx and a lost connection always defer.
            line: the command, without its end.

        Raises:
            Refusal: the server said no; the transaction is reset.
        """
        self._client.command_encoding = "utf-8"
        try:
            self._allow()
            self._client.putcmd(line)
            code, said = self._client.getreply()
        except (smtplib.SMTPException, OSError) as error:
            self._drop()
            raise Refusal(Answer.DEFERRED, type(error).__name__) from None
        if code not in _TAKEN:
            self._after(code)
            raise Refusal(sort_reply(code, worst), reply_code(code, said))

    def text(self, data: bytes) -> str:
        """Send a message's bytes (CRLF line ends) after DATA; returns the reply's code.

        Raises:
            Refusal: the server did not take it.
            DoubtError: no answer came.
        """
        # RFC 5321, 4.5.2: a leading period is doubled
        body = re.sub(rb"(?m)^\.", b"..", data)
        try:
            self._allow()
            self._client.send(body if body.endswith(b"\r\n") else body + b"\r\n")
            self._client.send(b".\r\n")
            code, said = self._client.getreply()
        except (smtplib.SMTPException, OSError) as error:
            self._drop()
            raise DoubtError(type(error).__name__) from None
        if code // 100 == 2:
            return str(code)
        if code // 100 in (4, 5):
            if not self._client.in_step:
                self._drop()
                raise DoubtError("contrary_answers")
            self._after(code)
            raise Refusal(sort_reply(code, Answer.REJECTED), reply_code(code, said))
        self._drop()
        raise DoubtError("no_reply_code")

    def _allow(self) -> None:
        """Give the next step the time that is left.

        Raises:
            Refusal: the server has said more than it was asked, so its next reply might be that to
                an earlier command.
        """
        if not self._client.in_step:
            self._drop()
            raise Refusal(Answer.DEFERRED, "out_of_step")
        if self._client.sock is not None:
            self._client.sock.settimeout(self._left())

    def _after(self, code: int) -> None:
        """Make ready for the next message after a refusal."""
        if code == _GOING_AWAY:
            self._drop()
            return
        try:
            self._allow()
            self._client.rset()
        except (smtplib.SMTPException, OSError, Refusal):
            self._drop()

    def _drop(self) -> None:
        self._client.close()

    def close(self) -> None:
        """Say goodbye if the connection stands, and close it."""
        try:
            if self._client.sock is not None:
                self._client.until(time.monotonic() + _QUIT_SECONDS)
                self._client.sock.settimeout(_QUIT_SECONDS)
                self._client.quit()
        except (smtplib.SMTPException, OSError):
            pass
        self._drop()


def _asked(step: Callable[[], T]) -> T:
    """Do a step of the opening; what fails there concerns every message."""
    try:
        return step()
    except (smtplib.SMTPNotSupportedError, ssl.SSLError) as error:
        raise Refusal(Answer.STOP, type(error).__name__) from None
    except smtplib.SMTPResponseException as error:
        said: Any = error.smtp_error
        text = said if isinstance(said, bytes) else str(said).encode()
        code = error.smtp_code
        raise Refusal(sort_reply(code, Answer.STOP), reply_code(code, text)) from None
    except (smtplib.SMTPException, OSError) as error:
        raise Refusal(Answer.DEFERRED, type(error).__name__) from None


def sort_reply(code: int, worst: Answer) -> Answer:
    """What a reply that is no success means, where a 5xx means ``worst``."""
    if code < 500:
        return Answer.DEFERRED
    return Answer.STOP if code in _LOGIN_WANTED else worst


def reply_code(code: int, said: bytes) -> str:
    """The code, with the enhanced one (RFC 3463) if there is one; the text may hold an address."""
    match = _ENHANCED.match(said or b"")
    return f"{code} {match.group(1).decode()}" if match else str(code)
