"""From the time that a wall clock shows to a moment, also on days when it jumps, and back."""

from datetime import UTC, datetime, timedelta, tzinfo

_SECOND = timedelta(seconds=1)


def shown_moment(moment: datetime, zone: tzinfo | None = None) -> str:
    """A moment for people, with the offset of its zone from UTC: ``2026-03-04 10:00 +08:00``.

    Seconds stand there when there are any.

    Args:
        moment: with a zone.
        zone: whose clock shows it; by default the moment's own.
    """
    try:
        local = moment.astimezone(zone) if zone else moment
    except OverflowError:  # at the ends of the calendar
        local = moment
    offset = local.strftime("%z")
    clock = "%H:%M:%S" if local.second else "%H:%M"
    return f"{local:%Y-%m-%d} {local.strftime(clock)} {offset[:3]}:{offset[3:5]}"


def moment_of(wall: datetime, zone: tzinfo) -> datetime:
    """The moment (UTC, to the second) at which a zone's wall clock shows a time.

    A time that comes twice, since the clock is set back, is the first of the two. One that never
    comes, since the clock is set forward past it, is the first moment after the jump.

    Args:
        wall: a time without a zone.
        zone: whose clock it is.
    """
    given = wall.replace(tzinfo=zone, fold=0)
    moment = given.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None, fold=0) == wall.replace(fold=0):
        return moment
    # in a gap, fold 0 is read by the offset before the jump (and lands after it), fold 1 by the
    # offset after it (and lands before it); the jump is between the two
    late, early = moment, given.replace(fold=1).astimezone(UTC)
    after = late.astimezone(zone).utcoffset()
    early, late = early.replace(microsecond=0), late.replace(microsecond=0)
    while late - early > _SECOND:
        middle = early + (late - early) // (2 * _SECOND) * _SECOND
        if middle.astimezone(zone).utcoffset() == after:
            late = middle
        else:
            early = middle
    return late
