"""The daily chain and backfills, as runs of the code location's jobs."""

from collections.abc import Callable
from datetime import date, timedelta

from usergrowth_dagster.control.tasks import all_tasks
from usergrowth_dagster.data.contracts import LANDING_TABLES
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.explain.nothing import late_tasks, no_task, shortened, unread_files
from usergrowth_dagster.explain.rehearse import Rehearsed
from usergrowth_dagster.intake.uploads import register_repeats, register_uploads
from usergrowth_dagster.project import Project
from usergrowth_dagster.runs.execute import InterruptedRunError, execute
from usergrowth_dagster.runs.reports import ChainReport, RunReport
from usergrowth_dagster.runs.training import train_models
from usergrowth_dagster.settings import Settings

Warn = Callable[[str], None]
"""Called with a sentence that a person should read before the work goes on."""


def _silent(_sentence: str) -> None:
    """Drop the warning."""


def check_dates(settings: Settings, first: date, last: date) -> None:
    """Refuse dates that are no partitions.

    Raises:
        UserError: names the date and the limit.
    """
    if first > last:
        raise UserError(f"--from {first} is after --to {last}", code="date.out_of_range")
    if first < settings.start_date:
        raise UserError(
            f"{first} is before the first execution date {settings.start_date} "
            "(setting start_date)",
            code="date.out_of_range",
        )
    if last > settings.current_date():
        raise UserError(
            f"{last} is in the future: today is {settings.current_date()}", code="date.out_of_range"
        )


def _ingest(first: date, last: date) -> RunReport:
    """Land days and make their facts; the facts of good days are made beside a bad one.

    Raises:
        UserError: a landing day failed; the sentence names it.
    """
    from usergrowth_dagster.defs.jobs import FACTS, INGEST, range_tags

    try:
        return execute(INGEST, tags=range_tags(first, last))
    except InterruptedRunError:
        raise
    except UserError:
        execute(FACTS, tags=range_tags(first, last))
        raise


def _nothing_landed(ingest: RunReport, first: date, last: date, landing: str) -> str | None:
    """A sentence when no table has a row or a file of [first, last]; None when one has."""
    landed = [ingest.metadata.get(f"raw_{table}", {}) for table in LANDING_TABLES]
    if any(one.get("dagster/row_count") or one.get("files") for one in landed):
        return None
    if any(one.get("days_unchanged") for one in landed):
        return None
    span = f"of {first}" if first == last else f"from {first} to {last}"
    return (
        f"nothing has landed {span}: no table has a folder ds=yyyymmdd with files of these days "
        f"below {landing}"
    )


def run_date(
    settings: Settings,
    day: date,
    *,
    asked: bool = True,
    rehearse: bool = False,
    warn: Warn = _silent,
) -> ChainReport:
    """Land the last days before an execution date, then decide it.

    Uploads that a campaign decides on arrival are registered for the date. Earlier tasks whose
    windows gained days are measured again.

    Args:
        settings: of the home.
        day: the execution date.
        asked: whether a person named the date: then it is a failure when it has no task.
        rehearse: decide, then plan and send to files as of the date, in a throw-away copy of the
            ledger; nothing is registered, planned or sent for real.
        warn: called before anything is planned whose texts would expire at once.

    Raises:
        UserError: a landing day failed, and nothing was decided; or every task failed.
    """
    from usergrowth_dagster.defs.jobs import CHOOSE, DECIDE, ingest_days

    check_dates(settings, day, day)
    days = ingest_days(day, settings.catch_up_days, settings.start_date)
    try:
        ingest = _ingest(days.first, days.last)
    except InterruptedRunError:
        raise
    except UserError as error:
        raise UserError(
            f"{error}\n{day} has not been decided; mend what is named and run again",
            code=error.code,
            hint=error.hint,
        ) from None
    project = Project(settings)
    warnings = unread_files(project)
    if nothing := _nothing_landed(ingest, days.first, days.last, settings.landing_root):
        warnings.append(nothing)
    if rehearse:
        if sentence := no_task(project, day):
            return ChainReport(ingest, None, warnings=warnings, failures=[sentence])
        decide = execute(CHOOSE, partition=day.isoformat())
        rehearsed, failures = _rehearse(project, day)
        return ChainReport(
            ingest, decide, rehearsed=rehearsed, warnings=warnings, failures=failures
        )
    warnings += shortened(register_uploads(project, day).notes)
    register_repeats(project, day)
    nobody = no_task(project, day)
    for sentence in late_tasks(project, [day]):
        warn(sentence)
    decide = execute(DECIDE, partition=day.isoformat())
    return ChainReport(
        ingest,
        decide,
        measure_due(settings),
        warnings=[*warnings, *([nobody] if nobody and not asked else [])],
        failures=[nobody] if nobody and asked else [],
    )


def _rehearse(project: Project, day: date) -> tuple[list[Rehearsed], list[str]]:
    """Plan and send a date's decided tasks for show; and a sentence for each that cannot be."""
    from usergrowth_dagster.control.codes import JobStatus
    from usergrowth_dagster.control.tasks import tasks_for
    from usergrowth_dagster.explain.rehearse import rehearse_task
    from usergrowth_dagster.pipeline.each import NotReadyError

    done, failures = [], []
    for task in tasks_for(project.store, day):
        if task.status != JobStatus.SUCCESS:
            continue  # its own step has said why
        try:
            done.append(rehearse_task(project, task, day))
        except UserError as error:
            failures.append(f"task {task.task_id}: {error}")
        except NotReadyError:
            failures.append(f"task {task.task_id}: another run is deciding it; rehearse it again")
    return done, failures


def measure_due(settings: Settings) -> RunReport | None:
    """Measure the tasks of which more is known than their reports say; None: there are none.

    Raises:
        UserError: none of them could be measured.
    """
    from usergrowth_dagster.defs.jobs import MEASURE, range_tags
    from usergrowth_dagster.measure.report import reports_due

    days = [task.execution_date for task in reports_due(Project(settings))]
    return execute(MEASURE, tags=range_tags(min(days), max(days))) if days else None


def train_date(settings: Settings, day: date) -> RunReport:
    """Train every model that campaigns ask for, as of an execution date.

    Raises:
        UserError: no model could be trained; the sentence says why of each.
    """
    check_dates(settings, day, day)
    report = train_models(settings, day)
    if not any(_entries(metadata, "model") for metadata in report.metadata.values()):
        reasons = [
            f"{name}: {'; '.join(_entries(metadata, 'skipped')) or 'no campaign asks for it'}"
            for name, metadata in report.metadata.items()
            if name.endswith("_model")
        ]
        raise UserError(
            f"nothing was trained as of {day}; {'; '.join(reasons)}", code="training.insufficient"
        )
    return report


def _entries(metadata: dict[str, object], key: str) -> list[str]:
    """The values of a key of every training of an asset: several are numbered."""
    return [str(value) for name, value in metadata.items() if name.rsplit(": ", 1)[-1] == key]


def backfill(
    settings: Settings, first: date, last: date, *, only_ingest: bool, warn: Warn = _silent
) -> ChainReport:
    """Land and compute a range of days; days that are up to date are left alone.

    Facts of [first, last] are made, then features and the decisions of the tasks of those dates.
    Nothing is sent for a date that has passed.

    Args:
        settings: of the home.
        first: first execution date.
        last: last execution date.
        only_ingest: land and make facts, decide nothing.
        warn: called before anything is planned whose texts would expire at once.

    Raises:
        UserError: a landing day failed; the facts of the others are made, nothing is decided.
    """
    from usergrowth_dagster.defs.jobs import DECIDE, range_tags

    check_dates(settings, first, last)
    start = max(settings.start_date, first - timedelta(days=1))  # features see the day before
    ingest = _ingest(start, last)
    project = Project(settings)
    warnings = unread_files(project)
    nothing = _nothing_landed(ingest, start, last, settings.landing_root)
    failures: list[str] = []
    has_tasks = any(first <= task.execution_date <= last for task in all_tasks(project.store))
    if nothing:  # decisions may rest on earlier days, so they go on
        (failures if only_ingest or not has_tasks else warnings).append(nothing)
    if only_ingest:
        return ChainReport(ingest, None, warnings=warnings, failures=failures)
    span = [first + timedelta(days=place) for place in range((last - first).days + 1)]
    for sentence in late_tasks(project, span):
        warn(sentence)
    decide = execute(DECIDE, tags=range_tags(first, last))
    return ChainReport(ingest, decide, warnings=warnings, failures=failures)
