"""Values that providers post, made fit for the database."""

from datetime import datetime

from usergrowth_dagster.messaging.gateways.cleaning import clean_text, clean_time


def plain_text(value: str | None, size: int) -> str | None:
    """A text of at most ``size`` characters that SQLite and PostgreSQL can both hold, or None."""
    return clean_text(value, size, lines=True) or None


def sane_time(value: datetime | None) -> datetime | None:
    """A time of this century, in UTC where it says no zone, or None."""
    return clean_time(value)
