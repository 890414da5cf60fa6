"""What policies would have earned: whom each would text, by a decision's own rules, and its worth."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.decided import decided_table

from usergrowth_dagster.audience.decisions import decide
from usergrowth_dagster.audience.holdout import Holdout
from usergrowth_dagster.audience.policy import Budget, Money, Policy, Threshold, TopN
from usergrowth_dagster.effects.policies import (
    Option,
    People,
    Worth,
    named,
    policy_values,
    usual_options,
)
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import Engine, open_engine

D = date(2017, 5, 4)
PEOPLE = 6000
NOBODY_HELD = Holdout(share=0)
WORTH = Worth(False, 1.0, 2.0, "CNY")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with open_engine(load_settings(tmp_path)) as made:
        yield made


def candidates(rng: np.random.Generator) -> dict[str, Any]:
    """People with a score, an uplift that falls with it, and texts of one or two messages."""
    score = np.round(rng.uniform(0.01, 0.99, PEOPLE), 2)  # many equal ones
    messages = rng.integers(1, 3, PEOPLE)
    return {
        "row": np.arange(1, PEOPLE + 1),
        "user_id": [f"u{n}" for n in range(PEOPLE)],
        "item_id": ["i"] * PEOPLE,
        "phone": [f"+999{n:010d}" for n in range(PEOPLE)],
        "score": score,
        "uplift": 0.2 * (1 - score) + 0.02,
        "uplift_version": ["1"] * PEOPLE,
        "messages": messages,
        "cost": messages * 0.045,
        "content_problem": pa.nulls(PEOPLE, pa.string()),
        "suppressed": [False] * PEOPLE,
        "model_name": ["churn"] * PEOPLE,
        "model_version": ["1"] * PEOPLE,
    }


def decided(engine: Engine, policy: Policy, holdout: Holdout, overall: Holdout) -> pa.Table:
    rows = decide(
        engine,
        "candidates",
        task_id="t",
        execution_date=D,
        campaign="c",
        policy=policy,
        holdout=holdout,
        global_holdout=overall,
    )
    return decided_table(engine, rows)


def bind_outcomes(engine: Engine, table: pa.Table, returned: np.ndarray) -> None:
    """What became of a decision, as the table of outcomes has it."""
    zeros = pa.array(np.zeros(PEOPLE))
    made = table.append_column("planned_cost", table.column("cost"))
    for name in ("amount", "pre_events", "pre_active_days", "pre_amount"):
        made = made.append_column(name, zeros)
    engine.bind_arrow("outcomes", made.append_column("returned", pa.array(returned)))


POLICIES: list[Policy] = [
    Threshold(threshold=0.4),
    TopN(n=777),
    TopN(n=777, rank_by="uplift"),
    Budget(budget=50.0),
    Budget(budget=50.0, rank_by="uplift"),
    Money(value_per_return=0.6),
    Money(value_per_return=2.0, budget=30.0),
]


def test_a_policy_texts_whom_a_decision_by_it_would(engine: Engine) -> None:
    """What-if chooses by other rules or breaks ties otherwise than the product would."""
    made = candidates(np.random.default_rng(1))
    engine.bind_arrow("candidates", pa.table(made))
    used = Threshold(threshold=0.6, explore=0.1)
    log = decided(engine, used, Holdout(share=0.1), Holdout(scope="global", share=0.05))
    bind_outcomes(engine, log, np.zeros(PEOPLE, dtype=bool))
    people = People(engine, "outcomes", "t", D)
    assert len(people) == PEOPLE
    for policy in POLICIES:
        asked = people.chosen_by(named(policy, WORTH)) > 0
        plain = decided(engine, policy, NOBODY_HELD, Holdout(scope="global", share=0))
        real = np.array(plain.column("outcome").to_pylist()) == "selected"
        assert 0 < real.sum() < PEOPLE, policy
        assert (asked == real).all(), policy
    chosen = people.chosen_by(Option("used", used, used=True)) > 0
    assert (chosen == (np.asarray(made["score"]) > 0.6)).all()
    names = [option.name for option in usual_options(people, used, WORTH)]
    assert names[0] == "as it was decided (score above 0.6)" and names[-1] == "nobody"
    assert len(set(names)) == len(names) and any("best by uplift" in name for name in names)


def test_a_used_budget_is_asked_like_any_other(engine: Engine) -> None:
    """Held-out people, whose texts cost nothing, make the used policy overrun its own budget."""
    engine.bind_arrow("candidates", pa.table(candidates(np.random.default_rng(8))))
    used = Budget(budget=50.0)
    log = decided(engine, used, Holdout(share=0.3), Holdout(scope="global", share=0))
    bind_outcomes(engine, log, np.random.default_rng(9).uniform(size=PEOPLE) < 0.3)
    people = People(engine, "outcomes", "t", D)
    assert (people.chosen * people.cost).sum() > 60
    options = usual_options(people, used, WORTH)
    values = policy_values(people, [options[0], named(used, WORTH)], WORTH)
    assert values[0].value.texted == values[1].value.texted
    assert 49 < values[0].value.cost <= 50
    beyond = values[1].beyond_used.dr
    assert beyond is not None and beyond.value == pytest.approx(0)
    for option in options[:-1]:
        if isinstance(option.policy, TopN | Budget):
            assert (people.chosen_by(option) * people.cost).sum() <= 50.01


def test_profit_is_that_of_the_world(engine: Engine) -> None:
    """The profit of a policy that was not used is off, or that of nobody is not nothing."""
    rng = np.random.default_rng(2)
    made = candidates(rng)
    engine.bind_arrow("candidates", pa.table(made))
    used = Threshold(threshold=0.5, explore=0.3)
    log = decided(engine, used, Holdout(share=0.3), Holdout(scope="global", share=0.02))
    texted = np.array(log.column("arm").to_pylist()) == "treatment"
    score, lift, cost = (np.asarray(made[name]) for name in ("score", "uplift", "cost"))
    misses = []
    for _ in range(40):
        returned = rng.uniform(size=PEOPLE) < 0.05 + 0.3 * score + lift * texted
        bind_outcomes(engine, log, returned)
        people = People(engine, "outcomes", "t", D)
        options = [Option("used", used, used=True), Option("everybody", everybody=True)]
        options += [named(policy, WORTH) for policy in POLICIES] + [Option("nobody")]
        for option, one in zip(options, policy_values(people, options, WORTH), strict=True):
            value, texts = one.value, people.chosen_by(option)
            assert value.refused is None, value
            truth = float((texts * (2.0 * lift - cost)).sum())
            assert value.cost == pytest.approx(float((texts * cost).sum()))
            assert value.profit is not None and value.profit.low is not None
            assert one.beyond_used.dr is not None
            misses.append(not value.profit.low <= truth <= value.profit.high)  # type: ignore[operator]
        assert value.profit is not None
        assert (value.policy, value.texted, value.profit.value) == ("nobody", 0.0, 0.0)
    assert 0.01 <= np.mean(misses) * len(options) / (len(options) - 1) <= 0.1


def test_refusals_name_their_reason(engine: Engine) -> None:
    """An answer is given for people whom the log says nothing of, or before the window is over."""
    made = candidates(np.random.default_rng(3))
    engine.bind_arrow("candidates", pa.table(made))
    used = Threshold(threshold=0.5)
    log = decided(engine, used, Holdout(share=0.3), Holdout(scope="global", share=0))
    bind_outcomes(engine, log, np.random.default_rng(4).uniform(size=PEOPLE) < 0.3)
    people = People(engine, "outcomes", "t", D)
    lower, higher = (named(Threshold(threshold=t), WORTH) for t in (0.3, 0.7))
    values = policy_values(people, [lower, higher, Option("all", everybody=True)], WORTH)
    assert [one.value.refused is None for one in values] == [False, True, False]
    assert "had no chance of being texted" in str(values[0].value.refused)
    assert values[0].value.profit is None and values[0].value.cost > 0
    (blocked,) = policy_values(people, [higher], WORTH, blocked="the window is open")
    assert blocked.value.refused == "the window is open"
    assert (blocked.value.returns, blocked.value.profit, blocked.beyond_used.dr) == (None,) * 3
    nothing = replace(WORTH, value_per_return=None)
    (unpriced,) = policy_values(people, [higher], nothing)
    assert unpriced.value.profit is None and unpriced.value.returns is not None
