"""Campaign files and reviews."""

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from usergrowth_dagster.control.audit import whoami
from usergrowth_dagster.control.tasks import tasks_for
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.explain.nothing import late_tasks
from usergrowth_dagster.explain.text_notices import notices_of_texts, notices_of_uploads
from usergrowth_dagster.homes.home import open_home
from usergrowth_dagster.intake.uploads import move_tasks, register_uploads
from usergrowth_dagster.project import Project
from usergrowth_dagster.training.train import training_config

if TYPE_CHECKING:
    from usergrowth_dagster.control.campaign import CampaignSpec


def apply_files(home: Path | None, files: Sequence[Path]) -> Iterator[str]:
    """Apply campaign files; every file is checked before the first is applied.

    Raises:
        UserError: names the file, key path and rule; nothing is changed then.
    """
    from usergrowth_dagster.control.apply import apply_campaign
    from usergrowth_dagster.control.campaign import load_campaign
    from usergrowth_dagster.messaging.schedules.windows import check_audience_age
    from usergrowth_dagster.messaging.texts.content import check_content
    from usergrowth_dagster.messaging.texts.refusals import words_of

    project = Project(open_home(home))
    specs = []
    for path in files:
        spec = load_campaign(path)
        check_content(spec, str(path), project.settings.opt_out_texts, words_of(project.settings))
        training_config(project, spec)
        check_audience_age(project.settings, spec, str(path))
        _check_ever_decided(project, spec, str(path))
        specs.append((path, spec))
    for path, spec in specs:
        applied = apply_campaign(project.store, spec, whoami())
        changes = [f"created {name}" for name in applied.created]
        changes += [f"changed {change}" for change in applied.changed] + list(applied.notes)
        changes = [*(changes or ["nothing to change"]), *_tasks_of_date(project, spec)]
        yield f"{path}: {'; '.join(changes)}"
        for notice in (*notices_of_texts(spec), *notices_of_uploads(project, spec)):
            yield f"warning: {notice}"


def _check_ever_decided(project: Project, spec: "CampaignSpec", source: str) -> None:
    """Refuse a date that no run can decide.

    Raises:
        UserError: names the file, the key and the setting.
    """
    first = project.settings.start_date
    if isinstance(spec.execution_date, date) and spec.execution_date < first:
        raise UserError(
            f"{source}: execution_date: {spec.execution_date} is before the first execution date "
            f"{first} (setting start_date), so it would never be decided",
            code="date.out_of_range",
        )


def _tasks_of_date(project: Project, spec: "CampaignSpec") -> list[str]:
    """Make the tasks of the folders that match the population of a fixed date, and say it.

    Returns:
        Sentences: the tasks that were made, that no folder matches yet, and that the date has
        passed.
    """
    day = spec.execution_date
    if not isinstance(day, date):
        return []
    lines = []
    if spec.is_glob:
        made = register_uploads(project, day, campaign=spec.name, actor=whoami())
        lines += [f"created task {name!r}" for name in made.registered]
        lines += move_tasks(project, spec.name, day, whoami())
        if not any(task.campaign == spec.name for task in tasks_for(project.store, day)):
            lines.append(
                f"no folder matches {spec.population} yet; each that does becomes a task of {day}"
            )
    return lines + late_tasks(project, [day], campaign=spec.name)


def review_record(
    home: Path | None, kind: str, name: str, approve: bool, reason: str | None, again: bool
) -> str:
    """Approve, reject or reopen a signature or template; says how it stands."""
    from usergrowth_dagster.control.review import reopen, review
    from usergrowth_dagster.messaging.policy.checks import check_promise

    if kind not in ("signature", "template"):
        raise UserError(
            f"{kind!r}: only a signature or a template is reviewed", code="command.invalid"
        )
    project = Project(open_home(home))
    if again:
        status = reopen(project.store, kind, name, reason, whoami())
    else:
        if kind == "template" and approve:
            check_promise(project.store, project.settings, name)
        status = review(project.store, kind, name, approve, reason, whoami())
    return f"{kind} {name!r} is {status.name.lower()}"
