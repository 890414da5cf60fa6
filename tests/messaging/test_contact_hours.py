"""When it is day where a recipient is, and where that is."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from usergrowth_dagster.messaging.policy.hours import is_open, next_open, zones_of
from usergrowth_dagster.messaging.policy.zones import (
    UnknownZoneError,
    is_unknown,
    known_zone,
    phone_zone,
    recipient_zone,
)

MINUTE = timedelta(minutes=1)
ZONE = ZoneInfo("UTC")
ZONES = [
    "America/New_York",
    "Asia/Shanghai",
    "Europe/London",
    "Australia/Lord_Howe",  # its clock is set forward by half an hour
    "America/St_Johns",
]
JUMPS = {
    "America/New_York": [(2026, 3, 8, 7), (2026, 11, 1, 6)],
    "Asia/Shanghai": [(2026, 3, 8, 7)],  # none: like any other day
    "Europe/London": [(2026, 3, 29, 1), (2026, 10, 25, 1)],
    "Australia/Lord_Howe": [(2026, 4, 4, 15), (2026, 10, 3, 15)],
    "America/St_Johns": [(2026, 3, 8, 5), (2026, 11, 1, 4)],
}


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, datetime, time, time]:
    """A zone, a moment within a day and a half of a jump of its clock, and a daily window."""
    zone = draw(st.sampled_from(ZONES))
    jump = datetime(*draw(st.sampled_from(JUMPS[zone])), tzinfo=UTC)
    moment = jump + draw(st.integers(-36 * 60, 36 * 60)) * MINUTE
    clock = st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30, 45, 59]))
    return zone, moment, draw(clock), draw(clock)


def wall_says_open(moment: datetime, zone: str, start: time, end: time) -> bool:
    shown = moment.astimezone(ZoneInfo(zone))
    clock = (shown.hour, shown.minute)
    first, last = (start.hour, start.minute), (end.hour, end.minute)
    if first == last:
        return True
    if first < last:
        return first <= clock < last
    return not last <= clock < first


@settings(max_examples=300, deadline=None)
@given(cases())
@example(("America/New_York", datetime(2026, 3, 8, 6, 30, tzinfo=UTC), time(2, 30), time(21)))
@example(("America/New_York", datetime(2026, 11, 1, 5, 59, tzinfo=UTC), time(20), time(1, 30)))
@example(("Australia/Lord_Howe", datetime(2026, 10, 3, 15, tzinfo=UTC), time(2, 15), time(3)))
@example(("Europe/London", datetime(2026, 3, 28, 1, 20, tzinfo=UTC), time(1), time(1, 15)))
def test_the_next_opening_is_the_first_minute_that_the_wall_clock_allows(
    case: tuple[str, datetime, time, time],
) -> None:
    """Guards against a text at night, or a day lost, when clocks are set forward or back."""
    zone, moment, start, end = case
    zones = (ZoneInfo(zone),)
    opening = next_open(moment, zones, start, end)
    assert opening is not None
    assert is_open(opening, zones, start, end)
    assert wall_says_open(opening, zone, start, end)
    minute = moment
    while minute < opening:  # nothing before it was open
        assert not wall_says_open(minute, zone, start, end)
        minute += MINUTE
    # a day at most, but for a short window that the clock jumps over as a whole
    assert opening - moment < timedelta(hours=49)


@pytest.mark.parametrize(("start", "end"), [(time(9), time(21)), (time(21), time(9))])
def test_a_window_is_open_at_its_start_and_closed_at_its_end(start: time, end: time) -> None:
    """Guards against a text in the first minute of the night, or none in the first of the day."""
    zones, instant = (ZoneInfo("Asia/Shanghai"),), timedelta(microseconds=1)
    opens, closes = (datetime.combine(date(2026, 3, 2), one, zones[0]) for one in (start, end))
    assert is_open(opens, zones, start, end) and not is_open(opens - instant, zones, start, end)
    assert is_open(closes - instant, zones, start, end) and not is_open(closes, zones, start, end)
    assert next_open(closes, zones, start, end) == opens + timedelta(days=opens < closes)


def test_a_start_that_comes_twice_opens_the_first_time() -> None:
    """Guards against a day that begins an hour late where clocks are set back."""
    midnight = datetime(2026, 11, 1, 4, tzinfo=UTC)  # the clock is set back at 6:00
    opening = next_open(midnight, zones_of("America/New_York", ZONE), time(1, 30), time(21))
    assert opening == datetime(2026, 11, 1, 5, 30, tzinfo=UTC)


def test_a_start_that_is_skipped_opens_with_the_jump_to_the_second() -> None:
    """Guards against an opening that is searched for too roughly where clocks are set forward."""
    jump = datetime(2026, 3, 8, 7, tzinfo=UTC)
    zones = zones_of("America/New_York", ZONE)
    for seconds in range(1, 5 * 3600, 97):  # the evening before is over
        moment = jump - timedelta(seconds=seconds)
        assert next_open(moment, zones, time(2, 30), time(21)) == jump, moment


@settings(max_examples=100, deadline=None)
@given(cases(), st.sampled_from(ZONES))
def test_several_zones_must_all_be_open(case: tuple[str, datetime, time, time], other: str) -> None:
    """Guards against a text at night in one of the zones where the person may be."""
    zone, moment, start, end = case
    zones = zones_of(f"{zone}|{other}", ZoneInfo("Asia/Shanghai"))
    opening = next_open(moment, zones, start, end)
    minutes = (moment + n * MINUTE for n in range(3 * 24 * 60))
    open_minutes = (
        m for m in minutes if all(wall_says_open(m, one, start, end) for one in (zone, other))
    )
    first = next(open_minutes, None)
    assert first is None or opening == first
    assert opening is None or all(wall_says_open(opening, one, start, end) for one in (zone, other))


def test_zones_too_far_apart_never_open() -> None:
    """Guards against an endless search, and against a text at night rather than none."""
    zones = zones_of("Asia/Shanghai|America/New_York", ZoneInfo("UTC"))
    assert next_open(datetime(2026, 1, 5, tzinfo=UTC), zones, time(10), time(12)) is None


def test_a_zone_that_this_machine_does_not_know_is_never_open() -> None:
    """Guards against a text at night by the business zone, where a ledger row's own is not known."""
    for names in ("Mars/Base", "Europe/London|Mars/Base", "../etc/passwd"):
        zones = zones_of(names, ZoneInfo("UTC"))
        assert next_open(datetime(2026, 1, 5, 12, tzinfo=UTC), zones, time(8), time(22)) is None
        assert not is_open(datetime(2026, 1, 5, 12, tzinfo=UTC), zones, time(8), time(22))
    assert zones_of(None, ZoneInfo("UTC")) == (ZoneInfo("UTC"),)


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("Europe/London", "Europe/London"),
        ("europe/london", "Europe/London"),
        ("AMERICA/NEW YORK", "America/New_York"),
        ("GMT Standard Time", "Europe/London"),
        ("pacific standard time", "America/Los_Angeles"),
        ("China Standard Time", "Asia/Shanghai"),
        ("utc", "UTC"),
        *((name, None) for name in ("London", "UTC+1", "GMT+8", "UTC-08", "EST", "IST", "8")),
        *((name, None) for name in ("NULL", "nan", "localtime", "Factory", "posixrules")),
        *((name, None) for name in ("../etc/passwd", "Mars/Base", "Europe/London|Asia/Shanghai")),
    ],
)
def test_a_zone_is_resolved_only_where_it_is_certain(name: str, zone: str | None) -> None:
    """A zone in other letters, or as Windows calls it, counted as none; so did every wrong one."""
    if zone is None:
        assert is_unknown(name)
        with pytest.raises(UnknownZoneError):
            recipient_zone(name, "+441214960123")
    else:
        assert recipient_zone(name, "+8610000000000") == zone


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40) | st.sampled_from(ZONES), st.booleans())
def test_what_is_resolved_is_a_zone_and_the_same_in_any_case(name: str, upper: bool) -> None:
    """Guards against a zone that stops a plan, or depends on how it is written."""
    zone = known_zone(name)
    assert zone == known_zone(name.upper() if upper else f" {name.lower()} ")
    assert is_unknown(name) == (zone is None and bool(name.strip()))
    if zone is not None:
        assert ZoneInfo(zone) and len(zone) <= 96


@pytest.mark.parametrize(
    ("phone", "zone"),
    [
        ("+12125550123", "America/New_York"),  # numbers 555-01xx are kept for fiction
        ("0012125550123", "America/New_York"),
        ("+13105550123", "America/Los_Angeles"),
        ("+8610000000000", "Asia/Shanghai"),  # 100… is no mobile range
        ("+441214960123", "Europe/London"),  # 0121 496 0xxx is kept for fiction
        ("+61491570006", "Australia/Lord_Howe|Indian/Cocos"),  # mobile: anywhere in the country
        ("+18005550123", None),  # toll-free, from Guam to Newfoundland
        ("+9990000000001", None),  # no country
        ("2125550123", None),  # no country code
        ("+", None),
        ("", None),
    ],
)
def test_zone_of_a_number(phone: str, zone: str | None) -> None:
    """Guards against a region read from a number that does not have it."""
    assert phone_zone(phone) == zone
    assert recipient_zone(None, phone) == zone
    assert recipient_zone("", phone) == recipient_zone(" \t", phone) == zone
    assert recipient_zone(" Europe/London ", phone) == "Europe/London"


@settings(max_examples=200, deadline=None)
@given(st.from_regex(r"\+?(00)?[0-9]{6,15}", fullmatch=True))
def test_any_number_has_a_zone_that_fits_its_column(phone: str) -> None:
    """Guards against an upload's odd number that stops a plan."""
    zone = phone_zone(phone)
    assert zone is None or (len(zone) <= 96 and len(zones_of(zone, ZoneInfo("UTC"))) <= 4)
    digits = phone.removeprefix("+")
    if zone:  # the digits after the prefix do not matter, so that few numbers need a look-up
        assert phone_zone(phone[:-1] + "0") == zone or len(digits) <= 11
