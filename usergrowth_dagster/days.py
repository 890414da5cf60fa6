"""Which days the product works with, and how people write one."""

from datetime import date, datetime

FIRST_DAY = date(1970, 1, 1)
LAST_DAY = date(2199, 12, 31)
"""Windows of features, labels and schedules reach years beyond a day, and time zones shift it; at
the ends of the calendar that arithmetic overflows."""

_FORMS = ("%Y-%m-%d", "%Y%m%d")


def read_day(text: str) -> date:
    """A day written as 2017-12-28 or 20171228.

    Raises:
        ValueError: it is no such day; the text is the rule.
    """
    for form in _FORMS:
        try:
            return datetime.strptime(text, form).date()
        except ValueError:
            continue
    raise ValueError(f"must be a day such as 2017-12-28 or 20171228, not {text!r}")


def check_day(day: date) -> date:
    """The day itself; refuses one that no calculation can work with.

    Raises:
        ValueError: it lies outside [FIRST_DAY, LAST_DAY]; the text is the rule.
    """
    if not FIRST_DAY <= day <= LAST_DAY:
        raise ValueError(f"must be a day from {FIRST_DAY} to {LAST_DAY}, not {day}")
    return day
