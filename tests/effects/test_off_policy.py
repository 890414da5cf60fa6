"""Off-policy answers on simulated campaigns, where what each policy earns is known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usergrowth_dagster.effects import off_policy
from usergrowth_dagster.effects.off_policy import (
    MIN_EFFECTIVE,
    Answer,
    Logged,
    effective_rows,
    expected_outcomes,
    gain,
)

ROUNDS = 400
HOLDOUT, EXPLORE, CUT = 0.2, 0.15, 0.6


def campaign(rng: np.random.Generator, people: int = 2000) -> tuple[Logged, np.ndarray, np.ndarray]:
    """People above the cut are texted but for a holdout, of those below a share at random.

    Returns the log, the scores, and what a text truly adds to each one's chance of a return.
    """
    score = rng.uniform(size=people)
    other = rng.normal(size=people)
    base = 0.08 + 0.2 * score + 0.03 * np.tanh(other)
    lift = 0.12 * (1 - score) + 0.02
    chance = np.where(score > CUT, 1 - HOLDOUT, EXPLORE * (1 - HOLDOUT))
    texted = rng.uniform(size=people) < chance
    outcome = (rng.uniform(size=people) < base + lift * texted).astype(float)
    features = np.column_stack([score, other])
    return Logged(texted, chance, outcome, np.arange(people), features), score, lift


def repeat(policy_of: object, change: object = None) -> dict[str, np.ndarray]:
    """Over many campaigns, each estimate less the truth, and whether its interval holds it."""
    rng = np.random.default_rng(7)
    errors: dict[str, list[float]] = {"ips": [], "snips": [], "dr": []}
    covered: dict[str, list[float]] = {name: [] for name in errors}
    width: dict[str, list[float]] = {name: [] for name in errors}
    for _ in range(ROUNDS):
        logged, score, lift = campaign(rng)
        policy = policy_of(score)  # type: ignore[operator]
        truth = float((policy * lift).sum())
        answer = gain(change(logged) if change else logged, policy)  # type: ignore[operator]
        assert answer.refused is None
        for name, values in errors.items():
            estimate = getattr(answer, name)
            values.append(estimate.value - truth)
            covered[name].append(estimate.low <= truth <= estimate.high)
            width[name].append(estimate.high - estimate.low)
    return (
        {name: np.array(values) for name, values in errors.items()}
        | {f"{name}_held": np.array(values) for name, values in covered.items()}
        | {f"{name}_width": np.array(values) for name, values in width.items()}
    )


def biased(errors: np.ndarray) -> bool:
    """Whether the mean error is beyond chance (four standard errors)."""
    return abs(errors.mean()) > 4 * errors.std() / np.sqrt(len(errors))


def test_answers_are_unbiased_and_their_intervals_cover() -> None:
    """A lower threshold is judged by those above the old one, or its interval is too narrow."""
    repeated = repeat(lambda score: (score > 0.3).astype(float))
    for name in ("ips", "snips", "dr"):
        assert not biased(repeated[name]), name
        assert 0.925 <= repeated[f"{name}_held"].mean() <= 0.98, (
            name,
            repeated[f"{name}_held"].mean(),
        )
    assert repeated["dr_width"].mean() < 0.95 * repeated["ips_width"].mean()


def test_doubly_robust_needs_only_one_of_both_to_be_right() -> None:
    """With a model of noise, or with chances that were written down wrong, the answer is off."""

    def blind(logged: Logged) -> Logged:
        noise = np.random.default_rng(len(logged)).normal(size=logged.features.shape)
        return replace(logged, features=noise)

    def wrong(logged: Logged) -> Logged:
        return replace(logged, chance=np.full(len(logged), 0.4))

    def policy(score: np.ndarray) -> np.ndarray:
        return (score > 0.3).astype(float)

    assert not biased(repeat(policy, blind)["dr"])
    repeated = repeat(policy, wrong)
    assert biased(repeated["ips"]) and biased(repeated["snips"])
    assert abs(repeated["dr"].mean()) < 0.05 * abs(repeated["ips"].mean())


def test_two_policies_side_by_side() -> None:
    """People whom both treat alike widen the interval of the difference, or a loss is a gain."""
    rng = np.random.default_rng(3)
    errors, covered = [], []
    for _ in range(ROUNDS):
        logged, score, lift = campaign(rng)
        low, used = (score < 0.4).astype(float), (score > CUT).astype(float)
        truth = float(((low - used) * lift).sum())
        answer = gain(logged, low, used)
        assert answer.dr is not None and answer.dr.low is not None and answer.dr.high is not None
        assert answer.snips is not None
        errors.append(answer.dr.value - truth)
        covered.append(answer.dr.low <= truth <= answer.dr.high)
        mirrored = gain(logged, used, low)
        assert mirrored.dr is not None and mirrored.dr.value == pytest.approx(-answer.dr.value)
    assert not biased(np.array(errors))
    assert 0.92 <= np.mean(covered) <= 0.985
    same = gain(logged, used, used)
    assert (same.rows, same.dr.value, same.dr.low) == (0, 0.0, 0.0)  # type: ignore[union-attr]


def test_no_answer_where_the_log_has_none() -> None:
    """People who had no chance of being texted are given the effect of those who had."""
    logged, score, _ = campaign(np.random.default_rng(1))
    below = score <= CUT
    unexplored = replace(
        logged,
        chance=np.where(below, 0.0, logged.chance),
        texted=np.where(below, False, logged.texted),
    )
    lower = (score > 0.3).astype(float)
    answer = gain(unexplored, lower)
    newly = int(((score > 0.3) & below).sum())
    assert answer.refused is not None and answer.refused.startswith(f"{newly:,} of the ")
    assert "selection.explore" in answer.refused
    assert (answer.ips, answer.snips, answer.dr) == (None, None, None)
    assert gain(unexplored, (score > 0.7).astype(float)).refused is None

    certain = replace(logged, chance=np.where(below, logged.chance, 1.0))
    refused = gain(certain, lower).refused
    assert refused is not None and "holdout.share" in refused
    assert gain(certain, lower, (score > CUT).astype(float)).refused is None  # these never differ


def test_no_answer_from_too_few() -> None:
    """A handful of explored people decides over a policy, with an interval that looks sure."""
    logged, score, _ = campaign(np.random.default_rng(2), people=300)
    answer = gain(logged, (score > 0.3).astype(float))
    assert answer.refused is not None and answer.effective_rows < MIN_EFFECTIVE
    assert "are worth" in answer.refused and "selection.explore" in answer.refused
    many, score, _ = campaign(np.random.default_rng(2), people=3000)
    nobody = replace(many, outcome=np.where(many.texted, many.outcome, 0.0))
    refusal = gain(nobody, (score > CUT).astype(float)).refused
    assert refusal is not None and "of those who were not texted, 0 returned" in refusal


def test_profit_of_few_payers_has_no_interval() -> None:
    """A few amounts of explored people make an interval of profit that misses every tenth truth."""
    rng = np.random.default_rng(11)
    missed, shown = 0, 0
    for people, rate, some in ((1500, 0.1, False), (6000, 0.3, True)):
        for _ in range(120):
            logged, score, _ = campaign(rng, people)
            paid = rng.uniform(size=people) < rate
            money = replace(logged, outcome=paid * rng.lognormal(3, 0.8, people), amounts=True)
            answer = gain(money, (score > 0.3).astype(float))
            assert answer.refused is None and answer.dr is not None
            assert (answer.dr.low is not None) == some
            if answer.dr.low is not None and answer.dr.high is not None:
                shown, missed = shown + 1, missed + (not answer.dr.low <= 0 <= answer.dr.high)
    assert shown == 120 and missed <= 14  # of 6; three standard deviations more are 13
    returns = gain(replace(money, outcome=paid * 2.0, amounts=False), (score > 0.3).astype(float))
    assert returns.dr is not None and returns.dr.low is not None


@pytest.mark.parametrize("features", [0, 3])
def test_expected_outcomes_are_cross_fitted_ridge_regressions(features: int) -> None:
    """Guards against an intercept that is shrunk, and a person who is learned and then judged."""
    rng = np.random.default_rng(3)
    rows = 400
    person = np.arange(rows) // 2
    x = rng.normal(5, 2, (rows, features))
    texted = rng.random(rows) < 0.5
    outcome = 100 + x.sum(axis=1) + 3 * texted + rng.normal(0, 0.01, rows)
    logged = Logged(texted, np.full(rows, 0.5), outcome, person, x)
    without, with_text = expected_outcomes(logged)
    assert (with_text - without).mean() == pytest.approx(3, abs=0.5)
    if not features:
        assert without.mean() == pytest.approx(outcome[~texted].mean(), abs=0.1)
        assert len(set(without)) > 1  # a mean of the other folds each
        return
    assert np.abs(np.where(texted, with_text, without) - outcome).max() < 2
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    fold = off_policy._folds(person)
    learned = ~texted & (fold != 0)
    centre, mean = scaled[learned].mean(axis=0), outcome[learned].mean()
    gram = (scaled[learned] - centre).T @ (scaled[learned] - centre)
    beta = np.linalg.solve(
        gram + off_policy._RIDGE * np.eye(features),
        (scaled[learned] - centre).T @ (outcome[learned] - mean),
    )
    expected = mean + (scaled[fold == 0] - centre) @ beta
    assert without[fold == 0] == pytest.approx(expected, abs=1e-9)


def test_rows_of_one_person_are_not_independent() -> None:
    """Every person logged four times halves the interval."""
    logged, score, _ = campaign(np.random.default_rng(5))
    policy = (score > 0.3).astype(float)
    once = gain(logged, policy)
    four = [np.concatenate([part] * 4) for part in (logged.texted, logged.chance, logged.outcome)]
    again = Logged(*four, np.tile(logged.person, 4), np.concatenate([logged.features] * 4))
    m0, m1 = expected_outcomes(logged)
    expected = (np.tile(m0, 4), np.tile(m1, 4))
    repeated = gain(again, np.tile(policy, 4), expected=expected)

    def widths(answer: Answer) -> list[float]:
        estimates = (answer.ips, answer.snips, answer.dr)
        return [e.high - e.low for e in estimates]  # type: ignore[union-attr,operator]

    assert widths(repeated) == pytest.approx([4 * width for width in widths(once)], rel=0.02)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=50), st.floats(0.1, 10))
def test_effective_rows(weights: list[float], scale: float) -> None:
    """The effective rows are more than the rows, or depend on the unit of the weights."""
    effective = effective_rows(np.array(weights))
    assert 1 - 1e-9 <= effective <= len(weights) + 1e-9
    assert effective_rows(scale * np.array(weights)) == pytest.approx(effective)
    assert effective_rows(np.ones(len(weights))) == pytest.approx(len(weights))
