"""Sessions of Spark Connect: with the server that the settings name, or with one in this process.

The server of this process is Sail, which speaks Spark's protocol and needs no Java.
"""

import atexit
import logging
import os
import re
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from usergrowth_dagster.error_codes import ErrorCode
from usergrowth_dagster.errors import SetUpError, UserError
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.spark_client import import_client

if TYPE_CHECKING:
    from pyspark.sql.connect.session import SparkSession

DEFAULT_PORT = 15002
"""Where a Spark Connect server listens if its address names no port."""

WAIT_SECONDS = 10.0
"""How long a server may take to accept a connection; the client itself would try for minutes."""

SESSION = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",  # a bad cast fails, as in DuckDB, and is no silent NULL
    "spark.sql.mapKeyDedupPolicy": "EXCEPTION",
}
"""What the rows of the models depend on, whatever the cluster is set to."""

LOGGERS = ("SQLQueryContextLogger", "pyspark.sql.connect.logging")
"""The client's loggers, which write to the screen themselves."""

_DETAILS = re.compile(r'^\s*details = "(.+)"$', re.MULTILINE)
_CLASS = re.compile(r"^\([\w.$]+\) ")


@contextmanager
def open_spark(settings: Settings) -> Iterator["SparkSession"]:
    """A session of its own, without views of others; it is released afterwards.

    Args:
        settings: ``spark_remote``; without it, a server runs in this process until it ends.

    Raises:
        SetUpError: a package is missing.
        UserError: the server cannot be reached, or does not let us in.
    """
    remote = settings.spark_remote
    if remote is not None:
        _require_listening(remote)
    _require_client()
    with spark_errors(f"spark_remote {remote!r}", "engine.unreachable"):
        session = _connect(remote or _own_server())
    try:
        yield session
    finally:
        session.stop()


def _answer(text: str) -> str:
    """The first line of what the server said; of an error of the connection, its details."""
    details = _DETAILS.search(text)
    return (details[1] if details else _CLASS.sub("", text)).strip().partition("\n")[0]


@contextmanager
def spark_errors(doing: str, code: ErrorCode = "engine.failed") -> Iterator[None]:
    """Turn what Spark says into one sentence: what was being done, and its answer's first line.

    Raises:
        UserError: Spark has failed.
    """
    from pyspark.errors import PySparkException

    try:
        yield
    except PySparkException as error:
        answer = _answer(str(error))
        raise UserError(f"{doing}: Spark says: {answer}", code=code) from None


def _connect(remote: str) -> "SparkSession":
    from pyspark.sql.connect.session import SparkSession

    session = SparkSession.builder.remote(remote).create()
    for name, value in SESSION.items():
        session.conf.set(name, value)
    return session


def _require_listening(remote: str) -> None:
    """Refuse a server that nothing answers for."""
    place = urlsplit(remote)
    address = (place.hostname or "", place.port or DEFAULT_PORT)
    try:
        socket.create_connection(address, WAIT_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"spark_remote {remote!r}: cannot be reached: {error.strerror or error}",
            code="engine.unreachable",
        ) from None


def _require_client() -> None:
    """Load the client without its warnings, and keep its log from the screen.

    The log repeats errors with their SQL, and warns when a session ends before all is released.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, which nothing here goes through
        import_client()
        try:
            from pyspark.logger import PySparkLogger
            from pyspark.sql.connect import session  # noqa: F401
        except ImportError:
            raise _missing("pyspark-client") from None
    for name in LOGGERS:
        PySparkLogger.getLogger(name).setLevel(logging.CRITICAL)


@cache
def _own_server() -> str:
    """The address of a server inside this process, which is started once."""
    os.environ.setdefault("RUST_LOG", "error")  # it would report each session
    try:
        from pysail.spark import SparkConnectServer
    except ImportError:
        raise _missing("pysail") from None
    server = SparkConnectServer()
    server.start(background=True)
    atexit.register(server.stop)
    host, port = server.listening_address
    return f"sc://{host}:{port}"


def _missing(package: str) -> SetUpError:
    return SetUpError(
        f"the engine spark needs the package {package}: pip install 'usergrowth-dagster[spark]'",
        code="machine.missing",
    )
