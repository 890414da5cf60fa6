"""Replays of decisions, as a page or as JSON."""

from pathlib import Path
from typing import TYPE_CHECKING

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.explain.replay import Replayed, decided_tasks, replay_task
from usergrowth_dagster.homes.home import open_home
from usergrowth_dagster.project import Project

if TYPE_CHECKING:
    from usergrowth_dagster.commands.show import Say, Shows, ShowTable


def replay(
    home: Path | None,
    task_id: str | None,
    *,
    every: bool,
    page: "Shows",
) -> list[str]:
    """Replay one task's decisions, or those of all tasks.

    Returns:
        A sentence for each that is not equal.

    Raises:
        UserError: no such task, or both or neither of a task and all were asked for.
    """
    if every == (task_id is not None):
        raise UserError("replay: name a task, or give --all", code="command.invalid")
    project = Project(open_home(home))
    names = list(decided_tasks(project)) if task_id is None else [task_id]
    replayed = []
    for name in names:
        for one in replay_task(project, name):
            replayed.append(one)
            _show(one, task_id is not None, page.say, page.table)
    page.document(replayed)
    if not replayed:
        page.say("nothing has been decided yet")
    return [one.sentence for one in replayed if one.state != "equal"]


def _show(replayed: Replayed, whole: bool, say: "Say", table: "ShowTable") -> None:
    if whole and replayed.checks:
        lines = [(check.part, check.state, check.detail) for check in replayed.checks]
        table("", ("made from", "now", ""), lines)
    if replayed.state == "equal":
        say(f"{replayed.sentence}.")
