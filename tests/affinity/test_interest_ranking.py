"""The interest of users in categories: the golden row, the days that count, the table and the asset."""

import json
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from usergrowth_dagster.affinity.interest import COLUMNS, interest_sql, rank_interest
from usergrowth_dagster.affinity.interest_file import Interest, read_interest
from usergrowth_dagster.cli import app
from usergrowth_dagster.defs.build import build_definitions
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.models import load_graph

DAY = date(2024, 12, 15)
ITEMS = """
    select date '2024-01-01' as ds, * from (values
        ('film1', 'genre', 'Action'), ('film2', 'genre', 'Drama'), ('film3', 'genre', 'War'),
        ('film4', 'genre', 'Action'), ('film4', 'genre', 'War'), ('film1', 'studio', 'X')
    ) as t(item_id, category_key, category_value)
"""
MONTHS_AGO = (0, 0, 0, 0, 1, 2, 6, 8, 11)
"""Whole months since the nine events of the golden user: their S is 5.0466, its sigmoid .993610."""


def behavior(rows: str) -> str:
    """Rows of ``stg_behavior`` of (ds, user, item, events, pay)."""
    return f"""
        select cast(ds as date) as ds, user_id, 'buy' as behavior, item_id,
            cast(events as double) as events, cast(null as map(varchar, double)) as hours,
            case when pay is not null then map {{'pay': cast(pay as double)}} end as amounts,
            cast(null as map(varchar, varchar)) as kvs_str
        from (values {rows}) as t(ds, user_id, item_id, events, pay)
    """


GOLDEN = ", ".join(
    [
        *(
            f"(date '{DAY}' - interval {months} month - interval 1 day, 'u1', 'film1', 1, 10)"
            for months in MONTHS_AGO
        ),
        f"(date '{DAY}' - 3, 'u1', 'film2', 7.708164, 999)",
        f"(date '{DAY}' - 1, 'u2', 'film1', 1, 5)",
        f"(date '{DAY}' - 1, 'u3', 'film1', 1, 0)",
        f"(date '{DAY}' - 1, 'u3', 'film3', 9, null)",
        f"(date '{DAY}' - 1, 'u4', 'film3', 4, null)",
    ]
)


def ranked(engine: Engine, rows: str, keys: Interest) -> dict[tuple[str, str], dict[str, object]]:
    """The ranking by category and user."""
    engine.run(f"create or replace table b as {behavior(rows)}")
    engine.run(f"create or replace table i as {ITEMS}")
    found = engine.rows(interest_sql(keys, DAY, "b", "i"))
    lines = [dict(zip(COLUMNS, row, strict=True)) for row in found]
    return {(str(line["category"]), str(line["user_id"])): line for line in lines}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(make_home(tmp_path / "home", {}))


def test_the_golden_row(project: Project) -> None:
    """Guards against another decay, a scale over all categories, and parts that are not summed."""
    keys = Interest(category="genre", amount="pay")
    with open_engine(project.settings) as engine:
        rows = ranked(engine, GOLDEN, keys)
    golden = rows["Action", "u1"]
    parts = [golden[name] for name in ("time_score", "amount_score", "term_score")]
    assert [round(float(str(part)), 6) for part in parts] == [0.993610, 1.000000, 0.487399]
    assert round(float(str(golden["interest"])), 6) == 2.481009
    assert golden["rank"] == 1 and golden["events"] == 9 and golden["amount"] == 90
    assert rows["Action", "u2"]["term_score"] == 1 and rows["Action", "u3"]["term_score"] == 0
    assert rows["Action", "u2"]["amount_score"] == pytest.approx(5 / 90)
    assert rows["War", "u4"]["amount_score"] == 0  # all of the category are equal
    assert rows["Drama", "u1"]["term_score"] == 0  # there is nobody to compare with


def test_nothing_of_the_date_or_later_counts(project: Project) -> None:
    """Guards against a ranking that sees the future, and kinds and values that are mixed up."""
    keys = Interest(category="genre", amount="pay", top=1)
    later = f", (date '{DAY}', 'u3', 'film1', 99, 99), (date '{DAY}' + 9, 'u9', 'film1', 99, 99)"
    with open_engine(project.settings) as engine:
        rows = ranked(engine, GOLDEN, keys)
        assert ranked(engine, GOLDEN + later, keys) == rows
        assert {category for category, _ in rows} == {"Action", "Drama", "War"} and len(rows) == 3
        both = ranked(engine, f"(date '{DAY}' - 1, 'u5', 'film4', 2, 6)", keys)
        assert both["Action", "u5"]["events"] == both["War", "u5"]["events"] == 2
        assert ranked(engine, GOLDEN, Interest(category="genre", behaviors=("view",))) == {}


@pytest.fixture
def home(project: Project) -> Path:
    """A home with behavior, items and an interest.yml."""
    graph = load_graph()
    with open_engine(project.settings) as engine:
        engine.run(f"create table b as {behavior(GOLDEN)}")
        engine.run(f"create table i as {ITEMS}")
        for table, source in (("stg_behavior", "b"), ("item_category", "i")):
            columns = ", ".join(graph.types(table))
            days = [row[0] for row in engine.rows(f"select distinct ds from {source}")]
            rows = engine.arrow(f"select {columns} from {source}")
            project.warehouse.replace(table, rows, days=days)
    (project.settings.home / "interest.yml").write_text("category: genre\namount: pay\n")
    return project.settings.home


def test_the_table_is_written_once_and_shown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a table that is rewritten for nothing, and one that keeps old definitions."""
    first = rank_interest(Project.open(home), DAY)
    assert (first.rows, first.unchanged) == (6, False)
    assert rank_interest(Project.open(home), DAY).unchanged
    (home / "interest.yml").write_text("category: genre\namount: pay\ntop: 1\n")
    assert rank_interest(Project.open(home), DAY).rows == 3
    arguments = ["interest", "--date", str(DAY), "--category", "Action", "--home", str(home)]
    ran = CliRunner().invoke(app, [*arguments, "--json"])
    (row,) = json.loads(ran.stdout)["rows"]
    assert (row["user_id"], round(row["interest"], 6)) == ("u1", 2.481009)
    assert "2.481009" in CliRunner().invoke(app, arguments).stdout
    monkeypatch.setenv("USERGROWTH_HOME", str(home))
    definitions = build_definitions(str(home))
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_job_def("interest").execute_in_process(
            instance=instance, partition_key=str(DAY)
        )
        (event,) = result.get_asset_materialization_events()
    assert event.materialization.metadata["dagster/row_count"].value == 3
    spec = definitions.resolve_asset_graph().get(dg.AssetKey("interest_ranking"))
    assert spec.parent_keys == {dg.AssetKey("stg_behavior"), dg.AssetKey("item_category")}


def test_a_mistake_is_a_sentence(home: Path) -> None:
    """Guards against an empty ranking of a category that is misspelled, and a traceback."""
    path = home / "interest.yml"
    for text, sentence in {
        "category: gender\n": "no item of 2024-01-01 has the attribute 'gender'; they have genre, studio",
        "category: genre\namount: pya\n": "amount: no behavior of the 365 days .* has 'pya'; they have pay",
        "category: genre\nbehaviors: [view]\n": "behaviors: .* has 'view'; they have buy",
        "categori: genre\n": "categori: unknown key; did you mean 'category'",
        "category: genre\ndecay: 0\n": r"interest\.yml: decay: ",
    }.items():
        path.write_text(text)
        with pytest.raises(UserError, match=sentence) as error:
            rank_interest(Project.open(home), DAY)
        assert error.value.code == "affinity.invalid"
    build_definitions(str(home))
    path.write_text("category: genre\n")
    with pytest.raises(UserError, match="no behavior of the days before 2020-01-01"):
        rank_interest(Project.open(home), date(2020, 1, 1))
    path.unlink()
    with pytest.raises(UserError, match="is not there; write at least"):
        read_interest(path)
    names = {s.key.to_user_string() for s in build_definitions(str(home)).resolve_all_asset_specs()}
    assert "interest_ranking" not in names
