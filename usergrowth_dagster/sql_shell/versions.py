"""Which version of each table is read: the newest, the one at a time, or one by its number."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from usergrowth_dagster.control.wall_clock import shown_moment
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.tables import Warehouse


@dataclass(frozen=True)
class Versions:
    """The versions that were asked for.

    Args:
        at: the newest version that was committed by then; None: the newest of all.
        by_table: versions of some tables by number; they win over ``at``.
    """

    at: datetime | None = None
    by_table: Mapping[str, int] = field(default_factory=dict)

    def of(self, warehouse: Warehouse, table: str) -> int | None:
        """The version of a table; None: the table was not there yet.

        The log is read at as many places as a binary search needs, so a long history costs little.

        Raises:
            UserError: the table has no version of this number.
        """
        newest = warehouse.version(table)
        if newest is None:
            return None
        number = self.by_table.get(table)
        if number is not None:
            if not 0 <= number <= newest:
                raise UserError(
                    f"{table} has no version {number}; its newest is {newest}",
                    code="table.no_version",
                )
            return number
        if self.at is None:
            return newest
        version = bisect_right(
            range(newest + 1),
            self.at,
            key=lambda one: committed(warehouse, table, one) or datetime.min.replace(tzinfo=UTC),
        )
        return version - 1 if version else None


def committed(warehouse: Warehouse, table: str, version: int) -> datetime | None:
    """When a version was committed (UTC); None where its commit is no longer in the log."""
    milliseconds = warehouse.log(table).information(version).get("timestamp")
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def read_versions(settings: Settings, at: str, by_table: list[str]) -> Versions:
    """The versions that a command's options name.

    Args:
        settings: business time zone of a time without an offset.
        at: a time by ISO 8601; empty: now.
        by_table: ``<table>=<number>`` each.

    Raises:
        UserError: a text has another form.
    """
    return Versions(_moment(settings, at) if at else None, dict(map(_pin, by_table)))


def _moment(settings: Settings, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"--at {text}: not a time; write 2026-11-01T08:00", code="command.invalid"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=settings.zone)


def _pin(text: str) -> tuple[str, int]:
    table, equals, number = text.partition("=")
    if not (table and equals and number.isascii() and number.isdigit()):
        raise UserError(
            f"--version {text}: not a table and its version; write decisions=12",
            code="command.invalid",
        )
    return table, int(number)


def shown_versions(versions: Versions, settings: Settings) -> str:
    """The versions in words, for a heading; empty for the newest."""
    parts = [f"at {shown_moment(versions.at, settings.zone)}"] if versions.at else []
    parts += [f"{table} version {number}" for table, number in sorted(versions.by_table.items())]
    return ", ".join(parts)
