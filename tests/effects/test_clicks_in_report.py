"""From a plan with links, through the receiver and the landed clicks, to a report and a feature."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from chain_world import (
    D,
    World,
    approve,
    campaign,
    cli,
    copy_home,
    day,
    outbox,
    rows,
    succeeded,
    world,
    write_people,
)
from fastapi.testclient import TestClient

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import parse_campaign
from usergrowth_dagster.control.tasks import task
from usergrowth_dagster.defs.effect_assets import _metadata
from usergrowth_dagster.measure.report import Report, report_task
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.texts.links import LENGTH
from usergrowth_dagster.pipeline.decide import decide_task
from usergrowth_dagster.pipeline.output import write_task_output
from usergrowth_dagster.pipeline.populate import load_population
from usergrowth_dagster.pipeline.score import score_task
from usergrowth_dagster.pipeline.send import plan_task
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literals
from usergrowth_dagster.serve.app import make_app
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.build import Builder
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.landing import land_days
from usergrowth_dagster.warehouse.models import load_graph

__all__ = ["world"]
ROOT, OFFER = "https://s.example.com", "https://shop.example/offer"
BROWSER = "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 Chrome/125.0 Mobile"
LONG = (
    "{name: spring, content: '${name}, ${link} 拒收请回复R', link: 'https://shop.example/offer', "
    "variants: {gift: {content: 'A gift for ${name}: ${link} 拒收请回复R'}, "
    "none: {content: '${name}, come back. 拒收请回复R'}}}"
)
Clicked = dict[str, set[str]]


def sent(home: Path) -> Project:
    """The campaign with two links and a text without, decided and sent on D."""
    source = home / "landing" / "population" / "care" / "population.csv"
    write_people(home, "spring", source.read_text("utf-8").splitlines())
    project = Project(load_settings(home, link_domain=ROOT))
    changes = {
        "algorithm": "churn",
        "selection": "{threshold: 0.02}",
        "holdout": "{share: 0.3}",
        "template": LONG,
        "contact": "{cap_messages: 50}",
        "effect": "{return_behaviors: [buy]}",
    }
    apply_campaign(project.store, parse_campaign(campaign("spring", **changes)), "ann")
    approve(home, "spring", "gift", "none")
    load_population(project, task(project.store, "spring"))
    score_task(project, task(project.store, "spring"))
    decide_task(project, task(project.store, "spring"))
    write_task_output(project, task(project.store, "spring"))
    plan_task(project, task(project.store, "spring"))
    dispatch(project.store, project.settings)
    with project.store.write() as connection:
        earlier = datetime.now(UTC) - timedelta(minutes=5)
        connection.execute(schema.batch.update().values(submitted_time=earlier))
    return project


def call(project: Project, home: Path) -> Clicked:
    """Every third person calls the link, some twice; a scanner calls every fourth. By variant."""
    tokens = {}
    for line in map(json.loads, outbox(home)):
        token = str(line["text"]).partition(f"{ROOT}/")[2][:LENGTH]
        if token:
            tokens[line["user_id"]] = token
    variant = dict(rows(home, "decisions", "task_id = 'spring'", "user_id, variant"))
    clicked: Clicked = {"spring": set(), "gift": set()}
    with TestClient(make_app(project.settings), base_url=ROOT, follow_redirects=False) as client:
        for place, (user, token) in enumerate(sorted(tokens.items())):
            agents = [BROWSER] * (place % 3 == 0) + [BROWSER] * (place % 9 == 0)
            agents += ["Slackbot 1.0"] * (place % 4 == 0)
            for agent in agents:
                answer = client.get(f"/{token}", headers={"user-agent": agent})
                assert (answer.status_code, answer.headers["location"]) == (302, OFFER)
            if place % 3 == 0:
                clicked[variant[user]].add(user)
    return clicked


def features_of_the_next_day(project: Project) -> None:
    """Land the behavior of D, and make the features of the day after."""
    settings, tables = project.settings, project.warehouse
    land_days(settings, project.landing, tables, "behavior", [D])
    builder = Builder(settings, tables)
    facts = ("stg_behavior", "user_item_day", "user_day", "daily_activity")
    builder.build_with_inputs(facts, [D])
    for model in load_graph().chain("user_features"):
        builder.build(model, [day(-1)])


def bought(project: Project, users: Iterable[str]) -> None:
    """These people buy on the day after D; on the others somebody else does."""
    types = load_graph().types("stg_behavior")
    known = {"user_id": "u", "behavior": "'buy'", "events": "1"}
    for ahead in range(1, 29):
        ds = day(-ahead)
        cells = known | {"ds": f"date '{ds}'"}
        listed = ", ".join(
            f"cast({cells.get(n, 'null')} as {kind}) as {n}" for n, kind in types.items()
        )
        with open_engine(project.settings) as engine:
            named = literals([*(users if ahead == 1 else []), "somebody else"])
            table = engine.arrow(f"select {listed} from (select unnest([{named}]::varchar[]) as u)")
        project.warehouse.replace("stg_behavior", table, days=[ds])


def by_arm(home: Path) -> dict[str, set[str]]:
    """The users drawn for each text and for the control group."""
    users: dict[str, set[str]] = {}
    for user, variant, outcome in rows(
        home, "decisions", "task_id = 'spring'", "user_id, variant, outcome"
    ):
        if outcome in ("selected", "holdout"):
            users.setdefault(variant if outcome == "selected" else "control", set()).add(user)
    return users


def test_clicks_from_the_plan_to_the_report(world: World, tmp_path: Path) -> None:
    """Clicks that get lost on the way, are counted twice, or move what counts as an effect."""
    home = copy_home(world.decided, tmp_path / "home")
    project = sent(home)
    clicked = call(project, home)
    printed = succeeded(cli(home, "clicks", "land", "--date", str(D)))
    everybody = clicked["spring"] | clicked["gift"]
    assert f"{len(everybody)} " in printed and "written" in printed

    features_of_the_next_day(project)
    counted = dict(
        rows(home, "user_features", f"ds = '{day(-1)}'", "user_id, kind_events_1d['click']")
    )
    assert {user for user, events in counted.items() if events} == everybody
    assert {events for events in counted.values() if events} == {1.0, 2.0}
    before = rows(home, "user_features", f"ds = '{D}'", "map_keys(kind_events_lookback)")
    assert "click" not in str(before), "a feature of the day itself knows of its clicks"

    arms = by_arm(home)
    buyers = {name: set(sorted(users)[::4]) for name, users in arms.items()}
    bought(project, sorted(set().union(*buyers.values())))
    report = report_task(project, task(project.store, "spring"))
    check_arms(report, arms, clicked, buyers)
    check_shown(report, home)
    project.store.close()


def check_arms(
    report: Report, arms: dict[str, set[str]], clicked: Clicked, buyers: dict[str, set[str]]
) -> None:
    """The figures of each arm are those of the people who called and who bought."""
    assert report.effect.clicks is not None and report.effect.complete
    paths = {path.name: path for path in report.effect.clicks.arms}
    assert list(paths) == ["gift", "none", "spring", "control"]
    returned = {arm.name: arm.returned for arm in report.effect.arms}
    for name, path in paths.items():
        assert path.steps["planned"] == len(arms[name])
        assert path.returned == len(buyers[name]) == returned[name]
        lost = {loss.reason: loss.rows for loss in path.losses}
        if name in clicked:
            assert path.steps["clicked"] == len(clicked[name]) > 10
            assert path.steps["converted"] == len(clicked[name] & buyers[name]) > 0
            assert path.bots == lost["only_bots"] > 0
            assert path.steps["sent"] == path.steps["eligible"] == len(arms[name])
            assert path.blanks == {"delivered": "no_reports"}
        elif name == "none":
            assert path.blanks["clicked"] == "no_link" and path.steps["sent"] == len(arms[name])
        else:
            assert set(path.blanks.values()) == {"held_out"} and not lost
    (pair,) = report.effect.clicks.contrasts
    assert (pair.one, pair.other) == ("gift", "spring")
    assert pair.difference.value == pytest.approx(
        len(clicked["gift"]) / len(arms["gift"]) - len(clicked["spring"]) / len(arms["spring"])
    )


def check_shown(report: Report, home: Path) -> None:
    """The page, the command and Dagster show the clicks, each beside what texts brought."""
    page = report.page.read_text(encoding="utf-8")
    assert "A click is no effect" in page and "Who clicked, arm by arm" in page
    assert "gift against spring" in page and "nothing was sent: held out" in page
    document = json.loads(report.data.read_text(encoding="utf-8"))
    assert [arm["name"] for arm in document["clicks"]["arms"]] == [
        *("gift", "none", "spring", "control")
    ]
    shown = _metadata({"spring": report})
    assert {"spring: by arm", "spring: clicks compared"} <= shown.keys()
    printed = succeeded(cli(home, "report", "spring", USERGROWTH_LINK_DOMAIN=ROOT))
    assert "From the plan to the click, by arm" in printed and "A click is no effect" in printed
    assert "gift against spring" in printed
