"""Which model files a home scores by: those whose digest its control database has on record."""

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from chain_world import World, copy_home

from usergrowth_dagster.control.audit import entries
from usergrowth_dagster.control.model_digests import read_digest
from usergrowth_dagster.control.tasks import task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.artifacts import model_digest
from usergrowth_dagster.learning.store import DIGEST, ModelRef, add_version, client, versions
from usergrowth_dagster.pipeline.score import make_scores, scoring_model
from usergrowth_dagster.pipeline.scoring_rows import bind_population, bind_scoring_rows
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.training.reviews import review_version
from usergrowth_dagster.training.train import training_config
from usergrowth_dagster.warehouse.engine import open_engine


@pytest.fixture
def project(world: World, tmp_path: Path) -> Project:
    return Project(load_settings(copy_home(world.decided, tmp_path / "home")))


def model_folder(project: Project, ref: ModelRef) -> Path:
    uri = client(project.settings).get_run(ref.run_id).info.artifact_uri
    return Path(unquote(urlsplit(uri).path)) / "model"


def scores(project: Project) -> int:
    """Score the churn task anew, and count."""
    care = task(project.store, "care")
    model = scoring_model(project, care)
    with open_engine(project.settings) as engine:
        population = bind_population(engine, project, care)
        config = training_config(project, care.spec)
        rows = bind_scoring_rows(engine, project, care, population, config)
        made = make_scores(engine, project.settings, care, rows, model, None)
        return int(engine.value(f"select count(score) from {made.scores}"))


def test_files_and_tag_changed_together_are_still_refused(project: Project) -> None:
    """Guards against a digest that stands only where the files' editor can change it too."""
    (ref,) = versions(project.settings, "churn")
    assert ref.digest == read_digest(project.store, ref.run_id) != ""
    assert scores(project) > 0
    spec = model_folder(project, ref) / "feature_spec.json"
    spec.write_text(spec.read_text("utf-8") + " ", "utf-8")
    client(project.settings).set_model_version_tag("churn", "1", DIGEST, model_digest(ref))
    with pytest.raises(UserError, match=r"model churn version 1: its files are not those"):
        scores(project)


def test_a_home_from_before_goes_on_scoring_and_keeps_digests_from_then_on(
    project: Project,
) -> None:
    """Guards against an upgrade after which no version of a home scores."""
    (ref,) = versions(project.settings, "churn")
    made = client(project.settings)
    made.delete_model_version_tag("churn", "1", DIGEST)
    database = project.settings.home / "control.db"
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("delete from meta where name like 'model_digest%'")
    assert scores(project) > 0
    assert read_digest(project.store, ref.run_id) == ref.digest
    assert versions(project.settings, "churn")[0].digest == ref.digest
    assert "put on record as they are now" in entries(project.store, action="model")[-1].detail
    made.delete_model_version_tag("churn", "1", DIGEST)
    assert scores(project) > 0, "the tag is for people to read"


def test_a_version_made_by_hand_scores_once_a_person_approves_it_here(project: Project) -> None:
    """Guards against a version put into MLflow with an approved status that nobody here gave."""
    made = client(project.settings)
    (ref,) = versions(project.settings, "churn")
    run = made.create_run(made.get_run(ref.run_id).info.experiment_id)
    made.log_artifacts(run.info.run_id, str(model_folder(project, ref)), "model")
    tags = {**made.get_model_version("churn", "1").tags, "fingerprint": "by hand"}
    assert scores(project) > 0
    add_version(made, project.settings, "churn", run.info.run_id, tags)
    with pytest.raises(UserError, match=r"version 2: no digest .* models approve churn 2"):
        scores(project)
    review_version(project, "churn", 2, approve=True, actor="tests", why="ours")
    assert scores(project) > 0
