"""The times of a repeating schedule, reckoned on the business wall clock.

The k-th time is always reckoned from the first, never from the one before, so nothing drifts:

* days and weeks keep the wall clock's time; on a day without that time (the clock is set forward
  past it) the first moment after the jump, on a day with two of them the first;
* months keep the first one's day, and take the last day of a shorter month: 31 January, 28 or 29
  February, 31 March;
* hours are hours of elapsed time, whatever the wall clock does.

Time number 0 is the first itself. ``times`` counts those after it.
"""

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from usergrowth_dagster.control.codes import RepeatUnit
from usergrowth_dagster.control.wall_clock import moment_of

_DAYS = {RepeatUnit.DAY: 1, RepeatUnit.WEEK: 7}


@dataclass(frozen=True)
class Repeat:
    """When a schedule is due.

    Args:
        first: the first time (aware).
        unit: never, hour, day, week or month.
        cycle: every so many units.
        times: how many times after the first; -1: no end.
        zone: the business time zone.
        end: no time is at or after it; None: no end.
    """

    first: datetime
    unit: RepeatUnit
    cycle: int
    times: int
    zone: ZoneInfo
    end: datetime | None = None

    def due(self, sequence: int) -> datetime | None:
        """The time (UTC) with a number from 0 on; None when the schedule has ended by then."""
        if sequence and (self.unit is RepeatUnit.NEVER or self.cycle < 1):
            return None
        if 0 <= self.times < sequence:
            return None
        try:
            moment = self._moment(sequence)
        except (OverflowError, ValueError):  # beyond the year 9999
            return None
        return None if self.end is not None and moment >= self.end else moment

    def _moment(self, sequence: int) -> datetime:
        first = self.first.astimezone(UTC)
        if not sequence:
            return first  # also when it is the second of two times on the wall clock
        steps = sequence * self.cycle
        if self.unit is RepeatUnit.HOUR:
            return first + timedelta(hours=steps)
        wall = first.astimezone(self.zone).replace(tzinfo=None, fold=0)
        if self.unit is RepeatUnit.MONTH:
            years, month = divmod(wall.month - 1 + steps, 12)
            year, month = wall.year + years, month + 1
            day = min(wall.day, monthrange(year, month)[1])
            wall = wall.replace(year=year, month=month, day=day)
        else:
            wall += timedelta(days=steps * _DAYS[self.unit])
        return moment_of(wall, self.zone)

    def latest(self, now: datetime) -> int | None:
        """Number of the newest time that is not after ``now``; None before the first."""
        if not self._by(0, now):
            return None
        low, high = 0, 1
        while self._by(high, now):
            low, high = high, high * 2
        while high - low > 1:  # due at low, not at high
            middle = (low + high) // 2
            low, high = (middle, high) if self._by(middle, now) else (low, middle)
        return low

    def _by(self, sequence: int, now: datetime) -> bool:
        moment = self.due(sequence)
        return moment is not None and moment <= now

    def on_day(self, day: date) -> int | None:
        """Number of the last time on a day of the business calendar; None when there is none."""
        midnight = moment_of(datetime.combine(day + timedelta(days=1), time()), self.zone)
        number = self.latest(midnight - timedelta(microseconds=1))
        moment = None if number is None else self.due(number)
        if moment is None or moment.astimezone(self.zone).date() != day:
            return None
        return number

    def window(self, sequence: int, within: timedelta) -> tuple[datetime, datetime] | None:
        """From when to when (UTC) an occurrence may go out; None: the schedule has ended by then.

        It closes when the next one is due, so that after a standstill people get the newest one,
        and not all of them in a burst.

        Args:
            sequence: its number.
            within: how long after its time it may still go out.
        """
        due, following = self.due(sequence), self.due(sequence + 1)
        if due is None:
            return None
        closes = [due + within, *(moment for moment in (self.end, following) if moment)]
        return due, min(closes).astimezone(UTC)
