"""Scores of users for groups of items: no feature sees the future, and what is shipped is better."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import average_precision_score, roc_auc_score
from support.affinity_world import DAY, START, Interactions, simulate

from usergrowth_dagster.affinity.collaborative import learn_weights, taken_items
from usergrowth_dagster.affinity.features import (
    as_of,
    expected,
    history_features,
    mass_features,
    outcomes,
    profile_features,
    recent_share,
)
from usergrowth_dagster.affinity.figures import compare_orders
from usergrowth_dagster.affinity.log import Log
from usergrowth_dagster.affinity.model import MODEL, NAIVE, Trainer


def log_of(world: Interactions) -> Log:
    """The log of a simulated world."""
    order = np.lexsort((world.item, world.user, world.time))
    ones = np.ones(len(world.genre))
    attributes = sparse.csr_matrix((ones, (np.arange(len(world.genre)), world.genre)))
    return Log(
        world.user[order].astype(np.int32),
        world.item[order].astype(np.int32),
        world.time[order].astype(float),
        int(world.user.max()) + 1,
        len(world.genre),
        attributes,
    )


def test_later_rows_change_nothing_before() -> None:
    """Guards against a feature, a weight or an outcome that sees the future."""
    world = simulate(200, 40, 3000)
    log, moment, period = log_of(world), START + 200 * DAY, 30.0 * DAY
    group = world.genre == 0
    later = log.before(moment)
    flood = np.full(5000, moment)
    more = replace(
        later,
        user=np.concatenate([later.user, np.arange(5000, dtype=np.int32) % 200]),
        item=np.concatenate([later.item, np.zeros(5000, dtype=np.int32)]),
        time=np.concatenate([later.time, flood]),
    )
    for one, other in zip(
        *(
            (
                state.active,
                history_features(state, group),
                mass_features(state, group),
                profile_features(state),
                recent_share(state, group, 2.0),
                expected(state, group, 2.0),
            )
            for state in (as_of(log, moment, period, seed=1), as_of(more, moment, period, seed=1))
        ),
        strict=True,
    ):
        assert np.array_equal(one, other)
    state = as_of(more, moment, period, seed=1)
    assert outcomes(state, more, group).all()  # the moment itself is in the period that follows
    assert not outcomes(state, more.before(moment), group).any()


@pytest.mark.parametrize("most", [100, 0])
def test_the_mass_of_weights_is_that_of_the_whole_product(most: int) -> None:
    """Guards against a shortcut that takes the wrong items out, for EASE and for the SVD."""
    world = simulate(60, 40, 900)
    log, group = log_of(world), world.genre < 2
    weights = learn_weights(log, seed=1, most=most)
    assert weights.kind == ("EASE" if most else "SVD")
    taken = taken_items(log)
    full = weights.full if most else weights.factors @ weights.factors.T
    scores, dense = taken @ full, np.asarray(taken.todense()) > 0
    on_group, on_all, unseen = weights.mass(taken, group)
    np.testing.assert_allclose(on_group, scores[:, group].sum(axis=1), atol=1e-3)
    np.testing.assert_allclose(on_all, scores.sum(axis=1), atol=1e-3)
    np.testing.assert_allclose(unseen, (scores * ~dense)[:, group].sum(axis=1), atol=1e-3)
    assert not most or not np.diag(full).any()


def test_figures_are_those_of_the_definitions() -> None:
    """Guards against a recall of another n, ties in the order of ids, and unpaired intervals."""
    random = np.random.default_rng(3)
    took = random.random(900) < 0.3
    good, noise = took + random.normal(0, 1, 900), random.normal(0, 1, 900)
    (one, other, tied), gains = compare_orders(
        {"good": good, "noise": noise, "tied": np.r_[np.ones(450), np.zeros(450)]},
        took,
        100,
        seed=1,
    )
    first = np.argsort(-good)[:100]
    assert one.precision.value == pytest.approx(took[first].mean())
    assert one.recall.value == pytest.approx(took[first].sum() / took.sum())
    assert one.auc.value == pytest.approx(roc_auc_score(took, good))
    assert one.average_precision.value == pytest.approx(average_precision_score(took, good))
    assert tied.precision.value != took[:100].mean()
    for interval in (one.auc, other.auc, one.precision, one.recall, one.average_precision):
        assert interval.low < interval.value < interval.high
    assert other.auc.low < 0.5 < other.auc.high
    assert gains["good", "noise"].low > 0 and gains["noise", "good"].high < 0
    assert gains["noise", "tied"].low < 0 < gains["noise", "tied"].high


def test_the_model_beats_both_naive_orders_where_there_is_enough_to_learn() -> None:
    """Guards against a model that ships without being better, and one that never ships."""
    world = simulate(3000, 160, 40_000)
    group = world.genre == 0
    scores, report = Trainer(log_of(world), seed=1).train("x", group, 200)
    assert report.shipped == MODEL and report.sentence.startswith("the model scores")
    figures = {one.order: one for one in report.figures}
    for name in NAIVE:
        assert report.gains[name].low > 0
        assert figures[MODEL].precision.value > figures[name].precision.value
        assert figures[MODEL].auc.value > figures[name].auc.value + 0.04
    assert len(scores.user) == len(np.unique(world.user)) and (np.diff(scores.score) <= 0).all()
    again, _ = Trainer(log_of(world), seed=1).train("x", group, 200)
    assert np.array_equal(scores.user, again.user) and np.array_equal(scores.score, again.score)
    # a chance: in the period that follows as many do it as the scores say
    assert scores.score.mean() == pytest.approx(report.took / report.users, rel=0.15)


def test_noise_ships_a_naive_order_and_says_so() -> None:
    """Guards against a model of noise that is shipped since its training looked good."""
    world = simulate(150, 80, 2500, liking=1.0)
    random = np.random.default_rng(5)
    world = replace(world, user=random.integers(0, 150, 2500))
    _, report = Trainer(log_of(world), seed=1).train("x", world.genre == 0, 50)
    assert report.shipped in NAIVE and "not enough to learn" in report.sentence
    assert report.figures and any(gain.low <= 0 for gain in report.gains.values())


def test_a_handful_of_rows_gets_shares() -> None:
    """Guards against a crash, and a figure that nothing stands behind."""
    world = simulate(10, 16, 30)
    scores, report = Trainer(log_of(world), seed=1).train("x", world.genre == 0, 5)
    assert report.figures == () and "untested" in report.sentence
    assert set(scores.user) == set(world.user)
    few = replace(world, user=world.user[:5], item=world.item[:5], time=world.time[:5])
    scores, report = Trainer(log_of(few), seed=1).train("x", world.genre == 0, 5)
    assert "no room" in report.sentence and len(scores.user) == len(set(few.user))
