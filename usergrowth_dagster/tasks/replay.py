"""Rebuild a decision from what it was made from, and compare it with what was decided.

Every input is looked at in the order in which it went in (:data:`PARTS`); scores are made again by
the version that scored. Then the rows are decided anew by the present code. A decision is replayed
when the hash of the rebuilt rows, and that of the rows that stand in the table, are the hash that
its commit wrote down, and no input is another one.
"""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal

from usergrowth_dagster.audience.records import TABLE
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.tasks.pinned import bind_pinned, pinned_project, pinned_task
from usergrowth_dagster.tasks.pins import Pins, read_pins
from usergrowth_dagster.tasks.project import Project
from usergrowth_dagster.tasks.replay_checks import (
    PARTS,
    Check,
    decide_again,
    decision_checks,
    file_checks,
    mark_checks,
    model_checks,
    score_check,
)
from usergrowth_dagster.warehouse.engine import open_engine

if TYPE_CHECKING:
    from usergrowth_dagster.learning.store import ModelRef


@dataclass(frozen=True)
class Replayed:
    """What came of replaying one decision.

    ``state`` is ``equal``, ``different``, ``gone`` (an input is no longer there) or ``unpinned``
    (it was decided before decisions kept their inputs); ``first`` is the first part that differs.
    """

    task_id: str
    execution_date: date
    state: Literal["equal", "different", "gone", "unpinned"]
    sentence: str
    first: str | None = None
    rows: int | None = None
    decided_hash: str | None = None
    replayed_hash: str | None = None
    checks: tuple[Check, ...] = ()


def decided_tasks(project: Project) -> dict[str, list[date]]:
    """Every task with a decision, and the dates of its decisions."""
    state = project.warehouse.state(TABLE)
    found: dict[str, set[date]] = {}
    for file in state.files if state is not None else ():
        found.setdefault(file.partition["task_id"], set()).add(file.day)
    return {name: sorted(days) for name, days in sorted(found.items())}


def replay_task(project: Project, task_id: str) -> list[Replayed]:
    """Replay each decision of a task that stands, oldest first.

    Raises:
        UserError: the task has no decision.
    """
    decided = decided_tasks(project)
    if task_id not in decided:
        names = ", ".join(decided) or "none"
        raise UserError(
            f"task {task_id!r} has no decision to replay; tasks with one: {names}",
            code="task.undecided",
        )
    pins = read_pins(project.warehouse, task_id)
    return [
        replay(project, pins[day]) if day in pins else _unpinned(task_id, day)
        for day in decided[task_id]
    ]


def replay(project: Project, pins: Pins) -> Replayed:
    """Replay one decision."""
    models: dict[str, ModelRef] = {}
    checks = [*file_checks(project, pins), *model_checks(project, pins, models)]
    rebuilt = None
    if not any(check.bad for check in checks):
        scored = pinned_project(project, pins, as_scored=True)
        checks.append(score_check(scored, pinned_project(project, pins), pins, models))
    if not any(check.state == "gone" for check in checks):
        then, task = pinned_project(project, pins), pinned_task(pins)
        with open_engine(then.settings) as engine:
            bind_pinned(engine, then, task)
            rebuilt = decide_again(engine, then, task, pins)
            checks += mark_checks(engine, then, task, pins)
            checks += decision_checks(engine, project, pins, rebuilt)
    checks.sort(key=lambda check: PARTS.index(check.part))
    return _judged(pins, tuple(checks), rebuilt)


def _unpinned(task_id: str, day: date) -> Replayed:
    return Replayed(
        task_id,
        day,
        "unpinned",
        f"task {task_id} of {day} cannot be replayed: it was decided before decisions kept what "
        "they were made from",
    )


def _judged(pins: Pins, checks: tuple[Check, ...], rebuilt: str | None) -> Replayed:
    named = f"task {pins.task_id} of {pins.execution_date}"
    first = next((check for check in checks if check.bad), None)
    if first is None:
        code = next((c.detail for c in checks if c.part == "code"), "")
        sentence = f"{named}: equal; {pins.rows} rows replayed to the hash {pins.hash}" + (
            f", by other code: {code}" if code else ""
        )
    elif first.state == "gone":
        sentence = f"{named} cannot be replayed, {first.part}: {first.detail}"
    else:
        same = " (the rows come out as decided all the same)" if rebuilt == pins.hash else ""
        if first.part == "decision":
            same = ""
        sentence = f"{named} differs, first in {first.part}: {first.detail}{same}"
    return Replayed(
        task_id=pins.task_id,
        execution_date=pins.execution_date,
        state="equal" if first is None else "gone" if first.state == "gone" else "different",
        sentence=sentence,
        first=first.part if first else None,
        rows=pins.rows,
        decided_hash=pins.hash,
        replayed_hash=rebuilt,
        checks=checks,
    )
