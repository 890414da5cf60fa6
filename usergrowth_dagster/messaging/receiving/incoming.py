"""Values that providers post, made fit for the database."""

from datetime import UTC, datetime

_YEARS = range(2000, 2101)


def plain_text(value: str | None, size: int) -> str | None:
    """A text of at most ``size`` characters that SQLite and PostgreSQL can both hold, or None."""
    if not value:
        return None
    return value.replace("\0", "").encode("utf-8", "replace").decode()[:size] or None


def sane_time(value: datetime | None) -> datetime | None:
    """A time of this century, in UTC where it says no zone, or None."""
    if value is None or value.year not in _YEARS:
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)
