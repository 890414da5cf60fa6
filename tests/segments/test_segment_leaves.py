"""Leaves that are kept: the same people with them and without, and nothing that is out of date."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from support.segment_world import D

from usergrowth_dagster.people.forget import forget
from usergrowth_dagster.project import Project
from usergrowth_dagster.segments import kept_leaves
from usergrowth_dagster.segments.definition import Named, Segment
from usergrowth_dagster.segments.inputs import bind_inputs
from usergrowth_dagster.segments.people import bind_people
from usergrowth_dagster.warehouse.engine import open_engine

BOUGHT = {"event": {"behavior": "buy", "within_days": 30}}
RARELY = {"event": {"behavior": "login", "at_most": 2, "within_days": 20}}
BACK = {"lifecycle": {"resumed": {"silent_days": 3, "within_days": 20}}}
FIRST = {"any": [{"all": [BOUGHT, {"not": RARELY}]}, {"rfm": {"r": [1]}}, BACK, BOUGHT]}


@pytest.fixture(autouse=True)
def _of_few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leaves are kept although the world is small."""
    monkeypatch.setattr(kept_leaves, "LEAST_PEOPLE", 1)
    yield


def found(project: Project, where: dict[str, Any], day: date = D, **keys: Any) -> list[str]:
    """The people of a tree."""
    named = Named("x", Segment.model_validate({"where": where, **keys}), "x.yml")
    with open_engine(project.settings) as engine:
        made = bind_people(engine, project, named, day)
        rows = engine.rows(f"select user_id from {made.members} order by user_id")
    return [f"{made.fingerprint}", *(user for (user,) in rows)]


def kept(project: Project) -> list[Path]:
    """The files of the cache, the oldest first."""
    folder = project.settings.home / kept_leaves.FOLDER
    files = folder.iterdir() if folder.exists() else []
    return sorted(files, key=lambda path: path.stat().st_mtime_ns)


def spoil(project: Project) -> None:
    """Leave nobody in any file, so that a hit gives other people than a miss."""
    for path in kept(project):
        parquet.write_table(parquet.read_table(path).slice(0, 0), path)


def plain(project: Project, where: dict[str, Any], day: date = D, **keys: Any) -> list[str]:
    """The people without any kept leaf."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_leaves, "LEAST_PEOPLE", 10**9)
        return found(project, where, day, **keys)


def test_the_same_people_with_and_without(world: Project) -> None:
    """Guards against a kept leaf that adds, loses or swaps people, or changes the fingerprint."""
    expected = plain(world, FIRST)
    assert len(expected) > 5 and not kept(world)
    assert found(world, FIRST) == expected and len(kept(world)) == 3
    assert found(world, FIRST) == expected and len(kept(world)) == 3
    sibling = {"all": [BACK, {"not": BOUGHT}, {"event": {"within_days": 9}}]}
    assert found(world, sibling) == plain(world, sibling) and len(kept(world)) == 4
    for path in kept(world):
        assert path.stat().st_mode & 0o077 == 0 and path.parent.stat().st_mode & 0o077 == 0


def test_what_is_kept_is_read(world: Project) -> None:
    """Guards against a cache that is written and never read, or read for another leaf."""
    found(world, BOUGHT)
    spoil(world)
    assert found(world, BOUGHT)[1:] == []
    for other in (
        {"event": {"behavior": "buy", "within_days": 31}},
        {"event": {"behavior": ["buy", "login"], "within_days": 30}},
        {"event": {"behavior": "buy", "within_days": 30, "at_least": 2}},
    ):
        assert found(world, other) == plain(world, other) != []


def test_what_changes_is_found_anew(world: Project) -> None:
    """Guards against people of another date, of an older table, or of another rule for values."""
    where = {"event": {"within_days": 20, "where": [{"number": "pay", "cmp": "ne", "value": 5}]}}
    found(world, where)
    spoil(world)
    assert found(world, where, missing="include") == plain(world, where, missing="include")
    assert found(world, where, D + timedelta(days=1)) == plain(world, where, D + timedelta(days=1))
    assert found(world, where)[1:] == []
    older = D - timedelta(days=25)
    table = world.warehouse.open("stg_behavior").to_pyarrow_table()
    days = {day for day in table["ds"].to_pylist() if day < older}
    world.warehouse.replace("stg_behavior", table.slice(0, 0), days=days)
    assert found(world, where)[1:] == []  # days that the leaf does not read
    day = max(day for day in table["ds"].to_pylist() if day < D)
    world.warehouse.replace("stg_behavior", table.slice(0, 0), days=[day])
    assert found(world, where) == plain(world, where) and len(found(world, where)) > 1


def test_a_damaged_file_is_found_anew(world: Project) -> None:
    """Guards against a segment that fails, or has nobody, since a file of the cache is broken."""
    expected = found(world, FIRST)
    for path in kept(world):
        path.write_bytes(path.read_bytes()[:40])
    assert found(world, FIRST) == expected
    assert all(path.stat().st_size > 40 for path in kept(world)) and len(kept(world)) == 3


def test_the_oldest_make_room(world: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a folder that grows with every edit of a condition."""
    found(world, BOUGHT)
    (first,) = kept(world)
    monkeypatch.setattr(kept_leaves, "MOST_BYTES", 2 * first.stat().st_size + 200)
    found(world, RARELY)
    found(world, BOUGHT)  # read again, so it is not the oldest
    found(world, BACK)
    assert len(kept(world)) == 2 and first in kept(world)


def test_a_forgotten_person_is_in_no_file(world: Project) -> None:
    """Guards against a user id that outlives the person, also when a refresh was at work."""
    found(world, FIRST)
    everybody = {user for path in kept(world) for user in parquet.read_table(path)[0].to_pylist()}
    assert "u07" in everybody
    named = Named("x", Segment.model_validate({"where": BOUGHT}), "x.yml")
    with open_engine(world.settings) as engine:
        begun = kept_leaves.KeptLeaves(engine, world, named, D)
        inputs = bind_inputs(engine, world, named, D, kept={}).inputs
        for path in kept(world):
            path.unlink()
        engine.run("create table aside as from user_day")
        engine.run("create or replace view user_day as from aside")
        engine.run("create table all_of_them as from user_features")
        engine.run("create or replace view user_features as from all_of_them")
        forget(world, "u07", actor="ann@desk")
        begun.fill(inputs)
    assert kept(world) == []
    assert "u07" not in found(world, FIRST)
