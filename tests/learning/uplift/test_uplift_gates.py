"""Gates of a model of effects: true draws pass them, whatever is kept, and holes are found."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from usergrowth_dagster.learning.metrics import Interval
from usergrowth_dagster.learning.uplift.choose import EFFECT, NONE, Candidate, Choice, Figure
from usergrowth_dagster.learning.uplift.gates import ratio_gate, shown_by
from usergrowth_dagster.learning.uplift.learners import TLearner
from usergrowth_dagster.learning.uplift.rows import UpliftRows

USERS = 600


def drawn(rng: Any, rounds: int, kept: int, share: float, *, users: int = USERS) -> UpliftRows:
    """Rounds of users who take part more or less often; an arm is kept for ``kept`` rounds."""
    taking = rng.random((users, rounds)) < rng.beta(0.5, 2, users)[:, None]
    who, when = np.nonzero(taking)
    held_out = (rng.random((users, rounds // kept + 1)) < share)[who, when // kept]
    return rows_of(who, ~held_out, np.full(len(who), 1 - share))


def rows_of(user: Any, treated: Any, chance: Any) -> UpliftRows:
    y = np.zeros(len(user))
    return UpliftRows(pd.DataFrame(index=range(len(user))), y, treated.astype(float), chance, user)


def thinned(rows: UpliftRows, keep: Any) -> UpliftRows:
    return rows_of(rows.user[keep], rows.treated[keep], rows.propensity[keep])


@pytest.mark.parametrize("share", [0.1, 0.03])
@pytest.mark.parametrize("rounds", [10, 52])
@pytest.mark.parametrize("kept", [1, 5, 60])
def test_a_true_draw_passes_however_long_it_is_kept(kept: int, rounds: int, share: float) -> None:
    """Guards against rows of a user who is held out for good counted as independent draws: after
    52 rounds of a kept control group half of all honest histories would be refused."""
    rng = np.random.default_rng(rounds * 100 + kept)
    failed = 0
    for _ in range(400):
        early = drawn(rng, rounds, kept, share)
        late = early.user % 4 == 0  # users of the later slice are those of the earlier one
        gate = ratio_gate(thinned(early, ~late), thinned(early, late))
        failed += not gate.passed
    assert failed <= 3  # .4 are expected; more than 3 has a p of .001


def test_users_of_both_slices_are_one_draw() -> None:
    """Guards against a user's arm counted anew in the test slice."""
    rng = np.random.default_rng(4)
    failed = 0
    for _ in range(400):
        treated = rng.random(USERS) >= 0.1
        half = rows_of(np.arange(USERS), treated, np.full(USERS, 0.9))
        failed += not ratio_gate(*[half] * 20).passed
    assert failed <= 3


@pytest.mark.parametrize("kept", [1, 60])
def test_a_hole_in_one_arm_is_found(kept: int) -> None:
    """Guards against an error so wide that a lost file of one arm passes."""
    rng = np.random.default_rng(kept)
    whole = drawn(rng, 10, kept, 0.2, users=4_000)
    assert ratio_gate(whole).passed
    for arm, name, lost in ((0, "held-out", 0.3), (1, "treated", 0.3)):
        of_users = rng.random(4_000)[whole.user] < lost
        of_rows = rng.random(len(whole.user)) < lost
        for gone in (of_users, of_rows):
            gate = ratio_gate(thinned(whole, ~(gone & (whole.treated == arm))))
            assert not gate.passed, gate.reason
            assert f"{name} rows are missing" in gate.reason


def test_one_row_a_user_is_the_plain_test() -> None:
    """Guards against an error that shrinks where nothing is kept."""
    treated = np.r_[np.ones(1_030), np.zeros(970)]
    gate = ratio_gate(rows_of(np.arange(2_000), treated, np.full(2_000, 0.5)))
    assert "1030 rows were treated, 1000 by the recorded chances (p = 0.1797)" in gate.reason


def chosen(z: float, family: int = EFFECT, others: int = 11) -> Choice:
    """A choice whose figure is so many standard errors above zero, among others."""
    figures = [Figure("T", 0.01 * z, 0.01, 10), *(Figure("x", 0.0, 0.01, 10),) * others]
    return Choice(Candidate(TLearner(), family), None, tuple(figures), {}, "")  # type: ignore[arg-type]


def test_what_shows_that_a_ranking_is_better_than_chance() -> None:
    """Guards against approving what only seems best of many, what later days contradict, and
    against refusing for months what every fold shows, as one late slice is short."""
    chance = Interval(0.005, -0.03, 0.04)
    sure, likely, worse = Interval(0.04, 0.01, 0.07), Interval(0.03, -0.01, 0.07), chance
    assert shown_by(chosen(0.5), sure, chance) == "later days"
    assert shown_by(chosen(6), likely, chance) == "folds"
    assert shown_by(chosen(6), worse, chance) == ""
    assert shown_by(chosen(3), likely, chance) == "", "the best of twelve is often so far above"
    assert shown_by(chosen(3, others=0), likely, chance) == "folds"
    assert shown_by(chosen(6, NONE), sure, chance) == ""
