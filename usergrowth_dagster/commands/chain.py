"""The daily chain and backfills, as runs of the code location's jobs."""

from dataclasses import dataclass
from datetime import date, timedelta

from usergrowth_dagster.commands.execute import RunReport, execute
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings


@dataclass(frozen=True)
class ChainReport:
    """Reports of the runs that a command made."""

    ingest: RunReport
    decide: RunReport | None


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


def run_date(settings: Settings, day: date) -> ChainReport:
    """Land the last days before an execution date, then decide it.

    Raises:
        UserError: a landing day or every task failed.
    """
    from usergrowth_dagster.defs.jobs import DECIDE, INGEST, ingest_days, range_tags

    check_dates(settings, day, day)
    days = ingest_days(day, settings.catch_up_days, settings.start_date)
    ingest = execute(INGEST, tags=range_tags(days.first, days.last))
    return ChainReport(ingest, execute(DECIDE, partition=day.isoformat()))


def backfill(settings: Settings, first: date, last: date, *, only_ingest: bool) -> ChainReport:
    """Land and compute a range of days; days that are up to date are left alone.

    Facts of [first, last] are made, then features and the decisions of the tasks of those dates.
    Nothing is sent for a date that has passed.

    Raises:
        UserError: a landing day failed; the others are done, and the next call goes on.
    """
    from usergrowth_dagster.defs.jobs import DECIDE, INGEST, range_tags

    check_dates(settings, first, last)
    start = max(settings.start_date, first - timedelta(days=1))  # features see the day before
    ingest = execute(INGEST, tags=range_tags(start, last))
    decide = None if only_ingest else execute(DECIDE, tags=range_tags(first, last))
    return ChainReport(ingest, decide)
