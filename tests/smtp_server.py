"""A real mail server (aiosmtpd) for the tests, which keeps what it took and can misbehave."""

import asyncio
import datetime
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


@dataclass
class MailBox:
    """The server's handler. Replies are by recipient; ``answers`` holds other ones by command."""

    taken: list[tuple[str, bytes]] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    replies: dict[str, str] = field(default_factory=dict)
    sender_reply: str = "250 OK"
    drop: dict[str, str] = field(default_factory=dict)
    dsn: bool = True
    connections: int = 0

    async def handle_EHLO(
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> list[str]:
        self.connections += not session.host_name
        session.host_name = hostname
        return [*responses[:-1], *(["250-DSN"] if self.dsn else []), responses[-1]]

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.options += options
        if self.sender_reply.startswith("250"):
            envelope.mail_from = address
        return self.sender_reply

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        reply = self.replies.get(address, "250 OK")
        if self.drop.get(address) == "rcpt":
            _cut(server)
        if reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        (address,) = envelope.rcpt_tos
        content = cast(bytes, envelope.content)
        how = self.drop.get(address)
        if how == "data":  # taken, and the answer never comes
            self.taken.append((address, content))
            _cut(server)
            await asyncio.sleep(0.05)
        if how == "silence":
            self.taken.append((address, content))
            await asyncio.sleep(3)
        if text := self.replies.get(f"data {address}"):
            return text
        if how not in ("data", "silence"):
            self.taken.append((address, content))
        return "250 2.0.0 taken"

    def mails(self) -> list[EmailMessage]:
        return [cast(EmailMessage, message_from_bytes(c, policy=default)) for _, c in self.taken]

    def counts(self) -> Counter[str]:
        return Counter(address for address, _ in self.taken)


def _cut(server: SMTP) -> None:
    assert server.transport is not None
    server.transport.abort()


class _Dsn(SMTP):
    """aiosmtpd refuses the parameters of DSN (RFC 3461); a server that offers it takes them."""

    def _getparams(self, params: Any) -> Any:
        parameters = super()._getparams(params)
        if parameters is None:
            return None
        for name in ("RET", "ENVID", "NOTIFY"):
            parameters.pop(name, None)
        return parameters


class _Controller(Controller):
    def factory(self) -> SMTP:
        return _Dsn(self.handler, **self.SMTP_kwargs)


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mail_server(box: MailBox, **options: Any) -> Iterator[int]:
    """A running server; yields its port."""
    controller = _Controller(box, hostname="127.0.0.1", port=_port(), **options)
    controller.start()
    try:
        yield int(controller.port)
    finally:
        controller.stop()


def only(user: str, password: str) -> Any:
    """An authenticator that knows one account."""

    def check(
        _server: SMTP, _session: Session, _envelope: Envelope, _kind: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        right = (data.login, data.password) == (user.encode(), password.encode())
        return AuthResult(success=right, handled=False)

    return check


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS context with a certificate for localhost, and the file to trust it by."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    trusted, both = folder / "trusted.pem", folder / "server.pem"
    trusted.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    both.write_bytes(private + trusted.read_bytes())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(both)
    return context, trusted
