"""Snapshots: frozen, counted and explained; and segments that are stale in sight."""

import hashlib
import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from support.segment_world import D, people, phone, write_population
from typer.testing import CliRunner

from usergrowth_dagster.cli import app
from usergrowth_dagster.control.store import utc_now
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.policy.suppression import BY_HAND, add, entries
from usergrowth_dagster.people.forget import forget
from usergrowth_dagster.pipeline.choice import global_holdout
from usergrowth_dagster.project import Project
from usergrowth_dagster.segments import sizes as sizes_module
from usergrowth_dagster.segments.files import segment_named
from usergrowth_dagster.segments.refresh import Refreshed, refresh, refresh_all
from usergrowth_dagster.segments.sizes import estimate, global_control
from usergrowth_dagster.segments.snapshots import MEMBERS
from usergrowth_dagster.segments.uploads import upload_segment
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.views.segments import (
    diff_segment,
    estimate_segment,
    list_segments,
    segment_history,
    size_segment,
)
from usergrowth_dagster.warehouse.population import land_population

ADULTS = "where: {attribute: {key: age, cmp: ge, value: 30}}\n"
OLDER = "where: {attribute: {key: age, cmp: ge, value: 50}}\n"


def write(project: Project, name: str, text: str) -> Path:
    path = project.settings.home / "segments" / f"{name}.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def refreshed(project: Project, name: str, day: date = D, **more: Any) -> Refreshed:
    named = segment_named(project.settings.home, name)
    return refresh(project, named, day, actor="ann@desk", **more)


def matches(one: Refreshed) -> int:
    assert one.snapshot is not None and one.snapshot.sizes is not None
    return one.snapshot.sizes.matches


def members(project: Project, snapshot: str) -> dict[str, bytes]:
    root = Path(project.warehouse.uri(MEMBERS))
    found = root.rglob(f"snapshot={snapshot}/*.parquet")
    return {path.name: path.read_bytes() for path in found}


def test_a_snapshot_is_frozen_and_made_once(world: Project) -> None:
    """Guards against a snapshot that changes, one that is made twice, and bytes that differ."""
    write(world, "adults", f"refresh: daily\n{ADULTS}")
    made = refreshed(world, "adults", reason="first")
    expected = sorted(p.user for p in people() if (p.features["age"] or 0) >= 30)
    assert made.state == "new" and made.snapshot is not None and matches(made) == len(expected)
    text = "".join(f"{user}\n" for user in expected)
    assert made.snapshot.sha256 == hashlib.sha256(text.encode()).hexdigest()
    kept = members(world, made.snapshot.snapshot)
    assert len(kept) == 1
    again = refreshed(world, "adults")
    assert again.state == "unchanged" and again.snapshot == made.snapshot
    assert "stands" in again.sentence and members(world, made.snapshot.snapshot) == kept
    other = Project(load_settings(world.settings.home))
    (world.settings.home / "storage" / "tables" / "segment_members").rename(
        world.settings.home / "aside"
    )
    (world.settings.home / "storage" / "tables" / "segment_snapshots").rename(
        world.settings.home / "aside2"
    )
    (world.settings.home / "tables.db").unlink()
    once_more = refreshed(other, "adults")
    assert once_more.snapshot is not None and once_more.snapshot.sha256 == made.snapshot.sha256
    assert list(members(other, once_more.snapshot.snapshot).values()) == list(kept.values())


def test_when_a_segment_is_due(world: Project) -> None:
    """Guards against a segment that follows the data unasked, or does not when asked."""
    tomorrow = D + timedelta(days=1)
    write(world, "fixed", ADULTS)
    assert refreshed(world, "fixed").state == "new"
    waits = refreshed(world, "fixed", tomorrow)
    assert waits.state == "not_due" and "not due" in waits.sentence
    assert refreshed(world, "fixed", tomorrow, again=True).state == "new"
    path = write(world, "listed", "refresh: on_upload\nwhere: {upload: {file: vip.csv}}\n")
    (path.parent / "vip.csv").write_text("user_id,name\nu01,x\nu02,y\nu02,y\nstranger,z\n,\n")
    made = refreshed(world, "listed")
    assert matches(made) == 2 and made.snapshot is not None
    assert made.snapshot.notes == (
        f"vip.csv: 5 lines are 3 people, of whom 1 are not known as of {D}",
    )
    assert refreshed(world, "listed").state == "not_due"
    (path.parent / "vip.csv").write_text("user_id\nu01\n")
    assert matches(refreshed(world, "listed")) == 1
    write(world, "old", f"valid_until: {D}\nrefresh: daily\n{ADULTS}")
    assert refreshed(world, "old").state == "new"
    late = refreshed(world, "old", tomorrow)
    assert late.state == "expired" and "NOT refreshed" in late.sentence


def test_a_failed_refresh_is_stale_in_sight(world: Project) -> None:
    """Guards against a segment that goes on as if it were fresh, and failures that stop others."""
    write(world, "adults", f"refresh: daily\n{ADULTS}")
    write(world, "broken", "where: {tag: {key: cty, value: Oslo}}\n")
    write(world, "unreadable", "where: {tga: 1}\n")
    ran = refresh_all(world, D, actor="ann@desk")
    assert [one.segment for one in ran.refreshed] == ["adults"] and len(ran.failures) == 2
    listed = {one.segment: one for one in list_segments(world).segments}
    assert listed["adults"].stale == () and len(list_segments(world).failures) == 1
    assert any("failed" in why and "did you mean 'city'" in why for why in listed["broken"].stale)
    write(world, "adults", "where: {feature: {name: nothing, value: 1}}\n")
    refresh_all(world, D, actor="ann@desk", name="adults")
    write(world, "adults", f"refresh: daily\n{ADULTS}")
    (stale,) = [one for one in list_segments(world).segments if one.segment == "adults"]
    assert any("user_features has no column" in why for why in stale.stale)
    late = refresh_all(world, D + timedelta(days=30), actor="ann@desk", name="adults")
    assert "user_features has nothing for 2024-04-03" in late.failures[0]
    assert refreshed(world, "adults").state == "unchanged"
    (fresh,) = [one for one in list_segments(world).segments if one.segment == "adults"]
    assert fresh.stale == ()
    write(world, "adults", f"refresh: daily\n{OLDER}")
    (changed,) = [one for one in list_segments(world).segments if one.segment == "adults"]
    assert any("definition has changed" in why for why in changed.stale)


def test_the_difference_of_two_snapshots(world: Project) -> None:
    """Guards against a difference that counts wrongly, or blames the wrong condition."""
    write(world, "adults", f"refresh: daily\n{ADULTS}")
    first = refreshed(world, "adults")
    write(world, "adults", f"refresh: daily\n{OLDER}")
    second = refreshed(world, "adults")
    assert second.alert.startswith("segment adults: the size jumped from")
    with pytest.raises(UserError, match="is its first snapshot"):
        diff_segment(world, "adults", "previous", first.snapshot.snapshot)
    made = diff_segment(world, "adults", "previous", "newest")
    assert (made.added, made.removed, made.kept) == (
        0,
        matches(first) - matches(second),
        matches(second),
    )
    assert first.snapshot is not None
    back = diff_segment(world, "adults", "newest", first.snapshot.snapshot)
    assert (back.added, back.removed, back.kept) == (made.removed, 0, made.kept)
    assert made.why == (
        'where.attribute changed from {"cmp": "ge", "key": "age", "value": 30} to '
        '{"cmp": "ge", "key": "age", "value": 50}'
    )
    table = world.warehouse.open("user_features").to_pyarrow_table()
    world.warehouse.replace("user_features", table.slice(1), days=[D, D + timedelta(days=1)])
    assert refreshed(world, "adults").state == "new"
    assert (
        "the data of user_features changed"
        in diff_segment(world, "adults", "previous", "newest").why
    )
    lines = segment_history(world, "adults")
    assert [bool(line.alert) for line in lines] == [False, True, False]
    with pytest.raises(UserError, match="has no snapshot 'x'"):
        diff_segment(world, "adults", "x", "newest")


def test_segments_of_segments(world: Project) -> None:
    """Guards against a circle, a reference to nothing, and one that follows a later snapshot."""
    write(world, "adults", ADULTS)
    write(world, "both", "where: {all: [{segment: {name: adults}}, {rfm: {r: [1]}}]}\n")
    with pytest.raises(UserError, match="segment adults has no snapshot up to"):
        refreshed(world, "both")
    assert [one.segment for one in refresh_all(world, D, actor="x").refreshed] == ["adults", "both"]
    expected = [p for p in people() if (p.features["age"] or 0) >= 30 and p.rfm["r_score"] == 1]
    assert matches(refreshed(world, "both")) == len(expected)
    write(world, "adults", OLDER)
    assert refreshed(world, "adults", D + timedelta(days=1)).state == "new"
    assert refreshed(world, "both", again=True).state == "unchanged"
    write(world, "adults", "where: {segment: {name: both}}\n")
    with pytest.raises(UserError, match=r"contains itself \(both -> adults -> both\)"):
        segment_named(world.settings.home, "both")
    write(world, "lost", "where: {segment: {name: nobody}}\n")
    with pytest.raises(UserError, match="there is no segment 'nobody'"):
        segment_named(world.settings.home, "lost")


def test_sets_of_snapshots(world: Project) -> None:
    """Guards against a union, intersection or difference of definitions instead of snapshots."""
    write(world, "adults", ADULTS)
    write(world, "lively", "where: {feature: {name: events_7d, cmp: ge, value: 3}}\n")
    first = refreshed(world, "adults").snapshot
    refreshed(world, "lively")
    assert first is not None
    adults = {p.user for p in people() if (p.features["age"] or 0) >= 30}
    lively = {p.user for p in people() if (p.features["events_7d"] or 0) >= 3}
    both = "[{segment: {name: adults}}, {segment: {name: lively}}]"
    without = "[{segment: {name: adults}}, {not: {segment: {name: lively}}}]"
    wanted = {
        f"where: {{any: {both}}}\n": adults | lively,
        f"where: {{all: {both}}}\n": adults & lively,
        f"where: {{all: {without}}}\n": adults - lively,
    }
    write(world, "adults", OLDER)  # a definition that nobody has refreshed changes no set
    for text, expected in wanted.items():
        write(world, "made", text)
        made = refreshed(world, "made").snapshot
        assert made is not None
        lines = "".join(f"{user}\n" for user in sorted(expected))
        assert made.sha256 == hashlib.sha256(lines.encode()).hexdigest(), text
    refreshed(world, "adults")
    pinned = f"{{segment: {{name: adults, snapshot: {first.snapshot}}}}}"
    write(world, "made", f"where: {{all: [{pinned}, {{segment: {{name: adults}}}}]}}\n")
    older = {p.user for p in people() if (p.features["age"] or 0) >= 50}
    assert matches(refreshed(world, "made")) == len(adults & older) < len(adults)


def test_the_sizes_beside_each_other(world: Project) -> None:
    """Guards against a size that counts people who cannot or must not be texted."""
    users = [one.user for one in people()]
    numbers = [(user, phone(place), None) for place, user in enumerate(users[:40])]
    write_population(
        world, [*numbers, ("u50", "no number", "u50@example.com"), ("u51", "12", None)]
    )
    vault = open_vault(world.settings.home, world.settings.default_country)
    shared = {"channel": "*", "scope": "*", "reason": BY_HAND, "source": "test", "now": utc_now()}
    rows = entries(vault, phone=None, user_id="u03", **shared)
    rows += entries(vault, phone=phone(5), user_id=None, **shared)
    with world.store.write() as connection:
        add(connection, rows)
    write(world, "all", "where: {not: {sample: {salt: x, share: 0.000000001}}}\n")
    project = Project(load_settings(world.settings.home, global_holdout_share=0.3))
    sizes = size_segment(project, "all", D).sizes
    from usergrowth_dagster.audience.holdout import arm

    draw = global_holdout(project.settings, D)
    assert draw == global_control(project.settings, D)
    free = {user for user in users if arm(draw, user) == "treatment"}
    reached = {*users[:40], "u50"}
    willing = set(users) - {"u03", "u05"}
    assert (sizes.matches, sizes.with_address, sizes.not_refused, sizes.not_held_out) == (
        60,
        len(reached),
        len(willing),
        len(free),
    )
    assert sizes.sendable == len(free & reached & willing)


def test_scores_and_their_tenths(world: Project) -> None:
    """Guards against a tenth that begins at the wrong end, and scores of another date or question."""
    write(world, "best", "where: {score: {question: churn, decile: 1}}\n")
    assert matches(refreshed(world, "best")) == 5
    write(world, "high", "where: {score: {question: churn, at_least: 0.4}}\n")
    assert matches(refreshed(world, "high")) == 10
    write(world, "none", "where: {score: {question: winback, at_least: 0.4}}\n")
    with pytest.raises(UserError, match="no scores of 'winback' in the 7 days"):
        refreshed(world, "none")


def test_a_forgotten_person_leaves_every_snapshot(world: Project) -> None:
    """Guards against a snapshot that keeps the id of a person who was forgotten."""
    write(world, "all", "where: {not: {sample: {salt: x, share: 0.000000001}}}\n")
    made = refreshed(world, "all")
    assert made.snapshot is not None
    forget(world, "u07", actor="ann@desk")
    assert not any(b"u07" in part for part in members(world, made.snapshot.snapshot).values())
    made_same = diff_segment(world, "all", "newest", "newest")
    assert (made_same.kept, made_same.forgotten) == (59, 2)


def test_a_snapshot_becomes_a_population(world: Project) -> None:
    """Guards against an upload that does not land, loses people, or outlives a forgotten person."""
    write_population(world, [("u01", phone(1), None), ("u02", None, "u02@example.com")])
    write(world, "few", "where: {upload: {file: few.csv}}\n")
    (world.settings.home / "segments" / "few.csv").write_text("user_id\nu01\nu02\nu03\n")
    refreshed(world, "few")
    assert "3 people of snapshot" in call(world, "upload", "few", "spring")
    landed = land_population(world.settings, world.landing, world.warehouse, "spring", D)
    assert (landed.accepted, landed.quarantined) == (3, 0)
    with pytest.raises(UserError, match="has an upload already"):
        upload_segment(
            world, segment_named(world.settings.home, "few"), "spring", actor="x", item="-"
        )
    (file,) = (world.settings.home / "landing" / "population" / "spring").glob("*.parquet")
    rows = parquet.read_table(file).to_pylist()
    assert [(r["user_id"], r["phone"], r["email"]) for r in rows] == [
        ("u01", phone(1), None),
        ("u02", None, "u02@example.com"),
        ("u03", None, None),
    ]
    assert file.stat().st_mode & 0o077 == 0
    assert forget(world, "u01", actor="ann@desk").uploads == 1
    assert [r["user_id"] for r in parquet.read_table(file).to_pylist()] == ["u02", "u03"]


def test_the_estimate_by_a_sample(world: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a sample that is not of everybody, or an estimate that is the sample's size."""
    monkeypatch.setattr(sizes_module, "SAMPLED", 25)
    write(world, "adults", ADULTS)
    guess, exact = estimate_segment(world, "adults", D), size_segment(world, "adults", D).sizes
    assert guess is not None and 15 <= guess.sampled <= 35
    assert guess.low <= exact.matches <= guess.high and guess.people != guess.sampled
    assert "the exact sizes follow" in call(world, "size", "adults", "--date", str(D))


def test_the_interval_of_an_estimate() -> None:
    """Guards against an interval that leaves out what the sample has shown."""
    guess = estimate(20, 20_000, 1_000_000)
    assert guess.people == 1000 and 640 < guess.low < 1000 < guess.high < 1560
    assert estimate(0, 20_000, 1_000_000).low == 0
    assert estimate(20_000, 20_000, 1_000_000).high == 1_000_000


def call(project: Project, *arguments: str, code: int = 0) -> str:
    home = ["--home", str(project.settings.home)]
    done = CliRunner().invoke(app, ["segment", *arguments, *home])
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def test_the_commands_in_a_row(world: Project) -> None:
    """Guards against a command that hides a size, a failure or a jump."""
    write_population(world, [("u01", phone(1), None)])
    path = write(world, "adults", f"owner: ann\nrefresh: daily\n{ADULTS}")
    assert json.loads(call(world, "check", "--json"))["segments"][0]["conditions"] == 1
    assert "adults" in call(world, "size", "adults")
    assert "is new" in call(world, "refresh", "--reason", "spring")
    assert "stands" in call(world, "refresh")
    write(world, "adults", f"owner: ann\nrefresh: daily\n{OLDER}")
    assert "warning: segment adults: the size jumped" in call(world, "refresh")
    assert "ALERT" in call(world, "list") and "fresh" in call(world, "list")
    assert "where.attribute changed" in call(world, "diff", "adults")
    assert "spring" in call(world, "history", "adults")
    shown = json.loads(call(world, "show", "adults", "--json"))
    assert shown["inputs"].keys() == {"user_features"} and phone(1) not in repr(shown)
    written = CliRunner().invoke(app, ["segment", "schema"]).output
    assert json.loads(written)["title"] == "usergrowth segment"
    path.write_text("where: {tag: {key: nothing, value: 1}}\n")
    assert "STALE" in call(world, "list")
    assert f"{path}: where.tag.key: " in call(world, "refresh", "adults", code=2)
    assert "the refresh of" in call(world, "show", "adults")
