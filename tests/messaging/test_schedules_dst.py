"""The clock is set in New York: nobody is texted outside 08:00 to 21:59 where they are.

A daily campaign runs over the change of the clock, by the real dispatcher, hour by hour, for
businesses in Shanghai and in New York, with recipients in both and elsewhere.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from support.phones import phone

from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import parse_campaign
from usergrowth_dagster.control.jobs import task_running, task_succeeded
from usergrowth_dagster.control.review import review
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.control.tasks import task
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.gateways.file import FileGateway
from usergrowth_dagster.messaging.gateways.protocol import OutBatch, Result
from usergrowth_dagster.messaging.plans.plan import plan_send
from usergrowth_dagster.messaging.schedules.occurrences import Occurrence, occurrences_of
from usergrowth_dagster.messaging.schedules.send_times import SendTimeWindow, choose_times
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import open_engine

SPRING, AUTUMN = date(2026, 3, 8), date(2026, 11, 1)

YAML = """\
name: dst
algorithm: churn
training: {{window_days: 180}}
population: population/dst
execution_date: {day}
selection: {{threshold: 0.12}}
signature: {{name: Shop}}
template: {{name: dst, content: "Hello ${{name}}. Reply STOP"}}
schedule: {{name: dst, {schedule}}}
contact: {{max_audience_days: 10, cap_messages: 50}}
"""
PEOPLE = {
    # +1 212 555 01xx is reserved for fiction; the zone comes from the number
    "by number": ("+12125550123", None, "America/New_York"),
    "in Manhattan": (phone(1), "America/New_York", "America/New_York"),
    "in Pudong": (phone(2), "Asia/Shanghai", "Asia/Shanghai"),
    "in Kathmandu": (phone(3), "Asia/Kathmandu", "Asia/Kathmandu"),  # 05:45 ahead of UTC
    "in Los Angeles": (phone(4), "America/Los_Angeles", "America/Los_Angeles"),
    "nobody knows": (phone(5), None, None),
    "badly known": (phone(6), "Moon/Tranquility", None),
}


class Clocked(FileGateway):
    """The file gateway, which notes at what time it was called for whom."""

    now: datetime
    taken: list[tuple[str, str, datetime]]

    def submit(self, batch: OutBatch) -> Sequence[Result]:
        self.taken += [(batch.occurrence, m.user_id, self.now) for m in batch.messages]
        return super().submit(batch)


def rows(hours: dict[str, datetime | None] | None = None) -> pa.Table:
    columns = {
        "user_id": list(PEOPLE),
        "item_id": ["item"] * len(PEOPLE),
        "phone": [number for number, _, _ in PEOPLE.values()],
        "zone": [attribute for _, attribute, _ in PEOPLE.values()],
        "params": ['{"name": "Ann"}'] * len(PEOPLE),
        "segments": [1] * len(PEOPLE),
        "reason": pa.nulls(len(PEOPLE), pa.string()),
    }
    if hours is not None:
        columns["not_before"] = pa.array([hours[user] for user in PEOPLE], pa.timestamp("us"))
    return pa.table(columns)


class Business:
    """A business with a decided campaign, whose days are dispatched hour by hour."""

    def __init__(self, home: Path, timezone: str, day: date, schedule: str) -> None:
        self.zone, self.day = ZoneInfo(timezone), day
        self.settings = load_settings(
            home, timezone=timezone, today=day, database_url=f"sqlite:///{home / 'c.db'}"
        )
        self.store = ControlStore(self.settings.database, self.settings.zone)
        self.store.migrate()
        spec = parse_campaign(YAML.format(day=day, schedule=schedule))
        apply_campaign(self.store, spec, "ann")
        task_running(self.store, "dst")
        task_succeeded(self.store, "dst", population=10, selected=7)
        for kind, name in (("signature", "Shop"), ("template", "dst")):
            review(self.store, kind, name, True, None, "bob")
        self.gateway = Clocked(self.settings.home)
        self.gateway.taken = []

    def run(self, table: pa.Table, days: int) -> list[Occurrence]:
        """Plan, dispatch every hour on the hour and a minute before, and check the local times."""
        plan_send(self.store, self.settings, task(self.store, "dst"), [table])
        start = datetime.combine(self.day, time(), self.zone).astimezone(UTC)
        for hour in range(days * 24):
            for minute in (0, 59):
                self.gateway.now = start + timedelta(hours=hour, minutes=minute)
                dispatch(self.store, self.settings, self.gateway, now=self.gateway.now)
        occurrences = occurrences_of(self.store, "dst")
        self.store.close()
        for occurrence, user, moment in self.gateway.taken:
            local = moment.astimezone(ZoneInfo(PEOPLE[user][2] or str(self.zone)))
            assert time(8) <= local.time() < time(21, 59), (occurrence, user, local)
        # a zone that is not understood holds its person
        texted = [user for user in PEOPLE if user != "badly known"]
        assert Counter((name, user) for name, user, _ in self.gateway.taken) == {
            (one.name, user): 1 for one in occurrences for user in texted
        }
        return occurrences


@pytest.mark.parametrize(
    ("business", "clock", "changes"),
    [
        ("Asia/Shanghai", "20:30", SPRING),
        ("Asia/Shanghai", "20:30", AUTUMN),
        ("America/New_York", "20:30", SPRING),
        ("America/New_York", "20:30", AUTUMN),
        ("America/New_York", "08:00", AUTUMN),
    ],
)
def test_everyone_is_texted_by_day(
    tmp_path: Path, business: str, clock: str, changes: date
) -> None:
    """Guards against a text before 08:00 or after 21:59, a day left out, and a text twice."""
    day = changes - timedelta(days=2)
    schedule = f"execute_time: {day} {clock}:00, repeat_unit: day, repeat_times: 3"
    firm = Business(tmp_path, business, day, schedule)
    occurrences = firm.run(rows(), 6)
    # each of the four days has its occurrence at the same local time, the day of the change too
    due = [one.due.astimezone(firm.zone) for one in occurrences]
    assert [f"{moment:%Y-%m-%d %H:%M}" for moment in due] == [
        f"{day + timedelta(days=k)} {clock}" for k in range(4)
    ]


@pytest.mark.parametrize("changes", [SPRING, AUTUMN])
def test_send_time_optimization_over_the_change(tmp_path: Path, changes: date) -> None:
    """Guards against an own hour that is reckoned before the clock is set, and texted at night."""
    day = changes - timedelta(days=1)
    schedule = f"smart_send: {{start_date: {day}, end_date: {changes + timedelta(days=1)}}}"
    firm = Business(tmp_path, "America/New_York", day, schedule)
    people = pa.table(
        {
            "row": range(len(PEOPLE)),
            "place": range(len(PEOPLE)),
            "user_id": list(PEOPLE),
            "zone": pa.array([zone for _, _, zone in PEOPLE.values()], pa.string()),
        }
    )
    profile = pa.array([[("hh21", 2.0), ("hh08", 1.0)]] * 7, pa.map_(pa.string(), pa.float64()))
    window = SendTimeWindow(
        datetime.combine(day, time(8), firm.zone),
        datetime.combine(changes + timedelta(days=1), time(21, 59), firm.zone),
        firm.zone,
        time(8),
        time(21, 59),
        capacity=1,  # so that some go on the day of the change, and after it
    )
    with open_engine(firm.settings) as engine:
        engine.bind_arrow("people", people)
        engine.bind_arrow("activity", pa.table({"user_id": list(PEOPLE), "hours": profile}))
        times = choose_times(engine, "people", "activity", window)
        chosen = dict(
            engine.rows(f'select user_id, not_before from {times} join people using ("row")')
        )
    firm.run(rows(chosen), 4)
    # each in the first dispatch from the own time on
    for _, user, moment in firm.gateway.taken:
        late = moment - chosen[user].replace(tzinfo=UTC)
        assert timedelta(0) <= late < timedelta(hours=1), user
