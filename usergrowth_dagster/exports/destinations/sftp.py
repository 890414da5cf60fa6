"""A folder on an SFTP server: the same files as in a folder, each uploaded aside, then renamed.

The server must be known, by the fingerprint of its host key or by a file ``known_hosts``. One that
is not is refused before anything is said to it, and the sentence has its fingerprint.
"""

import asyncio
import posixpath
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import SetUpError, UserError
from usergrowth_dagster.exports.definition import Export
from usergrowth_dagster.exports.destinations.base import Delivered, Delivery
from usergrowth_dagster.exports.destinations.files import (
    LATEST,
    latest_content,
    latest_version,
    version_folder,
    write_version,
)
from usergrowth_dagster.exports.manifest import NAME, Manifest, manifest_of, read_manifest
from usergrowth_dagster.exports.rows import ExportRows
from usergrowth_dagster.exports.runs import ExportRun, change_run
from usergrowth_dagster.sources.databases.connect import read_password

if TYPE_CHECKING:
    import asyncssh

Result = TypeVar("Result")

CONNECT_SECONDS = 15
LOGIN_SECONDS = 30


class SftpDestination:
    """A folder on an SFTP server; implements :class:`base.Destination`.

    Args:
        export: the export.
        home: what relative paths of keys and passwords start from.
    """

    resumes = False

    def __init__(self, export: Export, home: Path) -> None:
        assert export.to.sftp is not None
        self._export = export
        self._keys = export.to.sftp
        self._home = home
        self._place = f"export {export.name}: to.sftp"
        self.shown = self._keys.shown

    def check(self, rows: ExportRows | None) -> None:
        """Log in, and make and remove a small file."""

        async def work(sftp: "asyncssh.SFTPClient") -> None:
            probe = self._path(self._export.name, "usergrowth-check.tmp")
            await sftp.makedirs(posixpath.dirname(probe), exist_ok=True)
            async with sftp.open(probe, "wb"):
                pass
            await sftp.remove(probe)

        self._ask(work)

    def holds(self, run: ExportRun) -> bool:
        """Whether the manifest is there, and each file with its size."""

        async def work(sftp: "asyncssh.SFTPClient") -> bool:
            manifest = await self._manifest(sftp, run.place)
            return manifest is not None and manifest.sha256 == run.manifest

        return self._ask(work)

    def finished(self, run: ExportRun) -> Delivered | None:
        """What a run that was broken off after its manifest had brought."""

        async def work(sftp: "asyncssh.SFTPClient") -> Delivered | None:
            manifest = await self._manifest(sftp, run.place)
            if manifest is None or manifest.input != run.input:
                return None
            await self._point_to(sftp, manifest, run.place)
            return Delivered(manifest.rows, manifest=manifest.sha256)

        return self._ask(work)

    def remove(self, run: ExportRun) -> bool:
        """Remove a version, and ``latest.json`` when it names that."""

        async def work(sftp: "asyncssh.SFTPClient") -> bool:
            was_there = await sftp.exists(self._path(run.place))
            content = await self._read(sftp, self._path(run.export, LATEST))
            latest = latest_version(content, run.export)
            if latest is not None and latest.folder == run.place:
                await sftp.remove(self._path(run.export, LATEST))
            await self._remove_version(sftp, run.place)
            return was_there

        return self._ask(work)

    def deliver(self, delivery: Delivery) -> Delivered:
        """Write the files aside on this machine, count their rows, and upload them."""
        run = delivery.run
        folder = version_folder(run.export, delivery.day, run.task_id, run)
        begun = manifest_of(self._export, delivery.rows, delivery.day, run.input, run.started_time)
        with TemporaryDirectory(prefix="usergrowth-export-") as aside:
            manifest = write_version(Storage(aside), folder, self._export, delivery.rows, begun)
            change_run(
                delivery.project.store, run.id, place=folder, expires_time=manifest.expires_at
            )

            async def work(sftp: "asyncssh.SFTPClient") -> None:
                if delivery.before is not None and delivery.before.place:
                    await self._remove_version(sftp, delivery.before.place)
                await sftp.makedirs(self._path(folder), exist_ok=True)
                for name in (*(file.name for file in manifest.files), NAME):
                    await self._upload(sftp, Path(aside) / folder / name, folder, name)
                await self._point_to(sftp, manifest, folder)

            self._ask(work)
        return Delivered(manifest.rows, manifest=manifest.sha256)

    def _path(self, *parts: str) -> str:
        return posixpath.join(self._keys.path, *parts)

    async def _upload(
        self, sftp: "asyncssh.SFTPClient", source: Path, folder: str, name: str
    ) -> None:
        """Upload one file under another name, look at its size, and give it its name."""
        aside, final = self._path(folder, f".{name}.tmp"), self._path(folder, name)
        await sftp.put(str(source), aside)
        size = await sftp.getsize(aside)
        if size != source.stat().st_size:
            raise UserError(
                f"{self._place}: {self.shown} has {size} of {source.stat().st_size} bytes of "
                f"{final}; no manifest was written",
                code="export.incomplete",
            )
        await self._rename(sftp, aside, final)

    async def _rename(self, sftp: "asyncssh.SFTPClient", aside: str, final: str) -> None:
        """Put a file in the place of the one that is there, at once where the server can."""
        import asyncssh

        try:
            await sftp.posix_rename(aside, final)
        except asyncssh.SFTPOpUnsupported:
            if await sftp.exists(final):
                await sftp.remove(final)
            await sftp.rename(aside, final)

    async def _point_to(self, sftp: "asyncssh.SFTPClient", manifest: Manifest, folder: str) -> None:
        """Make ``latest.json`` name this version, unless it names one of a later date."""
        path = self._path(manifest.export, LATEST)
        content = latest_content(await self._read(sftp, path), manifest, folder)
        if content is None:
            return
        aside = self._path(manifest.export, f".{LATEST}.tmp")
        async with sftp.open(aside, "wb") as handle:
            await handle.write(content)
        await self._rename(sftp, aside, path)

    async def _read(self, sftp: "asyncssh.SFTPClient", path: str) -> bytes | None:
        if not await sftp.exists(path):
            return None
        async with sftp.open(path, "rb") as handle:
            content = await handle.read()
        return content if isinstance(content, bytes) else content.encode()

    async def _manifest(self, sftp: "asyncssh.SFTPClient", folder: str) -> Manifest | None:
        """The manifest of a version whose files all have their sizes; None without one."""
        content = await self._read(sftp, self._path(folder, NAME)) if folder else None
        if content is None:
            return None
        try:
            manifest = read_manifest(content)
        except ValueError:
            return None
        for file in manifest.files:
            path = self._path(folder, file.name)
            if not await sftp.exists(path) or await sftp.getsize(path) != file.bytes:
                return None
        return manifest

    async def _remove_version(self, sftp: "asyncssh.SFTPClient", folder: str) -> None:
        """Remove a version: its manifest first, so that nobody takes what is left for whole."""
        if await sftp.exists(self._path(folder, NAME)):
            await sftp.remove(self._path(folder, NAME))
        if await sftp.exists(self._path(folder)):
            await sftp.rmtree(self._path(folder))

    def _ask(self, work: "Callable[[asyncssh.SFTPClient], Awaitable[Result]]") -> Result:
        """Do something in a session; errors become one sentence."""

        async def session() -> Result:
            async with self._session() as sftp:
                return await work(sftp)

        return asyncio.run(session())

    @asynccontextmanager
    async def _session(self) -> "AsyncIterator[asyncssh.SFTPClient]":
        import asyncssh

        password = read_password(self._keys, self._home, self._place)
        keys = [str(self._key_file())] if self._keys.key_file is not None else None
        known = self._known_hosts()
        seen: list[str] = []
        at = f"{self._place}: {self.shown}"
        try:
            async with (
                asyncssh.connect(
                    self._keys.host,
                    self._keys.port,
                    username=self._keys.user,
                    password=password,
                    client_keys=keys,
                    known_hosts=known,
                    client_factory=lambda: _guard(self._keys.host_key, seen),
                    config=None,
                    agent_path=None,
                    connect_timeout=CONNECT_SECONDS,
                    login_timeout=LOGIN_SECONDS,
                ) as connection,
                connection.start_sftp_client() as sftp,
            ):
                yield sftp
        except asyncssh.HostKeyNotVerifiable:
            if not seen:
                raise UserError(
                    f"{at}: its host key is revoked or not usable", code="export.refused"
                ) from None
            raise UserError(
                f"{at}: its host key {' '.join(seen)} is not known; if it is the right one, write "
                f"host_key: {seen[-1]}",
                code="export.refused",
            ) from None
        except asyncssh.PermissionDenied:
            raise UserError(
                f"{at}: the server does not let {self._keys.user} in",
                code="export.unreachable",
            ) from None
        except (asyncssh.Error, OSError, TimeoutError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{at}: {reason}", code="export.unreachable") from None

    def _key_file(self) -> Path:
        """The private key's file.

        Raises:
            SetUpError: it is missing, or readable by others.
        """
        assert self._keys.key_file is not None
        path = self._home / Path(self._keys.key_file).expanduser()
        at = f"{self._place}.key_file"
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise SetUpError(
                f"{at}: {path} cannot be read: {error.strerror}", code="credential.missing"
            ) from None
        if mode & 0o077:
            raise SetUpError(
                f"{at}: others may read {path}; run chmod 600 on it", code="credential.invalid"
            )
        return path

    def _known_hosts(self) -> bytes:
        """The content of ``known_hosts``; nothing where the fingerprint is given instead.

        Raises:
            SetUpError: the file is missing.
        """
        if self._keys.known_hosts is None:
            return b""
        path = self._home / Path(self._keys.known_hosts).expanduser()
        try:
            return path.read_bytes()
        except OSError as error:
            raise SetUpError(
                f"{self._place}.known_hosts: {path} cannot be read: {error.strerror}",
                code="credential.missing",
            ) from None


def _guard(fingerprint: str | None, seen: list[str]) -> "asyncssh.SSHClient":
    """A client that knows a server by the fingerprint of its key.

    Args:
        fingerprint: of the known key; None: no key is known beside those of known_hosts.
        seen: takes the algorithm and the fingerprint of the server's key.
    """
    import asyncssh

    class Guard(asyncssh.SSHClient):
        def validate_host_public_key(
            self, host: str, addr: str, port: int, key: asyncssh.SSHKey
        ) -> bool:
            """Whether the key is the known one; asked for keys that known_hosts has not."""
            seen[:] = [key.get_algorithm(), key.get_fingerprint()]
            return key.get_fingerprint() == fingerprint

    return Guard()
