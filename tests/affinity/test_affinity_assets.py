"""Affinity jobs as assets: a sensor that waits for whole files, and a chain that says what it did."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from support.affinity_world import simulate, write_world
from support.page_receiver import receiving

from usergrowth_dagster.defs.affinity_assets import run_config
from usergrowth_dagster.defs.build import build_definitions


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with one job."""
    made = tmp_path / "home"
    write_world(made / "landing" / "affinity" / "films", simulate(200, 40, 2000))
    monkeypatch.setenv("USERGROWTH_HOME", str(made))
    return made


def test_the_chain_runs_and_is_announced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against an export before its training, a file that nobody hears of, and ids in logs."""
    with receiving() as receiver, dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setenv("USERGROWTH_AFFINITY_WEBHOOK", receiver.url)
        job = build_definitions(str(home)).resolve_job_def("affinity")
        result = job.execute_in_process(instance=instance, run_config=run_config(["films"]))
        assert result.success
        events = {
            event.asset_key.to_user_string(): event.materialization.metadata
            for event in result.get_asset_materialization_events()
        }
        assert list(events) == ["affinity_scores", "affinity_segments", "affinity_files"]
        assert events["affinity_segments"]["dagster/row_count"].value == 100
        (row,) = events["affinity_files"]["files"].records
        assert Path(row.data["file"]).parent == home / "affinity" / "films"
        lines = Path(row.data["file"]).read_text().splitlines()
        assert lines[0] == "Id" and len(lines) - 1 == row.data["endpoints"]
        checks = {one.check_name: one.passed for one in result.get_asset_check_evaluations()}
        assert checks["the_webhook_took_the_announcement"]
        (body,) = receiver.pages.values()
        assert body["job"] == "films" and body["segments"][0]["file"] == Path(row.data["file"]).name
        logs = [str(entry) for entry in instance.all_logs(result.run_id)]
        assert not any(lines[1] in entry or "@shop" in entry for entry in logs)
        receiver.answer = lambda *_: (400, "no")
        again = job.execute_in_process(instance=instance)
        checks = {one.check_name: one.passed for one in again.get_asset_check_evaluations()}
        assert again.success and not checks["the_webhook_took_the_announcement"]
    assert len(list((home / "affinity" / "films").glob("ITEMS*.csv"))) == 2


def test_a_bad_job_fails_in_a_sentence_that_names_it(home: Path) -> None:
    """Guards against a traceback, and a sentence that leaves open which job it is about."""
    (home / "landing/affinity/films/job_config.json").write_text('{"itemAttributes": "ITEMS.x"}')
    job = build_definitions(str(home)).resolve_job_def("affinity")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, raise_on_error=False)
        failed = [event for event in result.all_events if event.is_step_failure]
        assert len(failed) == 1
        error = failed[0].step_failure_data.user_failure_data
        assert (
            error.description.startswith("affinity job films: ")
            and "character 8" in error.description
        )


def test_the_sensor_waits_for_whole_files_and_runs_each_change_once(home: Path) -> None:
    """Guards against a run on half a file, a change that is never run, and one that is run twice."""
    definitions = build_definitions(str(home))
    sensor = definitions.resolve_sensor_def("affinity_files_landed")
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
    folder = home / "landing" / "affinity"
    cursor: str | None = None

    def look() -> list[str]:
        nonlocal cursor
        context = dg.build_sensor_context(
            cursor=cursor, resources=definitions.resources, definitions=definitions
        )
        data = sensor.evaluate_tick(context)
        cursor = data.cursor
        for request in data.run_requests:
            assert request.run_config == run_config([request.tags["usergrowth/affinity_job"]])
        return [request.tags["usergrowth/affinity_job"] for request in data.run_requests]

    assert look() == [] and look() == ["films"] and look() == []
    shutil.copytree(folder / "films", folder / "books")
    (folder / "books" / "endpoints.csv").rename(folder / "late")
    assert look() == [] and look() == []
    (folder / "late").rename(folder / "books" / "endpoints.csv")
    with (folder / "films" / "interactions.csv").open("a") as file:
        file.write("1,1,Watch,1600000000\n")
    assert look() == []
    with (folder / "films" / "interactions.csv").open("a") as file:
        file.write("2,1,Watch,1600000000\n")
    assert look() == ["books"] and look() == ["films"] and look() == []
    assert set(json.loads(cursor or "{}")["landed"]) == {"books", "films"}


def test_a_home_without_jobs_has_no_trace_of_them(home: Path) -> None:
    """Guards against assets that nobody asked for, and a code location that loads models."""
    shutil.rmtree(home / "landing")
    bare = build_definitions(str(home))
    assert "affinity_scores" not in {s.key.to_user_string() for s in bare.resolve_all_asset_specs()}
    (home / "landing" / "affinity").mkdir(parents=True)
    code = (
        "import sys\nfrom usergrowth_dagster.defs.build import build_definitions\n"
        "build_definitions(sys.argv[1])\n"
        "print([n for n in ('duckdb', 'pyarrow', 'scipy', 'sklearn') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(home)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
