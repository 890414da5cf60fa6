"""An MLflow that does not answer, on real sockets."""

import contextlib
import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
import time

import pytest
from support.processes import run_command

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.store import client, experiment
from usergrowth_dagster.learning.tracking import require_reachable, shown
from usergrowth_dagster.settings import load_settings


@pytest.fixture
def closed():
    """A local port that nothing listens at: bound, so that no other process takes it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener.getsockname()[1]


def test_a_tracking_server_that_refuses_is_reported_soon(closed, tmp_path):
    """Guards against a command that is silent for minutes, and a password on the terminal.

    What does not need MLflow is shown all the same.
    """
    uri = f"http://ann:s3cret@127.0.0.1:{closed}/"
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    kept |= {"USERGROWTH_HOME": str(tmp_path), "USERGROWTH_MLFLOW_TRACKING_URI": uri}
    for command in (["models", "list"], ["models", "approve", "churn", "1"], ["status"]):
        began = time.monotonic()
        done = run_command(command, environment=kept, folder=tmp_path)
        taken = time.monotonic() - began
        assert done.returncode == 2, done.stderr
        (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert f"MLflow at http://127.0.0.1:{closed}/ cannot be used" in sentence
        assert "mlflow_tracking_uri" in sentence
        assert "s3cret" not in done.stderr + done.stdout and "Traceback" not in done.stderr
        assert ("Tables" in done.stdout and "Messages" in done.stdout) == (command == ["status"])
        assert taken < 30, "four seconds of patience, and a slow start"


def test_a_server_that_is_no_mlflow_is_reported(tmp_path, monkeypatch):
    """Guards against a traceback for the address of another program, and its password in it."""
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    with contextlib.closing(served.socket):
        threading.Thread(target=served.serve_forever, daemon=True).start()
        place = f"127.0.0.1:{served.server_address[1]}"
        monkeypatch.setenv("USERGROWTH_MLFLOW_TRACKING_URI", f"http://ann:s3cret@{place}")
        with pytest.raises(UserError, match="cannot be used") as refused:
            client(load_settings(tmp_path))
        served.shutdown()
    assert place in str(refused.value) and "s3cret" not in str(refused.value)


def test_only_servers_are_asked():
    """Guards against a local database that is taken for a host, and a URI without one."""
    for uri in ("sqlite:////home/x/mlflow.db", "databricks", "/home/x/mlruns"):
        require_reachable(uri)
    with pytest.raises(UserError, match="names no server"):
        require_reachable("http://:80x/")
    assert shown("https://u:p@host:5000/a?token=t") == "https://host:5000/a"
    assert shown("sqlite:////home/x/mlflow.db") == "sqlite:////home/x/mlflow.db"


def test_a_home_that_was_moved_keeps_its_models(tmp_path):
    """Guards against a renamed folder after which every model's files are said to be gone."""
    old, new = tmp_path / "old place", tmp_path / "new" / "place"
    made = client(load_settings(old))
    run = made.create_run(experiment(made, load_settings(old), "churn"))
    made.log_text(run.info.run_id, "as it was", "card.md")
    copied = shutil.copytree(old, tmp_path / "copy")
    still = client(load_settings(copied))
    place = still.get_run(run.info.run_id).info.artifact_uri
    assert place.startswith(f"{copied.as_uri()}/mlflow/artifacts/churn/"), "not the original's"
    new.parent.mkdir()
    old.rename(new)
    made = client(load_settings(new))
    assert made.download_artifacts(run.info.run_id, "card.md", str(tmp_path))
    later = made.create_run(experiment(made, load_settings(new), "churn"))
    for one in (run, later):
        place = made.get_run(one.info.run_id).info.artifact_uri
        assert place.startswith(f"{new.as_uri()}/mlflow/artifacts/churn/")


def test_a_process_without_a_main_file_survives_mlflow() -> None:
    """Guards against Spark's client, which ends a process that multiprocessing started when MLflow
    looks for a session: training beside another, and each step of a run from the UI."""
    script = (
        "from usergrowth_dagster.learning.tracking import set_defaults; set_defaults();"
        "from mlflow.utils._spark_utils import _get_active_spark_session as session;"
        "import sys; print(session(), 'pyspark' in sys.modules, hasattr(sys, 'ps1'))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, ["None", "True", "False"]), done.stderr
    assert "Warning" not in done.stderr
