"""Population stability: by hand, on itself, by chance, and of what a model scores."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from learning_frames import make_churn

from usergrowth_dagster.learning.artifacts import LoadedModel
from usergrowth_dagster.learning.drift import compare, drift_of_frame, measure, psi
from usergrowth_dagster.learning.encoding import fit_spec, flat_frame
from usergrowth_dagster.learning.plots import draw_drift
from usergrowth_dagster.learning.reference import Reference, histogram, make_reference


def test_the_index_equals_a_hand_computed_one():
    """Guards against logarithms the wrong way round, and shares of the wrong total."""
    by_hand = 0.1 * math.log(0.6 / 0.5) + (-0.1) * math.log(0.4 / 0.5)
    assert psi([50, 50], [60, 40]) == pytest.approx(by_hand) == pytest.approx(0.0405465, abs=1e-7)
    assert psi([500, 500], [6, 4]) == pytest.approx(by_hand), "shares, not counts"
    emptied = (0.005 - 0.5) * math.log(0.005 / 0.5) + 0.5 * math.log(1 / 0.5)
    assert psi([50, 50], [0, 100]) == pytest.approx(emptied), "an empty bin is half a row"
    assert psi([10, 0, 5], [20, 0, 10]) == 0 and psi([10, 5], [0, 0]) == 0


@examples(max_examples=60, deadline=None)
@given(
    values=st.lists(st.none() | st.integers(-5, 5) | st.floats(-1e6, 1e6), min_size=1),
    times=st.integers(1, 4),
)
def test_a_column_has_not_drifted_from_itself(values, times, settings_of_drift):
    """Guards against bins that the training's own rows do not fall into: ties, zeros, missing."""
    column = np.array([np.nan if v is None else v for v in values], dtype=float)
    known = histogram(column)
    counts = known.count(np.repeat(column, times))
    assert counts.sum() == times * len(column) == times * sum(known.counts)
    shift = compare(known, counts.tolist(), "x", settings_of_drift)
    assert shift.psi == 0 and shift.level == "same"
    words = np.array([str(v) for v in values], dtype=object)
    named = histogram(words, category=True)
    assert psi(named.counts, named.count(words).tolist()) == 0
    assert named.count(np.array(["never seen"] * 7))[-1] == 7


@pytest.fixture(scope="module")
def settings_of_drift(tmp_path_factory):
    from usergrowth_dagster.settings import load_settings

    return load_settings(tmp_path_factory.mktemp("drift"))


def test_few_rows_of_the_same_people_are_no_drift_and_other_people_are(settings_of_drift):
    """Guards against a warning at every small population, and against none at a changed one."""
    rng = np.random.default_rng(2)
    known = histogram(rng.normal(size=5000))
    levels, beyond = [], 0
    for _ in range(400):
        shift = compare(known, known.count(rng.normal(size=60)).tolist(), "x", settings_of_drift)
        levels.append(shift.level)
        beyond += shift.psi > settings_of_drift.drift_notice
    assert beyond > 200, "the usual bound alone would name most of them"
    assert levels.count("same") >= 396
    moved = known.count(rng.normal(0.9, size=400)).tolist()
    assert compare(known, moved, "x", settings_of_drift).level == "drifted"
    little = known.count(rng.normal(0.4, size=4000)).tolist()
    assert compare(known, little, "x", settings_of_drift).level == "shifted"


def test_a_changed_population_is_named_by_feature_and_warns_by_what_matters(engine, settings):
    """Guards against drift measured on other columns than the model's, and idle warnings."""
    make_churn(engine, users=300, weeks=6)
    spec = fit_spec(engine, "churn_training")
    types = engine.describe("select * from churn_training")
    table = engine.arrow(f"select {spec.projection(types)} from churn_training order by all")
    frame = flat_frame(table, spec)
    score = np.linspace(0, 1, len(frame))
    leans = {f.label: 1.0 if f.column == "recency_days" else 0.01 for f in spec.features}
    known = make_reference(spec, frame, score, leans)
    model = LoadedModel(None, None, spec, Reference.model_validate_json(known.model_dump_json()))
    same = measure(
        engine, "churn_training", model, settings, scores=[score[:700], score[700:]], chunk_rows=97
    )
    assert (same.rows, same.drifted, same.warns) == (1800, [], False)
    assert {s.psi for s in same.every()} == {0.0}
    changed = (
        "(select * replace (recency_days + 20 as recency_days, 'gold' as user_type) "
        "from churn_training)"
    )
    drift = measure(engine, changed, model, settings, scores=[score])
    assert set(drift.drifted) == {"recency_days", "user_type"}
    assert drift.warns and drift.weight > 0.8 and "recency_days" in drift.sentence()
    unused = "(select * replace ('gold' as user_type) from churn_training)"
    idle = measure(engine, unused, model, settings, scores=[score])
    assert idle.drifted == ["user_type"] and not idle.warns
    shifted = drift_of_frame(known, spec, [frame], [score**4], settings)
    assert shifted.warns and shifted.drifted == ["score"]
    assert draw_drift(drift, "x", 0.1, 0.25).startswith(b"\x89PNG")
    bare = LoadedModel(None, None, spec)
    assert measure(engine, changed, bare, settings) is None
