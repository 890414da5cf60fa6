"""Campaigns on segments: who goes on, which snapshot is bound, and what a stale segment holds."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from chain_world import (
    D,
    World,
    approve,
    copy_home,
    day,
    ledger,
    outbox,
    rows,
    write_campaign,
    write_people,
)

from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import load_campaign
from usergrowth_dagster.control.tasks import task
from usergrowth_dagster.defs.jobs import DECIDE
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.examples.datasets import example
from usergrowth_dagster.explain.replay import replay_task
from usergrowth_dagster.explain.why import why
from usergrowth_dagster.homes.home import open_home
from usergrowth_dagster.messaging.schedules.occurrences import occurrences_of
from usergrowth_dagster.people.forget import forget
from usergrowth_dagster.pipeline.decide import decide_task
from usergrowth_dagster.pipeline.freshness import held_by_segments, require_fresh
from usergrowth_dagster.pipeline.output import write_task_output
from usergrowth_dagster.pipeline.populate import load_population
from usergrowth_dagster.pipeline.provenance import read_provenance
from usergrowth_dagster.pipeline.score import score_task
from usergrowth_dagster.pipeline.send import dispatch_due, plan_task
from usergrowth_dagster.project import Project
from usergrowth_dagster.recommend.nightly import recommend_day
from usergrowth_dagster.runs.execute import execute
from usergrowth_dagster.segments.files import segment_named
from usergrowth_dagster.segments.refresh import refresh
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.views.segments import stale_segments

LIVELY = "refresh: daily\nwhere: {feature: {name: events_7d, cmp: gt, value: 3}}\n"


@pytest.fixture
def home(world: World, tmp_path: Path, here: None) -> Path:
    return copy_home(world.decided, tmp_path / "home")


def write_segment(home: Path, name: str, text: str) -> None:
    folder = home / "segments"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yml").write_text(text, encoding="utf-8")


def applied(
    home: Path, project: Project, name: str, *, uploaded: bool = True, **changes: str
) -> None:
    """A campaign of the home, its texts approved; ``uploaded``: with a population."""
    path = write_campaign(home, name, **changes)
    if not uploaded:
        text = path.read_text("utf-8")
        path.write_text(text.replace(f"population: population/{name}\n", ""), "utf-8")
    apply_campaign(project.store, load_campaign(path), "ann")
    approve(home, name)


def decided(project: Project, name: str) -> Counter[str]:
    """Everything up to the decision; rows by outcome."""
    load_population(project, task(project.store, name))
    score_task(project, task(project.store, name))
    made = decide_task(project, task(project.store, name))
    write_task_output(project, task(project.store, name))
    return Counter(made.outcomes)


def users(home: Path, table: str, where: str) -> set[str]:
    return {user for (user,) in rows(home, table, where, "user_id")}


def test_a_segment_filters_an_upload(home: Path) -> None:
    """Guards against rows that vanish, a decision that follows a later snapshot, and no answer."""
    project = Project(load_settings(home))
    write_people(home, "few")
    write_segment(home, "lively", LIVELY)
    applied(home, project, "few", selection="{segment: lively, top_n: 10}")
    outcomes = decided(project, "few")
    inside = users(home, "user_features", f"ds = '{D}' and events_7d > 3")
    uploaded = users(home, "population", "task_id = 'few'")
    mine = "task_id = 'few'"
    assert sum(outcomes.values()) == len(uploaded) == 60
    assert users(home, "decisions", f"{mine} and outcome = 'not_in_segment'") == uploaded - inside
    assert 0 < outcomes["not_in_segment"] < 60 and outcomes["selected"] > 0
    (noted,) = read_provenance(project.warehouse, "few").values()
    assert noted.segment is not None and noted.segment["segment"] == "lively"
    first = noted.segment["snapshot"]
    left_out = min(uploaded - inside)
    (story,) = why(project, left_out, campaign="few").tasks
    assert story.sentence == "got nothing: not in the snapshot of the campaign's segment"
    (step,) = [one for one in story.steps if one.answer == "no"]
    assert (step.question, step.detail) == ("in the segment lively", f"snapshot {first}")
    planned = plan_task(project, task(project.store, "few"))
    write_segment(home, "lively", LIVELY.replace("gt, value: 3", "ge, value: 0"))
    refresh(project, segment_named(home, "lively"), D, actor="ann")
    assert decide_task(project, task(project.store, "few")).state == "unchanged"
    assert plan_task(project, task(project.store, "few")).people == planned.people
    (replayed,) = replay_task(project, "few")
    assert replayed.state == "equal", replayed.sentence
    assert any(check.part == "segment" for check in replayed.checks)


def test_a_stale_segment_holds_a_campaign(home: Path) -> None:
    """Guards against texts to yesterday's people, a plan sent by halves, and silence about it."""
    project = Project(load_settings(home))
    write_people(home, "few")
    write_segment(home, "base", LIVELY)
    write_segment(home, "lively", "refresh: daily\nwhere: {segment: {name: base}}\n")
    applied(home, project, "few", selection="{segment: lively, top_n: 10}")
    write_segment(home, "base", "refresh: daily\nwhere: {feature: {name: nothing, value: 1}}\n")
    with pytest.raises(
        UserError, match="segment lively is stale: of segment base, which it reads"
    ) as raised:
        decided(project, "few")
    assert raised.value.code == "segment.stale"
    assert f"usergrowth segment refresh base --date {D}`" in str(raised.value)
    write_segment(home, "base", LIVELY)
    outcomes = decided(project, "few")
    write_segment(home, "lively", f"valid_until: 2017-01-01\n{LIVELY}")
    with pytest.raises(UserError, match="valid until 2017-01-01"):
        plan_task(project, task(project.store, "few"))
    lenient = Project(load_settings(home, segment_stale="warn"))
    (warning,) = require_fresh(lenient, task(project.store, "few"))
    assert "valid until" in warning and "its newest snapshot is used" in warning
    (home / "segments" / "lively.yml").rename(home / "aside")
    with pytest.raises(UserError, match="has no segment 'lively'"):
        plan_task(project, task(project.store, "few"))
    (home / "aside").rename(home / "segments" / "lively.yml")
    assert any("valid until" in one for one in stale_segments(lenient)[0].reasons)
    write_segment(home, "lively", "refresh: daily\nwhere: {segment: {name: base}}\n")
    people = plan_task(project, task(project.store, "few")).people
    assert people == outcomes["selected"] > 0
    write_segment(home, "base", "refresh: daily\nwhere: {feature: {name: nothing, value: 1}}\n")
    counts = dispatch_due(project)
    assert counts.accepted == 0 and len(counts.held) == 1
    assert "none of its texts has gone out" in counts.held[0]
    (stale,) = stale_segments(project)
    assert (stale.segment, stale.campaigns, stale.blocks) == ("lively", ("few",), True)
    assert not any("+999" in one for one in (*counts.held, *stale.reasons))
    (held,) = occurrences_of(project.store, "few")
    ask = held_by_segments(project.store, project.settings)
    assert ask([held]) and not ask([replace(held, task_id="removed since")])
    write_segment(home, "base", LIVELY)
    assert dispatch_due(project).accepted == people
    assert stale_segments(project) == ()


def test_a_segment_of_nobody_fails_its_task(home: Path) -> None:
    """Guards against a campaign without people that seems to be done, or asks for an upload."""
    project = Project(load_settings(home))
    write_segment(home, "nobody", LIVELY.replace("value: 3", "value: 1000000000"))
    applied(home, project, "nobody", selection="{segment: nobody, top_n: 10}", uploaded=False)
    assert load_population(project, task(project.store, "nobody")).accepted == 0
    with pytest.raises(UserError, match="segment nobody has nobody on 2017-05-04"):
        score_task(project, task(project.store, "nobody"))


def sent_people(home: Path, task_id: str) -> list[str]:
    return sorted(
        user for name, user, state, *_ in ledger(home) if (name, state) == (task_id, "accepted")
    )


def test_a_daily_campaign_on_a_segment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a campaign that waits for an upload, stays with the people of its first day,
    texts a person twice, or leaves a text without its variables."""
    (home / "tags.yml").write_text("tags: [{key: lively, rule: events_7d > 3}]\n", "utf-8")
    tagged = "where: {tag: {key: lively, cmp: eq, value: true}}\n"
    write_segment(home, "lively", f"refresh: daily\n{tagged}")  # nobody works the tags out by hand
    project = Project(load_settings(home))
    applied(
        home,
        project,
        "daily",
        selection="{segment: lively, top_n: 300}",
        holdout="{share: 0.2}",
        template="{name: daily, content: 'You came by ${channel}. 拒收请回复R'}",
        schedule="{name: daily, repeat_unit: day, repeat_times: 3, refresh_audience: true}",
        contact="{cap_messages: 9}",
        uploaded=False,
    )
    decided(project, "daily")
    plan_task(project, task(project.store, "daily"))
    dispatch_due(project)
    project.store.close()
    monkeypatch.setenv("USERGROWTH_TODAY", str(day(-1)))
    open_home(home)
    execute(DECIDE, partition=str(day(-1)))
    again = f"daily-{day(-1):%Y%m%d}"
    known = {user for user, phone in rows(home, "population", "task_id = 'care'", "user_id, phone")}
    for name, on in (("daily", D), (again, day(-1))):
        members = users(home, "user_features", f"ds = '{on}' and events_7d > 3")
        landed = rows(home, "population", f"task_id = '{name}'", "user_id, phone, variables, ds")
        assert [user for user, *_ in landed] == sorted(members)
        assert {str(ds) for *_, ds in landed} == {str(on)}
        assert {user for user, phone, *_ in landed if phone} == members & known
        decided_as = Counter(
            outcome for (outcome,) in rows(home, "decisions", f"task_id = '{name}'", "outcome")
        )
        assert sum(decided_as.values()) == len(members) and "not_in_segment" not in decided_as
        sent = sent_people(home, name)
        assert len(sent) == len(set(sent)) == decided_as["selected"] > 10
        assert decided_as["no_phone"] == len(members - known)
    assert users(home, "population", "task_id = 'daily'") != users(
        home, "population", f"task_id = '{again}'"
    )
    texts = [json.loads(line)["text"] for line in outbox(home)]
    assert any("You came by search." in text for text in texts)
    project = Project(load_settings(home, today=day(-1)))
    for name in ("daily", again):
        (replayed,) = replay_task(project, name)
        assert replayed.state == "equal", replayed.sentence
    before = project.warehouse.version("population")
    assert load_population(project, task(project.store, again)).unchanged
    assert project.warehouse.version("population") == before
    gone = sent_people(home, again)[0]
    forget(project, gone, actor="ann")
    assert gone not in users(home, "population", "true")
    assert gone not in users(home, "segment_members", "true")


def test_the_demos_texts_show_the_item_that_is_recommended(home: Path) -> None:
    """Guards against another user's item, an item of another date, and a text without one."""
    demo = example("synthetic", 6_000)
    for name, text in demo.home_files.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(text, "utf-8")
    project = Project(load_settings(home))
    recommend_day(project, D)
    recommend_day(project, day(-1))
    path = home / "campaigns" / "items.yaml"
    text = demo.campaigns["items.yaml"].replace(str(demo.execution_date), str(D))
    text = text.replace("window_days: 170", "window_days: 60")  # as the world's models and texts
    text = text.replace(", description: Demonstration only", "")
    path.write_text(text.replace("${item} next", "${item} next, then ${item_2}"), "utf-8")
    apply_campaign(project.store, load_campaign(path), "ann")
    approve(home, "items")
    decided(project, "items")
    first: dict[str, list[str]] = {}
    for user, _, title in rows(home, "recommendations", f"ds = '{D}'", "user_id, rank, title"):
        first.setdefault(user, []).append(title)
    landed = rows(home, "population", "task_id = 'items'", "user_id, variables")
    assert len({one[0] for one in first.values()}) > 5 and len(landed) > 20
    for user, values in landed:
        shown = dict(values)
        assert [shown["item"], shown["item_2"]] == first.get(user, first[""])[:2]
    plan_task(project, task(project.store, "items"))
    dispatch_due(project)
    texts = [json.loads(line)["text"].split("like you take ") for line in outbox(home)]
    shown_texts = sorted(text[1].split(".")[0] for text in texts if len(text) > 1)
    lists = [first.get(user, first[""]) for user in sent_people(home, "items")]
    assert shown_texts == sorted(f"{one[0]} next, then {one[1]}" for one in lists)
    assert len(shown_texts) > 10
