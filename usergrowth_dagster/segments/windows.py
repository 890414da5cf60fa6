"""The days that a leaf looks at, as of an execution date D: never D itself or a later day."""

from dataclasses import dataclass
from datetime import date, timedelta

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.segments.leaves import Window


@dataclass(frozen=True)
class Span:
    """From a day to a day, both included; ``last`` is before the execution date."""

    first: date
    last: date


def span_of(window: Window, on: date) -> Span:
    """The days of a window; a ``to`` that is not over is cut."""
    last = on - timedelta(days=1)
    if window.days is not None:
        return Span(on - timedelta(days=window.days), last)
    assert window.first_day is not None
    return Span(window.first_day, min(window.last_day or last, last))


def days_back(window: Window, on: date) -> int:
    """Days before the execution date that a window begins, at least one."""
    return max((on - span_of(window, on).first).days, 1)


def cut_note(window: Window, at: str, on: date) -> str:
    """What is cut of a window, in a sentence; empty where nothing is."""
    if window.last_day is None or window.last_day < on:
        return ""
    return (
        f"{at}.to: {window.last_day} is not over on the execution date {on}; days up to "
        f"{on - timedelta(days=1)} count"
    )


def check_window(window: Window, at: str, key: str, on: date, known_days: int) -> Span:
    """The days of a window, all of them among those from which people are known.

    Args:
        window: the leaf.
        at: file and key path, for the error.
        key: its key of relative days.
        on: the execution date.
        known_days: days of events before it from which the people of ``user_features`` are known.

    Raises:
        UserError: it begins too early, or on the execution date or later.
    """
    place = f"{at}.{key if window.days is not None else 'from'}"
    span = span_of(window, on)
    if span.first >= on:
        raise UserError(
            f"{place}: {span.first} is not over on the execution date {on}, so no day of the "
            "window is known",
            code="segment.not_ready",
        )
    check_days((on - span.first).days, place, known_days)
    return span


def check_days(days: int, place: str, known_days: int) -> None:
    """Refuse more days than people are known from; a longer window would lose people unseen.

    Raises:
        UserError: there are more.
    """
    if days > known_days:
        raise UserError(
            f"{place}: must not begin more than {known_days} days before the execution date, the "
            f"setting history_days, not {days}: people who were active only before that are not "
            "known",
            code="segment.invalid",
        )
