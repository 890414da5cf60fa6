"""Send-time optimization: each user's hour, the fallback, the room of an hour, the window, changes of clocks."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from usergrowth_dagster.messaging.policy.hours import is_open, zones_of
from usergrowth_dagster.messaging.schedules.send_times import SendTimeWindow, choose_times
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import Engine, open_engine

SHANGHAI = ZoneInfo("Asia/Shanghai")
NEW_YORK = ZoneInfo("America/New_York")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with open_engine(load_settings(tmp_path_factory.mktemp("home"), threads=1)) as opened:
        yield opened


def window(
    first: date, last: date, zone: ZoneInfo = SHANGHAI, capacity: int | None = None, **hours: time
) -> SendTimeWindow:
    start = hours.get("send_from", time(8))
    until = hours.get("send_until", time(21, 59))
    return SendTimeWindow(
        datetime.combine(first, start, zone),
        datetime.combine(last, until, zone),
        zone,
        start,
        until,
        capacity,
    )


def choose(
    engine: Engine,
    people: list[tuple[str, str | None]],
    activity: dict[str, dict[int, float]],
    chosen_from: SendTimeWindow,
) -> dict[str, tuple[datetime | None, str | None]]:
    """By user the time, in the business zone, or the reason for none."""
    engine.bind_arrow(
        "people",
        pa.table(
            {
                "row": pa.array([1000 - n for n in range(len(people))], pa.int64()),
                "place": pa.array(range(len(people)), pa.int64()),
                "user_id": pa.array([user for user, _ in people], pa.string()),
                "zone": pa.array([zone for _, zone in people], pa.string()),
            }
        ),
    )
    hours = [[(f"hh{hour:02}", n) for hour, n in profile.items()] for profile in activity.values()]
    engine.bind_arrow(
        "activity",
        pa.table(
            {
                "user_id": pa.array(list(activity), pa.string()),
                "hours": pa.array(hours, pa.map_(pa.string(), pa.float64())),
            }
        ),
    )
    times = choose_times(engine, "people", "activity", chosen_from)
    rows = engine.rows(f'select user_id, not_before, reason from {times} join people using ("row")')
    assert len(rows) == len(people)
    return {
        user: (
            None if moment is None else moment.replace(tzinfo=UTC).astimezone(chosen_from.zone),
            reason,
        )
        for user, moment, reason in rows
    }


def at(day: int, hour: int, minute: int = 0, zone: ZoneInfo = SHANGHAI) -> datetime:
    return datetime(2026, 4, day, hour, minute, tzinfo=zone)


def test_everyone_at_their_own_hour(engine: Engine) -> None:
    """Guards against a common hour for all, an hour of the night, and a person left out."""
    times = choose(
        engine,
        [(user, None) for user in ("early", "late", "night", "twice", "new")],
        {
            "early": {9: 3, 20: 1},
            "late": {21: 5, 9: 4},
            "night": {3: 50, 15: 1},  # the best hour that is allowed
            "twice": {12: 2, 20: 2},  # a tie goes by the profile of all: 20 is the better hour
            "somebody else": {10: 1000},
            "new2": {},
        },
        window(date(2026, 4, 1), date(2026, 4, 3)),
    )
    assert times == {
        "early": (at(1, 9), None),
        "late": (at(1, 21), None),
        "night": (at(1, 15), None),
        "twice": (at(1, 20), None),
        "new": (at(1, 9, 30), None),  # all like 9 best (.75 + .44): it shares the hour evenly
    }


def test_a_full_hour_passes_on_to_the_next_best(engine: Engine) -> None:
    """Guards against more than the rate in an hour, and against the best people coming last."""
    people = [(f"u{n}", None) for n in range(10)]
    profile = {user: {20.0: 3.0, 9.0: 2.0, 15.0: 1.0} for user, _ in people}
    whole = {user: {int(h): n for h, n in hours.items()} for user, hours in profile.items()}
    chosen = choose(engine, people, whole, window(date(2026, 4, 1), date(2026, 4, 1), capacity=3))
    times = {user: moment for user, (moment, _) in chosen.items()}
    assert [times[f"u{n}"] for n in range(3)] == [at(1, 20), at(1, 20, 20), at(1, 20, 40)]
    assert [times[f"u{n}"] for n in range(3, 6)] == [at(1, 9), at(1, 9, 20), at(1, 9, 40)]
    assert [times[f"u{n}"] for n in range(6, 9)] == [at(1, 15), at(1, 15, 20), at(1, 15, 40)]
    assert times["u9"] == at(1, 8)  # then any hour that is allowed, the earliest
    # an evening that is short of room goes on the next day
    short = window(date(2026, 4, 1), date(2026, 4, 2), capacity=3, send_from=time(20))
    later = choose(engine, people, whole, short)
    days = Counter(moment.date().day for moment, _ in later.values() if moment)
    assert days == {1: 6, 2: 4}
    assert max(Counter((m.date(), m.hour) for m, _ in later.values() if m).values()) == 3


def test_no_room_is_another_reason_than_no_hour(engine: Engine) -> None:
    """Guards against people who vanish from the plan, or are told to wait for ever."""
    full = window(date(2026, 4, 1), date(2026, 4, 1), capacity=2, send_until=time(9))
    people = [("a", None), ("b", None), ("c", None), ("d", "America/New_York")]
    times = choose(engine, people, {}, full)
    assert times == {
        "a": (at(1, 8), None),
        "b": (at(1, 8, 30), None),
        "c": (None, "window_full"),
        "d": (None, "quiet_hours"),  # 20:00 there
    }


def test_the_window_has_begun(engine: Engine) -> None:
    """Guards against a time that has passed already, for a plan that is made in the afternoon."""
    begun = SendTimeWindow(
        at(1, 15, 30), at(2, 21, 59), SHANGHAI, time(8), time(21, 59), capacity=600
    )
    people = [(f"u{n}", None) for n in range(900)]
    chosen = choose(engine, people, {user: {15: 1} for user, _ in people}, begun)
    times = sorted(moment for moment, _ in chosen.values() if moment)
    assert times[0] == at(1, 15, 30)
    assert sum(moment < at(1, 16) for moment in times) == 300  # half an hour has half the room
    gaps = [b - a for a, b in pairwise(times)]
    assert min(gaps) >= timedelta(seconds=6)
    assert len(times) == 900


@pytest.mark.parametrize(
    ("day", "business"),
    [
        (date(2026, 3, 7), SHANGHAI),
        (date(2026, 10, 31), SHANGHAI),
        (date(2026, 3, 7), NEW_YORK),
        (date(2026, 10, 31), NEW_YORK),
    ],
)
def test_clocks_that_are_set(engine: Engine, day: date, business: ZoneInfo) -> None:
    """Guards against a text at 07:00 or 22:00 after the clock was set, here or there."""
    zones = [None, "America/New_York", "Asia/Shanghai", "Asia/Kolkata", "Pacific/Honolulu"]
    zones += ["America/New_York|America/Los_Angeles", "No/Zone"]
    people = [(f"u{n}", zones[n % len(zones)]) for n in range(24 * 7)]
    activity = {user: {n % 24: 1.0} for n, (user, _) in enumerate(people)}
    chosen_from = window(day, day + timedelta(days=2), business, capacity=10)
    times = choose(engine, people, activity, chosen_from)
    for user, zone in people:
        moment, reason = times[user]
        if zone == "No/Zone":
            assert (moment, reason) == (None, "quiet_hours")  # no hour is open there
            continue
        assert reason is None
        assert moment is not None
        assert is_open(moment, zones_of(zone, business), time(8), time(21, 59)), (zone, moment)
        assert chosen_from.opens <= moment < chosen_from.closes
    by_hour = Counter(
        moment.astimezone(UTC).strftime("%d %H") for moment, _ in times.values() if moment
    )
    assert max(by_hour.values()) <= 10


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    people=st.lists(st.sampled_from([None, "Europe/London", "Asia/Kathmandu"]), max_size=40),
    capacity=st.one_of(st.none(), st.integers(1, 5)),
    span=st.integers(0, 3),
    hours=st.lists(st.dictionaries(st.integers(0, 23), st.integers(0, 9), max_size=4), max_size=40),
)
def test_nobody_is_lost_and_no_hour_overflows(
    engine: Engine,
    people: list[str | None],
    capacity: int | None,
    span: int,
    hours: list[dict[int, int]],
) -> None:
    """Guards against a person without time or reason, and against more than the rate."""
    named = [(f"u{n}", zone) for n, zone in enumerate(people)]
    activity = {f"u{n}": {h: float(c) for h, c in one.items()} for n, one in enumerate(hours)}
    chosen_from = window(date(2026, 4, 1), date(2026, 4, 1 + span), capacity=capacity)
    times = choose(engine, named, activity, chosen_from)
    assert all((moment is None) != (reason is None) for moment, reason in times.values())
    slots = Counter((m.date(), m.hour) for m, _ in times.values() if m)
    if capacity is not None:
        assert all(n <= capacity for n in slots.values())
        full = {user for user, (_, reason) in times.items() if reason == "window_full"}
        if any(user in full for user, zone in named if zone is None):
            days = [date(2026, 4, 1 + n) for n in range(span + 1)]
            assert all(slots[day, hour] == capacity for day in days for hour in range(8, 21))
    for (user, zone), (moment, _) in zip(named, (times[u] for u, _ in named), strict=True):
        if moment is not None:
            assert is_open(moment, zones_of(zone, SHANGHAI), time(8), time(21, 59)), user
