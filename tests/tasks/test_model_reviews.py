"""A campaign that requires a review waits for it, and says which version and how to approve it."""

import json
from pathlib import Path

import pytest
from chain_world import (
    D,
    cli,
    day,
    errors,
    succeeded,
    write_campaign,
    write_people,
)

from usergrowth_dagster.campaigns.files import apply_files
from usergrowth_dagster.control.audit import entries
from usergrowth_dagster.control.tasks import all_tasks
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.pipeline.score import scoring_model
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.training.models import serving_columns
from usergrowth_dagster.training.train import train_all
from usergrowth_dagster.views.status import read_status

APPROVE = "usergrowth models approve churn 1"


def _task(project, campaign):
    return next(t for t in all_tasks(project.store) if t.campaign == campaign)


def _reviews(project):
    waiting = read_status(project).waiting
    assert waiting is not None
    return [(one.campaign, one.model, one.version, one.approval) for one in waiting]


def test_a_campaign_that_requires_a_review_waits_and_names_the_command(home: Path, here) -> None:
    """Guards against a model nobody looked at scoring for a campaign that asked for a look."""
    from usergrowth_dagster.defs.learning_assets import _review_check

    path = write_campaign(home, "vip", training="{window_days: 60, require_review: true}")
    write_people(home, "vip")
    project = Project(load_settings(home))
    list(apply_files(project, [path], "tests"))
    vip, care = _task(project, "vip"), _task(project, "care")
    with pytest.raises(UserError, match="churn version 1 waits for review") as refused:
        scoring_model(project, vip)
    assert APPROVE in str(refused.value) and "campaign 'vip'" in str(refused.value)
    assert scoring_model(project, care).version == 1, "the others go on"
    assert _reviews(project) == [("vip", "churn", 1, APPROVE)]
    trainings = train_all(project, "churn", D, only_missing=True)
    assert all(t.registered.reused for t in trainings), "no new version a day while one waits"
    check = _review_check(trainings)
    assert not check.passed and APPROVE in str(check.metadata["sentence"].value)

    assert "version 1 is approved" in succeeded(cli(home, "models", "approve", "churn", "1"))
    assert scoring_model(project, vip).version == 1
    assert _reviews(project) == []
    assert _review_check(train_all(project, "churn", D, only_missing=True)).passed
    (entry,) = entries(project.store, action="model")
    assert (entry.subject, "@" in entry.actor) == ("churn version 1", True)


def test_the_commands_say_what_scores_and_why(home: Path) -> None:
    """Guards against verdicts without a trace, and lists that hide who scores."""
    listed = json.loads(succeeded(cli(home, "models", "list", "churn", "--json")))
    assert [(m["version"], m["status"], m["scores_today"]) for m in listed] == [
        (1, "approved", True)
    ]
    card = succeeded(cli(home, "models", "show", "churn", "1"))
    for section in ("# Model card: churn", "## Gates", "## For whom", "## Drift", "## Limits"):
        assert section in card, section
    assert "999" not in card.replace("0.999", "")
    shown = json.loads(succeeded(cli(home, "models", "show", "churn", "1", "--json")))
    assert {g["name"] for g in shown["summary"]["gates"]} >= {"leakage", "positives", "features"}
    sentence = errors(cli(home, "models", "rollback", "churn", "7", "--why", "x"))[0]
    assert "no version 7; known are [1]" in sentence
    sentence = errors(cli(home, "models", "rollback", "churn", "--why", "worse"))[0]
    assert "nothing could take over" in sentence and "models reject churn 1" in sentence
    said = succeeded(cli(home, "models", "reject", "churn", "1", "--why", "worse"))
    assert "No version scores its label" in said
    assert "worse" in errors(cli(home, "models", "approve", "churn", "1"))[0]
    project = Project(load_settings(home))
    with pytest.raises(UserError, match=r"version 1 is rejected \(worse\)"):
        scoring_model(project, _task(project, "care"))
    (entry,) = entries(project.store, action="model")
    assert entry.detail == "approved → rejected: worse"


def test_a_word_given_in_mlflow_is_in_the_audit_log(home: Path, here) -> None:
    """Guards against a change that decides who is texted and that nobody can find later."""
    from usergrowth_dagster.learning.store import client

    project = Project(load_settings(home))
    made = client(project.settings)
    made.set_model_version_tag("churn", "1", "status", "rejected")
    with pytest.raises(UserError, match="version 1 is rejected"):
        scoring_model(project, _task(project, "care"))
    (entry,) = entries(project.store, action="model")
    assert (entry.actor, entry.detail) == (
        "MLflow",
        "approved → rejected, tag status was set in MLflow",
    )


def test_what_a_version_takes_is_what_people_are_scored_from(home: Path) -> None:
    """Guards against a gate that compares with other tables than the ones that are scored."""
    from usergrowth_dagster.learning.artifacts import load
    from usergrowth_dagster.learning.store import versions

    project = Project(load_settings(home))
    for name in ("churn", "winback"):
        spec = load(versions(project.settings, name)[-1]).spec
        assert {f.column for f in spec.features} <= set(serving_columns(f"{name}_training"))


def test_the_training_after_a_rejection_waits_for_a_person(home: Path, here) -> None:
    """Guards against a run that brings back what a person rejected, and texts by it."""
    from usergrowth_dagster.defs.learning_assets import _review_check

    said = succeeded(cli(home, "models", "reject", "churn", "1", "--why", "calls everybody"))
    assert "next versions wait until a person approves one" in said
    path = write_campaign(home, "vip")
    write_people(home, "vip")
    project = Project(load_settings(home))
    list(apply_files(project, [path], "tests"))
    asked = [t.asked_by for t in train_all(project, "churn", D, only_missing=True)]
    assert asked == [("vip",)], "nothing is trained for a task whose send plan is made"
    (training,) = train_all(project, "churn", day(7))
    ref = training.registered.ref
    assert (ref.version, ref.status) == (2, "waiting_review")
    assert "version 1 was rejected by" in ref.held and "calls everybody" in ref.held
    approve = "usergrowth models approve churn 2"
    with pytest.raises(
        UserError, match=r"version 1 was rejected by .*: calls everybody"
    ) as refused:
        scoring_model(project, _task(project, "vip"))
    assert approve in str(refused.value)
    assert ("vip", "churn", 2, approve) in _reviews(project)
    assert approve in _training_note(project, "vip")
    assert approve in str(_review_check([training]).metadata["sentence"].value)
    assert approve in succeeded(cli(home, "models", "show", "churn", "2"))
    again = train_all(project, "churn", D, only_missing=True)
    assert [t.registered.ref.version for t in again] == [2], "no new version a day while one waits"

    succeeded(cli(home, "models", "approve", "churn", "2"))
    assert scoring_model(project, _task(project, "vip")).version == 2
    said = succeeded(cli(home, "models", "reject", "churn", "2", "--why", "no"))
    assert "No version scores its label" in said


def _training_note(project, campaign):
    """What the history of a campaign's training job says last."""
    from sqlalchemy import select

    from usergrowth_dagster.control import schema
    from usergrowth_dagster.control.codes import Kind

    with project.store.read() as connection:
        job = schema.training_job
        job_id = connection.scalar(select(job.c.id).where(job.c.name == f"{campaign}-training"))
    return project.store.history(Kind.TRAINING_JOB, job_id)[-1].note
