"""When a recipient may be texted: the daily window of the wall clock where they are.

A window is open at a moment when the wall clock of the zone shows a time in [start, end). That is
the whole rule, so it holds on days when the clock jumps: an hour that is skipped is never open, one
that comes twice is open twice. A start after the end is a window across midnight; equal ones are
always open. Somebody who may be in one of several zones is texted when it is open in all of them.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

_STEP = timedelta(hours=6)
_FAR = timedelta(days=3)
_NEVER = timedelta(days=8)


@lru_cache(maxsize=4096)
def zones_of(names: str | None, business: ZoneInfo) -> tuple[ZoneInfo, ...]:
    """The zones that a ledger row names, joined by ``|``; the business's where it names none.

    Empty when this machine does not know one of them: then it is never open there.

    Args:
        names: a row's ``zone``.
        business: the business time zone.
    """
    try:
        return tuple(ZoneInfo(name) for name in names.split("|")) if names else (business,)
    except (KeyError, ValueError, OSError):
        return ()


def is_open(moment: datetime, zones: Sequence[ZoneInfo], start: time, end: time) -> bool:
    """Whether the window is open in all zones at an aware moment; not where no zone is known."""
    return bool(zones) and all(_open_in(moment, zone, start, end) for zone in zones)


def next_open(
    moment: datetime, zones: Sequence[ZoneInfo], start: time, end: time
) -> datetime | None:
    """The first time from ``moment`` on, in UTC, at which the window is open in all zones.

    None when there is no such time in the next eight days (the zones are too far apart), and where
    no zone is known.
    """
    if not zones:
        return None
    time_ = moment.astimezone(UTC)
    while time_ - moment < _NEVER:
        later = max(_next_in(time_, zone, start, end) for zone in zones)
        if later == time_:
            return time_
        time_ = later
    return None


def _open_in(moment: datetime, zone: ZoneInfo, start: time, end: time) -> bool:
    clock = moment.astimezone(zone).time()
    if start == end:
        return True
    if start < end:
        return start <= clock < end
    return clock >= start or clock < end


def _next_in(moment: datetime, zone: ZoneInfo, start: time, end: time) -> datetime:
    """The first open time of one zone: it opens at its start, or when its clock jumps."""
    if _open_in(moment, zone, start, end):
        return moment
    today = moment.astimezone(zone).date()
    starts = (
        datetime.combine(today + timedelta(days), start, zone).replace(fold=fold).astimezone(UTC)
        for days in range(-1, 4)
        for fold in (0, 1)
    )
    openings = (
        time_
        for time_ in (*starts, *_jumps(moment, zone))
        if time_ > moment and _open_in(time_, zone, start, end)
    )
    return min(openings)


def _jumps(moment: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """The first moments with another offset from UTC in the days to come, to the second."""
    early = moment.replace(microsecond=0)
    while early < moment + _FAR:
        late = early + _STEP
        before = early.astimezone(zone).utcoffset()
        if late.astimezone(zone).utcoffset() != before:
            low, high = early, late
            while high - low > timedelta(seconds=1):
                middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
                if middle.astimezone(zone).utcoffset() == before:
                    low = middle
                else:
                    high = middle
            yield high
        early = late
