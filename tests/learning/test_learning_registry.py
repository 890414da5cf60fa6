"""The registry on a real MLflow in SQLite."""

import multiprocessing
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from learning_frames import make_churn
from support.patience import PATIENCE
from support.processes import ready_process

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.artifacts import load, read_artifacts
from usergrowth_dagster.learning.calibration import AGAIN
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.gates import calibration_gate, champion_gate, leakage_gate
from usergrowth_dagster.learning.metrics import Interval
from usergrowth_dagster.learning.origin import MadeFrom
from usergrowth_dagster.learning.registry import find_fingerprint, register, train_and_register
from usergrowth_dagster.learning.reviewing import newest_model, review
from usergrowth_dagster.learning.scoring import score
from usergrowth_dagster.learning.store import client, versions
from usergrowth_dagster.learning.training import train
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import open_engine

D = date(2024, 7, 29)
CONFIG = TrainingConfig(algorithm="churn", start_date=date(2024, 1, 1))
HASH = CONFIG.config_hash()
MADE_FROM = MadeFrom({"churn_training": 3}, code_version="abc", dagster_run_id="run-1")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A home with one approved version, and the engine that holds its training set."""
    settings = load_settings(tmp_path_factory.mktemp("registry") / "home")
    with open_engine(settings) as engine:
        make_churn(engine, weeks=34)
        trained = train(engine, "churn_training", CONFIG, D, settings, made_from=MADE_FROM)
        ref = register(engine, "churn_training", trained, settings)
        yield settings, engine, trained, ref


def test_a_version_comes_back_as_it_was_trained(world):
    """Guards against a saved model that scores otherwise than the one that was judged."""
    import mlflow

    settings, _, trained, ref = world
    assert mlflow.active_run() is None
    assert (ref.status, ref.version, ref.champion, ref.config_hash) == (
        "approved",
        1,
        trained.champion,
        HASH,
    )
    assert ref.last_label_day == trained.last_label_day > ref.fit_last_label_day
    loaded = load(ref)
    expected = trained.models[trained.champion].model.score(trained.test.frame)
    assert np.array_equal(loaded.model.as_judged().score(trained.test.frame), expected)
    final = trained.closed.score(trained.test.frame)
    assert np.array_equal(loaded.model.score(trained.test.frame), final)
    assert loaded.spec == trained.spec
    summary, figures = read_artifacts(ref)
    assert figures == trained.figures and summary["sentence"] == trained.sentence
    assert summary["metrics"]["rfm"]["auc"]["low"] < summary["metrics"]["rfm"]["auc"]["high"]
    run = client(settings).get_run(ref.run_id)
    assert run.data.metrics["auc"] == trained.metrics["auc"].value
    assert (
        run.data.tags["data_versions"] == '{"churn_training": 3}'
        and run.data.tags["dagster_run_id"] == "run-1"
    )
    assert run.info.status == "FINISHED"
    assert client(settings).get_model_version_by_alias("churn", "champion").version == 1


def test_a_blend_is_registered_and_scores_like_any_model(world, tmp_path):
    """Guards against a kind of model that trains but cannot be saved, loaded or asked."""
    settings = load_settings(tmp_path / "home")
    _, engine, trained, _ = world
    ref = register(engine, "churn_training", replace(trained, champion="blend"), settings)
    assert (ref.champion, ref.status) == ("blend", "approved")
    engine.run("create or replace view day as select * from churn_training where ds = '2024-07-22'")
    got = score(engine, ref, "day").column("score").to_numpy()
    last = trained.test.frame[-len(got) :]
    blend = replace(trained, champion="blend").closed
    assert np.array_equal(got, blend.score(last))
    summary, _ = read_artifacts(ref)
    assert {"logistic", "lightgbm", "blend"} <= set(summary["metrics"])
    assert summary["params"]["blend"]["calibrated_on"] == "later slice"


def test_the_version_loads_with_mlflow_alone(world, monkeypatch):
    """Guards against a registered model that only this package can find or open."""
    import mlflow

    settings, _, trained, ref = world
    frame = trained.test.frame.head(50)
    previous = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(settings.tracking_uri)
    try:
        pipeline = mlflow.sklearn.load_model(f"runs:/{ref.run_id}/model")
        general = mlflow.pyfunc.load_model(ref.uri)
    finally:
        mlflow.set_tracking_uri(previous)
    expected = trained.closed.score(frame)
    assert np.array_equal(pipeline.predict_proba(frame)[:, 1], expected)
    assert np.allclose(np.asarray(general.predict(frame))[:, 1], expected)
    assert {c.name for c in general.metadata.signature.inputs.inputs} == set(trained.spec.names)


def test_training_the_same_again_adds_nothing(world):
    """Guards against a re-run of a partition piling up versions."""
    settings, engine, trained, ref = world
    assert register(engine, "churn_training", trained, settings) == ref
    stages = []
    again = train_and_register(
        engine, "churn_training", CONFIG, D, settings, progress=stages.append, made_from=MADE_FROM
    )
    assert again.reused and again.ref == ref and stages == [] and again.figures == trained.figures
    assert [v for v in versions(settings, "churn") if v.fingerprint == ref.fingerprint] == [ref]
    other = find_fingerprint(settings, "churn", "not there")
    assert other is None


def test_an_upgrade_trains_nothing_that_it_would_train_the_same(world):
    """Guards against a new name of the same code bringing every model a second version."""
    settings, engine, _trained, ref = world
    upgraded = replace(
        MADE_FROM,
        code_version="another name",
        earlier_code_versions=("a third", MADE_FROM.code_version),
    )
    stages = []
    again = train_and_register(
        engine, "churn_training", CONFIG, D, settings, progress=stages.append, made_from=upgraded
    )
    assert again.reused and again.ref == ref and stages == []
    present, _third, before = upgraded.fingerprints(CONFIG, D, settings)
    assert (present, before) == (upgraded.fingerprint(CONFIG, D, settings), ref.fingerprint)
    assert present != before
    assert MADE_FROM.fingerprints(CONFIG, D, settings) == [ref.fingerprint]


def test_no_model_from_the_future_is_ever_returned(world):
    """Guards against a backfill of an old date being scored by a model that saw its future."""
    settings, _, _, ref = world
    last = ref.last_label_day
    assert newest_model(settings, "churn", HASH, last + timedelta(days=1)) == ref
    assert newest_model(settings, "churn", HASH, last) is None
    assert newest_model(settings, "churn", HASH, date(2024, 1, 1)) is None
    assert newest_model(settings, "churn", "0" * 12, D) is None
    assert newest_model(settings, "winback", HASH, D) is None


def test_a_version_that_waits_scores_nobody_until_a_person_approves_it(world):
    """Guards against an unreviewed version scoring users, and against reviewing twice."""
    settings, engine, _, _ = world
    careful = TrainingConfig(**CONFIG.model_dump() | {"churn_days": 6, "require_review": True})
    label = careful.config_hash()
    waiting = train_and_register(
        engine, "churn_training", careful, D, settings, made_from=MADE_FROM
    ).ref
    assert waiting.status == "waiting_review" and newest_model(settings, "churn", label, D) is None
    approved = review(settings, "churn", waiting.version, approve=True, actor="ann").ref
    assert approved.status == "approved" and newest_model(settings, "churn", label, D) == approved
    assert newest_model(settings, "churn", HASH, D).version == 1
    again = review(settings, "churn", waiting.version, approve=True, actor="bob")
    assert (again.how, again.ref.reviewed_by) == ("unchanged", "ann")
    with pytest.raises(UserError, match="no version 99"):
        review(settings, "churn", 99, approve=True, actor="ann")


def test_a_later_training_is_compared_with_the_champion_on_rows_it_never_saw(world):
    """Guards against a comparison on rows the current version was fitted on."""
    settings, engine, _, first = world
    later = D + timedelta(days=28)
    registered = train_and_register(
        engine, "churn_training", CONFIG, later, settings, made_from=MADE_FROM
    )
    gates = {gate["name"]: gate for gate in registered.summary["gates"]}
    assert set(gates) == {"positives", "features", "leakage", "calibration", "champion"}
    assert "of version 1" in gates["champion"]["reason"]
    assert registered.ref.status == (
        "approved" if all(g["passed"] for g in gates.values()) else "rejected"
    )
    serving = newest_model(settings, "churn", HASH, later)
    assert serving == (registered.ref if registered.ref.status == "approved" else first)
    assert newest_model(settings, "churn", HASH, D) == first


def test_gates_hold_back_what_must_not_score(world):
    """Guards against a miscalibrated, leaking or worse version passing."""
    import copy

    settings, engine, trained, ref = world
    assert calibration_gate(trained, settings).passed and leakage_gate(trained, settings).passed
    bad = copy.deepcopy(trained)
    bad.upkeep[AGAIN]["ace"] = Interval(0.2, 0.1, 0.3)
    gate = calibration_gate(bad, settings)
    assert not gate.passed and "exceeds" in gate.reason
    refreshed = settings.model_copy(update={"refresh_level_days": 7})
    assert calibration_gate(bad, refreshed).passed, "judged as it would score"
    stale = copy.deepcopy(trained)
    stale.evaluation.metrics[stale.champion]["ace"] = Interval(0.2, 0.1, 0.3)
    assert calibration_gate(stale, settings).passed, "a map that nobody will score by"
    worse = copy.deepcopy(trained)
    worse.models[worse.champion].model.knots = (np.array([-14.0, 14.0]), np.array([-12.0, 16.0]))
    gate = champion_gate(engine, "churn_training", worse, load(ref), settings)
    assert not gate.passed and "is above" in gate.reason


def test_scores_do_not_depend_on_chunks_or_order(world):
    """Guards against scores that change with the memory at hand or the order of the rows."""
    _, engine, trained, ref = world
    engine.run(
        "create or replace view people as select *, u.place as \"row\" from churn_training join (select user_id, row_number() over (order by user_id) as place from (select distinct user_id from churn_training)) u using (user_id) where ds = '2024-07-22'"
    )
    engine.run("create or replace table mixed as select * from people order by hash(user_id)")
    whole = score(engine, ref, "people")
    assert whole.column_names == ["ds", "row", "user_id", "score"] and whole.num_rows == 400
    assert score(engine, load(ref), "mixed", chunk_rows=64).equals(whole)
    at = trained.test.user[-1], trained.split.test[-1]
    expected = trained.models[trained.champion].model.score(trained.test.frame)[-1]
    rows = [r for r in whole.to_pylist() if (r["user_id"], r["ds"]) == at]
    assert rows[0]["score"] == expected
    assert score(engine, ref, "(from people limit 0)").num_rows == 0
    assert not load(ref).spec.mismatch(engine, "people").any
    engine.run("create or replace table bare as select 'u' as user_id")
    with pytest.raises(UserError, match="none of its features"):
        score(engine, ref, "bare")


def _open(home, results):
    opened = client(load_settings(home))
    results.put(len(opened.search_experiments()))


def test_processes_that_start_at_once_share_one_new_database(tmp_path):
    """Guards against two first runs racing to create the tracking database."""
    results = multiprocessing.get_context("forkserver").Queue()
    started = [ready_process(_open, tmp_path / "home", results) for _ in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join(PATIENCE)
    assert [process.exitcode for process in started] == [0, 0]
    assert [results.get(timeout=PATIENCE) for _ in started] == [1, 1]


def test_a_version_whose_files_are_gone_can_be_made_anew(world, tmp_path):
    """Guards against a cleaned artifact folder that ends the very training it asks for."""
    import shutil

    settings, engine, trained, ref = world
    folder = settings.home / "mlflow" / "artifacts" / "churn" / ref.run_id
    shutil.move(folder, tmp_path / "away")
    try:
        for read in (load, read_artifacts):
            with pytest.raises(UserError, match="train again"):
                read(ref)
        again = register(engine, "churn_training", trained, settings)
        assert (again.status, again.fingerprint) == ("waiting_review", ref.fingerprint)
        assert (
            "are gone from MLflow or were altered, so the two could not be compared" in again.held
        )
        assert again.version > ref.version and load(again).spec == trained.spec
        assert register(engine, "churn_training", trained, settings) == again
    finally:
        shutil.move(tmp_path / "away", folder)


def test_a_store_that_cannot_be_read_is_no_missing_file(world, monkeypatch):
    """Guards against a version that is approved unseen while the artifact store is down."""
    from mlflow.exceptions import MlflowException

    settings, engine, trained, ref = world
    other = replace(trained, fingerprint="not made yet")
    made = type(client(settings))

    def down(*_, **__):
        raise MlflowException("503")

    before = versions(settings, "churn")
    monkeypatch.setattr(made, "download_artifacts", down)
    with pytest.raises(UserError, match="artifact store cannot be read"):
        register(engine, "churn_training", other, settings)
    with pytest.raises(UserError, match="artifact store cannot be read"):
        find_fingerprint(settings, "churn", ref.fingerprint)
    assert versions(settings, "churn") == before
