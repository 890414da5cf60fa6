"""The difference of two snapshots: who came, who went, and the condition that changed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from usergrowth_dagster.project import Project
from usergrowth_dagster.segments.snapshots import Snapshot, bind_members
from usergrowth_dagster.warehouse.engine import Engine


@dataclass(frozen=True)
class Difference:
    """What differs between two snapshots.

    Attributes:
        before: name of the first.
        after: name of the second.
        added: people of the second alone.
        removed: people of the first alone.
        kept: people of both.
        why: the first condition that changed, or that the data changed, in a sentence.
        forgotten: people who have left one of them since it was made, since they were forgotten.
    """

    before: str
    after: str
    added: int
    removed: int
    kept: int
    why: str
    forgotten: int


def compare_snapshots(
    engine: Engine, project: Project, before: Snapshot, after: Snapshot
) -> Difference:
    """Compare two snapshots, of one segment or of two."""
    one, two = (bind_members(engine, project.warehouse, s) for s in (before, after))
    added, removed, kept = engine.rows(f"""
        select count(*) filter (where a.user_id is null), count(*) filter (where b.user_id is null),
            count(*) filter (where a.user_id = b.user_id)
        from {one} as a full join {two} as b on a.user_id = b.user_id""")[0]
    recorded = sum(s.sizes.matches for s in (before, after) if s.sizes is not None)
    return Difference(
        before=before.snapshot,
        after=after.snapshot,
        added=added,
        removed=removed,
        kept=kept,
        why=why_they_differ(before, after),
        forgotten=max(recorded - added - removed - 2 * kept, 0),
    )


def why_they_differ(before: Snapshot, after: Snapshot) -> str:
    """The first condition that changed between two definitions, else what changed of the data."""
    old, new = json.loads(before.definition), json.loads(after.definition)
    for path, was, now in _changes("", old, new):
        return f"{path} changed from {_shown(was)} to {_shown(now)}"
    if before.fingerprint == after.fingerprint:
        return "nothing changed"
    if before.ds != after.ds:
        return f"the definition is the same; the date went from {before.ds} to {after.ds}"
    was, now = json.loads(before.inputs), json.loads(after.inputs)
    tables = sorted(name for name in {*was, *now} if was.get(name) != now.get(name))
    named = f" of {', '.join(tables)}" if tables else ""
    return f"the definition is the same; the data{named} changed"


_NOTHING = object()


def _changes(path: str, was: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """What differs between two JSON values, leaf conditions as a whole, in the order of the new."""
    if was == now:
        return
    if isinstance(was, dict) and isinstance(now, dict) and _is_inner(path, was, now):
        for key in [*now, *(key for key in was if key not in now)]:
            below = f"{path}.{key}".strip(".")
            yield from _changes(below, was.get(key, _NOTHING), now.get(key, _NOTHING))
    elif _same_leaf(was, now):
        ((name, value),) = now.items()
        yield f"{path}.{name}", was[name], value
    elif isinstance(was, list) and isinstance(now, list) and path.endswith((".all", ".any")):
        for place in range(max(len(was), len(now))):
            old = was[place] if place < len(was) else _NOTHING
            new = now[place] if place < len(now) else _NOTHING
            yield from _changes(f"{path}.{place}", old, new)
    else:
        yield path, was, now


def _is_inner(path: str, was: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether two mappings are conditions of one kind above a leaf, so that one may look deeper."""
    if path == "":
        return True
    return was.keys() == now.keys() and next(iter(now), "") in ("all", "any", "not")


def _same_leaf(was: Any, now: Any) -> bool:
    """Whether two values are leaves of one kind."""
    both = isinstance(was, dict) and isinstance(now, dict) and was.keys() == now.keys()
    return both and len(now) == 1 and isinstance(next(iter(now.values())), dict)


def _shown(value: Any) -> str:
    if value is _NOTHING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:117]}..."
