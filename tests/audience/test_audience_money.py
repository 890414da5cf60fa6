"""Choosing by money, against the best there is on small inputs; choosing by uplift."""

from decimal import Decimal
from itertools import combinations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.decided import outcome_counts
from test_audience_decisions import DAY, outcomes, person, run

from usergrowth_dagster.audience.decisions import decide
from usergrowth_dagster.audience.holdout import Holdout
from usergrowth_dagster.audience.policy import Budget, Money, TopN
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import open_engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_engine(load_settings(tmp_path_factory.mktemp("money"), threads=1)) as opened:
        yield opened


def linear_bound(gains, budget):
    """The most that the linear program gets: gains over costs, the last of them in part."""
    left, total = budget, Decimal(0)
    for gain, cost in sorted(gains, key=lambda one: one[0] / one[1], reverse=True):
        part = min(Decimal(1), left / cost)
        total, left = total + part * gain, left - part * cost
    return total


def best_of_all(gains, budget):
    """The most that any set within the budget gets, by trying them all."""
    return max(
        sum((gain for gain, _ in chosen), Decimal(0))
        for size in range(len(gains) + 1)
        for chosen in combinations(gains, size)
        if sum(cost for _, cost in chosen) <= budget
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(
        st.tuples(st.integers(-20, 100), st.sampled_from(["0.045", "0.09", "0.135", "0.18"])),
        max_size=9,
    ),
    budget=st.sampled_from(["0.1", "0.2", "0.45", "5"]),
    min_profit=st.sampled_from(["0", "0.031"]),
    value=st.sampled_from([1, 3]),
)
def test_money_is_within_one_message_of_the_best(engine, rows, budget, min_profit, value):
    """Guards against a ranking that is not by return on spend, and against a text that is sent
    although it costs more than it brings."""
    people = [
        person(n, f"u{n}", 0.5, uplift=uplift / 1000, cost=float(cost))
        for n, (uplift, cost) in enumerate(rows)
    ]
    policy = Money(value_per_return=value, min_profit=float(min_profit), budget=float(budget))
    decided = run(engine, people, policy).to_pylist()
    net = {
        n: Decimal(uplift) * value / 1000 - Decimal(cost) for n, (uplift, cost) in enumerate(rows)
    }
    for d in decided:
        assert d["net_value"] == pytest.approx(float(net[d["row"]]), abs=1e-12)
        assert (d["outcome"] == "not_profitable") == (d["net_value"] <= policy.min_profit)
    chosen = [d["row"] for d in decided if d["arm"] == "treatment"]
    assert all(net[row] > Decimal(min_profit) for row in chosen)
    spent = sum((Decimal(rows[row][1]) for row in chosen), Decimal(0))
    assert spent <= Decimal(budget)
    gains = [
        (net[n], Decimal(cost)) for n, (_, cost) in enumerate(rows) if net[n] > Decimal(min_profit)
    ]
    got = sum((net[row] for row in chosen), Decimal(0))
    bound, best = linear_bound(gains, Decimal(budget)), best_of_all(gains, Decimal(budget))
    one_more = max((gain for gain, _ in gains), default=Decimal(0))
    assert best <= bound + Decimal("1e-20")
    assert got >= bound - one_more and got <= best
    if len(chosen) < len(gains):
        assert one_more > 0 and spent + max(cost for _, cost in gains) > Decimal(budget)


def test_texts_that_cost_nothing_are_ranked_by_what_they_bring(engine):
    """Guards against a division by the cost of an e-mail, which may be nothing."""
    people = [
        person(1, "a", 0.5, uplift=0.1, cost=0.0), person(2, "b", 0.5, uplift=0.3, cost=0.0),
        person(3, "c", 0.5, uplift=0.0, cost=0.0), person(4, "d", 0.5, uplift=-0.1, cost=0.0),
        person(5, "e", 0.5, uplift=0.9, cost=0.1), person(6, "f", 0.5, uplift=None, cost=0.0),
    ]  # fmt: skip
    table = run(engine, people, Money(value_per_return=1.0, budget=0.1))
    ranks = dict(zip(table["row"].to_pylist(), table["rank"].to_pylist(), strict=True))
    assert sorted(ranks, key=lambda row: ranks[row] or 9) == [2, 1, 5, 3, 4, 6]
    assert outcomes(table) == {
        1: "selected", 2: "selected", 3: "not_profitable", 4: "not_profitable", 5: "selected",
        6: "no_features",
    }  # fmt: skip


def test_by_uplift_takes_those_whom_a_text_moves(engine):
    """Guards against ranking by score under another name, in the choice among a user's items and
    among those of one phone too."""
    people = [
        person(1, "sure", 0.9, uplift=0.0), person(2, "moved", 0.2, uplift=0.3),
        person(3, "lost", 0.1, uplift=0.1), person(4, "two", 0.8, uplift=0.01),
        person(5, "two", 0.3, uplift=0.2, item_id="j"),
        person(6, "same phone", 0.9, uplift=0.25, phone="+9990000000002"),
    ]  # fmt: skip
    assert outcomes(run(engine, people, TopN(n=2, rank_by="uplift"))) == {
        1: "not_in_top_n", 2: "selected", 3: "not_in_top_n", 4: "other_item", 5: "selected",
        6: "shared_phone",
    }  # fmt: skip
    by_money = Budget(budget=0.045, rank_by="uplift")
    assert outcomes(run(engine, people, by_money))[2] == "selected"
    assert outcomes(run(engine, people, TopN(n=2)))[1] == "selected"
    engine.run("create or replace view no_uplift as select * exclude (uplift) from scored")
    with pytest.raises(ValueError, match="no column uplift"):
        decide(
            engine, "no_uplift", task_id="t", execution_date=DAY, campaign="C", policy=by_money,
            holdout=Holdout(share=0),
        )  # fmt: skip


def test_control_users_leave_the_money_to_others(engine):
    """Guards against a control group that is paid for, or that lets in those who are not worth
    their text."""
    people = [
        person(n, f"u{n}", 0.5, uplift=0.2 if n < 1500 else 0.01, cost=0.045) for n in range(3_000)
    ]
    policy = Money(value_per_return=1.0, budget=45.0)
    counts = outcome_counts(
        engine, run(engine, people, policy, Holdout(share=0.2),
            global_holdout=Holdout(scope="global", share=0.02))
    )  # fmt: skip
    assert counts["selected"] == 1000
    assert counts["not_profitable"] == 1500
    assert 200 < counts["holdout"] < 350
