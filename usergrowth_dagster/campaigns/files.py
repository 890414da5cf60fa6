"""Applying campaign files: all are checked first, then each becomes a campaign with its tasks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import CampaignSpec, load_campaign
from usergrowth_dagster.control.tasks import tasks_for
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.explain.nothing import late_tasks
from usergrowth_dagster.explain.text_notices import notices_of_texts, notices_of_uploads
from usergrowth_dagster.intake.uploads import move_tasks, register_uploads
from usergrowth_dagster.messaging.schedules.windows import check_audience_age
from usergrowth_dagster.messaging.texts.content import check_content
from usergrowth_dagster.messaging.texts.refusals import words_of
from usergrowth_dagster.project import Project
from usergrowth_dagster.segments.files import read_by
from usergrowth_dagster.training.train import training_config


@dataclass(frozen=True)
class AppliedFile:
    """A campaign file that has been applied.

    ``changes`` are sentences about the campaign, its texts and its tasks, at least one; ``notices``
    are sentences about what would look odd in its texts.
    """

    file: Path
    changes: tuple[str, ...]
    notices: tuple[str, ...]


def apply_files(project: Project, files: Sequence[Path], actor: str) -> Iterator[AppliedFile]:
    """Apply campaign files; every file is checked before the first is applied.

    Args:
        project: the home.
        files: the campaign files.
        actor: who applies them, for the history of what changes.

    Yields:
        Each file as soon as it is applied.

    Raises:
        UserError: names the file, key path and rule; nothing is changed then.
    """
    specs = [(file, _checked(project, file)) for file in files]
    for file, spec in specs:
        applied = apply_campaign(project.store, spec, actor)
        changes = [f"created {name}" for name in applied.created]
        changes += [f"changed {change}" for change in applied.changed]
        changes += applied.notes
        yield AppliedFile(
            file,
            (*(changes or ["nothing to change"]), *_tasks_of_date(project, spec, actor)),
            (*notices_of_texts(spec), *notices_of_uploads(project, spec)),
        )


def _checked(project: Project, file: Path) -> CampaignSpec:
    """A campaign file's content.

    Raises:
        UserError: it is malformed, or cannot be decided or sent by the settings.
    """
    settings, spec = project.settings, load_campaign(file)
    check_content(spec, str(file), settings.opt_out_texts, words_of(settings), settings.link_domain)
    training_config(project, spec)
    check_audience_age(settings, spec, str(file))
    _check_ever_decided(settings.start_date, spec, str(file))
    _check_segment(settings.home, spec, str(file))
    return spec


def _check_segment(home: Path, spec: CampaignSpec, source: str) -> None:
    """Refuse a segment that is not there, or cannot be read.

    Raises:
        UserError: names the file, the key and the rule.
    """
    if spec.selection.segment is None:
        return
    try:
        read_by(home, spec.selection.segment)
    except UserError as error:
        raise UserError(f"{source}: selection.segment: {error}", code=error.code) from None


def _check_ever_decided(first: date, spec: CampaignSpec, source: str) -> None:
    """Refuse a date that no run can decide.

    Raises:
        UserError: names the file, the key and the setting.
    """
    if isinstance(spec.execution_date, date) and spec.execution_date < first:
        raise UserError(
            f"{source}: execution_date: {spec.execution_date} is before the first execution date "
            f"{first} (setting start_date), so it would never be decided",
            code="date.out_of_range",
        )


def _tasks_of_date(project: Project, spec: CampaignSpec, actor: str) -> list[str]:
    """Make the tasks of the folders that match the population of a fixed date.

    Returns:
        Sentences: the tasks that were made, that no folder matches yet, and that the date has
        passed.
    """
    day = spec.execution_date
    if not isinstance(day, date):
        return []
    sentences = []
    if spec.is_glob:
        made = register_uploads(project, day, campaign=spec.name, actor=actor)
        sentences += [f"created task {name!r}" for name in made.registered]
        sentences += move_tasks(project, spec.name, day, actor)
        if not any(task.campaign == spec.name for task in tasks_for(project.store, day)):
            sentences.append(
                f"no folder matches {spec.population} yet; each that does becomes a task of {day}"
            )
    return sentences + late_tasks(project, [day], campaign=spec.name)
