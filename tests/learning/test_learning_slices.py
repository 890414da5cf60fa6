"""Figures by part of the users, and the table of capture and lift."""

import numpy as np
import pytest
from learning_frames import make_churn
from sklearn.metrics import roc_auc_score

from usergrowth_dagster.learning.dataset import TestRows as Rows  # a name pytest does not collect
from usergrowth_dagster.learning.encoding import fit_spec, flat_frame
from usergrowth_dagster.learning.metrics import evaluate, gains
from usergrowth_dagster.learning.slices import by_slice


def _rows(engine, where):
    types = engine.describe("select * from churn_training")
    spec = fit_spec(engine, "churn_training", where="ds < '2024-02-12'")
    table = engine.arrow(
        f"select {spec.projection(types)}, churned as _y, user_id as _u, ds as _d from churn_training "
        f"where {where} order by ds, user_id"
    )
    label = table.column("_y").to_numpy(zero_copy_only=False).astype(int)
    days = table.column("_d").to_numpy()
    return spec, Rows(
        where, label, days, table.column("_u").to_numpy(), None, flat_frame(table, spec)
    )


def test_the_parts_of_each_dimension_add_up_to_the_whole(engine):
    """Guards against users that belong to no part, or to two, and figures of too few of them."""
    make_churn(engine, users=300, weeks=9)
    engine.run(
        "alter table churn_training add column tenure_days integer; "
        "update churn_training set tenure_days = case when hash(user_id) % 40 = 0 then null "
        "else hash(user_id) % 700 end"
    )
    spec, train = _rows(engine, "ds < '2024-02-12'")
    _, test = _rows(engine, "ds >= '2024-02-12'")
    score = np.clip(test.frame["recency_days"].to_numpy(dtype=float) / 30, 0.01, 0.99)
    parts = by_slice(spec, train.frame, test, score, least=20)
    for dimension in ("tenure", "activity", "user type"):
        of_dimension = [p for p in parts if p.dimension == dimension]
        assert sum(p.rows for p in of_dimension) == len(test.label), dimension
        assert sum(p.positives for p in of_dimension) == test.label.sum(), dimension
        assert len({p.name for p in of_dimension}) == len(of_dimension) >= 3
    unknown = next(p for p in parts if (p.dimension, p.name) == ("tenure", "unknown"))
    assert "too few" in unknown.note and unknown.auc is None and unknown.share is None
    gold = next(p for p in parts if p.name == "gold")
    at = test.frame["user_type"].to_numpy() == "gold"
    assert gold.auc.value == pytest.approx(roc_auc_score(test.label[at], score[at]))
    assert gold.share.value == pytest.approx(test.label[at].mean())
    assert gold.bias.value == pytest.approx((score - test.label)[at].mean())
    assert gold.bias.low < gold.bias.value < gold.bias.high
    strict = by_slice(spec, train.frame, test, score, least=10_000)
    assert all(p.note and p.auc is None for p in strict)


def test_the_vendors_yardsticks_by_hand():
    """Guards against shares of the wrong people: the selected, the rest, or all positives."""
    label = np.array([1, 1, 0, 1, 0, 0, 0, 1, 0, 0])
    score = np.arange(10, 0, -1.0)
    table = {g.share: g for g in gains(label, score, np.arange(10), resamples=0)}
    top = table[40]
    assert (top.rows, top.capture.value, top.lift.value) == (4, 0.75, pytest.approx(1.875))
    assert (top.response.value, top.rest.value) == (0.75, pytest.approx(1 / 6))
    assert top.difference.value == pytest.approx(0.75 - 1 / 6)
    assert top.ratio.value == pytest.approx(4.5)
    assert table[100].capture.value == 1 and table[100].rest is None
    assert list(table) == list(range(10, 101, 10))


def test_the_table_agrees_with_the_metrics_and_itself():
    """Guards against two capture figures on one card, and intervals of other draws."""
    rng = np.random.default_rng(4)
    user = rng.integers(0, 80, 600)
    score = np.round(rng.random(600), 2)
    label = (rng.random(600) < 0.1 + 0.5 * score).astype(int)
    table = {g.share: g for g in gains(label, score, user, resamples=200, seed=7)}
    known = evaluate(label, {"m": score}, user, resamples=200, seed=7).metrics["m"]
    for share in (10, 20, 40):
        assert table[share].capture.low == pytest.approx(known[f"capture_{share}"].low)
        assert table[share].lift.high == pytest.approx(known[f"lift_{share}"].high)
    for share, gain in table.items():
        if gain.rest:
            q = share / 100
            mixed = gain.response.value * q + gain.rest.value * (1 - q)
            assert mixed == pytest.approx(label.mean()), share
            assert gain.difference.low < gain.difference.value < gain.difference.high
    captures = [g.capture.value for g in table.values()]
    assert captures == sorted(captures)
