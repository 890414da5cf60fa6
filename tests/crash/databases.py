"""Databases of the crash test: files of SQLite, and a PostgreSQL server that can be stopped."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from usergrowth_dagster.control.store import ControlStore


class Postgres:
    """A throw-away server, run by an unprivileged user; ``available`` says why there is none."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ugcrash-pg-"))
        self.prefix: list[str] = []
        if os.geteuid() == 0:  # the server refuses to run as root
            self.prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
            os.chown(self.folder, 65534, 65534)
        data = str(self.folder / "data")
        self._run("initdb", "-D", data, "-U", "test", "--auth=trust", "--no-sync", "-E", "UTF8")
        self.start()

    @staticmethod
    def lacking() -> str | None:
        """What is missing to run one."""
        programs = ["initdb", "pg_ctl", *(["setpriv"] if os.geteuid() == 0 else [])]
        missing = [name for name in programs if shutil.which(name) is None]
        return ", ".join(missing) or None

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            [*self.prefix, *command], capture_output=True, text=True, cwd=self.folder
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stderr or done.stdout}")

    def start(self) -> None:
        """Start, or start again after a crash."""
        options = (
            f"-c listen_addresses='' -c unix_socket_directories={self.folder} "
            "-c fsync=off -c max_connections=200"
        )
        data, log = str(self.folder / "data"), str(self.folder / "log")
        self._run("pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")

    def stop(self) -> None:
        """Stop at once, as in a crash."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")

    def database(self, name: str) -> str:
        """URL of a new database."""
        import psycopg

        where = f"host={self.folder} user=test dbname=postgres"
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute(f'create database "{name}"')
        return f"postgresql+psycopg://test@/{name}?host={self.folder}"

    def close(self) -> None:
        """Stop and remove."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class SmallDisk:
    """A folder on a small file system of its own, which can be made larger; needs ``mount``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.mounted = self._mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder))

    @staticmethod
    def _mount(*words: str) -> bool:
        if os.geteuid() != 0 or shutil.which("mount") is None:
            return False
        return subprocess.run(["mount", *words], capture_output=True).returncode == 0

    def shrink(self, spare: int) -> None:
        """Leave so many bytes beside what is there."""
        used = sum(path.stat().st_blocks * 512 for path in self.folder.rglob("*"))
        self._resize((used + spare) // 1024)

    def grow(self) -> None:
        """Room enough again."""
        self._resize(65536)

    def _resize(self, kilobytes: int) -> None:
        if not self._mount("-o", f"remount,size={kilobytes}k", str(self.folder)):
            raise RuntimeError("the small disk cannot be resized")

    def close(self) -> None:
        """Unmount."""
        if self.mounted:
            subprocess.run(["umount", str(self.folder)], check=True)


def migrated(url: str) -> ControlStore:
    """A store with its tables."""
    store = ControlStore(url)
    store.migrate()
    return store
