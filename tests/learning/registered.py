"""Labels and days of the versions that tests of reviews register."""

from datetime import date, timedelta

LABEL, OTHER = "a" * 12, "b" * 12
FIRST = date(2024, 3, 1)


def learned(number: int) -> date:
    """Last label day of the version of a number."""
    return FIRST + timedelta(days=7 * number)
