"""A training of amounts, end to end on a generated frame with a known signal."""

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from learning_frames import make_spend
from sklearn.metrics import mean_tweedie_deviance

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.artifacts import load, read_artifacts, read_card
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.origin import MadeFrom, label_gap_holds
from usergrowth_dagster.learning.registry import train_and_register
from usergrowth_dagster.learning.scoring import score
from usergrowth_dagster.learning.targets import target_called
from usergrowth_dagster.learning.targets.base import Before
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import open_engine

D = date(2024, 7, 29)
CONFIG = TrainingConfig(algorithm="spend", amount="pay", days=7, start_date=date(2024, 1, 1))
MADE_FROM = MadeFrom({"spend_training": 1}, code_version="abc")
REGRESSION = target_called("regression")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An engine with the rows of a training, and what was trained on them."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("training", "gates"):
            patch.setattr(f"usergrowth_dagster.learning.amounts.{module}.RESAMPLES", 60)
        settings = load_settings(tmp_path_factory.mktemp("amounts") / "home")
        with open_engine(settings) as engine:
            make_spend(engine)
            yield settings, engine, train(engine, settings)


def train(engine, settings, relation="spend_training", day=D, config=CONFIG):
    job = (engine, relation, config, day, settings)
    return REGRESSION.train(*job, made_from=MADE_FROM, progress=lambda _: None)


def judge(engine, settings, trained, **options):
    gates = REGRESSION.judge(
        engine,
        "spend_training",
        trained,
        settings,
        **{"serving": None, "before": None, **options},
    )
    return {gate.name: gate for gate in gates}


def test_the_signal_is_found_with_honest_figures(world):
    """Guards against amounts that are cut to whole numbers, and a model no better than the past."""
    _, engine, trained = world
    assert set(trained.evaluation.metrics) == {"past_average", "tweedie", "two_stage"}
    assert trained.champion in ("tweedie", "two_stage")
    assert trained.evaluation.difference("gini", trained.champion, "past_average").low > 0
    assert trained.evaluation.difference("deviance", trained.champion, "past_average").high < 0
    assert "beats the past average on the test slice: normalized Gini +0." in trained.sentence
    assert abs(trained.metrics["bias"].value) < 0.1 and trained.metrics["decile_error"].value < 0.15
    assert next(iter(trained.importance)) in ("habit_share", "recency_days")
    scores = trained.models[trained.champion].model.score(trained.test.frame)
    assert trained.metrics["deviance"].value == pytest.approx(
        mean_tweedie_deviance(trained.test.label, scores, power=1.5)
    )
    real = engine.value(
        "select sum(amount_next_7d['pay']) from spend_training where ds in "
        f"({', '.join(repr(str(day)) for day in trained.split.test)})"
    )
    assert trained.test.label.sum() == pytest.approx(float(real)), "of one key alone"
    assert label_gap_holds(trained)
    assert set(trained.figures) == {"gain", "deciles", "importance", "drift"}


def test_rows_of_open_labels_change_nothing(world):
    """Guards against leakage: snapshots whose label reaches D or later must not be looked at."""
    settings, engine, _ = world
    early = date(2024, 6, 17)
    first = train(engine, settings, day=early)
    assert max(first.split.test) <= date(2024, 6, 10)
    engine.run(
        "create or replace table changed as select * replace ("
        "case when ds > '2024-06-10' then 99 else recency_days end as recency_days, "
        "case when ds > '2024-06-10' then map {'pay': 1e6} else amount_next_7d end as "
        "amount_next_7d) from spend_training"
    )
    again = train(engine, settings, "changed", early)
    assert first.metrics == again.metrics and first.spec == again.spec


def test_a_summary_of_amounts_is_that_of_its_training(world):
    """Guards against a card whose rows, tenths or comparison are those of something else."""
    settings, engine, trained = world
    gates = list(judge(engine, settings, trained).values())
    summary = REGRESSION.summarize(trained, gates)
    label = trained.test.label
    test = summary["rows"]["test"]
    assert (test["rows"], test["positives"]) == (len(label), int((label > 0).sum()))
    assert test["amount"] == pytest.approx(label.sum())
    assert summary["test"]["users"] == len(np.unique(trained.test.user)) < test["rows"]
    assert sum(tenth["rows"] for tenth in summary["deciles"]) == len(label)
    for kind in ("tweedie", "two_stage"):
        gain = trained.evaluation.difference("gini", kind, "past_average").as_dict()
        assert summary["paired"][f"{kind} less past_average, gini"] == gain
    assert summary["champion"] == trained.champion == REGRESSION.chosen(trained)
    assert list(summary["importance"]) == list(trained.importance)[:50]
    for name, gini in summary["alone"].items():
        assert gini == pytest.approx(trained.alone[name], abs=5e-5), name
    assert [gate["name"] for gate in summary["gates"]] == [gate.name for gate in gates]
    assert summary["drift"] == trained.drift.as_dict()
    assert REGRESSION.params(trained) == {
        f"{kind}.{name}": str(value)
        for kind, one in trained.models.items()
        for name, value in one.params.items()
    }
    saved = REGRESSION.saved(trained)
    assert saved.predict == "predict" and len(saved.example) == 5
    assert list(saved.files.values()) == [trained.reference.model_dump_json()]
    json.dumps(summary, allow_nan=False)


def test_a_training_of_amounts_reports_its_stages(world):
    """Guards against a long training that says nothing of how far it is."""
    settings, engine, _ = world
    stages = []
    job = (engine, "spend_training", CONFIG, D, settings)
    REGRESSION.train(*job, made_from=MADE_FROM, progress=stages.append)
    assert {"rows", "tweedie", "two_stage"} <= set(stages)


def test_labels_are_no_features(world):
    """Guards against the amounts of the days to come among the features."""
    _, _, trained = world
    columns = {feature.column for feature in trained.spec.features}
    assert "amount_7d" in columns and not {c for c in columns if "next" in c}


def test_every_gate_can_fail(world):
    """Guards against a gate that lets everything pass."""
    settings, engine, trained = world
    gates = judge(engine, settings, trained)
    assert all(gate.passed for gate in gates.values()), gates
    few = settings.model_copy(update={"min_positives_test": 10**6})
    assert not judge(engine, few, trained)["amounts"].passed
    assert not judge(engine, settings, trained, serving={"recency_days": "VARCHAR"})[
        "features"
    ].passed
    engine.run(
        "create or replace table leaked as select *, coalesce(amount_next_7d['pay'], 0) as leak "
        "from spend_training"
    )
    leaked = train(engine, settings, "leaked")
    gate = judge(engine, settings, leaked)["leakage"]
    assert not gate.passed and gate.reason.startswith("leak alone order")
    trusting = settings.model_copy(update={"trusted_features": ("leak",)})
    assert judge(engine, trusting, leaked)["leakage"].passed
    engine.run(
        "create or replace table inflated as select * replace (case when ds >= '2024-06-03' then "
        "map {'pay': coalesce(amount_next_7d['pay'], 0) / 3} else amount_next_7d end as "
        "amount_next_7d) from spend_training"
    )
    inflated = judge(engine, settings, train(engine, settings, "inflated"))
    assert not inflated["bias"].passed and not inflated["calibration"].passed


def test_a_version_scores_as_it_was_judged_and_the_next_is_held_against_it(world):
    """Guards against a saved model that predicts otherwise, and a champion nobody can replace."""
    settings, engine, trained = world
    job = (engine, "spend_training", CONFIG, D, settings)
    made = train_and_register(*job, made_from=MADE_FROM)
    assert (made.ref.name, made.ref.status) == ("spend", "approved"), made.summary["gates"]
    loaded = load(made.ref)
    scores = trained.models[trained.champion].model.score(trained.test.frame)
    assert np.allclose(loaded.model.as_judged().score(trained.test.frame), scores)
    assert np.allclose(
        loaded.model.score(trained.test.frame), scores * loaded.model.level / loaded.model.judged
    )
    scored = score(engine, loaded, "spend_training")
    assert scored.num_rows == 500 * 30 and min(scored.column("score").to_pylist()) >= 0
    assert train_and_register(*job, made_from=MADE_FROM).reused
    card = read_card(made.ref)
    assert "How much pay does a user" in card and "normalized Gini" in card
    before = Before(loaded, read_artifacts(made.ref)[0])
    gate = judge(engine, settings, trained, before=before)["champion"]
    assert gate.passed, gate.reason
    models = {**trained.models, trained.champion: trained.models["past_average"]}
    gate = judge(engine, settings, replace(trained, models=models), before=before)["champion"]
    assert not gate.passed and "is above that of version 1" in gate.reason


def test_everybody_spends_and_nobody_does(engine, settings):
    """Guards against a first stage with one class, and a sum of nothing to divide by."""
    make_spend(engine, users=200, weeks=20)
    engine.run(
        "create table always as select * replace (map {'pay': 5.0 + habit_share} as amount_next_7d) "
        "from spend_training"
    )
    trained = train(engine, settings, "always")
    assert trained.metrics["decile_error"].value < 0.1
    engine.run(
        "create table never as select * replace (null::map(varchar, double) as amount_next_7d) "
        "from spend_training"
    )
    with pytest.raises(UserError, match="too few positive"):
        train(engine, settings, "never")
