"""Arms that are not as large as they were drawn."""

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest
from effect_rows import outcomes, plan
from scipy import stats

from usergrowth_dagster.audience.holdout import epoch_in_force
from usergrowth_dagster.control.campaign_blocks import HoldoutSpec
from usergrowth_dagster.effects.analysis import analyse
from usergrowth_dagster.effects.sample_ratio import THRESHOLD, Refused, sample_ratio


def drawn(n: int, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    arm = np.random.default_rng(seed).random(n) >= share
    return arm, np.full(n, 1 - share)


def test_even_splits_pass() -> None:
    """A check that cries wolf: as many false alarms as its threshold says, whatever the chances."""
    rng = np.random.default_rng(31)
    alarms = 0
    for _ in range(1500):
        n = int(rng.integers(20, 3000))
        chance = rng.choice([0.98, 0.9, 0.5], n)
        ratio = sample_ratio(rng.random(n) < chance, chance)
        assert ratio is not None
        alarms += not ratio.passed
    assert alarms <= 7  # 1.5 expected; 8 and more have a chance below 0.0003


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_lost_users_are_seen(share: float) -> None:
    """Treated rows that vanish on the way, such as those who opted out: the arms look alike still."""
    arm, chance = drawn(20_000, share)
    rng = np.random.default_rng(32)
    lost = rng.random(20_000) < 0.1
    for which, name in ((arm, "treatment"), (~arm, "control")):
        keep = ~(lost & which)
        ratio = sample_ratio(arm[keep], chance[keep])
        assert ratio is not None
        if share == 0.5:
            assert not ratio.passed and ratio.p_value < THRESHOLD
        if not ratio.passed:
            assert "fewer than" in ratio.sentence or "more than" in ratio.sentence
            assert ratio.off in ("treatment", "control")
        counts = {"treatment": int(arm.sum()), "control": int((~arm).sum())}
        counted = sample_ratio(arm[keep], chance[keep], decided=counts)
        assert counted is not None and not counted.passed and counted.off == name


def test_lost_outcomes_and_doubled_rows() -> None:
    """One row lost of 2,000 moves no statistic, but it was decided and is not measured."""
    arm, _ = drawn(2000, 0.5)
    table = outcomes(arm, np.zeros(2000))
    decided = {"treatment": int(arm.sum()), "control": int((~arm).sum())}
    whole = analyse(table, plan(decided=decided))
    assert whole.verdict == "no_effect_shown"
    one_less = table.slice(1)
    arm_lost = "treatment" if arm[0] else "control"
    effect = analyse(one_less, plan(decided=decided))
    assert effect.verdict == "uneven_split" and effect.sample_ratio is not None
    assert effect.sample_ratio.off == arm_lost and arm_lost in effect.sentence
    doubled = pa.concat_tables(
        [table, table.filter(table["arm"].to_numpy() == "control").slice(0, 9)]
    )
    effect = analyse(doubled, plan())
    assert effect.verdict == "uneven_split" and "9 rows of the arm control" in effect.sentence
    assert effect.contrasts  # the figures stand, only nothing is concluded


def test_strata_and_texts_are_asked_by_themselves() -> None:
    """Two strata that are off in opposite directions, and a text that nobody got."""
    arm, chance = drawn(8000, 0.5, 2)
    strata = np.array(["a", "b"] * 4000, dtype=object)
    shifted = np.where(np.arange(8000) % 20 == 0, True, arm)
    shifted = np.where(np.arange(8000) % 20 == 1, False, shifted)
    whole = sample_ratio(shifted, chance)
    assert whole is not None and whole.passed
    by_stratum = sample_ratio(shifted, chance, strata=strata)
    assert by_stratum is not None and not by_stratum.passed
    assert by_stratum.off is not None and "stratum" in by_stratum.off
    rng = np.random.default_rng(33)
    texts = rng.choice(np.array(["x", "y"], dtype=object), 8000)
    half = np.full(8000, 0.5)
    even = sample_ratio(arm, chance, variants=texts, variant_chance=half)
    assert even is not None and even.passed
    gone = (texts == "y") & (rng.random(8000) < 0.2) & arm
    texts[gone] = "x"
    uneven = sample_ratio(arm, chance, variants=texts, variant_chance=half)
    assert uneven is not None and uneven.off in ("variant x", "variant y")


def test_small_and_empty() -> None:
    """A chi-square of two expected users, a control group of nobody, or no rows at all."""
    nobody = np.zeros(0)
    assert sample_ratio(nobody.astype(bool), nobody) is None
    one = sample_ratio(np.array([True]), np.array([0.9]))
    assert one is not None and one.passed
    unlucky = sample_ratio(np.ones(60, bool), np.full(60, 0.9))
    assert unlucky is not None and unlucky.passed and unlucky.p_value > 0.001
    certain = sample_ratio(np.ones(60, bool), np.ones(60))
    assert certain is not None and certain.passed and certain.p_value == 1.0
    impossible = sample_ratio(np.arange(60) > 0, np.ones(60))
    assert impossible is not None and not impossible.passed
    never = sample_ratio(np.ones(300, bool), np.full(300, 0.9))
    assert never is not None and not never.passed and never.off == "control"


def test_refusals_are_named_where_they_are_the_cause() -> None:
    """A kept draw that has lost those who refused, reported as a mistake of whoever reads it;
    and a mistake that is put down to a few refusals."""
    arm, chance = drawn(20_000, 0.1)
    out = arm & (np.random.default_rng(7).random(20_000) < 0.2)
    args = (arm[~out], chance[~out])
    keys = "holdout.rotate_days: null"
    ratio = sample_ratio(*args, refused=Refused(int(out.sum()), date(2026, 3, 2), keys))
    assert ratio is not None and not ratio.passed
    assert f"{out.sum()} people of the upload have refused" in ratio.sentence
    assert "drawn on 2026-03-02" in ratio.sentence and keys in ratio.sentence
    kept = sample_ratio(*args, refused=Refused(int(out.sum()), None, keys))
    assert kept is not None and "was drawn, and only who is texted" in kept.sentence
    for few in (Refused(0, None, keys), Refused(30, None, keys)):
        unnamed = sample_ratio(*args, refused=few)
        assert unnamed is not None and "something has added or lost people" in unnamed.sentence
    short = ~arm & (np.random.default_rng(8).random(20_000) < 0.5)  # of the control group
    unnamed = sample_ratio(arm[~short], chance[~short], refused=Refused(5_000, None, keys))
    assert unnamed is not None and "something has added or lost people" in unnamed.sentence


@pytest.mark.parametrize(("rotate", "blocked"), [(7, (0, 8)), (28, (0, 40)), (None, (600, 1040))])
def test_a_year_of_weekly_campaigns(rotate: int | None, blocked: tuple[int, int]) -> None:
    """Reports that are blocked since a draw is kept: 1 of 100 refuses each text, no text does
    anything. With the default 7 days about one of 1,000 reports is blocked, as the threshold says.
    """
    assert HoldoutSpec().rotate_days == 7
    rng, n, share, alarms = np.random.default_rng(1), 20_000, 0.1, 0
    for _ in range(20):
        out, held_out, epoch = np.zeros(n, bool), rng.random(n) < share, ""
        for week in range(52):
            now = epoch_in_force("1", rotate, date(2026, 1, 7) + timedelta(days=7 * week))
            held_out, epoch = (rng.random(n) < share, now) if now != epoch else (held_out, epoch)
            left = ~held_out[~out]
            ratio = sample_ratio(left, np.full(len(left), 1 - share))
            assert ratio is not None
            alarms += not ratio.passed
            out |= ~held_out & (rng.random(n) < 0.01)
    assert blocked[0] <= alarms <= blocked[1]


@pytest.mark.parametrize(("treated", "controls"), [(540, 460), (1040, 960), (9100, 900)])
def test_two_arms_have_one_degree_of_freedom(treated: int, controls: int) -> None:
    """A statistic read with a degree of freedom too many, which lets lost users pass as chance."""
    rows = treated + controls
    share = 0.9 if treated > 2 * controls else 0.5
    arm = np.arange(rows) < treated
    ratio = sample_ratio(arm, np.full(rows, share))
    counts = stats.chisquare([treated, controls], [rows * share, rows * (1 - share)])
    assert ratio is not None and ratio.p_value == pytest.approx(counts.pvalue, rel=1e-9)


@pytest.mark.parametrize(("most", "passed"), [(455, True), (461, False)])
def test_three_texts_share_the_threshold(most: int, passed: bool) -> None:
    """A campaign of several texts that is blocked oftener the more texts it has, or never is.

    Of 1,200 treated users each text is drawn for 400. A text that 345 got has a chance of .0007 by
    itself, but it is one of three; 339 are too few for one of three, too.
    """
    arm = np.arange(2400) < 1200
    names = ["x"] * most + ["y"] * 400 + ["z"] * (800 - most) + ["x"] * 1200
    texts = np.array(names, dtype=object)
    third = np.full(2400, 1 / 3)
    ratio = sample_ratio(arm, np.full(2400, 0.5), variants=texts, variant_chance=third)
    least = stats.binomtest(800 - most, 1200, 1 / 3).pvalue
    assert least < THRESHOLD and passed == (3 * least >= THRESHOLD)
    assert ratio is not None and ratio.passed == passed
    if not passed:
        assert ratio.p_value == pytest.approx(3 * least) and ratio.off == "variant z"


@pytest.mark.parametrize(
    ("users", "share", "named"),
    [(72, 1.0, True), (70, 1.0, False), (144, 0.5, True), (140, 0.5, False), (72, 0.9, False)],
)
def test_refusals_are_the_cause_only_as_far_as_they_would_have_been_treated(
    users: int, share: float, named: bool
) -> None:
    """A mistake put down to refusals: of those who refused only some would have been chosen, and of
    these the share that was held out is missing from the control group, not from the treated.

    Of 10,000 people 4,800 are treated, 200 fewer than were drawn, with a standard deviation of 50.
    Chance explains 164.5 of them, so 35.5 are left for those who refused.
    """
    arm = np.arange(10_000) < 4800
    refused = Refused(users, None, "holdout.rotate_days: null", share)
    ratio = sample_ratio(arm, np.full(10_000, 0.5), refused=refused)
    assert ratio is not None and not ratio.passed
    assert ("have refused texts" in ratio.sentence) == named


@pytest.mark.parametrize(
    ("treated", "share", "control", "sentence"),
    [
        (4800, 0.5, 5000.0, "the arm treatment has 4800 users, fewer than the 5000.0"),
        (5200, 0.5, 5000.0, "the arm treatment has 5200 users, more than the 5000.0"),
        (8800, 0.9, 1000.0, "the arm control has 1200 users, more than the 1000.0"),
        (9200, 0.9, 1000.0, "the arm control has 800 users, fewer than the 1000.0"),
    ],
)
def test_the_sentence_says_which_arm_is_off_and_how(
    treated: int, share: float, control: float, sentence: str
) -> None:
    """A report that names the arm that is whole, or calls a loss a gain."""
    arm = np.arange(10_000) < treated
    ratio = sample_ratio(arm, np.full(10_000, share))
    assert ratio is not None and not ratio.passed
    assert ratio.sentence == (
        f"{sentence} that were drawn (p < 0.001): something has added or lost people of one arm, "
        "so the arms cannot be compared"
    )
    expected = {"treatment": 10_000 - control, "control": control}
    assert ratio.expected == pytest.approx(expected)
    assert ratio.observed == {"treatment": treated, "control": 10_000 - treated}


def test_the_sentence_names_the_stratum() -> None:
    """Two strata that are off in opposite directions, and a report that does not say where."""
    arm = np.r_[np.arange(10_000) < 5200, np.arange(10_000) < 4700]
    strata = np.array(["a", "b"], dtype=object).repeat(10_000)
    ratio = sample_ratio(arm, np.full(20_000, 0.5), strata=strata)
    assert ratio is not None and ratio.off == "treatment (stratum b)"
    assert ratio.sentence.startswith(
        "the arm treatment in stratum b has 4700 users, fewer than the 5000.0 that were drawn"
    )
    assert ratio.p_value == pytest.approx(2 * stats.chisquare([4700, 5300]).pvalue)


def test_an_arm_that_nobody_was_decided_for_is_not_missed() -> None:
    """A campaign without a control group whose report says that rows of it are lost."""
    everybody = np.ones(300, bool)
    ratio = sample_ratio(everybody, np.ones(300), decided={"treatment": 300})
    assert ratio is not None and ratio.passed
    made_up = np.arange(300) > 0
    ratio = sample_ratio(made_up, np.full(300, 0.99), decided={"treatment": 299})
    assert ratio is not None and ratio.off == "control"
    assert ratio.sentence.startswith("the arm control was decided for 0 users and 1 of them are")
