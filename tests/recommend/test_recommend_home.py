"""Recommendations of a home: tables, asset, files, and a campaign whose text shows an item."""

import json
from datetime import timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from support.ring_of_items import (
    BLOCKED,
    DAY,
    GONE,
    ITEMS,
    KEYS,
    SOLD_OUT,
    USERS,
    walks,
    write,
)
from typer.testing import CliRunner

from usergrowth_dagster.cli import app
from usergrowth_dagster.defs.build import build_definitions
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.messaging.texts.content import render
from usergrowth_dagster.project import Project
from usergrowth_dagster.recommend.definition import read_recommend
from usergrowth_dagster.recommend.landed import bind_inputs, read_landed
from usergrowth_dagster.recommend.nightly import recommend_day
from usergrowth_dagster.recommend.saved import load_saved
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.recommendations import bind_recommendations


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with behavior, items and a recommend.yml, recommended on a date."""
    project = Project(make_home(tmp_path_factory.mktemp("recommend") / "home", {}))
    noise = [(DAY - timedelta(days=3), f"u{n}", "view", "i20") for n in range(USERS)]
    future = [(DAY + timedelta(days=n % 2), f"u{n}", "buy", "i10") for n in range(USERS)]
    write(project, [*walks(), *noise, *future])
    (project.settings.home / "recommend.yml").write_text(KEYS)
    done = recommend_day(project, DAY)
    assert done.rows > 5 * USERS and done.route_rows and not done.unchanged and done.tried
    return project.settings.home


def lists(home: Path) -> dict[str, list[tuple[str, str]]]:
    """Item and routes of each user's list, in order."""
    project = Project.open(home)
    with open_engine(project.settings) as engine:
        table = bind_recommendations(engine, project.warehouse, DAY)
        rows = engine.rows(f"select user_id, item_id, routes from {table} order by user_id, rank")
    made: dict[str, list[tuple[str, str]]] = {}
    for user, item, routes in rows:
        made.setdefault(user, []).append((item, routes))
    return made


def test_lists_hold_what_follows_and_nothing_that_may_not_be_shown(home: Path) -> None:
    """Guards against the future, views, sold-out, blocked and vanished items, and a lost cap."""
    made = lists(home)
    bought: dict[str, list[str]] = {}
    for _, user, _, item in walks():
        bought.setdefault(user, []).append(item)
    assert set(made) == {*bought, ""}
    hits = 0
    for user, items in bought.items():
        got = [item for item, _ in made[user]]
        assert not {*items, SOLD_OUT, BLOCKED, GONE} & set(got) and len(set(got)) == len(got) <= 6
        assert max(np.bincount([int(item[1:]) % 3 for item in got])) <= 4
        hits += f"i{(int(items[-1][1:]) + 1) % ITEMS:02d}" in got[:3]
    assert hits > 0.7 * USERS
    assert recommend_day(Project.open(home), DAY).unchanged


def test_what_lands_on_the_date_or_later_changes_nothing(home: Path, tmp_path: Path) -> None:
    """Guards against features of the future; without the later rows the lists are the same."""
    project = Project(make_home(tmp_path / "home", {}))
    write(project, walks())
    (project.settings.home / "recommend.yml").write_text(KEYS)
    recommend_day(project, DAY)
    assert lists(project.settings.home) == lists(home)


def test_the_saved_recommender_answers_as_the_table_does(home: Path) -> None:
    """Guards against a file that loses a route, the order or a filter, and a pickle that runs code."""
    made = load_saved(home / "recommend" / f"{DAY}.npz").recommender
    table = lists(home)
    for user in ("u0", "u9", "stranger"):
        alone = [(one.item_id, ",".join(one.routes)) for one in made.recommend(user, 6)]
        assert alone == table.get(user, table[""])
    with np.load(home / "recommend" / f"{DAY}.npz", allow_pickle=False) as archive:
        assert all(archive[name].dtype.kind in "iufb" for name in archive.files)


def test_the_slice_of_the_order_is_later_than_what_its_routes_learn(home: Path) -> None:
    """Guards against an order that is chosen on what its routes know by heart."""
    project = Project.open(home)
    keys = read_recommend(home / "recommend.yml")
    with open_engine(project.settings) as engine:
        landed = read_landed(engine, bind_inputs(engine, project, keys, DAY), keys, DAY)
    early, slice_items = landed.before(7), landed.next_items(7)
    for user, item in enumerate(slice_items.tolist()):
        if item >= 0:
            assert item not in early.item[early.user == user]
    assert (slice_items >= 0).sum() > 10


def test_the_asset_writes_both_tables(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against an asset that is not in the code location, or has no rows or dependencies."""
    monkeypatch.setenv("USERGROWTH_HOME", str(home))
    definitions = build_definitions(str(home))
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_job_def("recommend").execute_in_process(
            instance=instance, partition_key=str(DAY)
        )
        counts = {
            event.asset_key.to_user_string(): event.materialization.metadata["dagster/row_count"]
            for event in result.get_asset_materialization_events()
        }
    assert counts.keys() == {"recommendations", "recommendation_routes"}
    assert all(one.value > 100 for one in counts.values())
    spec = definitions.resolve_asset_graph().get(dg.AssetKey("recommendations"))
    assert spec.parent_keys == {dg.AssetKey("stg_behavior"), dg.AssetKey("stg_item")}


def run(home: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a command about recommendations."""
    done = CliRunner().invoke(app, ["recommend", *arguments, "--home", str(home)])
    if isinstance(done.exception, UserError):
        return 2, str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_a_text_shows_the_item_that_is_recommended(home: Path, tmp_path: Path) -> None:
    """Guards against ids instead of titles, a stranger without an item, and lost columns."""
    source, filled = tmp_path / "population.csv", tmp_path / "filled.csv"
    source.write_text('user_id,item_id,phone,city\nu0,0,,"A, B"\nstranger,0,,C\n')
    code, said = run(home, "fill", str(source), "-o", str(filled), "--date", str(DAY), "--n", "2")
    assert code == 0 and "2 users; 1 of them have no list" in said
    header, *rows = [line.split(";") for line in _parted(filled)]
    assert header == ["user_id", "item_id", "phone", "city", "item", "item_2"]
    table = lists(home)
    for row in rows:
        first, second, *_ = table.get(row[0], table[""])
        assert row[4:] == [f"Item {int(first[0][1:])}", f"Item {int(second[0][1:])}"]
        text = render("For you: ${item}. Reply STOP.", dict(zip(header, row, strict=True)))
        assert text == f"For you: {row[4]}. Reply STOP."
    assert rows[0][3] == "A, B"
    code, said = run(home, "fill", str(filled), "-o", str(tmp_path / "x"), "--date", str(DAY))
    assert code == 2 and "the column item is there already" in said
    assert not (tmp_path / "x").exists()


def _parted(path: Path) -> list[str]:
    import csv

    with path.open(newline="") as lines:
        return [";".join(row) for row in csv.reader(lines)]


def test_the_batch_file_and_the_page_say_what_the_table_does(home: Path, tmp_path: Path) -> None:
    """Guards against a batch file of another order, and a page of another user's list."""
    path = tmp_path / "batch.json"
    assert run(home, "export", "-o", str(path), "--date", str(DAY), "--n", "3")[0] == 0
    batch = [json.loads(line) for line in path.read_text().splitlines()]
    table = lists(home)
    assert {one["input"]["userId"]: one["output"]["recommendedItems"] for one in batch} == {
        user: [item for item, _ in items][:3] for user, items in table.items() if user
    }
    assert all(one["output"]["scores"] == sorted(one["output"]["scores"])[::-1] for one in batch)
    _, shown = run(home, "show", "u0", "--date", str(DAY), "--json")
    assert [row["item"] for row in json.loads(shown)[f"items_on_{DAY}".replace("-", "_")]] == [
        item for item, _ in table["u0"]
    ]
    assert "the popular items" in run(home, "show", "stranger", "--date", str(DAY))[1]
    code, said = run(home, "export", "-o", str(path), "--date", str(DAY))
    assert code == 2 and "is there already" in said


def test_a_mistake_is_a_sentence(home: Path, tmp_path: Path) -> None:
    """Guards against a traceback, and recommendations of nothing."""
    project = Project(make_home(tmp_path / "home", {}))
    with pytest.raises(UserError, match="is not there; write at least"):
        recommend_day(project, DAY)
    path = project.settings.home / "recommend.yml"
    path.write_text("topp: 3\n")
    with pytest.raises(UserError, match="topp: unknown key; did you mean 'top'"):
        recommend_day(project, DAY)
    path.write_text("behaviors: [pay]\n")
    with pytest.raises(UserError, match="no behavior of the 180 days before 2024-03-01 stands"):
        recommend_day(project, DAY)
    write(project, walks())
    with pytest.raises(UserError, match="has an item and is of the kinds pay"):
        recommend_day(project, DAY)
    for key, known in {"category: gender": "genre, name", "stock: genre": "stock"}.items():
        path.write_text(f"{key}\n")
        with pytest.raises(UserError, match=f"no item of .* has the attribute .* have {known}"):
            recommend_day(project, DAY)
    code, said = run(project.settings.home, "export", "-o", str(tmp_path / "x"), "--date", str(DAY))
    assert code == 2 and f"usergrowth recommend run --date {DAY}" in said
    assert not (tmp_path / "x").exists()


def test_a_home_of_few_rows_gets_lists_too(tmp_path: Path) -> None:
    """Guards against a traceback where nothing lies before the slice, or behind it."""
    project = Project(make_home(tmp_path / "home", {}))
    (project.settings.home / "recommend.yml").write_text("top: 3\nslice_days: 7\n")
    for back in (2, 20):
        days = [DAY - timedelta(days=back)] * 3
        rows = [(day, f"u{n}", "buy", f"i{n:02d}") for n, day in enumerate(days)]
        write(project, [*rows, (days[0], "u0", "buy", "i01")])
        done = recommend_day(project, DAY)
        assert done.rows and done.order
