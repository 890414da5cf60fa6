"""Control groups, strata and exploring: chances that are true, shares that are exact."""

import random
from collections import Counter, defaultdict
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from test_audience_decisions import DAY, POLICIES, person, run

from usergrowth_dagster.audience.decision_sql import arms_ctes, walked_ctes
from usergrowth_dagster.audience.draw import counted_cte, held_ctes
from usergrowth_dagster.audience.eligibility import OUTCOMES
from usergrowth_dagster.audience.holdout import ORIGIN, Holdout, arm, epoch_in_force
from usergrowth_dagster.audience.policy import Budget, Money, Threshold, TopN
from usergrowth_dagster.control.campaign_blocks import block_of
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import open_engine

DRAWS = 200
MONEY = Money(value_per_return=2.0, min_profit=0.01, budget=0.7)
ALL_POLICIES = [Threshold(threshold=0.4), TopN(n=5), Budget(budget=0.5), MONEY]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_engine(load_settings(tmp_path_factory.mktemp("draws"), threads=1)) as opened:
        yield opened


def bind_ranked(engine, costs, strata):
    """The view ``ranked_rows`` of a ranking, best first."""
    values = ", ".join(
        f"({n}, 'u{n}', {1 - n / 100}, {0.09 - n / 1000}, {cost}, '{stratum}', {n})"
        for n, (cost, stratum) in enumerate(zip(costs, strata, strict=True), start=1)
    )
    engine.run(
        "create or replace table ranked_rows as select * from (values "
        f'{values}) t("row", user_id, score, net_value, cost, stratum, rank)'
    )


def by_rank(engine, policy, holdout, everybody, task="t"):
    """(arm, outcome, propensity) of the ranked rows, by rank."""
    ctes = arms_ctes(policy, holdout, everybody, task, "2017-10-02")
    return engine.rows(
        f"with ranked as (select * from ranked_rows), {ctes} "
        "select arm, outcome, propensity from arms order by rank"
    )


@pytest.mark.parametrize("strata", [(), ("city",)])
@pytest.mark.parametrize(
    "policy",
    [TopN(n=4), TopN(n=3, explore=0.25), Budget(budget=0.5, explore=0.3)],
    ids=["top_n", "top_n_explored", "budget_explored"],
)
def test_the_recorded_chance_is_the_true_one(engine, policy, strata):
    """Guards against propensities that are not those of the draw, at the edge of the prefix above
    all: a stratified draw whose later arms follow from the earlier ones would let some ranks in
    only as treated users."""
    rng = random.Random(5)
    bind_ranked(engine, [rng.choice([0.045, 0.09]) for _ in range(16)], "aabab" * 3 + "a")
    surprise, spread = defaultdict(float), defaultdict(float)
    for draw in range(DRAWS):
        holdout = Holdout(namespace=f"n{draw}", share=0.3, strata=strata)
        everybody = Holdout(scope="global", epoch=str(draw), share=0.1)
        for rank, row in enumerate(by_rank(engine, policy, holdout, everybody, f"t{draw}"), 1):
            arm_, outcome, propensity = row
            chosen = outcome in ("selected", "holdout")
            texted = arm_ == "treatment"
            chance = propensity if texted else 1 - propensity
            for key in ((rank, chosen), ("all", chosen)):
                surprise[key] += texted - chance
                spread[key] += chance * (1 - chance)
    z = {key: surprise[key] / spread[key] ** 0.5 for key in surprise if spread[key] > 4}
    assert {key for key in z if key[1]} > {("all", True), (1, True), (4, True)}
    assert (("all", False) in z) == (policy.explore > 0)
    squares = sum(value**2 for key, value in z.items() if key[0] != "all")
    assert max(abs(value) for value in z.values()) < 4, z
    assert squares < 2.5 * len(z), (squares, z)


ranking = st.lists(
    st.tuples(st.sampled_from([0.045, 0.09, 0.135]), st.sampled_from("abc")),
    min_size=1,
    max_size=24,
)


@settings(max_examples=45, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=ranking,
    policy=st.sampled_from([TopN(n=1), TopN(n=5), Budget(budget=0.4), MONEY]),
    share=st.sampled_from([0.25, 0.5, 0.6]),
    strata=st.sampled_from([(), ("city",)]),
    seed=st.integers(0, 1000),
)
def test_who_is_chosen_does_not_depend_on_their_own_arm(engine, rows, policy, share, strata, seed):
    """Guards against a control group that is not comparable: were a candidate let in because of
    their own arm, or of one that it follows from, the treated would be others than the controls."""
    bind_ranked(engine, *zip(*rows, strict=True))
    holdout = Holdout(namespace=f"s{seed}", share=share, strata=strata)
    everybody = Holdout(scope="global", share=0.2, epoch=str(seed))
    ctes = held_ctes(holdout, everybody, "t", "2017-10-02")
    block = "concat(stratum, ':', block)" if strata else "cast(rank as varchar)"
    engine.run(
        "create or replace table drawn_rows as "
        f"with ranked as (select * from ranked_rows), {ctes} "
        f"select *, case when is_global then cast(rank as varchar) else {block} end as draw "
        "from held"
    )

    def cut(flipped: str) -> int:
        source = f"held as (select * replace ({flipped}) from drawn_rows)"
        return engine.value(
            f"with {source}, {counted_cte(holdout)}, {walked_ctes(policy)} select rank from cut"
        )

    stands = cut("is_held as is_held")
    for rank, draw in engine.rows("select rank, draw from drawn_rows where not is_global"):
        for arms in ("true", "false"):
            mine = f"case when draw = '{draw}' then {arms} else is_held end as is_held"
            assert (rank < cut(mine)) == (rank < stands), (rank, draw, arms)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    cities=st.lists(st.sampled_from("abbcccc"), min_size=1, max_size=80),
    share=st.sampled_from([0.0, 0.1, 0.15, 0.125, 0.5, 0.97]),
    policy=st.one_of(st.just(Threshold(threshold=0.01)), st.builds(TopN, n=st.integers(1, 60))),
    seed=st.integers(0, 1000),
)
def test_a_stratum_is_held_out_to_within_one_person(engine, cities, share, policy, seed):
    """Guards against a stratified draw that holds out by chance more in one stratum than in
    another, wherever the ranking is cut; and against a list longer than was asked for."""
    bind_ranked(engine, [0.045] * len(cities), cities)
    holdout = Holdout(namespace=f"s{seed}", share=share, strata=("city",))
    everybody = Holdout(scope="global", share=0.1, epoch=str(seed))
    rows = by_rank(engine, policy, holdout, everybody)
    assert rows == by_rank(engine, policy, holdout, everybody)
    chosen, held_out = Counter(), Counter()
    for rank, (city, (arm_, outcome, _)) in enumerate(zip(cities, rows, strict=True), start=1):
        if outcome in ("selected", "holdout") and arm(everybody, f"u{rank}") == "treatment":
            chosen[city] += 1
            held_out[city] += arm_ == "control"
    for city, people in chosen.items():
        assert abs(held_out[city] - share * people) < 1, (city, held_out[city], people)
    if isinstance(policy, TopN):
        treated = sum(chosen.values()) - sum(held_out.values())
        assert treated <= policy.n
        reached_all = all(outcome in ("selected", "holdout") for _, outcome, _ in rows)
        assert reached_all or treated >= policy.n - len(set(cities))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    cities=st.lists(st.sampled_from("abbcccc"), min_size=30, max_size=80),
    share=st.sampled_from([0.1, 0.25, 0.5, 0.6]),
    budget=st.sampled_from([Decimal("0.45"), Decimal("0.9"), Decimal("1.8")]),
    seed=st.integers(0, 1000),
)
def test_a_stratified_budget_is_used_up(engine, cities, share, budget, seed):
    """Guards against a budget that goes on counting the texts of those who are held out: a
    campaign with strata would leave as much money unspent as its control group would have cost."""
    price = Decimal("0.045")
    bind_ranked(engine, [price] * len(cities), cities)
    holdout = Holdout(namespace=f"b{seed}", share=share, strata=("city",))
    everybody = Holdout(scope="global", share=0.1, epoch=str(seed))
    rows = by_rank(engine, Budget(budget=float(budget)), holdout, everybody)
    spent = price * sum(arm_ == "treatment" for arm_, _, _ in rows)
    reached_all = all(outcome in ("selected", "holdout") for _, outcome, _ in rows)
    not_yet_released = price * len(set(cities)) * block_of(share).numerator
    assert spent <= budget
    assert reached_all or spent > budget - price - not_yet_released


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=ranking,
    budget=st.sampled_from([0.045, 0.09, 0.2, 0.5, 1.0]),
    explore=st.sampled_from([0.01, 0.1, 0.3, 0.5]),
    share=st.sampled_from([0, 0.1, 0.5]),
    strata=st.sampled_from([(), ("city",)]),
    by_money=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_a_budget_is_never_exceeded(engine, rows, budget, explore, share, strata, by_money, seed):
    """Guards against exploring that spends more than there is, that texts those who are held out,
    or that gives some of those below the cut no chance, or another one than the rest."""
    money = Money(value_per_return=1, budget=budget, explore=explore)
    policy = money if by_money else Budget(budget=budget, explore=explore)
    bind_ranked(engine, *zip(*rows, strict=True))
    holdout = Holdout(namespace=f"s{seed}", share=share, strata=strata)
    everybody = Holdout(scope="global", share=0.3, epoch=str(seed))
    ranked = by_rank(engine, policy, holdout, everybody, f"t{seed}")
    spent, chances = Decimal(0), set()
    for rank, ((cost, _), (arm_, outcome, propensity)) in enumerate(
        zip(rows, ranked, strict=True), start=1
    ):
        assert outcome in OUTCOMES and 0 < propensity <= 1
        assert (arm_ == "treatment") == (outcome in ("selected", "explored"))
        spent += Decimal(repr(cost)) if arm_ == "treatment" else 0
        if arm_ != "control" and outcome != "selected":
            texted = outcome == "explored"
            chances.add(round(propensity if texted else 1 - propensity, 12))
        if outcome == "explored":
            assert arm(everybody, f"u{rank}") == "treatment"
            assert strata or arm(holdout, f"u{rank}") == "treatment"
    assert spent <= Decimal(repr(budget))
    assert len(chances) <= 1 and max(chances, default=0) <= explore * (1 - share) * 0.7 + 1e-12


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    policy=POLICIES,
    explore=st.sampled_from([0.0, 0.2, 0.5]),
    share=st.sampled_from([0, 0.2]),
    size=st.integers(0, 30),
    seed=st.integers(0, 1000),
)
def test_exploring_changes_nobody_else(engine, policy, explore, share, size, seed):
    """Guards against exploring that moves the cut of a policy without a budget, texts a person
    twice or on a shared phone, or leaves a row without an outcome or a chance."""
    rng = random.Random(seed)
    people = [
        person(
            row, f"u{rng.randrange(12)}", rng.choice([None, 0.2, 0.4, 0.6, 0.8]),
            item_id=rng.choice("ij"), phone=rng.choice([None, f"+99900000000{row % 7}0"]),
            uplift=rng.uniform(-0.05, 0.1),
        )
        for row in range(size)
    ]  # fmt: skip
    holdout = Holdout(namespace=str(seed), share=share)
    everybody = Holdout(scope="global", share=0.1, epoch=str(seed))
    base = run(engine, people, policy, holdout, global_holdout=everybody).to_pylist()
    more = policy.model_copy(update={"explore": explore})
    rows = run(engine, people, more, holdout, global_holdout=everybody).to_pylist()
    assert len(rows) == size and all(d["outcome"] in OUTCOMES for d in rows)
    assert all(0 < d["propensity"] <= 1 for d in rows)
    texted = [d for d in rows if d["arm"] == "treatment"]
    phones = [people[d["row"]]["phone"] for d in texted]
    assert len({d["user_id"] for d in texted}) == len(set(phones)) == len(texted)
    if policy.purse is None:
        for old, new in zip(base, rows, strict=True):
            below = old["outcome"] in ("below_threshold", "not_in_top_n", "not_profitable")
            assert old["outcome"] == new["outcome"] or (below and new["outcome"] == "explored")


def globally_held(engine, people, everybody, day=DAY, **more):
    table = run(engine, people, Threshold(threshold=0.01), global_holdout=everybody,
                execution_date=day, **more)  # fmt: skip
    rows = table.to_pylist()
    assert {d["global_epoch"] for d in rows} == {everybody.epoch}
    assert all((d["holdout"] is None) == (d["arm"] != "control") for d in rows)
    return {d["user_id"] for d in rows if d["holdout"] == "global"}


def test_the_global_group_is_the_same_for_all_campaigns_and_changes_with_the_period(engine):
    """Guards against a global control group that some campaign texts, or that is worn out by
    being the same people for ever."""
    people = [person(n, f"u{n}", 0.5) for n in range(2_000)]
    monday = ORIGIN + timedelta(days=7 * 900)

    def everybody(day: date) -> Holdout:
        return Holdout(scope="global", share=0.1, epoch=epoch_in_force("1", 7, day))

    spring = globally_held(engine, people, everybody(monday), monday)
    for later in (1, 6):
        day = monday + timedelta(days=later)
        autumn = globally_held(
            engine, people, everybody(day), day, task_id="autumn", campaign="Autumn",
            holdout=Holdout(namespace="autumn", share=0.5),
        )  # fmt: skip
        assert autumn == spring
    assert 140 < len(spring) < 260
    day = monday + timedelta(days=7)
    after = globally_held(engine, people, everybody(day), day)
    assert 140 < len(after) < 260
    assert len(spring & after) < 50  # about 20 are in both by chance
    same_name = Holdout(scope="campaign", share=0.1, epoch=epoch_in_force("1", 7, monday))
    drawn = {f"u{n}" for n in range(2_000) if arm(same_name, f"u{n}") == "control"}
    assert len(spring & drawn) < 50


def test_both_groups_together_have_the_recorded_chances(engine):
    """Guards against a control arm whose propensity forgets one of its two draws."""
    people = [person(n, f"u{n}", 0.5) for n in range(5_000)]
    rows = run(
        engine, people, Threshold(threshold=0.01), Holdout(namespace="x", share=0.2),
        global_holdout=Holdout(scope="global", share=0.1),
    ).to_pylist()  # fmt: skip
    assert {(d["arm"], round(d["propensity"], 12)) for d in rows} == {
        ("treatment", 0.72), ("control", 0.28)
    }  # fmt: skip
    groups = Counter(d["holdout"] for d in rows)
    assert 420 < groups["global"] < 580 and 800 < groups["campaign"] < 1000


@pytest.mark.parametrize("rotate", [1, 7, 28])
def test_periods_are_counted_from_one_day(rotate):
    """Guards against a period that begins with the campaign, so that no two of them agree, and
    against one that is cut short at a change of year or before the origin."""
    days = [ORIGIN + timedelta(days=n) for n in range(-60, 4000)]
    epochs = [epoch_in_force("e", rotate, day) for day in days]
    lengths = Counter(epochs)
    assert set(list(lengths.values())[1:-1]) == {rotate}
    assert len({epoch_in_force("e", None, day) for day in days}) == 1


def test_a_stratified_share_must_come_out_even():
    """Guards against a share that no block of people has, and a global group in strata."""
    assert [str(block_of(share)) for share in (0.1, 0.15, 0.125, 0.0)] == [
        "1/10", "3/20", "1/8", "0"
    ]  # fmt: skip
    with pytest.raises(ValidationError, match="block of at most 100"):
        Holdout(share=0.1234, strata=("city",))
    with pytest.raises(ValidationError, match="drawn by user"):
        Holdout(scope="global", share=0.1, strata=("city",))
    assert Holdout(share=0.1234).share == 0.1234
