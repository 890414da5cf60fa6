"""Send-time optimization: everyone at their own most active hour, inside a window of days.

The hour profile of a user is the number of events by hour of the day, over the days that a feature
looks back. Its keys ``hh00`` to ``hh23`` are hours of the business time zone, like the days that
they are landed under, wherever the user is; only whether an hour is allowed depends on where the
user is. A user prefers hours by their own events; among hours with equally many, and for a user
without any, by the profile of all recipients (the mean of their shares, so that a busy user counts
no more than another).

An hour takes as many messages as the rate lets through. The best people choose first: whoever finds
their hour full takes the next best one of the same day, then tries the next day. Inside an hour
messages are spread evenly. Having no room at all and having no allowed hour are different reasons.

Everything is set-based; what is held is one row a person. A round of choices is one statement, and
there are at most 24 a day.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from usergrowth_dagster.messaging.policy.hours import zones_of
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_query

if TYPE_CHECKING:
    import pyarrow as pa

FULL = "window_full"
CLOSED = "quiet_hours"
_HOUR = timedelta(hours=1)
_DAY = 24 * 3600.0


@dataclass(frozen=True)
class SendTimeWindow:
    """The time that can be chosen from.

    Args:
        opens: from then on (aware).
        closes: until then.
        zone: the business time zone.
        send_from: start of the allowed time, on the recipient's wall clock.
        send_until: its end.
        capacity: messages an hour; None: without limit.
    """

    opens: datetime
    closes: datetime
    zone: ZoneInfo
    send_from: time
    send_until: time
    capacity: int | None = None

    def slots(self) -> Iterator[tuple[int, datetime, int, int]]:
        """Hours of the business clock: number, start (UTC), day of the window, hour of the day."""
        start = self.opens.astimezone(self.zone).replace(minute=0, second=0, microsecond=0)
        first, moment, number = start.date(), start.astimezone(UTC), 0
        while moment < self.closes:
            wall = moment.astimezone(self.zone)
            yield number, moment, (wall.date() - first).days, wall.hour
            moment, number = moment + _HOUR, number + 1


def choose_times(engine: Engine, people: str, activity: str, window: SendTimeWindow) -> Relation:
    """Choose a time for each of some people.

    Args:
        engine: where the relations are.
        people: relation of ``row`` BIGINT, ``place`` (the best first), ``user_id`` and ``zone``
            (an IANA name, several joined by ``|``, or NULL for the business zone).
        activity: relation of ``user_id`` and ``hours`` MAP(VARCHAR, DOUBLE), as ``user_day``.
        window: the time that can be chosen from.

    Returns:
        ``row``, ``not_before`` TIMESTAMP (UTC) and ``reason``: each of the people once, with a time
        or with a reason, ``window_full`` or ``quiet_hours``.
    """
    _wishes(engine, people, activity)
    zones = [row[0] for row in engine.rows("select distinct zone from send_time_left")]
    engine.bind_arrow("send_time_slots", _slot_table(window, zones))
    engine.run(
        "create or replace temp table send_time_room as select slot, "
        f"{'1e18' if window.capacity is None else repr(window.capacity / 3600)} "
        "* max(room_seconds) as room from send_time_slots group by slot"
    )
    engine.run(
        'create or replace temp table send_time_taken ("row" bigint, place bigint, zone varchar, '
        "slot integer)"
    )
    for (day,) in engine.rows("select distinct day from send_time_slots order by day"):
        _one_day(engine, day)
    return _spread(engine, window)


def _wishes(engine: Engine, people: str, activity: str) -> None:
    """``send_time_left``: everyone with the 24 hours in the order in which they like them."""
    counts = ", ".join(
        f"coalesce(sum(greatest(coalesce(a.hours['hh{hour:02}'], 0), 0)), 0)" for hour in range(24)
    )
    engine.run(
        f"create or replace temp table send_time_profile as select a.user_id, [{counts}] as counts "
        f"from {activity} as a semi join {people} as p on p.user_id = a.user_id "
        "group by a.user_id"
    )
    shares = ", ".join(f"coalesce(sum(counts[{n}] / total), 0)" for n in range(1, 25))
    liked = engine.value(
        f"select [{shares}] from (select counts, list_sum(counts) as total from send_time_profile) "
        "where total > 0"
    )
    order = sorted(range(24), key=lambda hour: (-liked[hour], hour))
    rank = str([order.index(hour) for hour in range(24)])
    engine.run(
        f"""
        create or replace temp table send_time_left as
        select p."row", p.place, coalesce(p.zone, '') as zone,
            case when f.user_id is null then {order}::utinyint[] else
                list_transform(
                    list_sort(list_transform(
                        range(24),
                        lambda h: {{'n': -f.counts[h + 1], 'r': {rank}[h + 1], 'h': h}}
                    )),
                    lambda s: s.h
                )::utinyint[]
            end as hours
        from {people} as p left join send_time_profile as f on f.user_id = p.user_id
        """
    )


def _slot_table(window: SendTimeWindow, names: list[str]) -> "pa.Table":
    """By zone and slot: its day and hour, and from which to which second it is open there."""
    import pyarrow as pa

    slots = []
    for name in names:
        zones = zones_of(name or None, window.zone)
        if not zones:
            continue
        taken = set()
        for slot, start, day, hour in window.slots():
            low = max(0.0, (window.opens - start).total_seconds())
            high = min(3600.0, (window.closes - start).total_seconds())
            room = high - low
            for zone in zones:
                low, high = _open_part(start, zone, window, low, high)
            if high > low and (day, hour) not in taken:  # of an hour that comes twice, the first
                taken.add((day, hour))
                slots.append((name, slot, day, hour, low, high, room))
    layout = pa.schema(
        [
            *(("zone", pa.string()), ("slot", pa.int32()), ("day", pa.int32())),
            *(("hour", pa.int32()), ("low", pa.float64()), ("high", pa.float64())),
            ("room_seconds", pa.float64()),
        ]
    )
    columns = [list(column) for column in zip(*slots, strict=True)] or [[] for _ in layout]
    return pa.table(dict(zip(layout.names, columns, strict=True)), schema=layout)


def _open_part(
    start: datetime, zone: ZoneInfo, window: SendTimeWindow, low: float, high: float
) -> tuple[float, float]:
    """The part of an hour's seconds in which it is allowed in a zone; the first, if there are two.

    An hour in which the clock there is set is left out.
    """
    local = start.astimezone(zone)
    if local.utcoffset() != (start + _HOUR).astimezone(zone).utcoffset():
        return 0.0, 0.0
    begin, end = _seconds(window.send_from), _seconds(window.send_until)
    if begin == end:
        return low, high
    if end < begin:
        end += _DAY
    at = _seconds(local.time())
    for shift in (-_DAY, 0.0, _DAY):
        first, last = max(low, begin + shift - at), min(high, end + shift - at)
        if last > first:
            return first, last
    return 0.0, 0.0


def _seconds(clock: time) -> float:
    return clock.hour * 3600 + clock.minute * 60 + clock.second + clock.microsecond / 1e6


def _one_day(engine: Engine, day: int) -> None:
    """Rounds of choices on one day: the best hour of each, then the next best …"""
    engine.run(
        f"""
        create or replace temp table send_time_want as
        select w."row", w.place, w.zone, list_filter(w.hours, lambda h: z.open[h + 1]) as hours
        from send_time_left as w
        inner join (
            select zone, [{", ".join(f"bool_or(hour = {hour})" for hour in range(24))}] as open
            from send_time_slots where day = {day} group by zone
        ) as z using (zone)
        """
    )
    for choice in range(1, 25):
        longest, room = engine.rows(
            f"""
            select (select max(len(hours)) from send_time_want),
                (select max(room) from send_time_room where slot in
                    (select slot from send_time_slots where day = {day}))
            """
        )[0]
        if not longest or longest < choice or room < 1:
            break
        engine.run(
            f"""
            create or replace temp table send_time_chosen as
            select "row", place, zone, slot
            from (
                select w."row", w.place, w.zone, s.slot, r.room,
                    row_number() over (partition by s.slot order by w.place, w."row") as n
                from send_time_want as w
                inner join send_time_slots as s
                    on s.zone = w.zone and s.day = {day} and s.hour = w.hours[{choice}]
                inner join send_time_room as r on r.slot = s.slot and r.room >= 1
            )
            where n <= room
            """
        )
        engine.run("insert into send_time_taken select * from send_time_chosen")
        engine.run(
            "update send_time_room set room = room - c.people "
            "from (select slot, count(*) as people from send_time_chosen group by slot) as c "
            "where c.slot = send_time_room.slot"
        )
        engine.run(
            "create or replace temp table send_time_want as select w.* from send_time_want as w "
            'anti join send_time_chosen as c on c."row" = w."row"'
        )
    engine.run(
        "create or replace temp table send_time_left as "
        'select w.* from send_time_left as w anti join send_time_taken as t on t."row" = w."row"'
    )


def _spread(engine: Engine, window: SendTimeWindow) -> Relation:
    first = next((start for _, start, _, _ in window.slots()), window.opens)
    base = f"{first.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    times = bind_query(
        engine,
        "send_times",
        f"""
        select t."row", timestamp '{base}' + to_microseconds(cast(1e6 * (
                3600.0 * t.slot + s.low + (s.high - s.low) * (
                    row_number() over (partition by t.slot, s.low, s.high order by t.place, t."row")
                    - 1
                ) / count(*) over (partition by t.slot, s.low, s.high)
            ) as bigint)) as not_before,
            cast(null as varchar) as reason
        from send_time_taken as t
        inner join send_time_slots as s on s.zone = t.zone and s.slot = t.slot
        union all
        select w."row", null, case when z.zone is null then '{CLOSED}' else '{FULL}' end
        from send_time_left as w
        left join (select distinct zone from send_time_slots) as z using (zone)
        """,
        keep=True,
    )
    for name in ("profile", "left", "slots", "room", "taken", "want", "chosen"):
        engine.run(f"drop table if exists send_time_{name}")
    return times
