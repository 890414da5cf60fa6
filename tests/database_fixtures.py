"""Empty databases for tests: SQLite always, PostgreSQL where its programs are installed."""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest


def register_marker(config: pytest.Config) -> None:
    """Make the marker known to --strict-markers."""
    config.addinivalue_line("markers", "postgres: needs PostgreSQL's initdb and pg_ctl")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Socket folder of a throw-away PostgreSQL server, run by an unprivileged user."""
    for program in ("initdb", "pg_ctl"):
        if shutil.which(program) is None:
            pytest.skip(f"PostgreSQL's {program} is not installed")
    pytest.importorskip("psycopg", reason="the PostgreSQL driver psycopg is not installed")
    folder = Path(tempfile.mkdtemp(prefix="ugpg-"))
    prefix: list[str] = []
    if os.geteuid() == 0:  # the server refuses to run as root
        if shutil.which("setpriv") is None:
            pytest.skip("PostgreSQL refuses to run as root, and setpriv is not installed")
        prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        os.chown(folder, 65534, 65534)
    data, log = folder / "data", folder / "log"

    def run(*command: str) -> None:
        done = subprocess.run([*prefix, *command], capture_output=True, text=True, cwd=folder)
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stderr or done.stdout}")

    run("initdb", "-D", str(data), "-U", "test", "--auth=trust", "--no-sync", "-E", "UTF8")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    run("pg_ctl", "-D", str(data), "-l", str(log), "-o", options, "-w", "start")
    try:
        yield str(folder)
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def create_database(server: str) -> str:
    """URL of a new database on the server with a socket folder."""
    import psycopg

    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(f"host={server} user=test dbname=postgres", autocommit=True) as connection:
        connection.execute(f"create database {name}")
    return f"postgresql+psycopg://test@/{name}?host={server}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'control.db'}"
    return create_database(request.getfixturevalue("postgres_server"))


@pytest.fixture
def other_database_url(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> str:
    """URL of another empty database of the same kind."""
    if database_url.startswith("sqlite"):
        return f"sqlite:///{tmp_path / 'other.db'}"
    return create_database(request.getfixturevalue("postgres_server"))
