"""The control group is the same everywhere, uniform, and independent between draws."""

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from usergrowth_dagster.audience.holdout import (
    Holdout,
    arm,
    drawn_on,
    is_control_sql,
    position,
    position_sql,
    propensity,
    salt,
)
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import Engine, open_engine

USERS = 40_000


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_engine(load_settings(tmp_path_factory.mktemp("holdout"))) as opened:
        yield opened


def _places(engine: Engine, holdout: Holdout) -> list[float]:
    place = position_sql(holdout, "'user-' || i")
    return [row[0] for row in engine.rows(f"select {place} from range({USERS}) t(i) order by i")]


@given(user=st.text(max_size=20), namespace=st.text(min_size=1), share=st.floats(0, 0.999))
def test_sql_and_python_draw_the_same(engine, user, namespace, share):
    """Guards against a user who is treated by one engine and held out by another."""
    if "\x00" in user:
        user = user.replace("\x00", "0")
    holdout = Holdout(namespace=namespace, epoch="'2;", share=share)
    drawn = engine.rows(
        f"select {position_sql(holdout, 'u')}, {is_control_sql(holdout, 'u')} from (select ? as u)",
        [user],
    )[0]
    assert drawn == (position(holdout, user), arm(holdout, user) == "control")
    assert 0 <= drawn[0] < 1


def test_the_draw_is_pinned():
    """Guards against a change of the hash, which would reshuffle every running experiment; the
    figures are from sha256sum on the command line."""
    places = [position(Holdout(namespace="n", epoch="e"), user) for user in ("1", "用户", "a b")]
    assert places == [0.867806734932622, 0.07769653484352168, 0.6245113833592899]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.9])
def test_uniform_and_share(engine, share):
    """Guards against a skewed hash: places are uniform and the share is held, both to p > 1e-4."""
    holdout = Holdout(namespace="spring", epoch="3", share=share)
    places = _places(engine, holdout)
    counts, _ = np.histogram(places, bins=100, range=(0, 1))
    assert stats.chisquare(counts).pvalue > 1e-4
    controls = sum(place < share for place in places)
    assert (stats.binomtest(controls, USERS, share).pvalue > 1e-4) if share else controls == 0


@pytest.mark.parametrize(
    "other",
    [Holdout(namespace="b", epoch="1"), Holdout(namespace="a", epoch="2")],
)
def test_other_namespace_or_epoch_is_independent(engine, other):
    """Guards against the same users being held out for ever: draws are independent (chi-square)."""
    first = np.array(_places(engine, Holdout(namespace="a", epoch="1")))
    second = np.array(_places(engine, other))
    table, _, _ = np.histogram2d(first, second, bins=10, range=[[0, 1], [0, 1]])
    assert stats.chi2_contingency(table).pvalue > 1e-4


def test_salt_keeps_parts_apart():
    """Guards against namespace 'a' epoch 'bc' drawing as namespace 'ab' epoch 'c'."""
    assert salt("a", "bc") != salt("ab", "c") and salt("a:b", "c") != salt("a", "b:c")


def test_share_is_a_proper_share_and_is_the_propensity():
    """Guards against holding out everybody, and against a propensity of the wrong arm."""
    for bad in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValidationError):
            Holdout(share=bad)
    assert propensity(Holdout(share=0.25), "control") == 0.25
    assert propensity(Holdout(share=0.25), "treatment") == 0.75


def test_the_chance_of_an_arm_knows_both_draws():
    """Guards against a propensity that counts who is in both control groups twice, or not at all."""
    campaign, everybody = Holdout(share=0.2), Holdout(scope="global", share=0.1)
    assert propensity(campaign, "control", everybody) == pytest.approx(0.28)
    assert propensity(campaign, "treatment", everybody) == pytest.approx(0.72)


def test_the_day_of_a_draw():
    """Guards against a report that names another day than that of the draw in force."""
    assert drawn_on(7, date(2026, 1, 11)) == date(2026, 1, 5)
    assert drawn_on(7, date(2026, 1, 12)) == date(2026, 1, 12)
    assert drawn_on(1, date(2026, 1, 11)) == date(2026, 1, 11)
    assert drawn_on(None, date(2026, 1, 11)) is None
