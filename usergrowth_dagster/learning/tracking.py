"""Reaching MLflow: a server that does not answer is told in a sentence, and soon."""

import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.warehouse.spark_client import import_client

PATIENCE = 4.0
"""Seconds in which a tracking server has to take a connection; long enough for a quick restart."""
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # MLflow's own are 7 retries in four minutes and 120 seconds a request, all of them silent.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""Of MLflow's environment; what is set there already stays."""
_LONGEST = 300  # characters of what MLflow says


def set_defaults() -> None:
    """Set MLflow's environment where it is not set; to be called before MLflow is imported."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    # MLflow loads PySpark wherever it is installed.
    warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")
    import_client()


def reach_artifacts(endpoint: str | None, addressing: str) -> None:
    """Let MLflow's client of object stores use an endpoint, and the bucket in its path or name."""
    if endpoint:
        os.environ["MLFLOW_S3_ENDPOINT_URL"] = endpoint
    if addressing != "auto":
        os.environ["MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE"] = addressing


def shown(uri: str) -> str:
    """A tracking URI without a user, a password or a query."""
    parts = urlsplit(uri)
    if not parts.netloc:  # urlunsplit would drop two slashes of sqlite's four
        return uri.partition("?")[0]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def require_reachable(uri: str) -> None:
    """Make sure that a tracking server takes connections; of other stores nothing is asked.

    Behind a proxy only MLflow itself can tell, see :func:`told_in_a_sentence`.

    Raises:
        UserError: it did not within :data:`PATIENCE` seconds, or the URI names no server.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return
    try:
        host, port = parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]
    except ValueError:
        host, port = None, 0
    if not host:
        raise UserError(
            f"mlflow_tracking_uri: {shown(uri)} names no server; write http://host:port",
            code="setting.invalid",
        )
    if parts.scheme in getproxies() and not proxy_bypass(host):
        return
    end = time.monotonic() + PATIENCE
    while True:
        try:
            left = max(end - time.monotonic(), 0.1)
            socket.create_connection((host, port), timeout=left).close()
            return
        except OSError as error:
            if time.monotonic() + 1 >= end:
                raise _unreachable(uri, error.strerror or str(error)) from None
        time.sleep(1)


@contextmanager
def told_in_a_sentence(uri: str) -> Iterator[None]:
    """Turn MLflow's failure to open its store into a user's error.

    Raises:
        UserError: naming the store without credentials.
    """
    set_defaults()
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        said = " ".join(str(error).split()).replace(uri.rstrip("/"), shown(uri).rstrip("/"))
        user = urlsplit(uri).netloc.rpartition("@")[0]
        if user:
            said = said.replace(user, "***")
        raise _unreachable(uri, said[:_LONGEST]) from None


def _unreachable(uri: str, why: str) -> UserError:
    return UserError(
        f"MLflow at {shown(uri)} cannot be used ({why}); start it, or correct the setting "
        "mlflow_tracking_uri (USERGROWTH_MLFLOW_TRACKING_URI)",
        code="mlflow.unreachable",
    )
