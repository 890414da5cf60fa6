"""RFM and AIPL against a plain Python reference."""

from collections import Counter
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from usergrowth_dagster.tags import aipl, rfm
from usergrowth_dagster.tags.definition import Aipl, Rfm
from usergrowth_dagster.warehouse.engine import Engine

D = date(2024, 3, 1)
Days = dict[tuple[str, int], tuple[dict[str, float], dict[str, float]]]
"""Kinds and amounts of a user's day, by user and days before D."""

USERS = ["u1", "u2", "u3", "u4"]
kinds = st.dictionaries(st.sampled_from(["buy", "order", "click"]), st.integers(1, 4), min_size=1)
amounts = st.dictionaries(st.just("pay"), st.integers(-50, 2000))
logs = st.dictionaries(
    st.tuples(st.sampled_from(USERS), st.integers(1, 120)),
    st.tuples(kinds, amounts),
    max_size=25,
)


@pytest.fixture(scope="module")
def engine() -> Engine:
    """An engine with the two tables."""
    made = Engine(duckdb.connect())
    made.run("create table users (user_id varchar)")
    made.run(
        "create table facts (ds date, user_id varchar, kinds map(varchar, double), "
        "amounts map(varchar, double))"
    )
    return made


def fill(engine: Engine, log: Days) -> None:
    """Write a log into the tables; everyone is known."""
    engine.run("delete from users")
    engine.run("delete from facts")
    for user in USERS:
        engine.run("insert into users values (?)", [user])
    for (user, back), (of_kind, of_key) in log.items():
        engine.run(
            "insert into facts values (?, ?, ?, ?)",
            [D - timedelta(days=back), user, {k: float(v) for k, v in of_kind.items()}, of_key],
        )


def bought(log: Days, keys: Rfm) -> dict[str, tuple[int, float, float]]:
    """Recency, orders and money of each buyer."""
    found: dict[str, tuple[int, float, float]] = {}
    for (user, back), (of_kind, of_key) in log.items():
        events = sum(of_kind.get(kind, 0) for kind in keys.orders)
        if not events or back > keys.window_days:
            continue
        recency, orders, money = found.get(user, (10_000, 0, 0))
        more = 1 if keys.count == "days" else events
        found[user] = (min(recency, back), orders + more, money + of_key.get("pay", 0))
    return found


def cut(value: float, cuts: tuple[float, ...]) -> int:
    """1 for the smallest values."""
    return 1 + sum(value > one for one in cuts)


def expected_groups(log: Days, keys: Rfm) -> dict[str, str]:
    """The group of every user, by fixed cuts and means."""
    buyers = bought(log, keys)
    scores = {
        user: (
            len(keys.recency) + 2 - cut(recency, keys.recency),
            cut(orders, keys.frequency),
            cut(money, keys.monetary),
        )
        for user, (recency, orders, money) in buyers.items()
    }
    means = [sum(s[i] for s in scores.values()) / len(scores) for i in range(3)] if scores else []
    codes = {one.high: one.code for one in rfm.TYPES}
    return {
        user: codes[tuple(s >= m for s, m in zip(scores[user], means, strict=True))]  # type: ignore[index]
        if user in scores
        else rfm.NEVER_BOUGHT
        for user in USERS
    }


SLOW = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SLOW
@given(log=logs, count=st.sampled_from(["events", "days"]))
def test_groups_are_those_of_the_rule(engine: Engine, log: Days, count: Any) -> None:
    """A score on the wrong side of a cut, an order outside the window, a mean over non-buyers."""
    keys = Rfm(orders=("buy", "order"), amount="pay", count=count, window_days=100)
    within = {key: value for key, value in log.items() if key[1] <= keys.window_days}
    fill(engine, within)
    rows = engine.rows(
        f"select user_id, {rfm.TYPE} from ({rfm.rfm_sql(keys, D, 'users', 'facts')})"
    )
    assert dict(rows) == expected_groups(within, keys)
    assert len(rows) == len(USERS)


def test_cuts_hold_their_limits(engine: Engine) -> None:
    """A value on a cut that falls into the next score; the documented defaults."""
    log: Days = {
        ("u1", 30): ({"buy": 1}, {"pay": 100}),
        ("u2", 31): ({"buy": 4}, {"pay": 1000}),
        ("u3", 91): ({"buy": 5}, {"pay": 1001}),
    }
    fill(engine, log)
    sql = rfm.rfm_sql(Rfm(orders=("buy",), amount="pay"), D, "users", "facts")
    scores = engine.rows(f"select user_id, r_score, f_score, m_score from ({sql}) order by 1")
    assert scores == [("u1", 3, 1, 1), ("u2", 2, 2, 2), ("u3", 1, 3, 3), ("u4", None, None, None)]


def test_quintiles_share_ties(engine: Engine) -> None:
    """Equal values with unequal scores, or a recency that scores the wrong way round."""
    log: Days = {(f"u{n}", n): ({"buy": 2}, {}) for n in (1, 2, 3)}
    fill(engine, log)
    sql = rfm.rfm_sql(Rfm(orders=("buy",), scoring="quintiles"), D, "users", "facts")
    scores = engine.rows(
        f"select user_id, r_score, f_score, m_score from ({sql}) where orders > 0 order by 1"
    )
    assert scores == [("u1", 5, 1, None), ("u2", 3, 1, None), ("u3", 1, 1, None)]


STAGES = Aipl.model_validate(
    {
        "awareness": [{"behavior": ["click"]}],
        "interest": [{"behavior": ["click"], "at_least": 3, "within_days": 10}],
        "purchase": [{"behavior": ["buy", "order"], "within_days": 60}],
        "loyal": [
            {"behavior": ["buy"], "at_least": 5, "within_days": 90},
            {"behavior": ["buy"], "amount": "pay", "amount_at_least": 1500, "within_days": 90},
        ],
    }
)


def expected_stages(log: Days) -> dict[str, str]:
    """The last stage that each user reaches."""

    def reaches(user: str, rule: Any) -> bool:
        events, money = 0.0, 0.0
        for (who, back), (of_kind, of_key) in log.items():
            here = sum(of_kind.get(kind, 0) for kind in rule.behavior)
            if who == user and back <= rule.within_days and here:
                events += here
                money += of_key.get("pay", 0)
        return events >= rule.at_least and (rule.amount is None or money >= rule.amount_at_least)

    stages: Mapping[str, Any] = STAGES.stages
    return {
        user: reached[-1]
        for user in USERS
        if (
            reached := [
                stage for stage, rules in stages.items() if any(reaches(user, r) for r in rules)
            ]
        )
    }


@SLOW
@given(log=logs)
def test_stages_are_those_of_the_rules(engine: Engine, log: Days) -> None:
    """A window that is a day too long, a rule of an earlier stage that wins, two rows of one user."""
    fill(engine, log)
    rows = engine.rows(f"select user_id, {aipl.STAGE} from ({aipl.aipl_sql(STAGES, D, 'facts')})")
    assert Counter(rows) == Counter(expected_stages(log).items())
