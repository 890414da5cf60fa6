"""What is concluded, and that nothing breaks or boasts where there is too little."""

import json
import math
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from effect_rows import D, counts, outcomes, plan

from usergrowth_dagster.effects.analysis import analyse
from usergrowth_dagster.effects.result import Effect
from usergrowth_dagster.effects.rows import NEEDED


def finite(value: Any) -> bool:
    """Whether no figure is NaN or infinite, at any depth."""
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def plain(treated: tuple[int, int], control: tuple[int, int]) -> dict[str, Any]:
    """Scores that are all alike: nothing to adjust by."""
    return {"score": np.full(treated[1] + control[1], 0.5)}


def sound(effect: Effect) -> Effect:
    """The effect, after what holds for each: JSON, finite figures, values inside their intervals."""
    document = effect.as_dict()
    assert finite(document), document
    json.dumps(document, allow_nan=False)
    for contrast in effect.contrasts:
        for name in ("absolute", "relative", "adjusted", "value", "value_adjusted", "returns"):
            one = getattr(contrast, name)
            if one is not None and one.low is not None:
                assert one.low - 1e-9 <= one.value <= one.high + 1e-9, (name, one)
    assert effect.sentence.endswith(".") and "None" not in effect.sentence
    assert effect.sentence.count("\n") == 0
    return effect


@pytest.mark.parametrize(
    ("treated", "control", "verdict", "words"),
    [
        ((300, 1000), (20, 100), "works", "The text works: 100 more of 1,000 came back"),
        ((100, 1000), (30, 100), "harms", "The text does harm: 200 fewer of 1,000"),
        ((200, 1000), (21, 100), "no_effect_shown", "fewer to 63 more of 1,000 fits"),
        ((200, 1000), (0, 0), "no_control", "nobody was held out"),
        ((0, 0), (30, 100), "nothing_sent", "nobody was chosen"),
        ((0, 0), (0, 0), "nothing_sent", "nobody was chosen"),
        ((1000, 1000), (100, 100), "no_effect_shown", "0 more of 1,000"),
        ((0, 1000), (0, 100), "no_effect_shown", "0 more of 1,000"),
        ((1, 1), (0, 1), "no_effect_shown", "1000 more of 1,000"),
        ((1, 1), (0, 0), "no_control", "1 of 1 chosen"),
    ],
)
def test_verdicts(
    treated: tuple[int, int], control: tuple[int, int], verdict: str, words: str
) -> None:
    """An arm of nobody, of one, or one in which all or none returned; and a conclusion too many."""
    share = 1 / 11 if control[1] else 0.0
    share = 1.0 - 1e-12 if not treated[1] else share
    share = 0.5 if treated[1] == control[1] == 1 else share
    effect = sound(
        analyse(
            counts(treated, control, share=share, **plain(treated, control)),
            plan(value_per_return=10.0),
        )
    )
    assert effect.verdict == verdict and words in effect.sentence
    assert (len(effect.contrasts) > 0) == (treated[1] > 0 and control[1] > 0)


def test_nothing_sent_and_not_yet() -> None:
    """A lift of texts that have not gone out, or of a window that is not over."""
    rows = counts((300, 1000), (20, 100), share=1 / 11, sent=np.zeros(1100, bool))
    effect = sound(analyse(rows, plan()))
    assert effect.verdict == "nothing_sent" and "no text has gone out" in effect.sentence
    rows = counts((300, 1000), (20, 100), share=1 / 11)
    early = plan(complete=False, look=0, counted_until=D + timedelta(days=9))
    effect = sound(analyse(rows, early))
    assert effect.verdict == "not_yet" and "2026-03-30" in effect.sentence
    assert "300 of 1000" in effect.sentence and effect.contrasts[0].absolute.low is not None
    none = sound(analyse(rows, plan(complete=False, look=0, counted_until=None)))
    assert none.verdict == "not_yet" and none.daily == []


def test_looks() -> None:
    """A conclusion before the first planned look, an early one at the usual level, a final "not yet"."""
    rows = counts((300, 1000), (20, 100), share=1 / 11)
    until = D + timedelta(days=7)
    before = sound(analyse(rows, plan(looks=4, look=0, complete=False)))
    assert before.verdict == "not_yet" and "analysis 1 of 4" in before.sentence
    first = sound(analyse(rows, plan(looks=4, look=1, complete=False, counted_until=until)))
    assert first.verdict == "not_yet" and "analysis 2 of 4" in first.sentence
    assert first.level > 0.9999 and first.contrasts[0].level == first.level
    assert any("analysis 1 of 4" in note for note in first.notes)
    last = sound(analyse(rows, plan(looks=4, look=4)))
    assert last.verdict == "works" and 0.95 < last.level < 0.96
    strong = counts((700, 1000), (20, 100), share=1 / 11)
    early = sound(analyse(strong, plan(looks=4, look=1, complete=False, counted_until=until)))
    assert early.verdict == "works" and "analysis 1 of 4" in early.sentence


def test_money_inverts_the_lift() -> None:
    """A cost of an incremental return where there may be none, or a profit that forgets the cost."""
    rows = counts((300, 1000), (20, 100), share=1 / 11, score=np.full(1100, 0.5))
    effect = sound(analyse(rows, plan(value_per_return=2.0)))
    money, lift = effect.money, effect.contrasts[0].absolute
    assert money.cost == pytest.approx(50) and money.cost_per_return == pytest.approx(50 / 300)
    each = money.cost_per_incremental_return
    assert each is not None and money.profit is not None
    assert each.value == pytest.approx(50 / 100)
    assert (each.low, each.high) == pytest.approx((0.05 / lift.high, 0.05 / lift.low))
    assert money.profit.value == pytest.approx(2 * 100 - 50)
    assert money.profit.low == pytest.approx(2 * 1000 * lift.low - 50)
    unsure = sound(analyse(counts((200, 1000), (21, 100), share=1 / 11), plan()))
    assert unsure.money.cost_per_incremental_return is None and unsure.money.profit is None
    assert unsure.contrasts[0].value is None and unsure.contrasts[0].worth is None
    nobody = sound(analyse(counts((0, 10), (0, 10)), plan()))
    assert nobody.money.cost_per_return is None


def test_conclusions_rest_on_the_adjusted_lift_of_large_arms() -> None:
    """An adjusted interval of a handful of users, or returns and profit of another estimate."""
    rng = np.random.default_rng(56)
    for n, kind in ((4000, "adjusted"), (300, "absolute")):
        arm, score = rng.random(n) < 0.8, rng.random(n)
        came = rng.random(n) < score**3 + 0.05 * arm * (1 - score)
        rows = outcomes(arm, came, share=0.2, score=score)
        effect = sound(analyse(rows, plan(value_per_return=2.0)))
        whole = effect.contrasts[0]
        assert whole.rests_on == kind and whole.lift is getattr(whole, kind)
        assert whole.returns.value == pytest.approx(whole.lift.value * arm.sum())
        assert whole.worth is not None and whole.relative is not None
        assert whole.worth.low == pytest.approx(2 * whole.lift.low * arm.sum())
        assert np.sign(whole.relative.value) == np.sign(whole.lift.value)
        assert whole.relative.excludes_zero() == whole.lift.excludes_zero()


def test_amounts_take_the_margin() -> None:
    """Sales taken for profit."""
    rng = np.random.default_rng(51)
    arm = rng.random(900) < 0.5
    spent = rng.exponential(10, 900) * (rng.random(900) < 0.3)
    rows = outcomes(arm, spent > 0, amount=spent)
    effect = sound(analyse(rows, plan(has_amount=True, margin=0.25)))
    value = effect.contrasts[0].value
    assert value is not None
    assert value.value == pytest.approx(0.25 * (spent[arm].mean() - spent[~arm].mean()))
    assert effect.arms[0].amount == pytest.approx(0.25 * spent[arm].sum())


def test_views_are_kept_apart() -> None:
    """Delivered texts against all of the control group, reported as if they had been drawn at random."""
    rng = np.random.default_rng(52)
    n = 6000
    arm, home = rng.random(n) < 0.5, rng.random(n) < 0.7
    came = rng.random(n) < 0.1 + 0.2 * home
    effect = sound(analyse(outcomes(arm, came, delivered=arm & home), plan()))
    whole, reached = effect.contrasts
    assert whole.view == "intention_to_treat" and reached.view == "delivered_only"
    assert effect.verdict == "no_effect_shown" and reached.absolute.excludes_zero()
    assert whole.per_delivered is not None and not whole.per_delivered.excludes_zero()
    assert whole.per_delivered.value == pytest.approx(whole.absolute.value / 0.7, rel=0.05)
    lost = sound(analyse(outcomes(arm, came, sent=arm & home, delivered=arm & home), plan()))
    assert any(f"of {arm.sum()} chosen users got no text" in note for note in lost.notes)
    silent = sound(analyse(outcomes(arm, came, delivered=np.zeros(n, bool)), plan()))
    assert [c.view for c in silent.contrasts] == ["intention_to_treat"]
    assert any("delivery" in note for note in silent.notes)


def test_texts_share_their_errors() -> None:
    """The best of several texts reported at the level of one."""
    rng = np.random.default_rng(53)
    n = 3000
    arm = rng.random(n) < 0.8
    names = rng.choice(np.array(["a", "b", "c"], dtype=object), n)
    came = rng.random(n) < 0.2 + 0.1 * (arm & (names == "c"))
    effect = sound(
        analyse(
            outcomes(arm, came, share=0.2, variant=names, variant_propensity=np.full(n, 1 / 3)),
            plan(),
        )
    )
    pairs = {(c.treated, c.control): c for c in effect.contrasts}
    assert list(pairs) == [
        ("treatment", "control"),
        ("a", "control"),
        ("b", "control"),
        ("c", "control"),
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]
    assert all(c.level == pytest.approx(1 - 0.05 / 6) for c in effect.contrasts[1:])
    assert pairs["c", "control"].absolute.excludes_zero()
    assert not pairs["a", "control"].absolute.excludes_zero()
    assert [arm.name for arm in effect.arms] == ["treatment", "control", "a", "b", "c"]
    assert sum(arm.users for arm in effect.arms[2:]) == effect.arms[0].users


def test_strata_and_uneven_chances_choose_the_method() -> None:
    """A plain difference where the chances lean on the outcome: strata, or weights, take it out."""
    rng = np.random.default_rng(54)
    n = 20_000
    busy = rng.random(n) < 0.5
    share = np.where(busy, 0.5, 0.1)
    arm = rng.random(n) >= share
    came = rng.random(n) < np.where(busy, 0.6, 0.1)
    names = np.where(busy, "busy", "idle")
    strata = sound(analyse(outcomes(arm, came, share=share, stratum=names), plan()))
    assert strata.contrasts[0].method == "Newcombe by strata"
    weighed = sound(analyse(outcomes(arm, came, share=share), plan()))
    assert weighed.contrasts[0].method == "inverse propensity weights"
    for effect in (strata, weighed):
        lift = effect.contrasts[0]
        assert abs(lift.absolute.value) < 0.03 and abs(lift.adjusted.value) < 0.03
        assert lift.relative is not None and abs(lift.relative.value) < 0.1
        assert effect.verdict == "no_effect_shown" and effect.sample_ratio is not None
        assert effect.sample_ratio.passed
    naive = came[arm].mean() - came[~arm].mean()
    assert naive < -0.1
    even = sound(analyse(outcomes(arm, came, stratum=np.full(n, "one")), plan()))
    assert even.contrasts[0].method == "Newcombe"


@pytest.mark.parametrize(("people", "rate", "looks"), [(20, 0.3, 1), (10, 0.5, 1), (20, 0.3, 3)])
def test_many_small_strata_are_seldom_called_an_effect(
    people: int, rate: float, looks: int
) -> None:
    """Intervals of the single strata put together call every fifth campaign an effect that has none.

    40 strata, a tenth of each held out.
    """
    rng = np.random.default_rng(57)
    strata = np.repeat([f"city={n:02d}" for n in range(40)], people)
    called = 0
    for _ in range(200):
        arm = np.ones(len(strata), bool)
        arm[np.arange(0, len(strata), 10) + rng.integers(0, 10, len(strata) // 10)] = False
        rows = outcomes(arm, rng.random(len(strata)) < rate, share=0.1, stratum=strata)
        effect = analyse(rows, plan(looks=looks, look=looks))
        assert effect.contrasts[0].method == "Newcombe by strata"
        called += effect.verdict in ("works", "harms")
    assert called <= 19  # 5 % are 10; three standard deviations more are 19


def test_deciles_and_crossover() -> None:
    """Tenths that lose users, a tenth without a control user, a crossing that is not reported."""
    rng = np.random.default_rng(55)
    n = 1000
    arm = rng.random(n) < 0.9
    arm[:100] = True  # the best tenth
    others = (np.arange(n) % 50 == 0).astype(int)
    rows = outcomes(
        arm,
        rng.random(n) < 0.3,
        share=0.1,
        other_texts=others,
        sent=arm | (np.arange(n) == 999),
        uplift=np.full(n, 0.02),
    )
    effect = sound(analyse(rows, plan()))
    assert sum(d.treated + d.control for d in effect.deciles) == n
    best = effect.deciles[0]
    assert best.decile == 1 and best.control == 0 and best.lift is None
    assert best.control_rate is None and best.treated_rate is not None
    assert best.low_score >= effect.deciles[1].high_score
    assert effect.deciles[5].lift is not None
    assert all(d.predicted_uplift == pytest.approx(0.02) for d in effect.deciles)
    crossed = effect.crossover
    assert crossed["control_texted_by_others"] + crossed["treated_texted_by_others"] == 20
    assert crossed["control_texted_by_this"] == int(not arm[999])
    assert any("other campaigns" in note for note in effect.notes)


def test_explored_rows_are_left_out() -> None:
    """Users below the cut, texted at random, taken for the campaign's treatment arm."""
    rows = counts((300, 1000), (20, 100), share=1 / 11)
    extra = outcomes(np.ones(500), np.zeros(500), outcome=np.full(500, "explored"))
    extra = extra.set_column(0, "row", [np.arange(5000, 5500)])
    both = pa.concat_tables([rows, extra], promote_options="permissive")
    assert analyse(both, plan()).as_dict() == analyse(rows, plan()).as_dict()
    assert "user_id" not in NEEDED
    assert sound(analyse(rows.select(NEEDED), plan())).verdict == "works"


@pytest.mark.parametrize(("rate", "kind"), [(0.75, "adjusted"), (0.78, "absolute")])
def test_few_who_do_not_return(rate: float, kind: str) -> None:
    """An adjusted interval where the smaller arm is skewed: it would err more often than it says."""
    users = np.array([1080, 120])  # 30 and 26 of the smaller arm do not return
    treated, control = (int(n) for n in np.round(users * rate))
    effect = analyse(counts((treated, 1080), (control, 120), share=0.1), plan())
    assert effect.contrasts[0].rests_on == kind
