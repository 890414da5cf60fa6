"""A word that is cut short, overtaken, or given half by half, on a real MLflow in SQLite."""

import logging

import pytest
from registered import LABEL, OTHER, learned

from usergrowth_dagster.learning import reviewing
from usergrowth_dagster.learning.reviewing import (
    get_version,
    newest_model,
    review,
    settle,
    taken_back,
)
from usergrowth_dagster.learning.store import set_alias, versions

LATE = learned(9)


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


def stop_before(monkeypatch, made, method, number):
    """Let the client's method work so many times, then be killed."""
    real, calls = getattr(type(made), method), []

    def once(self, *arguments, **named):
        calls.append(1)
        if len(calls) > number:
            raise Killed
        return real(self, *arguments, **named)

    monkeypatch.setattr(type(made), method, once)


@pytest.mark.parametrize("written", range(6))
@pytest.mark.parametrize("approve", [True, False])
def test_a_word_cut_short_holds_or_was_not_given(registry, monkeypatch, written, approve):
    """A rejection that is killed half-way becomes a person's approval."""
    settings, made, name, add = registry
    add("waiting_review" if approve else "approved")
    with monkeypatch.context() as cut:
        stop_before(cut, made, "set_model_version_tag", written)
        try:
            review(settings, name, 1, approve=approve, actor="ann", why="bad")
        except Killed:
            assert written < 5
    given = written > 0
    ref = newest_model(settings, name, LABEL, LATE, reviewed=True)
    assert (ref is not None) == (approve and given)
    if not approve:
        assert (newest_model(settings, name, LABEL, LATE) is None) == given
    assert settle(settings, name) == []
    review(settings, name, 1, approve=approve, actor="ann", why="bad")
    ref = newest_model(settings, name, LABEL, LATE, reviewed=True)
    assert (ref is not None) == approve


def test_a_look_that_is_overtaken_by_a_command_changes_nothing(registry, monkeypatch):
    """A half-written rejection, seen by another process, is undone by what that one has read."""
    settings, made, name, add = registry
    add()
    made.set_model_version_tag(name, "1", "status", "rejected")
    real = reviewing.only_one
    late = {"reviewed_by": "ann", "why": "bad", "settled": "rejected"}

    def waits(of):
        while late:  # the command ends while this one waits for the lock
            key, value = late.popitem()
            made.set_model_version_tag(name, "1", key, value)
        return real(of)

    monkeypatch.setattr(reviewing, "only_one", waits)
    assert settle(settings, name) == []
    ref = get_version(settings, name, 1)
    assert (ref.status, ref.reviewed_by, ref.why) == ("rejected", "ann", "bad")


def test_the_alias_shows_who_scores_among_versions_of_one_day(registry):
    """An alias on a version that does not score, since another one learned the same days."""
    settings, made, name, add = registry
    for _ in range(2):
        add(day=learned(1))
    review(settings, name, 1, approve=True, actor="ann")
    scoring = newest_model(settings, name, LABEL, LATE)
    assert scoring.version == 2
    assert int(made.get_model_version_by_alias(name, "champion").version) == 2


@pytest.mark.parametrize("written", [0, 1])
def test_an_alias_cut_short_is_nobodys_word(registry, monkeypatch, written):
    """Versions that are retired because the product was killed while it moved the alias."""
    settings, made, name, add = registry
    add()
    add()
    first = get_version(settings, name, 1)
    with monkeypatch.context() as cut:
        stop_before(cut, made, "set_registered_model_tag", written)
        with pytest.raises(Killed):
            set_alias(made, first)
    assert settle(settings, name) == []
    assert [ref.status for ref in versions(settings, name)] == ["approved", "approved"]


def test_the_alias_moved_to_what_the_gates_approved_is_a_word(registry):
    """A campaign that wants a review goes on waiting for a version that a person has chosen."""
    settings, made, name, add = registry
    add()
    add()
    assert newest_model(settings, name, LABEL, LATE, reviewed=True) is None
    made.set_registered_model_alias(name, "champion", "1")
    assert newest_model(settings, name, LABEL, LATE, reviewed=True).version == 1
    add("waiting_review")
    review(settings, name, 3, approve=False, actor="ann", why="worse")
    assert taken_back(settings, name, LABEL).version == 3
    add(label=OTHER)
    made.set_registered_model_alias(name, "champion", "1")
    assert settle(settings, name) and taken_back(settings, name, LABEL) is None


def test_tags_deleted_in_mlflow_end_no_command(registry, caplog):
    """A click in MLflow's pages after which every command ends in a traceback."""
    settings, made, name, add = registry
    add()
    add()
    made.delete_model_version_tag(name, "2", "status")
    assert newest_model(settings, name, LABEL, LATE).version == 1
    assert get_version(settings, name, 2).status == "missing"
    review(settings, name, 2, approve=True, actor="ann")
    assert newest_model(settings, name, LABEL, LATE).version == 2
    made.delete_model_version_tag(name, "2", "champion")
    with caplog.at_level(logging.WARNING):
        assert newest_model(settings, name, LABEL, LATE).version == 1
    assert "version 2 lacks the tag champion" in caplog.text
