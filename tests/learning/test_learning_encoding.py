"""Flat features from scalars and maps."""

import math
from datetime import date

import numpy as np
import pytest
from learning_frames import make_churn

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.encoding import MISSING, OTHER, FeatureSpec, fit_spec, flat_frame


def _flat(engine, spec, relation, order="rowid"):
    types = engine.describe(f"select * from {relation}")
    return flat_frame(
        engine.arrow(f"select {spec.projection(types)} from {relation} order by {order}"), spec
    )


@pytest.fixture
def table(engine):
    engine.run("""
        create table t as select * from (values
            (date '2024-01-01', 'u1', 1.5::double, true, 'a', map {'x': 1.0, 'y': 2.0}, map {'n': 5.0}, map {'c': 'red'}, 7, [1]),
            (date '2024-01-01', 'u2', null, false, 'a', map {'x': 3.0}, null, map {'c': 'red'}, 7, [1]),
            (date '2024-01-01', 'u3', 1e300, null, 'b', null, map {'n': 6.0, 'm': 1.0}, map {'c': 'blue'}, 7, [1]),
            (date '2024-02-01', 'u4', 2.0, true, 'later', map {'z': 9.0}, null, map {'c': 'green'}, 8, [1])
        ) v(ds, user_id, num, flag, cat, amount, attribute_num, attribute_str, always, tags)
    """)
    return "t"


def test_flat_columns_equal_a_plain_reference(engine, table):
    """Guards against absent keys, NULL maps, infinities and unknown categories being mixed up."""
    spec = fit_spec(engine, table, where="ds < '2024-02-01'")
    frame = _flat(engine, spec, table, "user_id")
    by_label = {f.label: frame[f.name].tolist() for f in spec.features}
    nan = float("nan")
    expected = {
        "num": [1.5, nan, nan, 2.0],  # beyond single precision is no number
        "flag": [1, 0, nan, 1],
        "cat": ["a", "a", "b", OTHER],
        "amount[x]": [1, 3, 0, 0],
        "amount[y]": [2, 0, 0, 0],
        "attribute_num[n]": [5, nan, 6, nan],
        "attribute_num[m]": [nan, nan, 1, nan],
        "attribute_str[c]": ["red", "red", "blue", OTHER],
    }
    assert set(by_label) == set(expected)
    for label, values in expected.items():
        for got, want in zip(by_label[label], values, strict=True):
            assert got == want or (
                isinstance(want, float) and math.isnan(want) and math.isnan(got)
            ), label
    assert spec.ignored == ("tags",) and "always" in spec.constant
    assert FeatureSpec.model_validate_json(spec.model_dump_json()) == spec


def test_the_vocabulary_comes_from_the_train_slice_only(engine, table):
    """Guards against keys, categories or variation of later days shaping the features."""
    spec = fit_spec(engine, table, where="ds < '2024-02-01'")
    engine.run("delete from t where ds >= '2024-02-01'")
    assert fit_spec(engine, table) == spec
    assert "z" not in spec.keys["amount"]


def test_rare_keys_and_categories_fall_together(engine):
    """Guards against one feature a key when a log has thousands of keys."""
    engine.run(
        "create table t as select concat('u', i) as user_id, map {concat('k', i % 10): 1.0, 'often': 2.0} as amount, "
        "concat('c', i % 10) as cat from range(100) r(i)"
    )
    spec = fit_spec(engine, "t", top_n=3, max_keys=4)
    labels = [f.label for f in spec.features]
    assert labels == ["amount[k0]", "amount[k1]", "amount[k2]", f"amount[{OTHER}]", "cat"]
    frame = _flat(engine, spec, "t")
    assert sorted(set(frame["cat"])) == [OTHER, "c0", "c1", "c2"]
    assert frame["amount__other_keys"].sum() == 70


def test_serving_without_columns_and_with_new_ones_works_and_is_reported(engine):
    """Guards against scoring that fails, or silently guesses, when the log changes its shape."""
    make_churn(engine, users=60, weeks=4)
    spec = fit_spec(engine, "churn_training")
    engine.run(
        "create table serving as select user_id, recency_days::varchar as recency_days, "
        "map {'buy': 1.0, 'brand_new': 2.0} as kind_events_30d, 'platinum' as user_type, 5 as extra from churn_training"
    )
    frame = _flat(engine, spec, "serving")
    assert list(frame.columns) == spec.names
    mismatch = spec.mismatch(engine, "serving")
    assert mismatch.any
    assert mismatch.changed_types == ["recency_days"]
    assert mismatch.missing_columns == [
        "attribute_num",
        "attribute_str",
        "events_30d",
        "gap_mean_days",
        "lively",
    ]
    assert mismatch.unseen_columns == ["extra"] and mismatch.unseen_keys == [
        "kind_events_30d[brand_new]"
    ]
    assert frame["recency_days"].isna().all() and set(frame["attribute_str__city"]) == {MISSING}
    assert not spec.mismatch(engine, "churn_training").any


def test_names_are_safe_and_unique_for_lightgbm(engine):
    """Guards against LightGBM refusing JSON characters, and names that collide when made safe."""
    from lightgbm import LGBMClassifier

    engine.run(
        """create table t as select concat('u', i) as user_id, map {'a"b': i, 'a[b': i % 3, 'a,b': i % 2, '中文': i % 5} as m from range(50) r(i)"""
    )
    spec = fit_spec(engine, "t")
    assert len(set(spec.names)) == 4 and all(
        name.isascii() and name.replace("_", "").isalnum() for name in spec.names
    )
    frame = _flat(engine, spec, "t")
    LGBMClassifier(n_estimators=2, verbosity=-1, n_jobs=1).fit(frame, np.arange(50) % 2)


def test_keys_labels_and_dates_are_never_features(engine):
    """Guards against the label, the user's id or the day leaking into the features."""
    make_churn(engine, users=50, weeks=3, first=date(2024, 1, 1))
    spec = fit_spec(engine, "churn_training")
    assert not {f.column for f in spec.features} & {
        "ds",
        "user_id",
        "churned",
        "days_to_next",
        "a_date",
        "target",
    }


def test_a_slice_without_variation_is_one_sentence(engine):
    """Guards against an empty design matrix reaching the estimators."""
    engine.run("create table t as select 'u' as user_id, 1 as a from range(5)")
    with pytest.raises(UserError, match="no feature varies"):
        fit_spec(engine, "t")


def test_what_is_gone_by_the_newest_rows_is_no_feature(engine):
    """Guards against trees that lean on keys, columns and categories of earlier days only, which
    say nothing of the days that are scored."""
    engine.run("""
        create or replace table t as
        select date '2024-01-01' + (w * 7)::integer as ds, u as user_id, u % 7 as kept,
            case when w < 6 then u % 5 end as old_column,
            case when w < 6 then concat('c', u % 3) end as old_category,
            map {if(w < 6, 'old', 'new'): (u % 4)::double, 'both': (u % 3)::double} as kind_events_30d
        from range(100) a(u), range(8) b(w)
    """)
    train = "ds < '2024-02-26'"
    spec = fit_spec(engine, "t", where=train, newest="ds in ('2024-02-12', '2024-02-19')")
    labels = {f.label for f in spec.features}
    gone = {"old_column", "old_category", "kind_events_30d[old]"}
    assert not labels & gone and {"kept", "kind_events_30d[new]"} <= labels
    assert {"old_column", "old_category"} <= set(spec.constant)
    assert gone <= {f.label for f in fit_spec(engine, "t", where=train).features}
