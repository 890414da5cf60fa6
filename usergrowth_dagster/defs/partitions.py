"""The one axis of everything: the task execution date."""

from collections.abc import Sequence
from datetime import date

import dagster as dg

from usergrowth_dagster.settings import Settings


def daily_partitions(settings: Settings) -> dg.DailyPartitionsDefinition:
    """Execution dates in the business time zone, today included."""
    return dg.DailyPartitionsDefinition(
        start_date=settings.start_date.isoformat(), timezone=settings.timezone, end_offset=1
    )


def partition_days(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> list[date]:
    """The run's execution dates, in order."""
    keys: Sequence[str] = context.partition_keys
    return sorted(date.fromisoformat(key) for key in keys)


def day_mapping(first: int, last: int) -> dg.TimeWindowPartitionMapping:
    """Upstream days [D + first, D + last] of an execution date D."""
    return dg.TimeWindowPartitionMapping(
        start_offset=first, end_offset=last, allow_nonexistent_upstream_partitions=True
    )
