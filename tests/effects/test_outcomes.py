"""What came after a decision, against a plain reference, and at the edges of the windows."""

import random
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pytest

from usergrowth_dagster.audience.decisions import DECISION_COLUMNS
from usergrowth_dagster.effects.outcomes import OUTCOME_COLUMNS, Window, bind_outcomes
from usergrowth_dagster.effects.texts import LedgerTexts
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.relation import Relation

D = date(2026, 3, 2)
_BEHAVIOR = (
    "ds date, user_id varchar, behavior varchar, item_id varchar, events double, "
    "amounts map(varchar, double)"
)
_OWN = (
    "user_id varchar, state varchar, reason varchar, messages bigint, cost double, sent boolean, "
    "delivered boolean, clicked boolean, seen_by_bots boolean"
)


def day(number: int) -> date:
    return D + timedelta(days=number)


def table_of(engine: Engine, name: str) -> Relation:
    return Relation(name, engine.describe(f"select * from {name}"))


def build(
    engine: Engine,
    window: Window,
    decisions: list[dict[str, Any]],
    behaviors: list[tuple[Any, ...]],
    own_texts: list[tuple[Any, ...]] = (),  # type: ignore[assignment]
    others: list[tuple[Any, ...]] = (),  # type: ignore[assignment]
) -> list[dict[str, Any]]:
    """Outcomes of decisions by row; behavior is (day, user, kind, item, events, pay)."""
    columns = ", ".join(f'"{name}" {kind}' for name, kind in DECISION_COLUMNS.items())
    for table, layout in (
        ("decisions", columns),
        ("stg_behavior", _BEHAVIOR),
        ("own_texts", _OWN),
        ("other_texts", "user_id varchar, texts bigint"),
    ):
        engine.run(f"create or replace table {table} ({layout})")
    plain = {"ds": D, "task_id": "t", "campaign": "c", "propensity": 0.5, "arm": "treatment"}
    for number, row in enumerate(decisions, 1):
        values = plain | {"row": number, "outcome": "selected"} | row
        names = ", ".join(f'"{name}"' for name in values)
        marks = ", ".join("?" * len(values))
        engine.run(f"insert into decisions ({names}) values ({marks})", list(values.values()))
    for ds, user, kind, item, events, pay in behaviors:
        amounts = "null" if pay is None else f"map {{'pay': {pay}}}"
        engine.run(
            f"insert into stg_behavior values (?, ?, ?, ?, ?, {amounts})",
            [ds, user, kind, item, events],
        )
    for row in own_texts:
        engine.run("insert into own_texts values (?, ?, ?, ?, ?, ?, ?, ?, ?)", list(row))
    for row in others:
        engine.run("insert into other_texts values (?, ?)", list(row))
    outcomes = bind_outcomes(
        engine,
        window,
        0,
        decisions=table_of(engine, "decisions"),
        behavior=table_of(engine, "stg_behavior"),
        texts=LedgerTexts(table_of(engine, "own_texts"), table_of(engine, "other_texts"), ""),
    )
    table: pa.Table = engine.arrow(f'select * from {outcomes} order by "row"')
    assert table.column_names == list(OUTCOME_COLUMNS)
    return table.to_pylist()


def test_edges_of_the_windows(settings: Settings) -> None:
    """A day too early or too late: the day of the text, the day after the window, what has not landed."""
    wanted = {-29: "", -28: "pre", -1: "pre", 0: "", 1: "in", 28: "in", 29: ""}
    rows = [{"user_id": f"u{number}"} for number in wanted]
    lives = [(day(number), f"u{number}", "buy", "i", 2.0, 3.0) for number in wanted]
    with open_engine(settings) as engine:
        outcomes = build(engine, Window(D, 28, amount="pay", until=day(40)), rows, lives)
        for row, (number, where) in zip(outcomes, wanted.items(), strict=True):
            assert row["returned"] == (where == "in"), number
            assert row["days_to_return"] == (number if where == "in" else None)
            assert row["amount"] == (3.0 if where == "in" else 0.0)
            assert row["pre_events"] == (2.0 if where == "pre" else 0.0), number
            assert row["pre_amount"] == (3.0 if where == "pre" else 0.0)
            assert row["pre_active_days"] == (where == "pre")
            assert row["window_last"] == day(28) and row["counted_until"] == day(28)
        early = build(engine, Window(D, 28, amount="pay", until=day(27)), rows, lives)
        assert [r["returned"] for r in early].count(True) == 1
        assert early[0]["counted_until"] == day(27)
        nothing = build(engine, Window(D, 28, amount="pay"), rows, lives)
        assert not any(r["returned"] or r["amount"] for r in nothing)
        assert nothing[0]["counted_until"] is None and nothing[1]["pre_events"] == 2.0


def test_the_execution_date_counts_where_the_campaign_says_so(settings: Settings) -> None:
    """Same-day outcomes that are lost, that make a covariate, or that count before they land."""
    lives = [(day(number), f"u{number}", "buy", "i", 2.0, 3.0) for number in (-1, 0, 3)]
    lives.append((day(2), "u0", "buy", "i", 1.0, 4.0))
    rows = [{"user_id": f"u{number}"} for number in (-1, 0, 3)]
    with open_engine(settings) as engine:
        window = Window(D, 28, amount="pay", until=day(40), same_day=True)
        before, same, later = build(engine, window, rows, lives)
        assert (before["returned"], before["pre_events"]) == (False, 2.0)
        assert (same["days_to_return"], same["amount"], same["pre_events"]) == (0, 7.0, 0.0)
        assert (later["days_to_return"], later["amount"]) == (3, 3.0)
        on_the_day = Window(D, 28, amount="pay", until=D, same_day=True)
        assert (on_the_day.counted, on_the_day.counted_days) == (D, 1)
        same = build(engine, on_the_day, rows, lives)[1]
        assert (same["returned"], same["amount"], same["counted_until"]) == (True, 3.0, D)
        nothing = Window(D, 28, amount="pay", same_day=True)
        assert nothing.counted_days == 0
        assert not any(row["returned"] for row in build(engine, nothing, rows, lives))


@pytest.mark.parametrize("seed", range(4))
def test_against_a_plain_reference(settings: Settings, seed: int) -> None:
    """A join that doubles rows or amounts, or counts another item's, user's or kind's behavior."""
    rng = random.Random(seed)
    users, items, kinds = (
        [f"u{i}" for i in range(12)],
        ["i1", "i2", None],
        ["buy", "login", "redeem"],
    )
    rows = [
        {
            "user_id": rng.choice(users),
            "item_id": rng.choice(["i1", "i2"]),
            "arm": rng.choice(["treatment", "control", "none"]),
            "score": rng.random(),
        }
        for _ in range(30)
    ]
    for row in rows:
        named = {"treatment": "selected", "control": "holdout", "none": "below_threshold"}
        row["outcome"] = named[row["arm"]]
    lives = [
        (
            day(rng.randint(-20, 20)),
            rng.choice(users),
            rng.choice(kinds),
            rng.choice(items),
            float(rng.randint(1, 3)),
            rng.choice([None, 1.5, 4.0]),
        )
        for _ in range(200)
    ]
    window = Window(
        D,
        10,
        behaviors=tuple(rng.sample(kinds, rng.randint(0, 2))),
        on_item=rng.random() < 0.5,
        amount=rng.choice(["pay", None]),
        pre_days=12,
        until=day(rng.choice([4, 10, 30])),
    )
    own_texts = [
        ("u1", "delivered", None, 2, 0.1, True, True, True, False),
        ("u2", "planned", None, 0, 0.0, False, False, False, False),
    ]
    others = [("u1", 3), ("u3", 1)]
    with open_engine(settings) as engine:
        outcomes = build(engine, window, rows, lives, own_texts, others)
    last = min(day(10), window.until or D)
    for row, decided in zip(outcomes, rows, strict=True):
        mine = [b for b in lives if b[1] == decided["user_id"]]
        after = [b for b in mine if D < b[0] <= last]
        before = [b for b in mine if day(-12) <= b[0] < D]
        counted = [
            b
            for b in after
            if (not window.behaviors or b[2] in window.behaviors)
            and (not window.on_item or b[3] == decided["item_id"])
        ]
        first = min(((b[0] - D).days for b in counted), default=None)
        paid = window.amount is not None
        assert row["days_to_return"] == first and row["returned"] == (first is not None)
        assert row["amount"] == pytest.approx(sum(b[5] or 0 for b in after) if paid else 0)
        assert row["pre_amount"] == pytest.approx(sum(b[5] or 0 for b in before) if paid else 0)
        assert row["pre_events"] == sum(b[4] for b in before)
        assert row["pre_active_days"] == len({b[0] for b in before})
        drawn = decided["arm"] != "none"
        texted = drawn and decided["user_id"] == "u1"
        assert (row["sent"], row["cost"], row["messages"]) == (
            (True, 0.1, 2) if texted else (False, 0, 0)
        )
        assert (row["clicked"], row["seen_by_bots"]) == (texted, False)
        assert row["other_texts"] == (dict(others).get(decided["user_id"], 0) if drawn else 0)
    chosen = sorted((r for r in outcomes if r["decile"]), key=lambda r: -r["score"])
    assert len(chosen) == sum(r["arm"] != "none" for r in rows)
    assert [r["decile"] for r in chosen] == sorted(r["decile"] for r in chosen)
