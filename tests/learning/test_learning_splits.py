"""Slices by time."""

from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.splits import (
    forward_folds,
    is_by_user,
    split_by_time,
    split_rows,
    user_scopes,
)
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import open_engine

START = date(2024, 1, 1)
offsets = st.sets(st.integers(0, 300), min_size=3, max_size=60)


@given(
    offsets=offsets,
    rows=st.integers(20, 3000),
    horizon=st.integers(1, 60),
    explicit=st.none() | st.tuples(st.integers(0, 150), st.integers(151, 300)),
)
def test_labels_of_a_slice_close_before_the_next_slice_begins(offsets, rows, horizon, explicit):
    """Guards against a label of the train slice reaching into days the test slice predicts from."""
    cuts = {}
    if explicit:
        cuts = {
            n: START + timedelta(days=d)
            for n, d in zip(("calibrate_from", "test_from"), explicit, strict=True)
        }
    config = TrainingConfig(algorithm="churn", churn_days=horizon, **cuts)
    counts = {START + timedelta(days=d): (rows, rows // 3) for d in offsets}
    try:
        split = split_by_time(counts, config)
    except UserError:
        return
    slices = [s for s in (split.train, split.calibrate, split.test) if s]
    for early, late in pairwise(slices):
        assert max(early) + timedelta(days=horizon) <= min(late)
    assert split.train and split.test
    assert set(split.train) | set(split.calibrate) | set(split.test) <= set(counts)
    if explicit:
        assert min(split.test) >= config.test_from and split.calibrate


def test_the_protocol_of_the_public_data_set():
    """Guards against an off-by-one in the gap: the Monday whose label closes on the cut is used."""
    mondays = [date(2017, 5, 1) + timedelta(days=7 * i) for i in range(34)]
    config = TrainingConfig(
        algorithm="churn", calibrate_from=date(2017, 9, 4), test_from=date(2017, 10, 2)
    )
    split = split_by_time(dict.fromkeys(mondays, (2000, 700)), config)
    assert (split.train[0], split.train[-1], len(split.train)) == (
        date(2017, 5, 1),
        date(2017, 8, 28),
        18,
    )
    assert (split.calibrate[0], split.calibrate[-1]) == (date(2017, 9, 4), date(2017, 9, 25))
    assert (split.test[0], split.test[-1]) == (date(2017, 10, 2), date(2017, 12, 18))
    back = TrainingConfig(algorithm="winback", return_days=28, test_from=date(2017, 9, 4))
    touches = {
        date(2017, 8, 6): (500, 60),
        date(2017, 8, 7): (500, 60),
        date(2017, 6, 1): (900, 100),
        date(2017, 9, 4): (500, 60),
    }
    assert split_by_time(touches, back).train == (date(2017, 6, 1), date(2017, 8, 6))


@given(
    offsets=st.sets(st.integers(0, 40), min_size=1, max_size=12),
    return_days=st.integers(1, 30),
    cut=st.none() | st.integers(1, 40),
)
def test_touches_are_split_by_user_only_where_time_cannot(offsets, return_days, cut):
    """Guards against a test slice of the days learned from where later ones were there."""
    test_from = None if cut is None else START + timedelta(days=cut)
    config = TrainingConfig(algorithm="winback", return_days=return_days, test_from=test_from)
    counts = {START + timedelta(days=d): (3000, 900) for d in offsets}
    together = max(offsets) - min(offsets) <= return_days
    try:
        split = split_rows(counts, config)
    except UserError:
        assert cut is not None or not together
        return
    assert is_by_user(split) == (cut is None and together)
    if is_by_user(split):
        assert set(split.train) == set(counts) and not split.calibrate
        with pytest.raises(UserError):
            split_by_time(counts, config)
    else:
        assert split == split_by_time(counts, config)


def test_snapshots_are_never_split_by_user():
    """Guards against a churn model that was tested on the days that it learned from."""
    counts = {START: (3000, 900), START + timedelta(days=1): (3000, 900)}
    with pytest.raises(UserError, match="only 2 days hold training rows"):
        split_rows(counts, TrainingConfig(algorithm="churn"))


def test_a_user_is_in_one_slice():
    """Guards against rows of one user on both sides, or of a user on none."""
    split = split_rows({START: (3000, 900)}, TrainingConfig(algorithm="winback", return_days=5))
    scopes = user_scopes("true", split, 3)
    assert set(scopes) == {"train", "test"}
    with open_engine(Settings()) as engine:
        engine.run("create table t as select i % 4000 || 'x' as user_id from range(9000) r(i)")
        sides = engine.rows(
            f"select user_id, bool_or({scopes['train']}), bool_or({scopes['test']}), "
            f"count(*) filter (where {scopes['train']}) from t group by user_id"
        )
    assert all(train != test for _, train, test, _ in sides)
    assert 0.22 < sum(test for _, _, test, _ in sides) / len(sides) < 0.28


def test_a_thin_calibration_slice_is_left_to_forward_folds():
    """Guards against a calibration map fitted on a handful of positives."""
    counts = {START + timedelta(days=7 * i): (100, 10) for i in range(40)}
    assert split_by_time(counts, TrainingConfig(algorithm="churn")).calibrate == ()
    counts = dict.fromkeys(counts, (1000, 300))
    assert split_by_time(counts, TrainingConfig(algorithm="churn")).calibrate


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({START: (10, 5)}, "only 1 days"),
        (
            {START + timedelta(days=7 * i): (100, 0) for i in range(20)},
            "too few positive labels in the train",
        ),
        (
            {START + timedelta(days=7 * i): (100, 100) for i in range(20)},
            "too few negative labels in the train",
        ),
        ({START + timedelta(days=i): (100, 50) for i in range(5)}, "slice is empty"),
    ],
)
def test_too_little_to_learn_from_is_one_sentence(counts, words):
    """Guards against a traceback from a library when the window is too short or the label too rare."""
    with pytest.raises(UserError, match=words) as caught:
        split_by_time(
            counts, TrainingConfig(algorithm="churn", churn_days=30 if len(counts) == 5 else 7)
        )
    assert "\n" not in str(caught.value)
    assert "widen" in str(caught.value) or "start earlier" in str(caught.value)


@given(offsets=offsets, horizon=st.integers(1, 60), folds=st.integers(1, 6))
def test_forward_folds_never_fit_on_an_open_label(offsets, horizon, folds):
    """Guards against cross-fitted calibration that saw the fold it predicts."""
    days = [START + timedelta(days=d) for d in offsets]
    predicted = []
    for fit, block in forward_folds(days, horizon, folds):
        assert max(fit) + timedelta(days=horizon) <= min(block)
        predicted += block
    assert len(predicted) == len(set(predicted))
