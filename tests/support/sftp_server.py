"""A really listening SFTP server in a thread of the test process, which serves one folder."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

PASSWORD = "ge heim/@:%ü#?"


@dataclass(frozen=True)
class Sftp:
    """A server: its folder, its port, the fingerprint of its key, and its line of known_hosts."""

    root: Path
    port: int
    host_key: str
    known_hosts: str


class _Login(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == ("growth", PASSWORD)


@contextmanager
def running_sftp(root: Path, *, allowed: str = "") -> Iterator[Sftp]:
    """A server of a folder; ``allowed`` is a public key that may log in as well."""
    root.mkdir(exist_ok=True)
    key = asyncssh.generate_private_key("ssh-ed25519")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def chrooted(channel: Any) -> asyncssh.SFTPServer:
        return asyncssh.SFTPServer(channel, chroot=str(root).encode())

    async def start() -> Any:
        keys = asyncssh.import_authorized_keys(allowed) if allowed else None
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[key],
            server_factory=_Login,
            sftp_factory=chrooted,
            authorized_client_keys=keys,
        )

    async def stop() -> None:
        server.close()
        await server.wait_closed()

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    port = server.get_port()
    public = key.export_public_key().decode().strip()
    try:
        yield Sftp(root, port, key.get_fingerprint(), f"[127.0.0.1]:{port} {public}\n")
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
