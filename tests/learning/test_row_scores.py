"""Scores of single rows are those of the batch path, and rows that are not the model's are refused."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from learning_frames import make_churn
from sklearn.pipeline import make_pipeline

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.amounts.model import AmountModel, PastAverage, TwoStage
from usergrowth_dagster.learning.artifacts import LoadedModel
from usergrowth_dagster.learning.encoding import FeatureSpec, fit_spec, flat_frame
from usergrowth_dagster.learning.estimators import (
    lightgbm_model,
    logistic_columns,
    logistic_model,
    matrix_columns,
    tree_settings,
)
from usergrowth_dagster.learning.model import Blend, CalibratedModel
from usergrowth_dagster.learning.scoring import score
from usergrowth_dagster.learning.store import ModelRef
from usergrowth_dagster.learning.uplift.learners import TLearner
from usergrowth_dagster.learning.uplift.model import UpliftModel, matrix
from usergrowth_dagster.learning.uplift.scale import EffectScale
from usergrowth_dagster.serve.scoring.row_scores import RowScorer
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import Engine, open_engine

D = date(2024, 7, 29)
REF = ModelRef("churn", 1, "r", "h", D, D, D, "x", "approved", "f", "")
NUMBERS_ONLY = "numbers only"
KNOTS = (np.array([-14.0, 0.0, 14.0]), np.array([-13.0, 0.4, 15.0]))


@dataclass
class World:
    """Rows of a table, and a model of every kind that is fitted on them."""

    engine: Engine
    models: dict[str, LoadedModel]
    rows: list[dict[str, Any]]

    def batch(self, kind: str) -> Any:
        """What the batch path says of all rows, in their order."""
        scored = score(self.engine, self.models[kind], "churn_training").to_pydict()
        by_key = dict(
            zip(zip(scored["ds"], scored["user_id"], strict=True), scored["score"], strict=True)
        )
        return np.array(
            [by_key[date.fromisoformat(row["ds"]), row["user_id"]] for row in self.rows]
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    settings = load_settings(tmp_path_factory.mktemp("rows") / "home")
    with open_engine(settings) as engine:
        make_churn(engine, users=300, weeks=4)
        engine.run("update churn_training set recency_days = null where recency_days = 7")
        spec = fit_spec(engine, "churn_training", max_keys=1)
        numeric = fit_spec(engine, "churn_training", exclude=("user_type", "attribute_str"))
        models = {kind: LoadedModel(REF, model, spec) for kind, model in fitted(engine, spec)}
        some = next(model for kind, model in fitted(engine, numeric) if kind == "logistic")
        models[NUMBERS_ONLY] = LoadedModel(REF, some, numeric)
        read = engine.connection.sql("select * exclude (churned, days_to_next) from churn_training")
        names = read.columns
        rows = [dict(zip(names, values, strict=True)) for values in read.fetchall()]
        assert len(rows) == 1200
        yield World(engine, models, json.loads(json.dumps(rows, default=plain)))


def plain(value: Any) -> Any:
    """A value of the table as a caller writes it in JSON."""
    return float(value) if isinstance(value, Decimal) else str(value)


def fitted(engine: Engine, spec: FeatureSpec) -> Iterator[tuple[str, Any]]:
    """Models of every kind, on the flat frame of all rows."""
    from lightgbm import LGBMRegressor

    types = engine.describe("select * from churn_training")
    table = engine.arrow(f"select churned, {spec.projection(types)} from churn_training")
    frame, label = flat_frame(table, spec), table.column("churned").to_numpy().astype(int)
    one_hot, trees = logistic_columns(spec).fit(frame), matrix_columns(spec).fit(frame)
    x = trees.transform(frame)
    logistic = make_pipeline(one_hot, logistic_model(0.01).fit(one_hot.transform(frame), label))
    forest = make_pipeline(trees, lightgbm_model(40, 7, 0, 1).fit(x, label))
    amount = np.where(label > 0, frame[spec.numbers[0]].fillna(1).to_numpy() + 1.5, 0.0)
    regressor = LGBMRegressor(**tree_settings(30, 7, 0, 1)).fit(x, amount)
    learner = TLearner().fit(matrix(trees, frame), label, np.arange(len(label)) % 2)
    few = logistic_columns(spec.model_copy(update={"features": spec.features[1:4]})).fit(frame)
    rfm = make_pipeline(few, logistic_model(0.1).fit(few.transform(frame), label))
    yield "rfm", CalibratedModel(rfm, KNOTS)
    yield "logistic", CalibratedModel(logistic, KNOTS)
    yield "lightgbm", CalibratedModel(forest)
    yield "blend", CalibratedModel(Blend([logistic, forest]), KNOTS)
    yield "amount", AmountModel(make_pipeline(trees, regressor), 1.25)
    yield "two stages", AmountModel(TwoStage(trees, forest[1], regressor), 0.8)
    yield "past average", AmountModel(PastAverage.fitted(spec.numbers[0], frame, amount))
    yield (
        "effect",
        UpliftModel(
            trees,
            learner,
            EffectScale(np.array([-1.0, 0.0, 1.0]), np.array([0.0, 0.4, 1.0]), 0.01, 0.2),
        ),
    )


KINDS = (
    "rfm",
    "logistic",
    "lightgbm",
    "blend",
    "amount",
    "two stages",
    "past average",
    "effect",
    NUMBERS_ONLY,
)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_json_score_as_the_table_does(world: World, kind: str) -> None:
    """Guards against a service whose scores are not those that people were chosen by."""
    scorer = RowScorer(world.models[kind])
    assert scorer.quick == (kind != "past average")
    right = world.batch(kind)
    assert np.ptp(right) > 0.01
    together = scorer.score(scorer.reader.read(world.rows))
    np.testing.assert_allclose(together, right, rtol=0, atol=1e-9)
    alone = [scorer.score(scorer.reader.read([row]))[0] for row in world.rows[:60]]
    np.testing.assert_allclose(alone, right[:60], rtol=0, atol=1e-9)


def test_flat_features_score_as_their_columns_do(world: World) -> None:
    """Guards against a caller of flat features, as MLflow names them, who gets other scores."""
    scorer = RowScorer(world.models["blend"])
    flat = scorer.reader.read(world.rows).frame().astype(object)
    rows = flat.where(flat.notna(), None).to_dict("records")
    assert set(rows[0]) == set(scorer.reader.spec.names)
    again = scorer.score(scorer.reader.read(json.loads(json.dumps(rows))))
    np.testing.assert_allclose(again, world.batch("blend"), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"recency_days": "3"}, "row 2: recency_days must be a number, and is a text"),
        ({"user_type": 3}, "row 2: user_type must be a text, and is a number"),
        (
            {"kind_events_30d": 3},
            "row 2: kind_events_30d must be an object by key, and is a number",
        ),
        (
            {"kind_events_30d": {"buy": "x"}},
            "row 2: kind_events_30d[buy] must be a number, and is a text",
        ),
        ({"recncy": 1, "other": 2}, "row 2: recncy, other: no feature of the model"),
    ],
)
def test_what_is_no_feature_is_refused_by_name(
    world: World, change: dict[str, Any], sentence: str
) -> None:
    """Guards against a misspelled or misread feature that is scored as if it were unknown."""
    reader = RowScorer(world.models["past average"]).reader
    with pytest.raises(UserError) as refused:
        reader.read([world.rows[0], world.rows[0] | change])
    assert str(refused.value) == sentence
    if "recncy" in change:
        assert len(reader.read([world.rows[0] | change], extra=True)) == 1


def test_a_missing_feature_is_refused_unless_rows_may_be_partial(world: World) -> None:
    """Guards against a caller who leaves a column out and gets scores of other people."""
    reader = RowScorer(world.models["past average"]).reader
    row = {name: value for name, value in world.rows[0].items() if name != "recency_days"}
    with pytest.raises(UserError, match="row 1 lacks recency_days; null says that one is unknown"):
        reader.read([row])
    left_out, null = reader.read([row], partial=True), reader.read([row | {"recency_days": None}])
    assert np.array_equal(left_out.numbers, null.numbers, equal_nan=True)


def test_numbers_beyond_single_precision_are_unknown(world: World) -> None:
    """Guards against an infinite feature, which the table's projection never gives a model."""
    reader = RowScorer(world.models["past average"]).reader
    for huge in (1e300, float("inf"), 10**400, float("nan")):
        row = world.rows[0] | {"recency_days": huge, "kind_events_30d": {"buy": huge}}
        numbers = dict(zip(reader.spec.numbers, reader.read([row]).numbers[0], strict=True))
        assert np.isnan(numbers["recency_days"]) and numbers["kind_events_30d__buy"] == 0.0
