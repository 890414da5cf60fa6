"""A home's segments as an asset: only where there are any, checked, and silent about people."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from support.segment_world import D, phone, write_population

from usergrowth_dagster.defs.build import build_definitions
from usergrowth_dagster.project import Project


def materialized(project: Project, instance: dg.DagsterInstance) -> Any:
    """The asset's event and its checks by name, and all that was logged."""
    definitions = build_definitions(str(project.settings.home))
    job = definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance,
        partition_key=D.isoformat(),
        asset_selection=[dg.AssetKey("segments")],
    )
    (event,) = result.get_asset_materialization_events()
    checks = {one.check_name: one.passed for one in result.get_asset_check_evaluations()}
    logged = " ".join(str(entry) for entry in instance.all_logs(result.run_id))
    return event.materialization.metadata, checks, logged


def test_a_home_without_segments_has_no_asset(world: Project) -> None:
    """Guards against a daily run that pays for segments which nobody made."""
    home = str(world.settings.home)
    assert "segments" not in names(home)
    (Path(home) / "segments").mkdir()
    (Path(home) / "segments" / "vip.csv").write_text("user_id\n")
    assert "segments" not in names(home)
    (Path(home) / "segments" / "adults.yml").write_text("where: {rfm: {r: [1]}}\n")
    assert {"segments", "user_features"} <= names(home)
    graph = build_definitions(home).resolve_asset_graph()
    assert graph.get(dg.AssetKey("segments")).parent_keys == {dg.AssetKey("user_features")}
    repository = build_definitions(home).get_repository_def()
    (sensor,) = [one for one in repository.sensor_defs if one.name == "segments_after_decide"]
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
    daily = repository.get_job("decide").asset_layer.executable_asset_keys
    assert dg.AssetKey("segments") not in daily


def names(home: str) -> set[str]:
    keys = build_definitions(home).resolve_asset_graph().get_all_asset_keys()
    return {key.to_user_string() for key in keys}


def test_a_run_refreshes_and_checks(world: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a failed segment that nobody sees, a jump without a warning, and leaks."""
    monkeypatch.setenv("USERGROWTH_HOME", str(world.settings.home))
    write_population(world, [("u01", phone(1), None)])
    folder = world.settings.home / "segments"
    folder.mkdir()
    (folder / "adults.yml").write_text(
        "refresh: daily\nwhere: {attribute: {key: age, cmp: ge, value: 30}}\n"
    )
    (folder / "listed.yml").write_text(f'source: {{text: "{phone(1)}, {phone(2)}"}}\n')
    with dg.DagsterInstance.ephemeral() as instance:
        metadata, checks, logged = materialized(world, instance)
        assert checks == {"no_segment_is_stale": True, "no_segment_jumped": True}
        assert metadata["dagster/row_count"].value > 0
        assert "data:image/png;base64," in metadata["sizes"].value
        assert [
            (one.data["segment"], one.data["state"], one.data["rows left out"])
            for one in metadata["sources"].records
        ] == [("listed", "passed", "1 no_user")]
        assert phone(1)[1:] not in logged + str(metadata) and "u01" not in logged
        (folder / "adults.yml").write_text(
            "refresh: daily\nwhere: {attribute: {key: age, cmp: ge, value: 55}}\n"
        )
        (folder / "broken.yml").write_text("where: {tag: {key: nothing, value: 1}}\n")
        metadata, checks, _ = materialized(world, instance)
    assert checks == {"no_segment_is_stale": False, "no_segment_jumped": False}
    assert metadata["segments_failed"].value == 1
