"""A preview shows what is true now: what was sent is sent, what is too late expires."""

from pathlib import Path
from typing import Any

from chain_world import D, World, copy_home

from usergrowth_dagster.cli.pages.preview import show_preview
from usergrowth_dagster.control.tasks import task as one_task
from usergrowth_dagster.explain.preview import _problems, preview_task
from usergrowth_dagster.messaging.schedules.occurrences import find_occurrence
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.views.preview import view_preview


class Recorder:
    """A page that keeps what it is given."""

    def __init__(self, said: list[str], tables: list[Any]) -> None:
        self.say = said.append
        self.tables = tables

    def table(self, *table: Any) -> None:
        self.tables.append(table)


def test_sent_and_too_late(world: World, tmp_path: Path, here: None) -> None:
    """A preview promises texts to people who got theirs, or to people whose time has passed."""
    home = copy_home(world.decided, tmp_path / "home")
    project = Project(load_settings(home))
    said: list[str] = []
    tables: list[Any] = []
    previewed = preview_task(project, one_task(project.store, "care"), 2)
    show_preview(view_preview(project, previewed), Recorder(said, tables))
    assert "Now: 40 sent" in said and "Nobody gets a text of it any more." in said
    assert any("40 of 40 people were planned to get 40 messages" in line for line in said)
    # planned years later, every text of it would expire
    opened = find_occurrence(project.store, previewed.task)
    assert opened is not None and _problems(project, previewed.task, opened) == []
    late = Project(load_settings(home, today="2026-01-01"))
    (problem,) = _problems(late, previewed.task, opened)
    assert "every one expires at once" in problem
    assert f"run --date {D} --rehearse" in problem
    for one in (project, late):
        one.store.close()
