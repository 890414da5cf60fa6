"""A home's exports as assets: after what they hand out, checked, and silent about addresses."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
from support.export_desk import DAY, ExportDesk, Person, phone

from usergrowth_dagster.defs.build import build_definitions
from usergrowth_dagster.defs.jobs import range_tags
from usergrowth_dagster.errors import UserError

PHONES = "audience: all\ncolumns: {who: user_id, number: phone}\ncontains_addresses: true"


def run_job(desk: ExportDesk, instance: dg.DagsterInstance, job: str = "export") -> Any:
    """The result of a job of the home on the desk's day."""
    definitions = build_definitions(str(desk.home))
    return definitions.resolve_job_def(job).execute_in_process(
        instance=instance, partition_key=DAY.isoformat(), raise_on_error=False
    )


def test_the_graph_shows_what_goes_out(desk: ExportDesk) -> None:
    """Guards against an export that runs before its rows are decided, or by itself."""
    desk.export(f"{PHONES}\nto: {{files: out}}")
    definitions = build_definitions(str(desk.home))
    spec = definitions.resolve_asset_graph().get(dg.AssetKey("export_people"))
    assert spec.group_name == "exports" and spec.owners == ["team:growth"]
    assert spec.parent_keys == {dg.AssetKey("decisions"), dg.AssetKey("population")}
    assert "out" not in spec.description.split() and "every audience" in spec.description
    schema = spec.metadata["dagster/column_schema"]
    columns = getattr(schema, "schema", schema).columns
    assert [(one.name, one.type) for one in columns] == [("who", "VARCHAR"), ("number", "VARCHAR")]
    repository = definitions.get_repository_def()
    (sensor,) = [one for one in repository.sensor_defs if one.name == "export_after_decide"]
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
    desk.export("scores: {question: churn}\nto: {files: out}")
    graph = build_definitions(str(desk.home)).resolve_asset_graph()
    assert graph.get(dg.AssetKey("export_people")).parent_keys == {dg.AssetKey("scores")}
    (desk.home / "exports.yml").unlink()
    assert "export" not in {
        job.name for job in build_definitions(str(desk.home)).get_repository_def().get_all_jobs()
    }


def test_a_run_brings_rows_and_says_so(desk: ExportDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against metadata that show an address, a check that cannot fail, and rows sent twice."""
    monkeypatch.setenv("USERGROWTH_HOME", str(desk.home))
    desk.decide([Person("u1", phone=phone(1)), Person("u2", phone=phone(2))])
    desk.export(f"{PHONES}\nto: {{files: out}}")
    with dg.DagsterInstance.ephemeral() as instance:
        result = run_job(desk, instance)
        assert result.success
        (event,) = result.get_asset_materialization_events()
        metadata = event.materialization.metadata
        checks = {one.check_name: one.passed for one in result.get_asset_check_evaluations()}
        events = [str(entry) for entry in instance.all_logs(result.run_id)]
        again = run_job(desk, instance)
        (repeated,) = again.get_asset_materialization_events()
    assert metadata["dagster/row_count"].value == 2
    path = Path(str(metadata["manifest"].value))
    assert json.loads(path.read_text())["rows"] == 2
    lineage = metadata["dagster/column_lineage"].value.deps_by_column
    assert {column: deps[0].asset_key.to_user_string() for column, deps in lineage.items()} == {
        "who": "decisions",
        "number": "population",
    }
    assert checks == {"all_rows_went_out": True, "no_row_was_refused": True}
    assert events and not any("999000" in entry for entry in events)
    assert "nothing new" in repeated.materialization.metadata["sentence"].value


def test_a_destination_that_is_gone_fails_the_run_in_a_sentence(
    desk: ExportDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a run that is green although nobody got the rows."""
    monkeypatch.setenv("USERGROWTH_HOME", str(desk.home))
    desk.decide(["u1"])
    desk.export("audience: all\nto: {files: out}")
    (desk.home / "out").write_text("")
    with dg.DagsterInstance.ephemeral() as instance:
        result = run_job(desk, instance)
        assert not result.success
        (failure,) = [event for event in result.all_events if event.is_step_failure]
        error = failure.step_failure_data.user_failure_data
        assert error.description.startswith("export people: to.files: ")
        assert error.metadata["code"].value == "export.unreachable"


def test_a_broken_file_leaves_the_code_location_whole(desk: ExportDesk) -> None:
    """Guards against a typing error that takes every asset, sensor and schedule away."""
    (desk.home / "exports.yml").write_text("exports: [{name: x, to: {fils: out}}]")
    definitions = build_definitions(str(desk.home))
    spec = definitions.resolve_asset_graph().get(dg.AssetKey("exports_yml"))
    assert spec.group_name == "exports"
    with pytest.raises(UserError, match=r"exports\.0\.to\.fils: unknown key; did you mean 'files'"):
        from usergrowth_dagster.exports.definition import read_exports

        read_exports(desk.home / "exports.yml")


def test_the_code_location_stays_light(desk: ExportDesk) -> None:
    """Guards against an export that makes every tick of the UI load databases and clients."""
    desk.export("audience: all\nto: {files: out}")
    heavy = ("duckdb", "pyarrow", "deltalake", "asyncssh", "pymysql")
    code = (
        "import sys\nfrom usergrowth_dagster.defs.build import build_definitions\n"
        "build_definitions(sys.argv[1])\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(desk.home)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("tags", "asked"),
    [
        ({"dagster/partition": "2024-03-04"}, True),
        (range_tags(DAY, DAY), True),
        ({"dagster/partition": "2024-03-03"}, False),
        (range_tags(DAY - timedelta(days=1), DAY), False),
        ({}, False),
    ],
)
def test_only_todays_decisions_go_out_by_themselves(
    desk: ExportDesk, tags: dict[str, str], asked: bool
) -> None:
    """Guards against a backfill that hands old audiences to other tools."""
    desk.export("audience: all\nto: {files: out}")
    repository = build_definitions(str(desk.home)).get_repository_def()
    sensor = repository.get_sensor_def("export_after_decide")
    with dg.DagsterInstance.ephemeral() as instance:
        run = dg.DagsterRun("decide", run_id=str(uuid4()), tags=tags)
        context = dg.build_run_status_sensor_context(
            sensor_name="export_after_decide",
            dagster_instance=instance,
            dagster_run=run,
            dagster_event=dg.DagsterEvent("PIPELINE_SUCCESS", "decide"),
        )
        answer = sensor(context)
    if asked:
        assert answer.partition_key == "2024-03-04" and answer.job_name == "export"
    else:
        assert isinstance(answer, dg.SkipReason)
