"""What the image keeps of the lock, and the instance that its containers share."""

import importlib.util
import json
import logging
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from commands import DEPLOY
from database_fixtures import database_url, postgres_server

from usergrowth_dagster.logs import about

__all__ = ["database_url", "postgres_server"]
EXTRAS = "usergrowth-dagster[aliyun,chinese,kubernetes,postgres,twilio]"


def keep_runtime() -> Any:
    """The program that the image is pruned with."""
    spec = importlib.util.spec_from_file_location("keep_runtime", DEPLOY / "keep_runtime.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_runs_stays_and_what_tests_need_goes() -> None:
    """Guards against an image without a driver, and one that carries compilers of tests."""
    program = keep_runtime()
    needed = program.needed(EXTRAS)
    assert {
        *("dagster-k8s", "dagster-postgres", "psycopg-binary", "prometheus-client", "lightgbm"),
        *("twilio", "rjieba", "uvicorn", "mlflow", "s3fs", "usergrowth-dagster"),
    } <= needed
    gone = set(program.surplus(EXTRAS))
    assert {"pytest", "mypy", "moto", "mkdocs-material", "ruff", "promql-parser"} <= gone
    assert not gone & needed


@pytest.mark.parametrize(
    "database_url", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)
def test_a_run_of_the_shared_instance_logs_an_object_a_line(
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Guards against an instance that containers cannot share, and lines of runs without the run."""
    text = (DEPLOY / "dagster.yaml").read_text("utf-8")
    folder = tmp_path / "dagster"
    folder.mkdir()
    (folder / "dagster.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("USERGROWTH_HOME", str(tmp_path))
    monkeypatch.setenv("USERGROWTH_DATABASE_URL", database_url)
    monkeypatch.setenv("USERGROWTH_ONE_DATABASE", "true")
    monkeypatch.setenv("DAGSTER_HOME", str(folder))

    @dg.asset
    def rows(context: dg.AssetExecutionContext) -> None:
        context.log.info("12 rows of 2024-05-04")
        with about(task_id="spring", schedule="spring send"):
            logging.getLogger("usergrowth.dispatch").info("7 messages handled")

    with dg.DagsterInstance.get() as instance:
        result = dg.materialize([rows], instance=instance)
        with dg.DagsterInstance.from_ref(instance.get_ref()) as another:
            seen = another.get_run_by_id(result.run_id)
    assert seen is not None and seen.is_success
    lines = [json.loads(one) for one in capfd.readouterr().out.splitlines() if one[:1] == "{"]
    ours = {one["message"]: one for one in lines}
    assert ours["12 rows of 2024-05-04"]["run_id"] == result.run_id
    handled = ours["7 messages handled"]
    assert (handled["task_id"], handled["schedule"]) == ("spring", "spring send")
    assert (handled["run_id"], handled["step"]) == (result.run_id, "rows")
    assert yaml.safe_load(text)["python_logs"]["python_log_level"] == "INFO"
    assert "keep_runtime" not in sys.modules
