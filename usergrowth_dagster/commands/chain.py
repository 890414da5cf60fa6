"""The daily chain and backfills, as runs of the code location's jobs."""

from dataclasses import dataclass
from datetime import date, timedelta

from usergrowth_dagster.commands.execute import InterruptedRunError, RunReport, execute
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.tasks.project import Project
from usergrowth_dagster.tasks.uploads import register_uploads


@dataclass(frozen=True)
class ChainReport:
    """Reports of the runs that a command made."""

    ingest: RunReport
    decide: RunReport | None
    measure: RunReport | None = None


def check_dates(settings: Settings, first: date, last: date) -> None:
    """Refuse dates that are no partitions.

    Raises:
        UserError: names the date and the limit.
    """
    if first > last:
        raise UserError(f"--from {first} is after --to {last}")
    if first < settings.start_date:
        raise UserError(
            f"{first} is before the first execution date {settings.start_date} (setting start_date)"
        )
    if last > settings.current_date():
        raise UserError(f"{last} is in the future: today is {settings.current_date()}")


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


def run_date(settings: Settings, day: date) -> ChainReport:
    """Land the last days before an execution date, then decide it.

    Uploads that a campaign decides on arrival are registered for the date. Earlier tasks whose
    windows gained days are measured again.

    Raises:
        UserError: a landing day failed, and nothing was decided; or every task failed.
    """
    from usergrowth_dagster.defs.jobs import DECIDE, ingest_days

    check_dates(settings, day, day)
    days = ingest_days(day, settings.catch_up_days, settings.start_date)
    try:
        ingest = _ingest(days.first, days.last)
    except InterruptedRunError:
        raise
    except UserError as error:
        raise UserError(
            f"{error}\n{day} has not been decided; mend what is named and run again"
        ) from None
    register_uploads(Project(settings), day)
    decide = execute(DECIDE, partition=day.isoformat())
    return ChainReport(ingest, decide, measure_due(settings))


def measure_due(settings: Settings) -> RunReport | None:
    """Measure the tasks of which more is known than their reports say; None: there are none.

    Raises:
        UserError: none of them could be measured.
    """
    from usergrowth_dagster.defs.jobs import MEASURE, range_tags
    from usergrowth_dagster.tasks.report import reports_due

    days = [task.execution_date for task in reports_due(Project(settings))]
    return execute(MEASURE, tags=range_tags(min(days), max(days))) if days else None


def train_date(settings: Settings, day: date) -> RunReport:
    """Train every model that campaigns ask for, as of an execution date.

    Raises:
        UserError: no campaign's model could be trained.
    """
    from usergrowth_dagster.defs.jobs import TRAIN

    check_dates(settings, day, day)
    return execute(TRAIN, partition=day.isoformat())


def backfill(settings: Settings, first: date, last: date, *, only_ingest: bool) -> ChainReport:
    """Land and compute a range of days; days that are up to date are left alone.

    Facts of [first, last] are made, then features and the decisions of the tasks of those dates.
    Nothing is sent for a date that has passed.

    Raises:
        UserError: a landing day failed; the facts of the others are made, nothing is decided.
    """
    from usergrowth_dagster.defs.jobs import DECIDE, range_tags

    check_dates(settings, first, last)
    start = max(settings.start_date, first - timedelta(days=1))  # features see the day before
    ingest = _ingest(start, last)
    decide = None if only_ingest else execute(DECIDE, tags=range_tags(first, last))
    return ChainReport(ingest, decide)
