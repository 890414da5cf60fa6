"""A home's sources as assets before the raw tables, and what a run says of them."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from usergrowth_dagster.defs.build import build_definitions
from usergrowth_dagster.defs.resources import ProjectResource
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.project import Project
from usergrowth_dagster.runs.chain import backfill
from usergrowth_dagster.settings import load_settings

SOURCES = """
sources:
  - name: sales
    fills: behavior
    from: sales.csv
    day: {time: day}
    columns: {user_id: buyer, behavior: "'buy'"}
  - name: people
    fills: user
    from: people.csv
    day: {snapshot: 2024-01-08}
    columns: {user_id: id}
"""
FIRST, LAST = date(2024, 1, 8), date(2024, 1, 9)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    settings = make_home(tmp_path / "home", {"start_date": "2024-01-01", "today": "2024-01-20"})
    monkeypatch.setenv("USERGROWTH_HOME", str(settings.home))
    monkeypatch.setenv("DAGSTER_HOME", str(settings.home / "dagster"))
    (settings.home / "sources.yml").write_text(SOURCES)
    (settings.home / "people.csv").write_text("id\n007\n")
    (settings.home / "sales.csv").write_text(
        "day,buyer\n2024-01-08,007\n2024-01-09,007\n2024-01-12,008\n"
    )
    yield settings.home


def test_a_run_lands_its_sources_first(home: Path) -> None:
    """Guards against a source that lands after the raw table has been read, or not at all."""
    settings = load_settings(home)
    report = backfill(settings, FIRST, LAST, only_ingest=True)
    assert report.ingest.rows["source_sales"] == 2 and report.ingest.rows["raw_behavior"] == 2
    assert report.ingest.rows["source_people"] == 1 and report.ingest.rows["raw_user"] == 1
    assert report.ingest.metadata["source_sales"]["days_landed"] == 2
    assert any("1 further days are not up to date" in warning for warning in report.ingest.warnings)
    assert set(Project(settings).warehouse.days("raw_behavior")) == {FIRST, LAST}
    with (home / "sales.csv").open("a") as file:
        file.write("2024-01-09,009\n")
    again = backfill(settings, FIRST, LAST, only_ingest=True)
    assert again.ingest.rows["raw_behavior"] == 3
    assert again.ingest.metadata["source_sales"]["days_landed"] == 1


def test_a_source_that_is_gone_fails_the_run_in_a_sentence(home: Path) -> None:
    """Guards against a run that decides without the rows of a source, and says nothing."""
    (home / "sales.csv").unlink()
    with pytest.raises(UserError, match=r"^source sales: from\.0: no file matches") as refused:
        backfill(load_settings(home), FIRST, LAST, only_ingest=True)
    assert refused.value.code == "source.gone"
    warehouse = Project(load_settings(home)).warehouse
    assert set(warehouse.days("raw_user")) == {FIRST} and not warehouse.days("raw_behavior")


def test_a_broken_file_leaves_the_code_location_whole(home: Path) -> None:
    """Guards against a typing error that takes every asset, sensor and schedule away."""
    (home / "sources.yml").write_text(SOURCES.replace("fills: user", "fills: users"))
    definitions = build_definitions(str(home))
    graph = definitions.resolve_asset_graph()
    raw = graph.get(dg.AssetKey("raw_operation"))
    assert dg.AssetKey("sources_yml") in raw.parent_keys
    with pytest.raises(UserError, match=r"sources\.yml: sources\.1\.fills: must be 'user'"):
        backfill(load_settings(home), FIRST, LAST, only_ingest=True)
    assert not Project(load_settings(home)).warehouse.days("raw_behavior")


def test_the_graph_shows_where_rows_come_from(home: Path) -> None:
    """Guards against a source that no table waits for."""
    graph = build_definitions(str(home)).resolve_asset_graph()
    assert dg.AssetKey("source_sales") in graph.get(dg.AssetKey("raw_behavior")).parent_keys
    assert dg.AssetKey("source_people") in graph.get(dg.AssetKey("raw_user")).parent_keys
    assert not graph.get(dg.AssetKey("raw_item")).parent_keys
    sales = graph.get(dg.AssetKey("source_sales"))
    assert sales.group_name == "landing" and "sales.csv" in sales.description
    (home / "sources.yml").unlink()
    graph = build_definitions(str(home)).resolve_asset_graph()
    assert not graph.get(dg.AssetKey("raw_behavior")).parent_keys


class Ticks:
    """The sensor of a home's sources, ticking by hand; its runs are executed."""

    def __init__(self, home: Path) -> None:
        self.definitions = build_definitions(str(home))
        self.repository = self.definitions.get_repository_def()
        self.sensor = self.repository.get_sensor_def("source_files")
        self.project = ProjectResource(home=str(home))
        self.cursor: str | None = None
        self.skipped = ""

    def tick(self) -> list[dg.RunRequest]:
        """One tick; the requests for runs."""
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(
                instance=instance,
                cursor=self.cursor,
                repository_def=self.repository,
                resources={"project": self.project},
            )
            result = self.sensor.evaluate_tick(context)
        self.cursor, self.skipped = result.cursor, result.skip_message or ""
        return list(result.run_requests or [])

    def run(self, request: dg.RunRequest) -> set[str]:
        """Execute a request; the assets that it made."""
        job = self.definitions.resolve_job_def("land_sources")
        with dg.DagsterInstance.ephemeral() as instance:
            result = job.execute_in_process(
                instance=instance, tags=dict(request.tags), asset_selection=request.asset_selection
            )
        assert result.success
        return {event.asset_key.path[0] for event in result.get_asset_materialization_events()}


def test_new_files_start_a_run_when_they_are_whole(home: Path) -> None:
    """Guards against a file that lands half-written, twice, or never, and one that lands all sources."""
    ticks = Ticks(home)
    assert ticks.sensor.default_status == dg.DefaultSensorStatus.STOPPED
    assert ticks.tick() == [] and ticks.skipped == "no new file"  # a first look
    (request,) = ticks.tick()
    assert ticks.run(request) == {"source_sales", "source_people"}
    assert (home / "landing/behavior/ds=20240112/source-sales.parquet").exists()
    assert ticks.tick() == []
    content = (home / "sales.csv").read_text()
    (home / "sales.csv").write_text(content + "2024-01-10,00")
    assert ticks.tick() == []  # it is new, and may still be written
    (home / "sales.csv").write_text(content + "2024-01-10,009\n")
    assert ticks.tick() == []
    (again,) = ticks.tick()
    assert ticks.run(again) == {"source_sales"} and again.run_key != request.run_key
    assert (home / "landing/behavior/ds=20240110/source-sales.parquet").exists()
    assert ticks.tick() == []


def test_a_source_that_cannot_be_listed_keeps_no_other(home: Path) -> None:
    """Guards against a store that is away, taken for a folder without files."""
    ticks = Ticks(home)
    ticks.tick()
    assert len(ticks.tick()) == 1
    (home / "people.csv").rename(home / "away.csv")
    assert ticks.tick() == [] and "source people: from.0: no file matches" in ticks.skipped
    (home / "away.csv").rename(home / "people.csv")
    assert ticks.tick() == [] and ticks.skipped == "no new file"


def test_a_home_without_sources_has_no_sensor_of_theirs(home: Path) -> None:
    """Guards against a sensor that has nothing to look at."""
    (home / "sources.yml").unlink()
    names = {one.name for one in build_definitions(str(home)).get_repository_def().sensor_defs}
    assert "source_files" not in names and "population_uploads" in names
