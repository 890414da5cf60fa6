"""Really running servers that a source reads: PostgreSQL and MariaDB, each with its own password."""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from support.patience import PATIENCE

PASSWORD = "ge heim/@:%ü#?"
"""Password of the user ``reader``: characters that a URL must escape."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def as_nobody(folder: Path) -> list[str]:
    """What runs a server as an unprivileged user where the tests run as root."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("the server refuses to run as root, and setpriv is not installed")
    os.chown(folder, 65534, 65534)
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


class Server:
    """One server; ``administer`` is a connection that may do everything."""

    kind: str

    def __init__(self, port: int) -> None:
        self.port = port
        self.database = ""

    def url(self, *, port: int | None = None, user: str = "reader") -> str:
        """URL of the newest database, without a password."""
        return f"{self.kind}://{user}@127.0.0.1:{port or self.port}/{self.database}"

    def new_database(self) -> None:
        self.database = f"shop_{uuid.uuid4().hex[:12]}"
        self._make_database()
        self._administrator = self.connect()

    def connect(self) -> Any:
        raise NotImplementedError

    def _make_database(self) -> None:
        raise NotImplementedError

    def run(self, *statements: str) -> None:
        """Execute and commit statements."""
        for statement in statements:
            cursor = self._administrator.cursor()
            cursor.execute(statement)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        cursor = self._administrator.cursor()
        cursor.execute(sql)
        return list(cursor.fetchall())

    def end_readers(self) -> int:
        """Terminate every session of the user ``reader``; how many there were."""
        raise NotImplementedError


class Postgres(Server):
    kind = "postgresql"

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(port)
        self.folder = folder

    def connect(self) -> Any:
        import psycopg

        name = self.database or "postgres"
        return psycopg.connect(
            f"host={self.folder} port={self.port} user=test dbname={name}", autocommit=True
        )

    def _make_database(self) -> None:
        name, self.database = self.database, ""
        with self.connect() as connection:
            connection.execute(f"create database {name}")
        self.database = name
        with self.connect() as connection:
            connection.execute("alter default privileges grant select on tables to reader")

    def end_readers(self) -> int:
        ended = self.rows(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'reader'"
        )
        return len(ended)


class MariaDb(Server):
    kind = "mysql"

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(port)
        self.folder = folder

    def connect(self) -> Any:
        import pymysql

        return pymysql.connect(
            unix_socket=str(self.folder / "s"),
            user="root",
            database=self.database or None,
            charset="utf8mb4",
            autocommit=True,
        )

    def _make_database(self) -> None:
        name, self.database = self.database, ""
        connection = self.connect()
        with connection, connection.cursor() as cursor:
            cursor.execute(f"create database {name} character set utf8mb4")
            cursor.execute(f"grant select on {name}.* to reader@'127.0.0.1'")
        self.database = name

    def end_readers(self) -> int:
        sessions = self.rows("select id from information_schema.processlist where user = 'reader'")
        for (number,) in sessions:
            with suppress(Exception):
                self.run(f"kill {number}")
        return len(sessions)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    need("initdb", "pg_ctl")
    folder = Path(tempfile.mkdtemp(prefix="ugsp-"))
    prefix, data, port = as_nobody(folder), folder / "data", free_port()

    def run(*command: str) -> None:
        subprocess.run([*prefix, *command], check=True, capture_output=True, cwd=folder)

    run("initdb", "-D", str(data), "-U", "test", "--auth-local=trust", "--no-sync", "-E", "UTF8")
    (data / "pg_hba.conf").write_text(
        "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
    )
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c fsync=off "
    options += f"-c unix_socket_directories={folder} -c timezone=Asia/Shanghai"
    run("pg_ctl", "-D", str(data), "-l", str(folder / "log"), "-o", options, "-w", "start")
    try:
        server = Postgres(folder, port)
        with server.connect() as connection:
            connection.execute(f"create user reader password '{PASSWORD}'")
        yield server
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_mariadb() -> Iterator[MariaDb]:
    need("mariadb-install-db", "mariadbd")
    folder = Path(tempfile.mkdtemp(prefix="ugsm-"))
    prefix, data, port = as_nobody(folder), folder / "data", free_port()
    subprocess.run(
        [
            *prefix,
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *prefix,
                "mariadbd",
                "--no-defaults",
                f"--datadir={data}",
                f"--port={port}",
                f"--socket={folder / 's'}",
                f"--pid-file={folder / 'pid'}",
                "--bind-address=127.0.0.1",
                "--innodb-flush-log-at-trx-commit=0",
                "--default-time-zone=+08:00",
                "--skip-name-resolve",
            ],
            stdout=log,
            stderr=log,
            cwd=folder,
        )
    try:
        server = MariaDb(folder, port)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                connection = server.connect()
                break
            except Exception:
                if time.monotonic() > deadline:
                    raise RuntimeError((folder / "log").read_text()) from None
                time.sleep(0.1)
        with connection, connection.cursor() as cursor:
            cursor.execute("create user reader@'127.0.0.1' identified by %s", (PASSWORD,))
        yield server
    finally:
        process.kill()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


class Proxy:
    """Passes bytes to a server, and closes the connection after so many came back.

    Args:
        port: of the server.
        after: bytes of answers that pass before the connection is closed.
    """

    def __init__(self, port: int, after: int) -> None:
        self.target = port
        self.after = after
        self.passed = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                pairs = ((client, server, False), (server, client, True))
                for pair in pairs:
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while block := source.recv(1 << 14):
                if counted:
                    self.passed += len(block)
                    if self.passed > self.after:
                        break
                target.sendall(block)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        self._listener.close()


def with_password(url: str) -> str:
    """A URL with the password in it, as nobody should write it."""
    return url.replace("reader@", f"reader:{quote(PASSWORD, safe='')}@")
