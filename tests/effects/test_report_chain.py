"""From a decided and sent day to its reports: measured, due, checked, shown, without a person."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from chain_world import PHONE, D, World, cli, copy_home, errors, rows, succeeded, world

from usergrowth_dagster.control.tasks import task
from usergrowth_dagster.defs.build import build_definitions
from usergrowth_dagster.defs.jobs import JOB_CONFIG, MEASURE, range_tags
from usergrowth_dagster.effects.report.funnel import check
from usergrowth_dagster.measure.report import report_task, reports_due
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings

__all__ = ["world"]
WINDOW = 14


def later(home: Path, first: int, last: int) -> None:
    """Behavior of days after D: some of that before it, and visits of half of the texted."""
    days = [D + timedelta(days=n) for n in range(first, last + 1)]
    tables = Project(load_settings(home)).warehouse
    listed = ", ".join(tables.columns("stg_behavior"))
    with duckdb.connect(config={"threads": 2}) as connection:
        for name in ("stg_behavior", "decisions"):
            files = [f for names in tables.files(name).values() for f in names]
            connection.read_parquet(files, hive_partitioning=True).create_view(name)
        table = connection.sql(
            f"select {listed} from (select * replace (cast(ds + {last + 1} as date) as ds) "
            f"from stg_behavior) where ds between '{days[0]}' and '{days[-1]}' "
            f"and hash(user_id, ds) % 4 = 0 union all by name select {listed} from "
            "(select * exclude (user_id, ds) from stg_behavior limit 1), (select distinct user_id, "
            f"date '{days[-1]}' as ds from decisions where arm = 'treatment' "
            "and hash(user_id) % 2 = 0)"
        ).to_arrow_table()
    marks = {day: f"made for {day}" for day in days}
    tables.replace("stg_behavior", table, days=days, fingerprints=marks)


@pytest.fixture(scope="module")
def home(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """D is decided and sent, and the window of ``comeback`` has landed; that of ``care`` has not."""
    made = copy_home(world.decided, tmp_path_factory.mktemp("report") / "home")
    later(made, 1, WINDOW)
    yield made


def test_reports_hold_nobody(home: Path) -> None:
    """A user id or a phone number in a page that is forwarded to anybody."""
    project = Project(load_settings(home))
    assert {t.task_id for t in reports_due(project)} == {"care", "comeback"}
    users = {str(row[0]) for row in rows(home, "population", columns="user_id")}
    phones = {str(row[0])[1:].encode() for row in rows(home, "population", columns="phone")}
    for name in ("care", "comeback"):
        report = report_task(project, task(project.store, name))
        check(report.effect.funnel)
        assert report.effect.funnel.steps["uploaded"] == 500
        for path in (report.page, report.data):
            text = path.read_text(encoding="utf-8")
            assert not [user for user in users if user in text]
            assert not phones.intersection(PHONE.findall(text.encode()))
        assert not report_task(project, task(project.store, name)).changed
    assert reports_due(project) == []
    later(home, WINDOW + 1, WINDOW + 1)  # one more day has landed
    assert {t.task_id for t in reports_due(project)} == {"care", "comeback"}
    report_task(project, task(project.store, "comeback"))
    # the window of care is open; that of comeback has closed, and late files may still come
    assert [t.task_id for t in reports_due(project)] == ["care"]
    settings = load_settings(home, catch_up_days=0)
    later(home, WINDOW + 2, WINDOW + 2)
    assert [t.task_id for t in reports_due(Project(settings))] == ["care"]


def test_figures_are_those_of_the_tables(home: Path) -> None:
    """The page counts other people than the decision, the ledger and the outcomes hold."""
    project = Project(load_settings(home))
    report = report_task(project, task(project.store, "comeback"))
    document = json.loads(report.data.read_text(encoding="utf-8"))
    mine = "task_id = 'comeback'"
    outcomes = dict(rows(home, "decisions", f"{mine} group by 1", columns="outcome, count(*)"))
    steps = document["funnel"]["steps"]
    assert steps["chosen"] == steps["sent"] == outcomes["selected"]
    ((returned,),) = rows(
        home, "outcomes", f"{mine} and arm = 'treatment' and returned", columns="count(*)"
    )
    assert steps["returned"] == returned == document["arms"][0]["returned"] > 0
    lost = {entry["reason"]: entry["rows"] for entry in document["funnel"]["losses"]}
    assert lost["below_threshold"] == outcomes["below_threshold"]
    assert lost["holdout"] + lost.get("global_holdout", 0) == outcomes["holdout"]
    assert document["decided"]["Model"] == "winback version 1"
    assert "score is above 0.3" in document["decided"]["Chosen"]
    assert "dry run" in document["decided"]["Sent through"]  # or a reader takes "sent" for arrived
    assert document["verdict"] in ("works", "no_effect_shown")
    care = json.loads(report_task(project, task(project.store, "care")).data.read_text())
    assert care["verdict"] == "not_yet" and care["contrasts"] == []


def test_command(home: Path, tmp_path: Path) -> None:
    """The command does not say where the page is, or answers a mistake with a traceback."""
    printed = succeeded(cli(home, "report", "--campaign", "comeback", "--date", str(D)))
    page = home / "reports" / "comeback.html"
    effect = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert effect["sentence"] in printed and str(page) in printed
    assert "score not above the threshold" in printed
    assert not PHONE.findall(printed.encode())
    period = ("--from", str(D), "--to", str(D))
    printed = succeeded(cli(home, "report", *period))
    page = home / "reports" / f"all_{D:%Y%m%d}_{D:%Y%m%d}.html"
    assert str(page) in printed and "whom no campaign texts" in page.read_text(encoding="utf-8")
    assert "name nothing else" in errors(cli(home, "report", "care", *period))[0]
    assert "no task is called 'nobody'" in errors(cli(home, "report", "nobody"))[0]


@pytest.mark.parametrize("uneven", [False, True])
def test_asset_and_checks(home: Path, tmp_path: Path, uneven: bool) -> None:
    """An uneven split passes in Dagster, or the asset's metadata lacks what the page says."""
    copied = copy_home(home, tmp_path / "home")
    if uneven:
        _lose_controls(copied)
    definitions = build_definitions(str(copied))
    with dg.DagsterInstance.ephemeral() as instance:
        done = definitions.resolve_job_def(MEASURE).execute_in_process(
            instance=instance,
            tags=range_tags(D, D),
            run_config={"ops": {"effects": {"config": {"when": "always"}}}},
        )
    assert JOB_CONFIG[MEASURE]["ops"]["effects"]["config"]["when"] == "gained"
    metadata = done.asset_materializations_for_node("effects")[0].metadata
    checks = {c.check_name: c for c in done.get_asset_check_evaluations()}
    assert set(checks) == {"every_task_was_measured", "sample_ratio", "arms_are_kept_apart"}
    assert checks["every_task_was_measured"].passed
    assert checks["sample_ratio"].passed is not uneven
    assert checks["sample_ratio"].severity is dg.AssetCheckSeverity.ERROR
    assert metadata["tasks"].value == 2 and metadata["dagster/row_count"].value > 300
    assert str(metadata["comeback: report"].value) == str(copied / "reports" / "comeback.html")
    sentence = str(metadata["comeback: sentence"].value)
    if uneven:
        assert "control" in sentence and sentence in str(
            checks["sample_ratio"].metadata["sentence"].value
        )
    else:
        assert "data:image/png;base64," in str(metadata["comeback: lift"].value)
    page = (copied / "reports" / "comeback.html").read_text(encoding="utf-8")
    assert ("Do not use the lift" in page) is uneven


def _lose_controls(home: Path) -> None:
    """Take most of the control group of ``comeback`` out of its decision, as a fault would."""
    tables = Project(load_settings(home)).warehouse
    listed = ", ".join(f'"{name}"' for name in tables.columns("decisions"))
    with duckdb.connect(config={"threads": 2}) as connection:
        files = [f for names in tables.files("decisions", first=D, last=D).values() for f in names]
        table = (
            connection.read_parquet(files, hive_partitioning=True)
            .filter("task_id = 'comeback' and not (arm = 'control' and \"row\" % 8 > 0)")
            .project(listed)
            .to_arrow_table()
        )
    tables.replace("decisions", table, days=[D], scope={"task_id": "comeback"})
