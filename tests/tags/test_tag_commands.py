"""The commands about tags, and the table behind them, on a small world."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from chain_world import D, World, cli, copy_home, errors, rows, succeeded, warehouse

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.tags.definition import FILE_NAME, parse_catalogue
from usergrowth_dagster.tags.run import run_tags
from usergrowth_dagster.views.tags import check_catalogue

TAGS = """
tags:
  - {key: regular, name: Regular, name_zh: 常客, rule: active_days_30d >= 4}
  - {key: recency, rule: recency_days, type: float}
  - {key: events_14d, statistic: {sum: events, days: 14}}
  - {key: busy_days, statistic: {days_with: "events > 2", days: 28}}
  - {key: last_day, statistic: {max: ds, days: 60}}
  - {key: risk, score: {question: churn}}
  - {key: risk_band, score: {question: churn, bands: {low: 0.4, high: 1}}, sensitivity: personal}
  - {key: vip, type: bool, upload: vip.csv, deprecated_by: regular}
rfm: {orders: [buy], amount: pay}
aipl:
  interest: [{behavior: [login]}]
  purchase: [{behavior: [buy]}]
"""


@pytest.fixture(scope="module")
def home(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decided home with a catalogue, whose tags of D and the day before are worked out."""
    made = copy_home(world.decided, tmp_path_factory.mktemp("tags") / "home")
    (made / "landing" / "tags").mkdir()
    one, two, three = (
        user for (user,) in rows(made, "user_features", f"ds = '{D}'", "user_id")[:3]
    )
    (made / "landing" / "tags" / "vip.csv").write_text(
        f"user_id,value\n{one},true\n{two},perhaps\n{three},true\n{three},false\n,true\n"
    )
    (made / FILE_NAME).write_text(TAGS)
    project = Project(load_settings(made))
    run_tags(project, D - timedelta(days=1))
    run_tags(project, D)
    return made


def tag_rows(home: Path, columns: str, where: str = "true") -> list[tuple[object, ...]]:
    """Rows of the table of D."""
    return rows(home, "user_tags", f"ds = '{D}' and {where}", columns)


def test_everyone_known_has_one_row(home: Path) -> None:
    """A join that doubles or loses users; a statistic of days on or after D."""
    users = [user for (user,) in tag_rows(home, "user_id")]
    known = [user for (user,) in rows(home, "user_features", f"ds = '{D}'", "user_id")]
    assert users == known and len(set(users)) == len(users) > 100
    facts = rows(
        home,
        "user_day",
        f"ds between '{D - timedelta(days=14)}' and '{D - timedelta(days=1)}'",
        "user_id, events",
    )
    expected: dict[str, float] = {}
    for user, events in facts:
        expected[user] = expected.get(user, 0) + events
    tagged = dict(tag_rows(home, "user_id, events_14d", "events_14d is not null"))
    assert tagged == pytest.approx(expected)
    assert max(day for (day,) in tag_rows(home, "last_day", "last_day is not null")) < D
    scored = dict(rows(home, "scores", f"ds = '{D}'", "user_id, score"))
    assert dict(tag_rows(home, "user_id, risk", "risk is not null")).keys() <= scored.keys()
    bands = tag_rows(home, "risk <= 0.4, risk_band", "risk is not null")
    assert set(bands) == {(True, "low"), (False, "high")}
    groups = rows(home, "rfm", f"ds = '{D}'", "rfm_type")
    assert len(groups) == len(users) and len(set(groups)) > 3


def test_commands_show_them(home: Path) -> None:
    """A personal value or an unclear upload line that shows; a flow that loses users."""
    again = succeeded(cli(home, "tags", "run", "--date", str(D)))
    assert again.count("unchanged") == 3
    assert "vip: 1 not bool, 2 with two values, 1 without a user of 5 lines were left out" in again
    listed = json.loads(succeeded(cli(home, "tags", "list", "--json")))
    by_key = {one["tag"]: one for one in next(v for k, v in listed.items() if k.startswith("tags"))}
    assert by_key["vip"]["users"] == 1 and by_key["vip"]["remark"] == "use regular instead"
    assert by_key["risk_band"]["values"] == "hidden" and by_key["regular"]["values"] != "hidden"
    shown = succeeded(cli(home, "tags", "show", str(tag_rows(home, "user_id")[0][0])))
    assert "risk_band" in shown and " low" not in shown and " high" not in shown
    groups = succeeded(cli(home, "tags", "groups", "rfm"))
    assert "重点挽留" in groups and "the mean score of the buyers" in groups
    for table in ("rfm", "aipl"):
        flow = json.loads(succeeded(cli(home, "tags", "flow", table, "--json")))
        counted = sum(
            value
            for line in next(v for v in flow.values() if v)
            for key, value in line.items()
            if isinstance(value, int)
        )
        days = f"ds in ('{D}', '{D - timedelta(days=1)}')"
        assert counted == len({user for (user,) in rows(home, table, days, "user_id")})


def test_job_of_the_ui_makes_the_same(home: Path) -> None:
    """Assets that write other rows than the command, or a job that the code location lacks."""
    import dagster as dg

    from usergrowth_dagster.defs.build import build_definitions

    definitions = build_definitions(str(home))
    before = {t: warehouse(home).version(t) for t in ("rfm", "aipl", "user_tags")}
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_job_def("tags").execute_in_process(
            partition_key=str(D), instance=instance
        )
    assert result.success
    assert {t: warehouse(home).version(t) for t in before} == before
    metadata = {
        event.asset_key.path[-1]: event.step_materialization_data.materialization.metadata
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }
    assert "flow picture" in metadata["rfm"] and "catalogue" in metadata["user_tags"]


WRONG = {
    "tags: []": "give tags, texts, rfm or aipl",
    "tags: [{key: A, rule: events_7d}]": "tags.0.key",
    "tags: [{key: a}]": "give one of rule, statistic, score, upload",
    "tags: [{key: ds, rule: events_7d}]": "a column of every table",
    "tags: [{key: a, rule: events_7d}, {key: a, rule: events_7d}]": "two tags have the key 'a'",
    "tags: [{key: a, rule: events_7}]": "did you mean 'events_7d'?",
    "tags: [{key: a, rule: 'sum(events_7d)'}]": "sum is of many rows",
    "tags: [{key: a, rule: 'events_7d, 1'}]": "no comma separates several",
    "tags: [{key: a, rule: '(select 1)'}]": "it may not hold a query",
    "tags: [{key: a, rule: 'getenv(''HOME'')'}]": "getenv",
    "tags: [{key: a, rule: attribute_num}]": "its values are MAP",
    "tags: [{key: a, type: bool, rule: events_7d}]": "the tag's type is bool",
    "tags: [{key: a, statistic: {sum: kinds, days: 7}}]": "statistic.sum",
    "tags: [{key: a, statistic: {days_with: events, days: 7}}]": "is a condition",
    "tags: [{key: a, statistic: {sum: events}}]": "days: required",
    "tags: [{key: a, score: {question: churn, bands: {x: 1, y: 0.5}}}]": "rise in the order given",
    "tags: [{key: a, upload: a.csv}]": "type: an upload needs one",
    "tags: [{key: a, type: bool, upload: ../a.csv}]": "below tags/ of the landing root",
    "tags: [{key: a, type: bool, upload: none.csv}]": "there is no such file",
    "tags: [{key: a, rule: events_7d, deprecated_by: b}]": "there is no tag 'b'",
    "rfm: {orders: []}": "rfm.orders",
    "rfm: {orders: [buy], recency: [90, 30]}": "cuts rise",
    "rfm: {orders: [buy], scoring: quintiles, monetary: [1, 2]}": "quintiles have no cuts",
    "aipl: {}": "at least one stage",
    "aipl: {loyal: [{behavior: [buy], amount: pay}]}": "belong together",
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_catalogue_is_one_sentence(home: Path, text: str) -> None:
    """A mistake in tags.yml that ends in a traceback, or in a sentence without its place."""
    with pytest.raises(UserError) as caught:
        catalogue = parse_catalogue(text, FILE_NAME)
        from usergrowth_dagster.tags.user_tags import check_tags

        check_tags(Project(load_settings(home)), catalogue.tags)
    sentence = str(caught.value)
    assert WRONG[text] in sentence and FILE_NAME in sentence and "\n" not in sentence


def test_what_is_not_there_is_said(world: World, tmp_path: Path) -> None:
    """A missing catalogue, table or date that passes in silence; a column of two types."""
    home = copy_home(world.decided, tmp_path / "home")
    assert "tags.yml: cannot be read" in errors(cli(home, "tags", "check"))[0]
    (home / FILE_NAME).write_text("tags: [{key: a, rule: events_7d}]")
    project = Project(load_settings(home))
    assert "no tags have been worked out" in succeeded(cli(home, "tags", "list"))
    assert "has not been worked out" in errors(cli(home, "tags", "groups", "rfm"))[0]
    run_tags(project, D)
    (home / FILE_NAME).write_text("tags: [{key: a, rule: events_7d > 1}]")
    with pytest.raises(UserError, match="give the tag another key"):
        check_catalogue(project)
    (home / FILE_NAME).write_text("tags: [{key: b, rule: events_7d > 1}]")
    run_tags(project, D)
    assert {"a", "b"} <= set(warehouse(home).columns("user_tags"))
    counted = cli(home, "sql", "select count(a), count(b) from user_tags", "--format", "csv")
    assert succeeded(counted).splitlines()[1].startswith("0,")
