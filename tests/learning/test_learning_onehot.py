"""The logistic regression's matrix against scikit-learn's own parts."""

import numpy as np
import pandas as pd
import pytest
from learning_frames import make_churn

from usergrowth_dagster.learning.encoding import fit_spec, flat_frame
from usergrowth_dagster.learning.estimators import (
    Preparation,
    choose_trees,
    lightgbm_model,
    logistic_model,
    matrix_columns,
    time_folds,
)
from usergrowth_dagster.learning.importance import lean
from usergrowth_dagster.learning.model import CalibratedModel, positive_share, quiet
from usergrowth_dagster.learning.onehot import OneHotColumns
from usergrowth_dagster.learning.rows import Slice

NUMBERS = ["spread", "counted", "rare", "money", "constant", "unknown"]


def _of_scikit_learn(numbers, categories):
    """The transformer that versions of before hold."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import (
        FunctionTransformer,
        KBinsDiscretizer,
        OneHotEncoder,
        StandardScaler,
    )

    def filled(indicator):
        return SimpleImputer(strategy="median", add_indicator=indicator, keep_empty_features=True)

    cut = {"strategy": "quantile", "quantile_method": "averaged_inverted_cdf"}
    bins = KBinsDiscretizer(5, encode="onehot", subsample=50_000, random_state=0, **cut)
    scaled = make_pipeline(filled(True), FunctionTransformer(np.arcsinh), StandardScaler())
    return ColumnTransformer(
        [
            ("scaled", scaled, numbers),
            ("bins", make_pipeline(filled(False), bins), numbers),
            ("category", OneHotEncoder(handle_unknown="ignore"), categories),
        ],
        sparse_threshold=1.0,
    )


def _frame(rows, seed=0):
    rng = np.random.default_rng(seed)
    numbers = {
        "spread": rng.normal(size=rows) * 100,
        "counted": np.where(rng.random(rows) < 0.3, np.nan, rng.poisson(2, rows)),
        "rare": rng.random(rows) < 0.02,
        "money": rng.exponential(5000, rows),
        "constant": np.full(rows, 3.0),
        "unknown": np.where(np.arange(rows) == 0, 1.0, np.nan),
    }
    frame = pd.DataFrame({name: value.astype(np.float32) for name, value in numbers.items()})
    frame["kind"] = np.array(["x", "y", "(missing)"], dtype=object)[rng.integers(0, 3, rows)]
    return frame


@pytest.mark.parametrize("categories", [["kind"], []])
@pytest.mark.parametrize("rows", [2_000, 60_000])
def test_the_matrix_is_that_of_scikit_learns_parts(rows, categories):
    """Guards against bins, medians or scales of other rows than before, and values of another
    precision: the same model would then score otherwise."""
    frame, later = _frame(rows), _frame(500, seed=1)
    later.loc[:9, "kind"] = "never seen"
    later.loc[:30, "spread"] = np.nan
    known, columns = _of_scikit_learn(NUMBERS, categories), OneHotColumns(NUMBERS, categories)
    with quiet():
        pairs = [
            (known.fit_transform(frame), columns.fit_transform(frame)),
            (known.transform(later), columns.transform(later)),
        ]
    for theirs, ours in pairs:
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        assert abs(theirs - ours).max() < 1e-6
    assert len(list(columns.owners())) == ours.shape[1]


def test_a_version_of_before_leans_on_the_same_features(engine):
    """Guards against saved models of scikit-learn's parts that no page can explain any more."""
    from sklearn.pipeline import make_pipeline

    make_churn(engine, users=150, weeks=12)
    spec, rows = _rows(engine)
    made = [_of_scikit_learn(spec.numbers, spec.categories)]
    made.append(OneHotColumns(spec.numbers, spec.categories))
    with quiet():
        old, new = (
            make_pipeline(columns, logistic_model(0.01)).fit(rows.frame, rows.label)
            for columns in made
        )
    assert np.allclose(positive_share(old, rows.frame), positive_share(new, rows.frame), atol=1e-6)
    was, now = (lean(CalibratedModel(one), spec, rows.frame) for one in (old, new))
    assert {k: pytest.approx(v.weight, abs=1e-4) for k, v in was.items()} == {
        k: v.weight for k, v in now.items()
    }


def test_models_of_the_choice_are_those_that_would_be_fitted_again(engine):
    """Guards against calibration on models of more trees than the one that scores has."""
    make_churn(engine, users=150, weeks=16)
    spec, rows = _rows(engine)
    folds = time_folds(rows, 7, 4)
    ready = Preparation(lambda: matrix_columns(spec), folds, kept=True)
    trees, grown = choose_trees(ready, ready.newest(len(folds)), 7, 1, 1)
    assert set(grown) == set(range(len(folds))) and trees < 600
    for place, (fit, later) in enumerate(folds):
        columns = matrix_columns(spec).fit(fit.frame)
        with quiet():
            again = lightgbm_model(trees, 7, 1, 1).fit(columns.transform(fit.frame), fit.label)
            wanted = again.predict_proba(columns.transform(later.frame))
            predicted = grown[place].predict_proba(ready.fold(place).later, num_iteration=trees)
        assert np.array_equal(wanted, predicted), place


def test_scores_do_not_depend_on_the_parts_that_rows_are_asked_in(engine, monkeypatch):
    """Guards against a part of the rows that is left out, or scored as another."""
    from sklearn.pipeline import make_pipeline

    make_churn(engine, users=100, weeks=8)
    spec, rows = _rows(engine)
    with quiet():
        columns = OneHotColumns(spec.numbers, spec.categories)
        pipeline = make_pipeline(columns, logistic_model(0.01)).fit(rows.frame, rows.label)
    whole = positive_share(pipeline, rows.frame)
    monkeypatch.setattr("usergrowth_dagster.learning.model.PART_ROWS", 7)
    assert np.array_equal(positive_share(pipeline, rows.frame), whole)


def _rows(engine):
    spec = fit_spec(engine, "churn_training")
    types = engine.describe("select * from churn_training")
    table = engine.arrow(
        f"select {spec.projection(types)}, churned as _label, ds as _day from churn_training "
        "order by ds, user_id"
    )
    label = table.column("_label").to_numpy().astype(np.int64)
    day = table.column("_day").to_numpy().astype("datetime64[D]")
    return spec, Slice(flat_frame(table, spec), label, day)
