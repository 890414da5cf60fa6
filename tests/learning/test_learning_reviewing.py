"""A person's word on versions: by command, by tag and by alias, on a real MLflow in SQLite."""

from datetime import timedelta

import pytest
from registered import LABEL, OTHER, learned

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.reviewing import (
    IN_MLFLOW,
    get_version,
    newest_model,
    review,
    rollback,
    settle,
    taken_back,
    waiting_model,
)
from usergrowth_dagster.learning.store import add_version, experiment


def scores(settings, name, day, label=LABEL):
    ref = newest_model(settings, name, label, day)
    return ref.version if ref else None


def champion(made, name):
    return int(made.get_model_version_by_alias(name, "champion").version)


def test_a_rollback_changes_who_scores_later_dates_and_no_earlier_one(registry):
    """Guards against a bad version that goes on scoring, and a history that changes with it."""
    settings, made, name, add = registry
    for _ in range(3):
        add()
    late, early = learned(9), learned(2) + timedelta(days=1)
    assert (scores(settings, name, late), scores(settings, name, early)) == (3, 2)
    assert champion(made, name) == 3
    with pytest.raises(UserError, match="needs a reason"):
        rollback(settings, name, actor="ann", why=" ")
    change, heir = rollback(settings, name, actor="ann", why="sold out")
    assert (change.was, change.ref.status, change.ref.version, heir.version) == (
        *("approved", "retired"),
        *(3, 2),
    )
    assert (change.ref.reviewed_by, change.ref.why) == ("ann", "sold out")
    assert (scores(settings, name, late), scores(settings, name, early)) == (2, 2)
    assert scores(settings, name, learned(2)) == 1, "a backfill keeps its model"
    assert champion(made, name) == 2
    with pytest.raises(UserError, match="is retired"):
        rollback(settings, name, 3, actor="ann", why="again")
    rollback(settings, name, 2, actor="ann", why="too")
    with pytest.raises(UserError, match="nothing could take over"):
        rollback(settings, name, 1, actor="ann", why="and too")
    with pytest.raises(UserError, match="sold out"):
        review(settings, name, 3, approve=True, actor="ann")
    review(settings, name, 3, approve=True, actor="ann", why="back in stock")
    assert scores(settings, name, late) == 3 == champion(made, name)


def test_what_the_gates_rejected_needs_a_reason_to_score(registry):
    """Guards against gates that one keystroke overrules without a trace."""
    settings, _, name, add = registry
    add()
    add("rejected", gates="leakage failed; champion passed")
    with pytest.raises(UserError, match=r"gate leakage failed.*--why"):
        review(settings, name, 2, approve=True, actor="ann")
    assert scores(settings, name, learned(5)) == 1
    change = review(settings, name, 2, approve=True, actor="ann", why="the column is known")
    assert (change.was, change.ref.failed_gates) == ("rejected", ["leakage"])
    assert scores(settings, name, learned(5)) == 2
    with pytest.raises(UserError, match="needs a reason"):
        review(settings, name, 2, approve=False, actor="ann")
    review(settings, name, 2, approve=False, actor="ann", why="it was not")
    assert scores(settings, name, learned(5)) == 1
    with pytest.raises(UserError, match="no version 7"):
        get_version(settings, name, 7)


def test_a_tag_set_in_mlflow_is_a_persons_word(registry):
    """Guards against pages of MLflow that show one state while another one scores."""
    settings, made, name, add = registry
    add()
    waiting = add("waiting_review")
    assert waiting_model(settings, name, LABEL, learned(9)) == waiting
    assert waiting_model(settings, name, LABEL, learned(2)) is None
    assert newest_model(settings, name, LABEL, learned(9), reviewed=True) is None
    made.set_model_version_tag(name, "2", "why", "looked at it")
    made.set_model_version_tag(name, "2", "status", "Approved")
    (change,) = settle(settings, name)
    assert (change.was, change.ref.status) == ("waiting_review", "approved")
    assert (change.ref.reviewed_by, change.ref.why) == (IN_MLFLOW, "looked at it")
    assert settle(settings, name) == [], "it is reported once"
    assert scores(settings, name, learned(9)) == 2 == champion(made, name)
    assert newest_model(settings, name, LABEL, learned(9), reviewed=True).version == 2
    made.set_model_version_tag(name, "2", "status", "rejected")
    assert scores(settings, name, learned(9)) == 1 == champion(made, name)
    made.set_model_version_tag(name, "1", "status", "whatever")
    assert scores(settings, name, learned(9)) is None, "a word that is none approves nothing"


def test_moving_the_alias_in_mlflow_means_that_this_one_scores(registry):
    """Guards against an alias that is a picture only, and one that the next look moves back."""
    settings, made, name, add = registry
    for status in ("approved", "waiting_review", "approved", "approved"):
        add(status)
    add(label=OTHER)
    assert champion(made, name) == 5, "the newest of all labels"
    made.set_registered_model_alias(name, "champion", "2")
    assert scores(settings, name, learned(9)) == 2
    statuses = {r: get_version(settings, name, r).status for r in (1, 2, 3, 4, 5)}
    assert statuses == {1: "approved", 2: "approved", 3: "retired", 4: "retired", 5: "approved"}
    assert "moved to version 2" in get_version(settings, name, 4).why
    assert champion(made, name) == 2 and settle(settings, name) == []
    assert scores(settings, name, learned(9), OTHER) == 5, "another label is another question"
    assert scores(settings, name, learned(2)) == 1, "a backfill keeps its model"
    made.set_registered_model_alias(name, "champion", "3")
    assert scores(settings, name, learned(9)) == 3
    assert add().version == scores(settings, name, learned(9)) == champion(made, name) == 6
    made.delete_registered_model_alias(name, "champion")
    assert scores(settings, name, learned(9)) == 6


def test_two_labels_make_a_bare_rollback_ask_which(registry):
    """Guards against rolling back the model of another campaign."""
    settings, _, name, add = registry
    with pytest.raises(UserError, match="no version is approved"):
        rollback(settings, name, actor="ann", why="x")
    for label in (LABEL, LABEL, OTHER, OTHER):
        add(label=label)
    with pytest.raises(UserError, match="versions 2, 4 score for different labels"):
        rollback(settings, name, actor="ann", why="x")
    change, heir = rollback(settings, name, 2, actor="ann", why="x")
    assert (change.ref.version, heir.version) == (2, 1)
    assert scores(settings, name, learned(9), OTHER) == 4


def taken_back_version(settings, name, label=LABEL):
    ref = taken_back(settings, name, label)
    return ref.version if ref else None


def test_what_a_person_took_back_stays_so_until_a_person_approves(registry):
    """Guards against a rejection that the next training undoes, and a hold that nobody can end."""
    settings, _, name, add = registry
    for status in ("approved", "approved", "rejected"):
        add(status, gates="leakage failed" if status == "rejected" else "leakage passed")
    add(label=OTHER)
    assert taken_back_version(settings, name) is None, "the gates' own verdicts hold nothing back"
    rollback(settings, name, 2, actor="ann", why="sold out")
    assert (taken_back_version(settings, name), taken_back_version(settings, name, OTHER)) == (
        2,
        None,
    )
    assert scores(settings, name, learned(9)) == 1, "the version before scores on"
    review(settings, name, 1, approve=True, actor="ann")
    assert taken_back_version(settings, name) is None
    review(settings, name, 2, approve=False, actor="bob", why="worse")
    assert taken_back_version(settings, name) == 2 and scores(settings, name, learned(9)) == 1
    waits = add("waiting_review")
    review(settings, name, waits.version, approve=False, actor="bob", why="no better")
    assert taken_back_version(settings, name) == waits.version
    assert review(settings, name, 1, approve=True, actor="ann").how == "command"
    assert taken_back_version(settings, name) is None, "an approval repeated after it is a word too"
    assert review(settings, name, 1, approve=True, actor="ann").how == "unchanged"


def test_the_gates_alone_approve_nothing_after_a_rejection(registry):
    """Guards against a status that forgets a person's word, or that lets a failed gate wait."""
    from usergrowth_dagster.learning.config import TrainingConfig
    from usergrowth_dagster.learning.gates import Gate
    from usergrowth_dagster.learning.registry import decide

    settings, made, _, _ = registry
    config = TrainingConfig(algorithm="churn", churn_days=28)
    run = made.create_run(experiment(made, settings, "reviewing"))
    days = ("last_label_day", "fit_last_label_day", "execution_date")
    tags = dict.fromkeys(days, learned(1).isoformat()) | {"fingerprint": "f", "champion": "x"}
    tags |= {"config_hash": config.config_hash(), "status": "approved"}
    ref = add_version(made, settings, "churn", run.info.run_id, tags)
    good, bad = Gate("leakage", True, ""), Gate("leakage", False, "")
    assert decide([good], config, settings)[0] == "approved"
    review(settings, "churn", ref.version, approve=False, actor="ann", why="calls everybody")
    status, verdict = decide([good], config, settings)
    assert status == verdict["status"] == "waiting_review"
    assert verdict["held"] == f"version {ref.version} was rejected by ann: calls everybody"
    assert decide([bad], config, settings)[0] == "rejected"
    other = TrainingConfig(**config.model_dump() | {"churn_days": 14})
    assert decide([good], other, settings)[0] == "approved", "another label is another question"


def test_an_alias_moved_back_in_mlflow_holds_as_a_rollback_does(registry):
    """Guards against a word in MLflow's pages that lasts until the next morning only."""
    settings, made, name, add = registry
    for status in ("approved", "approved", "waiting_review"):
        add(status)
    made.set_registered_model_alias(name, "champion", "1")
    assert taken_back_version(settings, name) == 2 and scores(settings, name, learned(9)) == 1
    made.set_registered_model_alias(name, "champion", "3")
    assert taken_back_version(settings, name) is None and scores(settings, name, learned(9)) == 3
