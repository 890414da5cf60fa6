"""Throwing a plan away from the command line."""

from pathlib import Path

from usergrowth_dagster.control.audit import whoami
from usergrowth_dagster.control.tasks import task as one_task
from usergrowth_dagster.homes.home import open_home
from usergrowth_dagster.pipeline.redecide import redecide
from usergrowth_dagster.project import Project


def redecide_task(home: Path | None, task_id: str, why: str) -> list[str]:
    """Throw a task's send plan away; what it held, and what to do next.

    Raises:
        UserError: no such task or plan, no reason, or a message of it may have gone out.
    """
    project = Project(open_home(home))
    done = redecide(project, task_id, whoami(), why)
    people = ", ".join(f"{rows:,} {what}" for what, rows in done.people.items()) or "nobody"
    day = one_task(project.store, task_id).execution_date
    lines = [
        f"task {task_id!r}: its send plan is thrown away ({people}); nobody was ever texted by it",
        f"usergrowth run --date {day} decides it again",
    ]
    if day < project.settings.current_date():
        lines.append(
            f"{day} has passed: to text these people, give the campaign a later execution_date "
            "and apply it first, or its texts expire again"
        )
    return lines
