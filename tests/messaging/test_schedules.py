"""Times of repeating schedules: month ends, leap days, clocks that are set, and clocks that jump."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usergrowth_dagster.control.codes import RepeatUnit
from usergrowth_dagster.control.wall_clock import moment_of
from usergrowth_dagster.messaging.schedules.repeats import Repeat

SHANGHAI = ZoneInfo("Asia/Shanghai")
NEW_YORK = ZoneInfo("America/New_York")
ZONES = [
    *("Asia/Shanghai", "America/New_York", "Europe/London", "Australia/Lord_Howe"),
    *("America/Sao_Paulo", "Africa/Casablanca", "Asia/Kathmandu", "Pacific/Apia", "UTC"),
]


def repeat(
    first: str, unit: str, cycle: int = 1, times: int = -1, zone: ZoneInfo = NEW_YORK
) -> Repeat:
    begun = moment_of(datetime.fromisoformat(first), zone)
    return Repeat(begun, RepeatUnit[unit.upper()], cycle, times, zone)


def shown(plan: Repeat, *numbers: int) -> list[str]:
    """What the business wall clock shows at those times."""
    dues = [plan.due(number) for number in numbers]
    return [f"{due.astimezone(plan.zone):%Y-%m-%d %H:%M %z}" if due else "-" for due in dues]


def test_month_ends_come_back_to_the_first_day() -> None:
    """Guards against a 31st that turns into a 28th for ever after one February."""
    plan = repeat("2026-01-31 10:00", "month", zone=SHANGHAI)
    assert [text[:10] for text in shown(plan, 0, 1, 2, 3, 12, 25)] == [
        *("2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2027-01-31", "2028-02-29"),
    ]
    leap = repeat("2024-02-29 10:00", "month", 12, zone=SHANGHAI)
    assert [text[:10] for text in shown(leap, 0, 1, 4)] == [
        "2024-02-29",
        "2025-02-28",
        "2028-02-29",
    ]
    daily = repeat("2028-02-28 10:00", "day", zone=SHANGHAI)
    assert [text[:10] for text in shown(daily, 1, 2)] == ["2028-02-29", "2028-03-01"]


def test_a_clock_that_is_set_moves_no_other_day() -> None:
    """Guards against a time that is an hour off from the change of the clock on."""
    spring = repeat("2026-03-07 02:30", "day")
    assert shown(spring, 0, 1, 2) == [
        *("2026-03-07 02:30 -0500", "2026-03-08 03:00 -0400", "2026-03-09 02:30 -0400"),
    ]
    autumn = repeat("2026-10-31 01:30", "day")
    assert shown(autumn, 0, 1, 2) == [
        *("2026-10-31 01:30 -0400", "2026-11-01 01:30 -0400", "2026-11-02 01:30 -0500"),
    ]
    weekly = repeat("2026-03-01 10:00", "week", 5)
    assert shown(weekly, 0, 1, 7) == [
        *("2026-03-01 10:00 -0500", "2026-04-05 10:00 -0400", "2026-11-01 10:00 -0500"),
    ]
    hourly = repeat("2026-11-01 00:30", "hour")
    assert shown(hourly, 1, 2, 3) == [
        *("2026-11-01 01:30 -0400", "2026-11-01 01:30 -0500", "2026-11-01 02:30 -0500"),
    ]
    second = datetime(2026, 11, 1, 6, 30, tzinfo=UTC)
    assert Repeat(second, RepeatUnit.DAY, 1, -1, NEW_YORK).due(0) == second


@pytest.mark.parametrize(
    ("zone", "wall", "moment"),
    [
        ("America/New_York", "2026-03-08 02:00", "2026-03-08 07:00"),
        ("Australia/Lord_Howe", "2026-10-04 02:15", "2026-10-03 15:30"),
        ("Pacific/Apia", "2011-12-30 10:00", "2011-12-30 10:00"),  # a day that never was
        ("America/Sao_Paulo", "2018-11-04 00:00", "2018-11-04 03:00"),  # no midnight
    ],
)
def test_a_time_that_never_comes_is_the_moment_after(zone: str, wall: str, moment: str) -> None:
    """Guards against a time in a gap that lands before it, or an hour after it."""
    first = moment_of(datetime.fromisoformat(wall), ZoneInfo(zone))
    assert first == datetime.fromisoformat(moment).replace(tzinfo=UTC)


def test_a_schedule_ends_by_count_and_by_time() -> None:
    """Guards against one occurrence too many, or a last one that is never sent."""
    plan = repeat("2026-01-01 10:00", "day", times=2)
    assert [plan.due(k) is not None for k in range(4)] == [True, True, True, False]
    end = plan.first + timedelta(days=1)
    ended = Repeat(plan.first, RepeatUnit.DAY, 1, -1, NEW_YORK, end)
    assert [ended.due(k) is not None for k in range(2)] == [True, False]
    day = timedelta(hours=24)
    assert plan.window(2, day) == (plan.due(2), plan.first + timedelta(days=3))
    assert plan.window(3, day) is None
    assert repeat("2026-01-01 10:00", "never").due(1) is None
    late = plan.first + timedelta(days=400)
    assert (plan.latest(late), ended.latest(late)) == (2, 0)
    assert plan.latest(plan.first - timedelta(seconds=1)) is None
    assert (plan.on_day(date(2026, 1, 3)), plan.on_day(date(2026, 1, 4))) == (2, None)


starts = st.datetimes(datetime(2009, 1, 1), datetime(2035, 1, 1)).map(lambda t: t.replace(second=0))


@settings(max_examples=300, deadline=None)
@given(
    starts,
    st.sampled_from([unit for unit in RepeatUnit if unit]),
    st.integers(1, 40),
    st.integers(-1, 60),
    st.sampled_from(ZONES),
    st.integers(0, 50),
)
def test_times_rise_and_are_found_again(
    wall: datetime, unit: RepeatUnit, cycle: int, times: int, zone: str, back: int
) -> None:
    """Guards against a time that comes twice, out of order, or past the count, in any zone."""
    clock = ZoneInfo(zone)
    plan = Repeat(moment_of(wall, clock), unit, cycle, times, clock)
    dues = [due for k in range(62) if (due := plan.due(k)) is not None]
    assert len(dues) == (62 if times < 0 else min(times, 61) + 1)
    windows = [plan.window(k, timedelta(hours=24)) for k in range(len(dues))]
    open_ = [window for window in windows if window is not None and window[0] < window[1]]
    # only where a whole day never was do two times fall together, and then one is open
    assert len(open_) >= len(dues) - (zone == "Pacific/Apia")
    assert all(a[1] <= b[0] for a, b in pairwise(open_))
    one = back % len(dues)
    latest = plan.latest(dues[one])
    assert latest is not None
    assert plan.due(latest) == dues[one]
    assert one == 0 or plan.latest(dues[one] - timedelta(seconds=1)) in (one - 1, one - 2)
    if unit is not RepeatUnit.HOUR:
        first = plan.first.astimezone(clock)
        for due in dues:
            local = due.astimezone(clock)
            exact = (local.hour, local.minute) == (first.hour, first.minute)
            assert (
                exact
                or (local - timedelta(days=1)).utcoffset() != local.utcoffset()
                or (first - timedelta(days=1)).utcoffset() != first.utcoffset()
            )
