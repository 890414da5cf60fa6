"""Features never see the future, labels equal a plain reference, and ranges equal days."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.settings.machine import size_in_bytes
from usergrowth_dagster.warehouse import duckdb_rows
from usergrowth_dagster.warehouse.build import Builder
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.tables import Warehouse
from usergrowth_dagster.warehouse.unit_tests import bind_rows

START = date(2024, 2, 20)
SPAN = 40
AS_OF = START + timedelta(days=20)
GRAPH = load_graph()
Event = tuple[int, int, str, int | None, str | None]

events = st.lists(
    st.tuples(
        st.integers(0, SPAN - 1),  # day
        st.integers(0, 4),  # user
        st.sampled_from(["login", "buy", "share"]),
        st.one_of(st.none(), st.integers(0, 3)),  # item
        st.sampled_from([None, "hh09:2 pay:1.5", "pay:3"]),
    ),
    max_size=40,
)
touches = st.lists(
    st.tuples(st.integers(0, SPAN - 1), st.integers(0, 4), st.one_of(st.none(), st.integers(0, 3))),
    max_size=12,
)
snapshots = st.lists(
    st.tuples(st.integers(0, SPAN - 1), st.integers(0, 4), st.integers(18, 80)), max_size=6
)


def _day(offset: int) -> date:
    return START + timedelta(days=offset)


def _land(
    settings: Settings,
    warehouse: Warehouse,
    behaviors: Iterable[Event],
    operations: Iterable[tuple[int, int, int | None]] = (),
    users: Iterable[tuple[int, int, int]] = (),
    held_out: Iterable[tuple[int, int, int | None]] = (),
) -> None:
    rows: dict[str, list[dict[str, Any]]] = {
        "raw_behavior": [
            {
                "ds": _day(d),
                "user_id": f"u{u}",
                "behavior": kind,
                "item_id": None if item is None else f"i{item}",
                "kvs_num": kvs,
            }
            for d, u, kind, item, kvs in behaviors
        ],
        "raw_operation": [
            {
                "ds": _day(d),
                "user_id": f"u{u}",
                "target": target,
                "item_id": None if item is None else f"i{item}",
            }
            for target, drawn in (("sms", operations), ("holdout", held_out))
            for d, u, item in drawn
        ],
        "raw_user": [
            {"ds": _day(d), "user_id": f"u{u}", "age": age}
            for d, u, age in {(d, u): (d, u, age) for d, u, age in users}.values()
        ],
        "raw_item": [
            {"ds": _day(d), "item_id": f"i{i}", "kvs_str": f"genre:g{i % 2}|all"}
            for d in (0, 15)
            for i in range(4)
        ],
    }
    days = [_day(offset) for offset in range(SPAN)]
    with open_engine(settings) as engine:
        for table, listed in rows.items():
            bind_rows(engine, table, listed, GRAPH.sources[table])
            warehouse.replace(table, engine.arrow(f"select * from {table}"), days=days)


def _home(tmp_path: Path, name: str) -> tuple[Settings, Warehouse]:
    home = load_settings(
        tmp_path / name,
        lookback_days=14,
        history_days=30,
        label_horizon_days=10,
        memory_limit="1GB",
    )
    return home, Warehouse(Storage(home.storage_root))


def _build(home: Settings, warehouse: Warehouse, target: str, days: list[date]) -> list[Any]:
    builder = Builder(home, warehouse)
    every_day = [_day(offset) for offset in range(SPAN)]
    for model in GRAPH.tables:
        if model == target:
            break
        if GRAPH.models[model].folder in ("staging", "facts"):
            builder.build(model, every_day)
        else:
            builder.build(model, days)
    builder.build(target, days)
    return _rows(home, warehouse, target)


def _rows(home: Settings, warehouse: Warehouse, table: str) -> list[Any]:
    files = [name for names in warehouse.files(table).values() for name in names]
    with open_engine(home) as engine:
        engine.bind_files(table, files, GRAPH.types(table))
        return sorted(engine.rows(f"select * from {table}"), key=repr)


fresh = settings(
    max_examples=6,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would take minutes
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@fresh
@given(events, touches, snapshots, events, touches, snapshots)
def test_rows_from_the_execution_date_on_change_no_feature(
    tmp_path_factory: pytest.TempPathFactory,
    behaviors: list[Event],
    operations: list[Any],
    users: list[Any],
    late_behaviors: list[Event],
    late_operations: list[Any],
    late_users: list[Any],
) -> None:
    """A feature that sees the execution date or later leaks the label into training."""
    cut = (AS_OF - START).days
    tmp_path = tmp_path_factory.mktemp("leak")
    before: list[Any] = []
    for name, late in (("past", False), ("future", True)):
        home, warehouse = _home(tmp_path, name)

        def kept(past: list[Any], future: list[Any], late: bool = late) -> list[Any]:
            known = [row for row in past if row[0] < cut]
            return known + ([row for row in future if row[0] >= cut] if late else [])

        _land(
            home,
            warehouse,
            kept(behaviors, late_behaviors),
            kept(operations, late_operations),
            kept(users, late_users),
        )
        # Neighboring dates in the same statement must not leak either.
        days = [AS_OF, AS_OF + timedelta(days=3)] if late else [AS_OF]
        rows = [row for row in _build(home, warehouse, "user_features", days) if row[0] == AS_OF]
        if late:
            assert rows == before
        before = rows


@fresh
@given(events, touches, touches)
def test_who_was_held_out_was_not_touched(
    tmp_path_factory: pytest.TempPathFactory,
    behaviors: list[Event],
    operations: list[Any],
    held_out: list[Any],
) -> None:
    """Someone held out who counts as touched spoils features, and the response model's rows."""
    tmp_path = tmp_path_factory.mktemp("holdout")
    days = [_day(offset) for offset in range(10, 30)]
    rows = []
    for name, others in (("without", []), ("with", held_out)):
        home, warehouse = _home(tmp_path, name)
        _land(home, warehouse, behaviors, operations, held_out=others)
        rows.append(
            (
                _build(home, warehouse, "winback_training", days),
                _rows(home, warehouse, "user_features"),
            )
        )
    assert rows[0] == rows[1]


@fresh
@given(events)
def test_churn_label_equals_a_plain_reference(
    tmp_path_factory: pytest.TempPathFactory, behaviors: list[Event]
) -> None:
    """An off-by-one at either end of the active or the silent window."""
    home, warehouse = _home(tmp_path_factory.mktemp("churn"), "home")
    _land(home, warehouse, behaviors)
    days = [_day(offset) for offset in (10, 20, 21, 33)]
    labels = _build(home, warehouse, "churn_label", days)
    by_user: dict[str, set[date]] = {}
    for d, u, *_ in behaviors:
        by_user.setdefault(f"u{u}", set()).add(_day(d))
    landed = max((_day(d) for d, *_ in behaviors), default=date.min)
    expected = []
    for day in days:
        if landed < day + timedelta(days=6):
            continue  # not complete yet
        for user, active in by_user.items():
            if not any(timedelta(1) <= day - seen <= timedelta(28) for seen in active):
                continue
            ahead = [(seen - day).days for seen in active if 0 <= (seen - day).days < 10]
            churned = not any(offset <= 6 for offset in ahead)
            expected.append((day, user, churned, min(ahead, default=None)))
    assert labels == sorted(expected, key=repr)


@pytest.mark.parametrize("churn_days", [7, 3])
def test_a_label_is_published_with_its_last_day_and_not_before(
    tmp_path: Path, churn_days: int
) -> None:
    """A label published a day early calls a user gone who comes back on the day that is missing."""
    home, warehouse = _home(tmp_path, "home")
    home = home.model_copy(update={"churn_days": churn_days})
    cut = (AS_OF - START).days
    last = cut + churn_days - 1
    active: list[Event] = [(day, 0, "login", None, None) for day in range(last + 1)]
    back: list[Event] = [(cut - 1, 1, "login", None, None), (last, 1, "login", None, None)]
    known = [event for event in active + back if event[0] < last]
    _land(home, warehouse, known)
    assert _build(home, warehouse, "churn_label", [AS_OF]) == []
    assert Builder(home, warehouse).build("churn_label", [AS_OF]).immature == [AS_OF]
    _land(home, warehouse, active + back)
    assert _build(home, warehouse, "churn_label", [AS_OF]) == [
        (AS_OF, "u0", False, 0),
        (AS_OF, "u1", False, churn_days - 1),
    ]


def _first_offsets(
    behaviors: list[Event], touched: int, user: int, item: int | None = None
) -> dict[str, int]:
    """Days from a touch to the first behavior of each kind, on an item or on any."""
    offsets: dict[str, int] = {}
    for day, who, kind, what, _ in behaviors:
        if who == user and 1 <= day - touched <= 10 and item in (None, what):
            offsets[kind] = min(offsets.get(kind, 99), day - touched)
    return offsets


def _same_day(
    behaviors: list[Event], touched: int, user: int, item: int | None = None
) -> list[str]:
    """Kinds of behavior on the day of a touch, on an item or on any."""
    return sorted(
        {
            kind
            for day, who, kind, what, _ in behaviors
            if who == user and day == touched and item in (None, what)
        }
    )


@fresh
@given(events, touches)
def test_winback_label_equals_a_plain_reference(
    tmp_path_factory: pytest.TempPathFactory, behaviors: list[Event], operations: list[Any]
) -> None:
    """Behavior on the day of the touch taken for a return after it, or lost; a day past the horizon."""
    home, warehouse = _home(tmp_path_factory.mktemp("winback"), "home")
    _land(home, warehouse, behaviors, operations)
    days = [_day(offset) for offset in range(SPAN)]
    labels = _build(home, warehouse, "winback_label", days)
    expected = []
    for d, u, item in set(operations):
        returns = _first_offsets(behaviors, d, u)
        name = None if item is None else f"i{item}"
        on_item = {
            kind: offset
            for kind, offset in _first_offsets(behaviors, d, u, item).items()
            if item is not None
        }
        today_on_item = [] if item is None else _same_day(behaviors, d, u, item)
        returned = (
            dict(sorted(returns.items())) or None,
            dict(sorted(on_item.items())) or None,
            _same_day(behaviors, d, u) or None,
            today_on_item or None,
        )
        expected.append((_day(d), f"u{u}", name, "sms", *returned))
    assert labels == sorted(expected, key=repr)


def _short_of_memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Let views fail for lack of memory, all users at once, then a half, then a quarter after others.

    Returns:
        By view, its statements in which users are chosen after grouping.
    """
    late: dict[str, list[str]] = {}
    attempts: Counter[str] = Counter()
    run = Engine.run

    def short(engine: Engine, sql: str, parameters: Any = None) -> None:
        made = re.match(r"(create or replace temp table|insert into) (\w+) (as )?", sql)
        view = GRAPH.models.get(made[2]) if made else None
        if made is None or view is None or "user_id" not in view.grain:
            return run(engine, sql, parameters)
        attempts[made[2]] += 1
        if attempts[made[2]] in (1, 3, 6):
            raise duckdb.OutOfMemoryException("not enough")
        ((_, plan),) = engine.rows(f"explain (format json) {sql[made.end() :]}")
        late.setdefault(made[2], []).extend([sql] if _chooses_late(json.loads(plan)) else [])
        return run(engine, sql, parameters)

    monkeypatch.setattr(Engine, "run", short)
    return late


def _chooses_late(plan: Any, above: bool = False) -> bool:
    """Whether a plan has a condition on the hash of users above a grouping."""
    if isinstance(plan, list):
        return any(_chooses_late(one, above) for one in plan)
    above = above or ("FILTER" in plan["name"] and "hash(" in json.dumps(plan["extra_info"]))
    if above and "GROUP_BY" in plan["name"]:
        return True
    return any(_chooses_late(one, above) for one in plan["children"])


def test_a_range_equals_day_by_day_and_a_second_run_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backfill over a range that gives other rows than daily runs, or work done twice; users who
    are lost, or made twice, where they are made in parts."""
    behaviors: list[Event] = [
        (d, u, kind, (d + u) % 4, "hh09:2 pay:1.5")
        for d in range(SPAN)
        for u, kind in ((0, "login"), (1, "buy"), (2, "share"))
        if (d * 7 + u * 3) % (u + 2) == 0
    ]
    days = [_day(offset) for offset in range(15, 25)]
    results = []
    for name in ("range", "daily", "parts"):
        home, warehouse = _home(tmp_path, name)
        _land(home, warehouse, behaviors, [(12, 0, 1), (14, 1, None)], [(3, 0, 40)])
        if name == "range":
            results.append(_build(home, warehouse, "user_features", days))
            again = Builder(home, warehouse).build("user_features", days)
            assert (again.built, again.unchanged) == ([], days)
        elif name == "parts":
            limit = size_in_bytes(home.memory_limit)
            assert limit and GRAPH.views_of_users("user_features")
            monkeypatch.setattr(duckdb_rows, "WIDE_ROW_BYTES", limit // 5)
            late = _short_of_memory(monkeypatch)
            results.append(_build(home, warehouse, "user_features", days))
            assert len(late) > 8 and not any(late.values()), late
        else:
            for day in days:
                _build(home, warehouse, "user_features", [day])
            results.append(_rows(home, warehouse, "user_features"))
    assert results[0] == results[1] == results[2]
    assert len(results[0]) > 20


def test_a_landed_day_again_rebuilds_just_what_saw_it(tmp_path: Path) -> None:
    """A stale partition kept after its input day landed again, or needless rebuilding."""
    home, warehouse = _home(tmp_path, "home")
    behaviors: list[Event] = [(d, 0, "login", None, None) for d in range(SPAN)]
    _land(home, warehouse, behaviors)
    days = [_day(5), _day(20)]
    _build(home, warehouse, "user_features", days)
    with open_engine(home) as engine:
        bind_rows(
            engine,
            "raw_behavior",
            [{"ds": _day(10), "user_id": "u9", "behavior": "buy"}],
            GRAPH.sources["raw_behavior"],
        )
        data = engine.arrow("select * from raw_behavior")
    warehouse.replace("raw_behavior", data, days=[_day(10)])
    builder = Builder(home, warehouse)
    for model in ("stg_behavior", "user_item_day", "user_day"):
        assert builder.build(model, [_day(9), _day(10)]).built == [_day(10)]
    again = builder.build("user_features", days)
    assert again.built == [_day(20)]
    assert again.unchanged == [_day(5)]


def test_the_same_rows_in_another_order_give_the_same_bits(tmp_path: Path) -> None:
    """Sums of fractions that differ in the last bit: the next model is another one, for no reason."""
    amounts = (0.1, 0.2, 0.3, 0.7, 19.99, 1.1, 3.3, 0.01)
    behaviors: list[Event] = [
        (day, user, "buy", place % 4, f"pay:{amount} fee:{amount / 10:.3f}")
        for place, amount in enumerate(amounts * 4)
        for day, user in [(place % 19, place % 3), (place % 7, place % 3)]
    ]
    touched = [(20, user, item) for user in range(3) for item in range(4)]
    digests = []
    for name, turned in (("there", behaviors), ("back", behaviors[::-1])):
        home, warehouse = _home(tmp_path, name)
        _land(home, warehouse, turned, touched)
        _build(home, warehouse, "winback_training", [AS_OF])
        tables = ("user_day", "user_features", "user_item_features")
        digests.append([_rows(home, warehouse, table) for table in tables])
    for there, back in zip(*digests, strict=True):
        assert there and there == back
