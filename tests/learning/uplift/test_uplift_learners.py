"""Learners find a planted effect, keep to their seed, undo unequal draws; the choice is honest."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usergrowth_dagster.learning.uplift.boosting import user_folds
from usergrowth_dagster.learning.uplift.choose import choose
from usergrowth_dagster.learning.uplift.curves import qini
from usergrowth_dagster.learning.uplift.learners import (
    LEARNERS,
    DRLearner,
    Learner,
    TLearner,
    doubly_robust,
)
from usergrowth_dagster.learning.uplift.scale import EffectScale, fit_scale


def world(
    rows: int, seed: int, effect: Any, chance: Any = None, base: float = 0.3
) -> tuple[Any, ...]:
    """Five features, the first of which a text works by, the second of which all return by."""
    rng = np.random.default_rng(seed)
    x = rng.random((rows, 5))
    x[rng.random(rows) < 0.05, 4] = np.nan
    e = np.full(rows, 0.5) if chance is None else chance(x)
    t = (rng.random(rows) < e).astype(float)
    true = effect(x)
    y = (rng.random(rows) < 0.1 + base * x[:, 1] + t * true).astype(float)
    return x, y, t, e, true


@pytest.mark.parametrize("kind", LEARNERS, ids=lambda kind: kind.name)
def test_a_learner_finds_the_effect_and_keeps_to_its_seed(kind: type[Learner]) -> None:
    """A learner that ranks by who returns anyway, or gives other effects on the same rows."""
    x, y, t, e, true = world(6_000, 1, lambda x: 0.5 * (x[:, 0] > 0.5))
    made = kind(seed=3).fit(x, y, t, e)
    uplift = made.uplift(x)
    assert np.corrcoef(uplift, true)[0, 1] > 0.7
    assert uplift.mean() == pytest.approx(true.mean(), abs=0.05)
    again = made.fresh().fit(x, y, t, e)
    np.testing.assert_array_equal(uplift, again.uplift(x))
    np.testing.assert_array_equal(uplift[:50], made.uplift(x[:50]))


@pytest.mark.parametrize("kind", [k for k in LEARNERS if k.name in ("DR", "class transformation")])
def test_unequal_propensities_do_not_pass_for_effects(kind: type[Learner]) -> None:
    """Texting those most who return anyway looks like a large effect on them."""
    x, y, t, e, true = world(12_000, 2, lambda x: 0.2 + 0 * x[:, 0], lambda x: 0.1 + 0.8 * x[:, 1])
    with_chances = kind(seed=0).fit(x, y, t, e).uplift(x)
    assert abs(np.corrcoef(with_chances, x[:, 1])[0, 1]) < 0.9
    assert with_chances.mean() == pytest.approx(0.2, abs=0.05)
    assert abs(with_chances - true).mean() < 0.1
    if kind.name == "class transformation":
        without = kind(seed=0).fit(x, y, t).uplift(x)
        assert abs(without - true).mean() > 2 * abs(with_chances - true).mean()


def test_outcome_models_never_see_their_rows_user() -> None:
    """Cross-fitting by rows lets a user's other rows give the answer away."""
    users = np.random.default_rng(0).integers(0, 300, 2_000)
    seen = np.zeros(len(users), int)
    for fit, held_out in user_folds(users, 3, 5):
        assert not set(users[fit]) & set(users[held_out])
        seen[held_out] += 1
    assert (seen == 1).all()


@given(
    arms=st.tuples(*[st.integers(5, 12)] * 2),
    both=st.integers(0, 6),
    seed=st.integers(0, 99),
)
def test_every_fold_of_users_has_both_arms(arms: tuple[int, int], both: int, seed: int) -> None:
    """Guards against a fold without anybody held out, where no effect can be learned or seen."""
    treated, control = arms
    users = np.r_[np.arange(treated), treated - both + np.arange(control)]
    t = np.r_[np.ones(treated), np.zeros(control)]
    order = np.random.default_rng(seed).permutation(len(t))
    users, t = np.unique(users[order], return_inverse=True)[1], t[order]
    seen = np.zeros(len(t), int)
    for fit, held_out in user_folds(users, 5, seed, t):
        assert set(t[fit]) == set(t[held_out]) == {0, 1}
        assert not set(users[fit]) & set(users[held_out])
        seen[held_out] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("seed", range(3))
def test_ten_held_out_are_enough_to_compare_rankings(seed: int) -> None:
    """Guards against learners and figures that fail on folds of two users of an arm."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(80), 3)
    t = (users >= 10).astype(float)
    x, y = rng.normal(size=(240, 3)), (rng.random(240) < 0.3).astype(float)
    y[users < 10] = np.arange(30) % 3 == 0
    choice = choose(x, y, t, np.full(240, 0.875), users, seed=seed)
    assert np.isfinite([figure.qini for figure in choice.figures]).all()
    assert np.isfinite(choice.scale(choice.chosen.learner.uplift(x))).all()


def test_pseudo_outcomes_have_the_effect_as_mean_with_wrong_models() -> None:
    """Kennedy's pseudo-outcome with a sign or a weight wrong is biased when the models are."""
    x, y, t, e, true = world(200_000, 4, lambda x: 0.3 * x[:, 0], lambda x: 0.2 + 0.6 * x[:, 1])
    pseudo = doubly_robust(y, t, e, np.full(len(y), 0.7), np.full(len(y), 0.1))
    for low in (0.0, 0.5):
        part = (x[:, 0] >= low) & (x[:, 0] < low + 0.5)
        assert pseudo[part].mean() == pytest.approx(true[part].mean(), abs=0.02)


def test_one_arm_alone_is_refused() -> None:
    """An effect learned from one arm is the other arm's absence."""
    with pytest.raises(ValueError, match="both arms"):
        TLearner().fit(np.zeros((5, 1)), np.ones(5), np.ones(5))
    assert DRLearner(seed=1).fresh().seed == 1


def test_the_choice_prefers_what_is_simple_and_says_when_there_is_nothing() -> None:
    """A learner chosen over the feature it learned, or noise chosen over nobody in particular."""
    x, y, t, e, _ = world(5_000, 5, lambda x: 0.4 * (x[:, 1] < 0.5), base=0.7)
    choice = choose(x, y, t, e, names=list("abcde"))
    assert choice.chosen.name == "single feature"
    assert "single feature b (lowest first)" in choice.sentence
    effects = choice.scale(choice.chosen.learner.uplift(x))
    assert effects[x[:, 1] < 0.1].mean() > 0.3 > 0.1 > effects[x[:, 1] > 0.9].mean()
    assert {"S", "T", "X", "DR", "random"} <= {f.name for f in choice.figures}

    x, y, t, e, _ = world(3_000, 7, lambda x: 0 * x[:, 0])
    none = choose(x, y, t, e)
    best = none.figures[0]
    assert (none.chosen.name == "random") == (best.qini <= best.error)
    level = none.scale(none.chosen.learner.uplift(x))
    assert abs(level).max() < 0.1


def test_the_choice_takes_a_learner_where_no_simple_ranking_will_do() -> None:
    """A rule so fond of simplicity that what is truly there is not used."""
    x, y, t, e, _ = world(6_000, 8, lambda x: 0.5 * ((x[:, 0] > 0.5) != (x[:, 2] > 0.5)))
    choice = choose(x, y, t, e)
    assert choice.chosen.name in {kind.name for kind in LEARNERS}
    fresh = world(8_000, 9, lambda x: 0.5 * ((x[:, 0] > 0.5) != (x[:, 2] > 0.5)))
    assert qini(fresh[1], choice.chosen.learner.uplift(fresh[0]), fresh[2]) > 0.1


def _ranked(effect, rows=24_000, seed=0):
    """Cross-fitted places, doubly robust pseudo-outcomes of an effect of the place, users."""
    rng = np.random.default_rng(seed)
    place = rng.random(rows)
    treated = rng.random(rows) < 0.5
    chance = 0.1 + np.where(treated, effect(place), 0.0)
    y = rng.random(rows) < chance
    pseudo = 0.1 + effect(place) * 0  # outcomes known to be 0.1 in both arms, then the correction
    pseudo = np.where(treated, 1, -1) * (y - pseudo) / 0.5
    return place, pseudo, np.arange(rows) // 2


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_effect_of_a_few_is_scaled_as_a_step_and_a_line_as_a_line(seed):
    """Guards against a cut that comes too early where a few attributes decide, and against a curve
    that copies noise where a line is right."""

    def step(place):
        return np.where(place > 0.7, 0.12, 0.0)

    place, pseudo, users = _ranked(step, seed=seed)
    scale = fit_scale(place, place, pseudo, users)
    grid = np.linspace(0.01, 0.99, 99)
    assert scale.curve is not None and (np.diff(scale(grid)) > 0).all()
    line = scale.base + scale.gain * grid
    assert np.abs(scale(grid) - step(grid)).mean() < 0.5 * np.abs(line - step(grid)).mean()
    # what a text costs: whoever gains more is worth it
    worth, by_line = scale(grid) > 0.05, line > 0.05
    assert abs(worth.mean() - 0.3) < 0.06 < abs(by_line.mean() - 0.3)

    place, pseudo, users = _ranked(lambda p: 0.1 * p, seed=seed)
    assert fit_scale(place, place, pseudo, users).curve is None


def test_a_scale_from_before_curves_scores_as_it_did():
    """Guards against an upgrade that changes or breaks the effects of saved versions."""
    scale = EffectScale.__new__(EffectScale)
    known = {"scores": np.array([0.0, 1.0]), "places": np.array([0.0, 1.0])}
    scale.__dict__.update(known, base=0.01, gain=0.2)
    assert np.allclose(scale(np.array([0.0, 0.5, 1.0])), [0.01, 0.11, 0.21])
