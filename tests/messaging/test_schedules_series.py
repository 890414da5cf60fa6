"""Later occurrences of repeating schedules, by the real dispatcher, on SQLite and PostgreSQL."""

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import select
from support.phones import phone
from support.sending import CONTENT, D, crowd, outbox, people, plan, ready, the_task

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import parse_campaign
from usergrowth_dagster.control.codes import OccurrenceState, ReviewStatus
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.dispatching.due import work_waits
from usergrowth_dagster.messaging.operations.controls import cancel, pause, resume
from usergrowth_dagster.messaging.schedules import series as series_module
from usergrowth_dagster.messaging.schedules.occurrences import Occurrence, occurrences_of
from usergrowth_dagster.messaging.schedules.series import open_due_repeats
from usergrowth_dagster.messaging.schedules.upcoming import next_due
from usergrowth_dagster.settings import Settings, load_settings

Desk = tuple[ControlStore, Settings]
EVERY_DAY = "repeat_unit: day, repeat_times: 4"
LONG = "contact: {max_audience_days: 30, cap_messages: 50}"


def at(day: int, hour: int, minute: int = 0) -> datetime:
    """A day of December 2017 (32 is the first of January) in Shanghai."""
    local = datetime(2017, 12, 1, hour, minute) + timedelta(days=day - 1)
    return (local - timedelta(hours=8)).replace(tzinfo=UTC)


def repeating(home: Path, url: str, schedule: str = EVERY_DAY, more: str = LONG) -> Desk:
    """A decided campaign that repeats from December 28th at 08:00 on."""
    store, _ = ready(home, url)
    settings = load_settings(home, database_url=url, today=D)
    repeating_again((store, settings), schedule, more)
    return store, settings


def repeating_again(desk: Desk, schedule: str, more: str = LONG) -> None:
    """Apply the campaign with another schedule."""
    text = (
        "name: december\nalgorithm: churn\ntraining: {window_days: 180}\n"
        "population: population/december-2017\nexecution_date: 2017-12-28\n"
        "selection: {threshold: 0.12}\nsignature: {name: 示例商店}\n"
        f'template: {{name: december offer, content: "{CONTENT}"}}\n'
        f"schedule: {{name: december send, {schedule}}}\n{more}\n"
    )
    apply_campaign(desk[0], parse_campaign(text), "ann")


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Iterator[Desk]:
    store, settings = repeating(tmp_path / "home", database_url)
    yield store, settings
    store.close()


def shown(desk: Desk) -> list[tuple[int | None, str, str | None]]:
    return [
        (one.sequence, str(one.state), one.reason)
        for one in occurrences_of(desk[0], "december-2017")
    ]


def sent(desk: Desk) -> Counter[object]:
    return Counter(line["occurrence"] for line in outbox(desk[1]))


def states_of(desk: Desk, sequence: int) -> dict[tuple[str, str | None], int]:
    table = schema.message
    query = (
        select(table.c.state, table.c.reason)
        .join(schema.occurrence, schema.occurrence.c.id == table.c.occurrence_id)
        .where(schema.occurrence.c.sequence == sequence)
    )
    with desk[0].read() as connection:
        return dict(Counter((str(s), r) for s, r in connection.execute(query)))


def test_each_day_sends_once_to_the_same_people(desk: Desk) -> None:
    """Guards against a repeat that is lost, doubled, out of order, or past its count."""
    plan(*desk, crowd(300))
    hours = [at(day, hour, 30) for day in range(28, 36) for hour in (7, 8, 12, 21)]
    for now in hours:
        dispatch(*desk, now=now)
    first = "20171228-december-2017"
    assert sent(desk) == dict.fromkeys((first, *(f"{first}.{k}" for k in range(1, 5))), 300)
    assert {(line["occurrence"], line["user_id"]) for line in outbox(desk[1])} == {
        (name, f"u{n}") for name in sent(desk) for n in range(300)
    }
    assert [(row[0], row[1]) for row in shown(desk)] == [(k, "done") for k in range(5)]
    made = occurrences_of(desk[0], "december-2017")
    assert [one.due for one in made] == [at(28 + k, 8) for k in range(5)]
    assert all(a.send_by <= b.due for a, b in pairwise(made))
    assert {one.audience_date for one in made} == {D}
    order = [line["user_id"] for line in outbox(desk[1]) if line["occurrence"] == f"{first}.2"]
    assert order == [f"u{n}" for n in range(300)]


def test_whoever_asks_whether_work_waits_misses_no_repeat(desk: Desk) -> None:
    """Guards against a scheduler that waits for rows of an occurrence which nobody has opened."""
    plan(*desk, crowd(30))
    rounds = 0
    for now in [at(day, hour, 30) for day in range(28, 36) for hour in (7, 8, 12, 21)]:
        while work_waits(*desk, now):
            dispatch(*desk, now=now)
            rounds += 1
    assert list(sent(desk).values()) == [30] * 5
    assert rounds == 5  # one a day, and none for nothing


def test_a_standstill_gives_no_burst(desk: Desk) -> None:
    """Guards against one text for each missed day, all at once, and against silence about them."""
    plan(*desk, crowd(20))
    dispatch(*desk, now=at(28, 9))
    dispatch(*desk, now=at(31, 15))  # the 29th and 30th went by; the 31st is still in its window
    name = "20171228-december-2017"
    assert sent(desk) == {name: 20, f"{name}.3": 20}
    assert shown(desk) == [(0, "done", None), (2, "done", "missed"), (3, "done", None)]
    note = desk[0].history(series_module.Kind.OCCURRENCE, _id(desk, 2))[-1].note
    assert note.startswith("occurrences 1 to 2, of 2017-12-29 to 2017-12-30: not sent, since no")
    dispatch(*desk, now=at(33, 9))  # the last one's day is over
    assert shown(desk)[-1] == (4, "done", "missed")
    for _ in range(2):
        dispatch(*desk, now=at(60, 9))
    assert len(shown(desk)) == 4
    assert sum(sent(desk).values()) == 40


def _id(desk: Desk, sequence: int) -> int:
    return next(
        one.id for one in occurrences_of(desk[0], "december-2017") if one.sequence == sequence
    )


def test_a_clock_that_jumps_neither_doubles_nor_ends_a_series(desk: Desk) -> None:
    """Guards against a wrong clock for a minute that sends twice, or stops every later day."""
    plan(*desk, crowd(20))
    dispatch(*desk, now=at(28, 9))
    dispatch(*desk, now=at(29, 9))
    dispatch(*desk, now=at(28, 9))  # back by a day
    dispatch(*desk, now=at(29, 10))
    name = "20171228-december-2017"
    assert sent(desk) == {name: 20, f"{name}.1": 20}
    dispatch(*desk, now=at(400, 9))  # far ahead: everything seems to be over
    assert shown(desk)[-1] == (4, "done", "missed")
    dispatch(*desk, now=at(30, 9))  # and back: the day is sent all the same
    dispatch(*desk, now=at(31, 9))
    assert sent(desk) == {name: 20, f"{name}.1": 20, f"{name}.2": 20, f"{name}.3": 20}


def test_several_dispatchers_open_it_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against two processes that each copy the people, or open it before all are there."""
    monkeypatch.setattr("usergrowth_dagster.messaging.schedules.series._CHUNK", 70)
    plan(*desk, crowd(400))
    dispatch(*desk, now=at(28, 9))
    failures: list[BaseException] = []

    def work() -> None:
        store = ControlStore(desk[1].database, desk[1].zone)
        try:
            for _ in range(3):
                open_due_repeats(store, desk[1], at(29, 9))
        except BaseException as error:
            failures.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert shown(desk)[1:] == [(1, "ready", None)]
    assert states_of(desk, 1) == {("planned", None): 400}


def test_an_interrupted_copy_goes_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against half an audience that is sent to, or an occurrence that hangs for ever."""
    plan(*desk, crowd(100))
    dispatch(*desk, now=at(28, 9))

    def broken(*_: object, **__: object) -> bool:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(series_module, "finish_planning", broken)
        with pytest.raises(RuntimeError):
            open_due_repeats(*desk, at(29, 9))
    assert shown(desk)[1:] == [(1, "planning", None)]
    assert dispatch(*desk, now=at(29, 10)).accepted == 100


def test_who_was_left_out_once_is_asked_about_again(desk: Desk) -> None:
    """Guards against a refusal that is forgotten, and against a bad number that comes back."""
    from usergrowth_dagster.messaging.people.phones import open_vault
    from usergrowth_dagster.messaging.policy.suppression import lift, suppress

    vault = open_vault(desk[1].home)
    for number in (1, 2):
        suppress(
            desk[0], vault, phone=phone(number), reason="by_hand", source="test", now=at(27, 9)
        )
    plan(
        *desk,
        people(
            [
                *(("a", phone(1), "李"), ("b", phone(2), "李"), ("c", None, "李")),
                *(("d", phone(4), None), ("e", phone(5), "李"), ("f", phone(5), "李")),
            ]
        ),
    )
    dispatch(*desk, now=at(28, 9))
    lift(desk[0], vault, phone=phone(1), now=at(28, 12))
    suppress(desk[0], vault, phone=phone(5), reason="by_hand", source="test", now=at(28, 12))
    with desk[0].write() as connection:  # erased in between
        table = schema.message
        connection.execute(
            table.update().where(table.c.user_id == "f").values(phone_number=None, user_id="x")
        )
    dispatch(*desk, now=at(29, 9))
    assert states_of(desk, 1) == {
        ("accepted", None): 1,
        ("skipped", "suppressed"): 2,
        ("skipped", "no_phone"): 1,
        ("skipped", "missing_variable"): 1,
        ("skipped", "forgotten"): 1,
    }
    assert sorted(str(line["user_id"]) for line in outbox(desk[1])) == ["a", "e"]


def test_pause_cancel_stop_and_rejection_hold_the_series(desk: Desk) -> None:
    """Guards against a schedule that a person has stopped and that goes on the next day."""
    plan(*desk, crowd(10))
    dispatch(*desk, now=at(28, 9))
    pause(desk[0], "december", "ann")
    dispatch(*desk, now=at(29, 9))
    assert len(shown(desk)) == 1
    resume(desk[0], "december", "ann")
    table = schema.template
    with desk[0].write() as connection:
        connection.execute(table.update().values(status=ReviewStatus.REJECTED))
    dispatch(*desk, now=at(29, 10))
    assert len(shown(desk)) == 1
    with desk[0].write() as connection:
        connection.execute(table.update().values(status=ReviewStatus.APPROVED))
    open_due_repeats(*desk, at(29, 11))
    with desk[0].write() as connection:
        connection.execute(
            schema.occurrence.update()
            .where(schema.occurrence.c.sequence == 1)
            .values(state=OccurrenceState.STOPPED, send_by=at(31, 0))
        )
    dispatch(*desk, now=at(30, 9))  # a person has not looked at the stop yet
    assert [row[0] for row in shown(desk)] == [0, 1]
    cancel(desk[0], "december", "ann")
    dispatch(*desk, now=at(31, 9))
    assert [row[1] for row in shown(desk)] == ["done", "cancelled"]
    assert sum(sent(desk).values()) == 10


def test_an_old_audience_is_not_sent_to(tmp_path: Path) -> None:
    """Guards against a decision of last month that goes on being texted."""
    url = f"sqlite:///{tmp_path / 'c.db'}"
    with pytest.raises(UserError, match=r"contact\.max_audience_days: the schedule sends until"):
        plan(*repeating(tmp_path / "a", url, EVERY_DAY, ""), crowd(1))
    endless = "repeat_unit: day, repeat_times: -1"
    url = f"sqlite:///{tmp_path / 'd.db'}"
    with pytest.raises(UserError, match=r"repeat_times has no end, so say for how many days"):
        plan(*repeating(tmp_path / "b", url, endless, ""), crowd(1))
    url = f"sqlite:///{tmp_path / 'e.db'}"
    desk = repeating(tmp_path / "c", url, endless, "contact: {max_audience_days: 2}")
    assert next_due(*desk, "december send", at(27, 9)) == at(28, 8)  # not decided yet
    plan(*desk, crowd(5))
    for day in range(28, 40):
        dispatch(*desk, now=at(day, 9))
    assert shown(desk) == [
        *((k, "done", None) for k in range(3)),
        (3, "done", "audience_stale"),
    ]
    assert sum(sent(desk).values()) == 15
    assert next_due(*desk, "december send", at(28, 9)) == at(29, 8)
    assert next_due(*desk, "december send", at(31, 9)) is None


def test_a_series_under_way_keeps_its_rhythm(tmp_path: Path) -> None:
    """Guards against numbers that come to mean other days, and an end that cannot be moved."""
    url = f"sqlite:///{tmp_path / 'c.db'}"
    home = tmp_path / "home"
    desk = repeating(home, url)
    plan(*desk, crowd(2))
    with pytest.raises(
        UserError, match=r"schedule\.repeat_unit: .* has begun to repeat every 1 day"
    ):
        repeating_again(desk, "repeat_unit: week, repeat_times: 4")
    repeating_again(desk, "repeat_unit: day, end_time: 2017-12-30 00:00:00")
    for day in range(28, 34):
        dispatch(*desk, now=at(day, 9))
    assert len(sent(desk)) == 2


def test_hours_repeat_in_the_day_and_expire_at_night(tmp_path: Path) -> None:
    """Guards against texts at night, and against a pile of them in the morning."""
    url = f"sqlite:///{tmp_path / 'c.db'}"
    hourly = "execute_time: 2017-12-28 19:30:00, repeat_unit: hour, repeat_times: 14"
    desk = repeating(tmp_path / "home", url, hourly)
    plan(*desk, crowd(3))
    for minute in range(19 * 60, 36 * 60, 15):
        dispatch(*desk, now=at(28, 0) + timedelta(minutes=minute))
    name = "20171228-december-2017"
    went = {name: 3, f"{name}.1": 3, f"{name}.2": 3}  # 19:30, 20:30, 21:30
    went |= {f"{name}.{k}": 3 for k in (12, 13, 14)}  # 07:30 waits for 08:00, then 08:30, 09:30
    assert sent(desk) == went
    assert Counter(states_of(desk, 5)) == {("skipped", "quiet_hours"): 3}


def test_the_budget_of_a_schedule_ends_it(tmp_path: Path) -> None:
    """Guards against repeats that together spend more than the schedule may."""
    url = f"sqlite:///{tmp_path / 'c.db'}"
    desk = repeating(tmp_path / "home", url, f"{EVERY_DAY}, max_cost: 0.4")
    plan(*desk, crowd(3))  # 0.135 a day
    for day in range(28, 34):
        dispatch(*desk, now=at(day, 9))
    assert [number for _, number in sorted(sent(desk).items())] == [3, 3, 2]


def test_now_is_the_moment_of_planning(tmp_path: Path) -> None:
    """Guards against "now" that waits for tomorrow, or sends for a day that has passed."""
    from usergrowth_dagster.messaging.schedules.occurrences import open_occurrence

    def made(number: int, schedule: str, now: datetime) -> Occurrence:
        url = f"sqlite:///{tmp_path / f'{number}.db'}"
        desk = repeating(tmp_path / str(number), url, schedule)
        return open_occurrence(*desk, the_task(desk[0]), now)

    evening = made(1, "execute_time: now", at(28, 20, 30))
    assert (evening.due, evening.send_by) == (at(28, 20, 30), at(29, 20, 30))
    assert made(2, "execute_time: now", at(28, 6)).due == at(28, 8)
    late = made(3, "execute_time: now", at(30, 9))
    assert (late.due, late.send_by) == (at(28, 8), at(29, 8))
    named = made(4, "execute_time: 2017-12-28 23:00:00-05:00", at(28, 9))
    assert named.due == datetime(2017, 12, 29, 4, tzinfo=UTC)
    ended = made(5, "end_time: 2017-12-28 20:00:00", at(28, 9))
    assert (ended.due, ended.send_by, ended.sequence) == (at(28, 8), at(28, 20), None)
    smart = made(6, "smart_send: {start_date: 2017-12-29, end_date: 2017-12-30}", at(28, 9))
    assert (smart.due, smart.send_by) == (at(29, 8), at(30, 21, 59))
