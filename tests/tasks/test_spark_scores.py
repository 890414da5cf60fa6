"""Scores that Spark makes are those of this process."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from chain_world import write_people
from test_score_effects import add_effects, campaign

from usergrowth_dagster.control.tasks import Task, task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.explain.replay import replay_task
from usergrowth_dagster.learning.artifacts import load
from usergrowth_dagster.pipeline.decide import decide_task
from usergrowth_dagster.pipeline.populate import load_population
from usergrowth_dagster.pipeline.score import score_task, scoring_model
from usergrowth_dagster.pipeline.scoring_rows import bind_population, bind_scoring_rows
from usergrowth_dagster.pipeline.spark_scores import row_scorer, sent
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.training.train import training_config
from usergrowth_dagster.warehouse.engine import open_engine

pytest.importorskip("pysail", reason="the extra spark is not installed")


def test_spark_scores_as_this_process_does(home: Path, tmp_path: Path) -> None:
    """Guards against scores that depend on the engine, and against values new to a model that
    nobody counts where the rows are scored by workers."""
    project = campaign(home, "{top_n: 60}")
    add_effects(project, tmp_path)
    on_spark = Project(load_settings(home, engine="spark"))
    spring = task(project.store, "spring")
    assert (refusal := refused_by(on_spark, spring)) == refused_by(project, spring)
    assert "values in" in refusal and "are new to it" in refusal

    scores = score_task(on_spark, spring)
    assert scores.scored > 100 and scores.uplift_version == "1" and not scores.unchanged
    assert score_task(project, spring).unchanged
    decide_task(project, spring)
    (replayed,) = replay_task(project, "spring")
    checks = [one for one in replayed.checks if one.part == "scores"]
    assert {one.state for one in checks} == {"same"}, checks
    assert any("equal to the last digit" in one.detail for one in checks), checks


def refused_by(project: Project, spring: Task) -> str:
    """What is said of rows whose maps have keys that the model has never seen."""
    model = load(scoring_model(project, spring))
    spec = model.spec.model_copy(update={"keys": dict.fromkeys(model.spec.keys, ())})
    config = training_config(project, spring.spec)
    with open_engine(project.settings) as engine:
        population = bind_population(engine, project, spring)
        rows = bind_scoring_rows(engine, project, spring, population, config)
        scorer = row_scorer(project, spring, rows, pairs=config.problem.pairs)
        with pytest.raises(UserError) as refused:
            scorer(engine, replace(model, spec=spec), str(rows.response), max_unseen_share=0.9)
    return str(refused.value)


def test_rows_that_change_meanwhile_are_not_scored(home: Path, tmp_path: Path) -> None:
    """Guards against scores of one population under the mark of another."""
    project = campaign(home, "{top_n: 60}")
    spring = task(project.store, "spring")
    config = training_config(project, spring.spec)
    on_spark = Project(load_settings(home, engine="spark"))
    with open_engine(project.settings) as engine:
        population = bind_population(engine, on_spark, spring)
        rows = bind_scoring_rows(engine, on_spark, spring, population, config)
        scorer = row_scorer(on_spark, spring, rows, pairs=config.problem.pairs)
        people = home / "landing" / "population" / "spring" / "population.csv"
        write_people(home, "spring", people.read_text("utf-8").splitlines()[:-1])
        load_population(project, spring)
        model = scoring_model(project, spring)
        with pytest.raises(UserError, match=r"population of .* was written while spring was"):
            scorer(engine, model, str(rows.response), max_unseen_share=1.0)


def test_workers_do_not_get_the_address_of_mlflow(home: Path) -> None:
    """Guards against the password of MLflow's database on every machine of a cluster."""
    project = Project(load_settings(home))
    model = load(scoring_model(project, task(project.store, "care")))
    address = model.ref.tracking_uri.encode()
    assert address in pickle.dumps(model) and address not in pickle.dumps(sent(model, 0.0))
