"""Planning and dispatch, with crashes and rivals, on SQLite and PostgreSQL."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from sqlalchemy import func, select
from support.dispatch_child import child_program
from support.phones import phone
from support.sending import D, crowd, outbox, people, plan, ready, the_task

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState, OccurrenceState, ScheduleStatus
from usergrowth_dagster.control.review import review
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.control.tasks import register_task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.dispatching import claims as claims_module
from usergrowth_dagster.messaging.dispatching import failpoints, look_ups
from usergrowth_dagster.messaging.dispatching.claims import Claims
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.gateways.file import FileGateway
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Callback,
    Finding,
    Found,
    Inquiry,
    OutBatch,
    Receipt,
    Reply,
    Result,
    Unread,
)
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.operations.controls import close, release
from usergrowth_dagster.messaging.people.person import read_person
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.plans.plan import plan_send
from usergrowth_dagster.messaging.schedules.occurrences import (
    business_now,
    find_occurrence,
    occurrences_of,
)
from usergrowth_dagster.settings import Settings

Desk = tuple[ControlStore, Settings]


def ledger_of(desk: Desk) -> Ledger:
    return Ledger(desk[0], open_vault(desk[1].home))


def states(desk: Desk) -> dict[str, int]:
    table = schema.message
    with desk[0].read() as connection:
        rows = connection.execute(select(table.c.state, func.count()).group_by(table.c.state)).all()
    return {str(state): number for state, number in rows}


def scalar(desk: Desk, query: object) -> object:
    with desk[0].read() as connection:
        return connection.scalar(query)  # type: ignore[call-overload]


def test_plan_gives_everyone_a_row_and_a_reason(desk: Desk) -> None:
    """Guards against people dropped silently, and against a second plan that adds or changes."""
    table = people(
        [
            ("a", phone(1), "李"),
            ("b", None, "李"),
            ("c", "abc", "李"),
            ("d", phone(4), None),
            ("e", phone(5), "x" * 36),
            ("f", phone(1).replace("+", "00"), "李"),
            ("g", "+999 0000-000-007", "名" * 35),
            ("h", "138 5555 0103", "李"),
            ("a", phone(9), "again"),
        ]
    )
    first = plan(*desk, table)
    assert first.states == {"planned": 2, "skipped": 6}
    assert first.reasons == {
        "no_phone": 1,
        "bad_phone": 1,
        "no_country": 1,
        "missing_variable": 1,
        "variable_too_long": 1,
        "shared_phone": 1,
    }
    assert (first.people, first.messages, first.created) == (2, 2, True)
    assert first.cost == pytest.approx(2 * desk[1].message_price)
    again = plan(*desk, people([("z", phone(8), "李")]))
    assert again == first
    assert not again.created
    assert the_task(desk[0]).frozen


@pytest.mark.parametrize(("budget", "planned"), [("0.09", 2), ("0.089", 1), ("0.01", 0), ("99", 5)])
def test_budget_is_never_passed(tmp_path: Path, budget: str, planned: int) -> None:
    """Guards against spending more than the campaign has, and against leaving the best out."""
    url = f"sqlite:///{tmp_path / 'c.db'}"
    desk = ready(tmp_path / "home", url, f"{{budget: {budget}}}")
    made = plan(*desk, crowd(5))
    assert made.states.get("planned", 0) == planned
    assert made.reasons.get("over_budget", 0) == 5 - planned
    assert made.cost <= float(budget)
    table = schema.message
    best = select(func.max(table.c.user_id)).where(table.c.state == MessageState.PLANNED)
    assert scalar(desk, best) == (f"u{planned - 1}" if planned else None)


def test_interrupted_plan_goes_on(desk: Desk) -> None:
    """Guards against half a plan that is sent, or that cannot be finished."""

    def broken() -> Iterator[pa.RecordBatch]:
        yield from crowd(12_000).to_batches(1000)[:7]
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        plan_send(*desk, the_task(desk[0]), broken())
    assert states(desk) == {"planned": 5000}
    assert dispatch(*desk).accepted == 0  # half a plan is not for sending
    assert plan(*desk, crowd(12_000)).states == {"planned": 12_000}


def test_only_approved_and_decided_is_planned(database_url: str, tmp_path: Path) -> None:
    """Guards against sending a text that nobody approved, or to an audience nobody decided."""
    desk = ready(tmp_path / "home", database_url)
    review(desk[0], "template", "december offer", False, "no price", "bob")
    with pytest.raises(
        UserError, match=r"template 'december offer' is rejected \(no price\); only"
    ):
        plan(*desk, crowd(1))
    assert occurrences_of(desk[0], "december-2017") == []
    other = ready(tmp_path / "other", f"sqlite:///{tmp_path / 'o.db'}")
    with other[0].write() as connection:
        connection.execute(schema.group.update().values(status=0))
    with pytest.raises(UserError, match="has no decided audience yet"):
        plan(*other, crowd(1))
    with pytest.raises(UserError, match="lack the column phone"):
        plan_send(*desk_with_passed(tmp_path), [crowd(1).drop_columns(["phone"])])


def desk_with_passed(tmp_path: Path) -> tuple[ControlStore, Settings, object]:
    desk = ready(tmp_path / "third", f"sqlite:///{tmp_path / 't.db'}")
    return (*desk, the_task(desk[0]))


def test_everything_planned_is_written_once(desk: Desk) -> None:
    """Guards against lost or doubled messages, big batches, and numbers that lie about openly."""
    seen: list[tuple[int, int]] = []
    plan(*desk, crowd(250))
    counts = dispatch(*desk, progress=lambda done, total: seen.append((done, total)))
    assert (counts.accepted, counts.batches) == (250, 3)
    assert seen == [(250, 250)]
    assert dispatch(*desk).as_dict() == {
        key: [] if key in ("stopped", "held", "failed") else 0 for key in counts.as_dict()
    }
    lines = outbox(desk[1])
    assert Counter(line["user_id"] for line in lines) == {f"u{n}": 1 for n in range(250)}
    assert max(Counter(line["batch_id"] for line in lines).values()) == 100
    first = next(line for line in lines if line["user_id"] == "u7")
    assert first["phone"] == phone(7)
    assert first["text"] == "【示例商店】亲爱的客7，新年好。拒收请回复R"
    table = schema.message
    assert scalar(desk, select(table.c.id).where(table.c.user_id == "u7")) == int(
        str(first["out_id"])
    )
    (path,) = (desk[1].home / "outbox").rglob("*.jsonl")
    assert (
        path.relative_to(desk[1].home).as_posix()
        == "outbox/december send/20171228-december-2017.jsonl"
    )
    assert path.stat().st_mode & 0o777 == 0o600
    assert scalar(desk, select(schema.schedule.c.status)) is ScheduleStatus.SENT
    assert occurrences_of(desk[0], "december-2017")[0].state is OccurrenceState.DONE
    if desk[0].is_sqlite:
        desk[0].close()
        content = b"".join(f.read_bytes() for f in path.parents[3].glob("control.db*"))
        assert b"u249" in content
        assert phone(249).encode() not in content
        assert b"0000000249" not in content


@pytest.mark.parametrize(
    ("place", "lost", "unsent"),
    [
        (failpoints.CLAIMED, 0, 0),  # nothing was begun: all go out later
        (failpoints.SUBMITTING, 100, 100),  # the provider was never called, which nobody can know
        (failpoints.ANSWERED, 200, 100),  # one is sent, the next is written ahead
        (failpoints.RECORDED, 150, 50),  # one is recorded, one with the provider, one ahead
    ],
)
def test_crash_never_sends_twice(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, place: str, lost: int, unsent: int
) -> None:
    """Guards against a second text, or a person forgotten, after a crash at any write point."""
    plan(*desk, crowd(250))
    command = [*child_program(), str(desk[1].home), desk[1].database, place, "0"]
    crashed = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert crashed.returncode == 9, crashed.stderr
    before = dispatch(*desk)  # leases still hold: what the lost worker had is left alone
    assert before.lost == 0
    later = datetime.now(UTC) + timedelta(minutes=5)
    monkeypatch.setattr(claims_module, "utc_now", lambda: later)
    after = dispatch(*desk)
    assert after.lost == lost
    in_doubt = lost - after.settled  # what is settled was found by look-up
    # the process may have died before the call that it had just begun
    assert in_doubt == unsent or (place, in_doubt) == (failpoints.RECORDED, 150)
    expected = {"accepted": 250 - in_doubt, "in_doubt": in_doubt}
    assert states(desk) == {key: value for key, value in expected.items() if value}
    assert max(Counter(line["user_id"] for line in outbox(desk[1])).values()) == 1
    dispatch(*desk)
    assert len(outbox(desk[1])) == 250 - in_doubt  # doubtful rows are not sent by themselves


def test_rivals_share_the_work(desk: Desk) -> None:
    """Guards against two dispatchers that send the same message."""
    plan(*desk, crowd(2500))
    command = [*child_program(), str(desk[1].home), desk[1].database, "-", "0"]
    rivals = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    accepted = 0
    for rival in rivals:
        output, errors = rival.communicate(timeout=60)
        assert rival.returncode == 0, errors
        accepted += json.loads(output)["accepted"]
    assert accepted == 2500
    assert Counter(line["user_id"] for line in outbox(desk[1])) == {f"u{n}": 1 for n in range(2500)}
    assert states(desk) == {"accepted": 2500}


def test_late_occurrence_expires(desk: Desk) -> None:
    """Guards against a backfill that texts people about a day long past."""
    plan(*desk, crowd(30))
    early = datetime(2017, 12, 27, 23, 59, tzinfo=UTC)  # 07:59 in Shanghai
    assert dispatch(*desk, now=early).accepted == 0
    late = datetime(2017, 12, 29, 0, 0, tzinfo=UTC)  # 24 hours after it was due
    counts = dispatch(*desk, now=late)
    assert (counts.accepted, counts.expired) == (0, 30)
    assert states(desk) == {"expired": 30}
    assert outbox(desk[1]) == []
    assert scalar(desk, select(schema.schedule.c.status)) is ScheduleStatus.FAILED
    assert dispatch(*desk).accepted == 0


def test_window_is_local_to_the_business(desk: Desk) -> None:
    """Guards against hours that are meant in local time and read as UTC."""
    plan(*desk, crowd(1))
    (made,) = occurrences_of(desk[0], "december-2017")
    assert made.due == datetime(2017, 12, 28, 0, 0, tzinfo=UTC)
    assert made.send_by == datetime(2017, 12, 29, 0, 0, tzinfo=UTC)
    assert business_now(desk[1]) == datetime(2017, 12, 28, 2, 0, tzinfo=UTC)


class Moody:
    """A gateway that answers by user, and counts what it took."""

    name = "moody"
    max_batch = 100
    rate: float | None = None
    rate = None

    def __init__(
        self, answers: Mapping[str, Result | None] | None = None, error: bool = False
    ) -> None:
        self.answers, self.error = dict(answers or {}), error
        self.taken: Counter[str] = Counter()
        self.known: dict[str, Found] = {}

    def submit(self, batch: OutBatch) -> Sequence[Result]:
        if self.error:
            raise TimeoutError(f"no answer for {batch.messages[0].phone}")
        results = []
        for message in batch.messages:
            answer = self.answers.get(message.user_id, Result("", Answer.ACCEPTED, "OK", "r1"))
            if answer is None:
                continue
            self.taken[message.user_id] += answer.answer is Answer.ACCEPTED
            results.append(
                Result(
                    message.out_id,
                    answer.answer,
                    answer.code,
                    answer.request_id,
                    answer.retry_after,
                )
            )
        return results

    def look_up(self, inquiries: Sequence[Inquiry]) -> Sequence[Finding]:
        return [Finding(i.out_id, self.known.get(i.phone, Found.NOT_FOUND)) for i in inquiries]

    def parse_receipts(self, callback: Callback) -> Sequence[Receipt]:
        return []

    def parse_replies(self, callback: Callback) -> Sequence[Reply]:
        return []


def test_answers_are_sorted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a bad row that blocks its batch, a throttled one lost, a doubtful one resent."""
    gateway = Moody(
        {
            "u1": Result("", Answer.REJECTED, "isv.MOBILE_NUMBER_ILLEGAL"),
            "u2": Result("", Answer.DEFERRED, "isv.BUSINESS_LIMIT_CONTROL", retry_after=90),
            "u3": Result("", Answer.IN_DOUBT, "isp.SYSTEM_ERROR"),
            "u4": None,
        }
    )
    plan(*desk, crowd(7))
    with desk[0].write() as connection:  # a row that cannot be made into a message
        table = schema.message
        connection.execute(
            table.update().where(table.c.user_id == "u5").values(template_params="{")
        )
    counts = dispatch(*desk, gateway)
    sorted_counts = (
        counts.accepted,
        counts.rejected,
        counts.deferred,
        counts.in_doubt,
        counts.skipped,
    )
    assert sorted_counts == (2, 1, 1, 2, 1)
    rows = {
        c.state: c.reason for c in ledger_of(desk).counts(1) if c.state != MessageState.IN_DOUBT
    }
    assert rows[MessageState.REJECTED] == "provider_rejected"
    assert rows[MessageState.PLANNED] == "deferred"
    assert rows[MessageState.SKIPPED] == "unusable_row"
    gateway.answers.clear()
    assert dispatch(*desk, gateway).accepted == 0  # not before its time
    later = datetime.now(UTC) + timedelta(seconds=100)
    for module in (claims_module, look_ups):
        monkeypatch.setattr(module, "utc_now", lambda: later)
    gateway.known = {phone(3): Found.DELIVERED, phone(4): Found.REJECTED}
    counts = dispatch(*desk, gateway)
    assert (counts.accepted, counts.settled) == (1, 2)
    assert states(desk) == {"accepted": 3, "rejected": 2, "delivered": 1, "skipped": 1}
    assert set(gateway.taken) >= {"u0", "u2", "u6"}
    assert max(gateway.taken.values()) == 1


def test_stop_ends_the_campaign(desk: Desk) -> None:
    """Guards against going on with an account that has no money, and against losing its rows."""
    gateway = Moody({"u0": Result("", Answer.STOP, "isv.AMOUNT_NOT_ENOUGH")})
    plan(*desk, crowd(250))
    counts = dispatch(*desk, gateway)
    assert (counts.batches, counts.accepted, counts.deferred) == (1, 99, 1)
    assert "isv.AMOUNT_NOT_ENOUGH" in counts.stopped[0]
    assert states(desk) == {"accepted": 99, "planned": 151}
    assert dispatch(*desk, gateway).batches == 0
    assert scalar(desk, select(schema.schedule.c.status)) is ScheduleStatus.FAILED


def test_gateway_that_fails_leaves_doubt(desk: Desk) -> None:
    """Guards against a second text after a time-out, and against a number in the ledger's reason."""
    plan(*desk, crowd(150))
    counts = dispatch(*desk, Moody(error=True))
    assert (counts.in_doubt, counts.batches) == (100, 1)
    assert counts.failed == ["gateway moody: TimeoutError"]
    assert states(desk) == {"in_doubt": 100, "planned": 50}
    (doubt,) = (c for c in ledger_of(desk).counts(1) if c.state is MessageState.IN_DOUBT)
    assert doubt.reason == "TimeoutError"
    gateway = Moody()
    assert dispatch(*desk, gateway).accepted == 50
    ids = [row["id"] for row in ledger_of(desk).in_doubt("moody", 0, 200)]
    with pytest.raises(UserError, match="needs a note"):
        release(desk[0], ids, "ann", "")
    done = release(desk[0], ids[:60], "ann", "the provider's log has none of them")
    assert (done.changed, done.left) == (60, 0)
    done = close(desk[0], ids, "ann", "too late for these")
    assert (done.changed, done.left) == (40, 60)
    assert dispatch(*desk, gateway).accepted == 60
    assert states(desk) == {"accepted": 110, "rejected": 40}
    assert max(gateway.taken.values()) == 1


def test_slow_worker_loses_its_claim(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a worker that wakes after its lease and submits what another has taken."""
    plan(*desk, crowd(10))
    now = business_now(desk[1])
    slow, fast = Claims(desk[0], timedelta(seconds=5)), Claims(desk[0])
    rows = slow.claim(1, 100, now).rows
    assert len(rows) == 10
    assert fast.claim(1, 100, now).rows == []
    later = datetime.now(UTC) + timedelta(seconds=6)
    monkeypatch.setattr(claims_module, "utc_now", lambda: later)
    ids = [row["id"] for row in rows]
    assert slow.submitting(1, ids, "file", now).mine == set()
    fast.recover()
    assert len(fast.claim(1, 100, now).rows) == 10
    assert fast.submitting(1, ids, "file", now).mine == set(ids)
    assert scalar(desk, select(func.count()).select_from(schema.batch)) == 1


def test_paused_schedule_waits(desk: Desk) -> None:
    """Guards against a pause that only holds at the start of a dispatch."""
    plan(*desk, crowd(250))

    class Pausing(Moody):
        def submit(self, batch: OutBatch) -> Sequence[Result]:
            with desk[0].write() as connection:
                connection.execute(schema.schedule.update().values(paused=True))
            return super().submit(batch)

    assert dispatch(*desk, Pausing()).accepted == 100
    assert states(desk) == {"accepted": 100, "planned": 150}


def test_second_task_of_a_campaign_is_its_own_occurrence(tmp_path: Path) -> None:
    """Guards against a second upload that is taken for the first and never sent."""
    from support.sending import YAML

    from usergrowth_dagster.control.apply import apply_campaign
    from usergrowth_dagster.control.campaign import parse_campaign
    from usergrowth_dagster.control.jobs import task_running, task_succeeded
    from usergrowth_dagster.control.tasks import task

    desk = ready(tmp_path / "home", f"sqlite:///{tmp_path / 'c.db'}")
    text = YAML.replace("december-2017", "december-*").replace("2017-12-28", "on upload")
    apply_campaign(desk[0], parse_campaign(text), "ann")
    for name in ("december-2017", "december-b"):
        register_task(desk[0], "december", name, D, "sensor")
        if name == "december-b":
            task_running(desk[0], name)
            task_succeeded(desk[0], name, population=1, selected=1)
        plan_send(*desk, task(desk[0], name), [crowd(3)])
        assert dispatch(*desk).accepted == 3
    assert len(outbox(desk[1])) == 6
    assert scalar(desk, select(schema.schedule.c.status)) is ScheduleStatus.SENT


def test_file_gateway_survives_a_torn_line(tmp_path: Path) -> None:
    """Guards against a crash in the middle of a write that spoils the lines after it."""
    gateway = FileGateway(tmp_path)
    from usergrowth_dagster.messaging.gateways.protocol import OutMessage

    def batch(number: int) -> OutBatch:
        message = OutMessage(str(number), f"u{number}", phone(number), "文本", {"a": "b"})
        assert phone(number) not in repr(message)
        return OutBatch(
            str(number),
            "../冬",
            "..",
            "sms",
            "店铺",
            "UG_1",
            "promotion",
            datetime.now(UTC),
            [message],
        )

    def ask(*numbers: int) -> list[Found]:
        asked = [Inquiry(str(n), "../冬", "..", datetime.now(UTC), phone(n)) for n in numbers]
        return [finding.found for finding in gateway.look_up(asked)]

    assert ask(1) == [Found.NOT_FOUND]
    gateway.submit(batch(1))
    path = gateway.path("../冬", "..")
    assert path.parent.parent == tmp_path / "outbox"
    with path.open("ab") as file:
        file.write(b'{"out_id": "2", "user')
    assert ask(1, 2) == [Found.ACCEPTED, Found.NOT_FOUND]
    gateway.submit(batch(3))
    assert ask(1, 2, 3) == [Found.ACCEPTED, Found.NOT_FOUND, Found.ACCEPTED]
    assert len(path.read_text("utf-8").splitlines()) == 2


def test_file_gateway_receipts() -> None:
    """Guards against receipts that are misread, and a traceback for a bad body."""
    gateway = FileGateway(Path())
    body = b'[{"out_id": "1", "success": true, "report_time": "2017-12-28T10:00:00"}, {"out_id": "2", "success": false, "err_code": "X"}]'
    one, two = gateway.parse_receipts(Callback(body))
    assert isinstance(one, Receipt) and isinstance(two, Receipt)
    assert (one.status, one.out_id, two.status, two.code) == (
        Found.DELIVERED,
        "1",
        Found.UNDELIVERED,
        "X",
    )
    for bad in (b"{", b"{}"):
        with pytest.raises(UserError, match="receipts:"):
            gateway.parse_receipts(Callback(bad))
    for entry in (b"1", b'{"success": null}', b'{"out_id": "1", "success": "yes"}'):
        (unread,) = gateway.parse_receipts(Callback(b"[" + entry + b"]"))
        assert isinstance(unread, Unread)


def test_dates_are_those_of_the_task(desk: Desk) -> None:
    """Guards against an occurrence named after another day than the task's."""
    plan(*desk, crowd(1))
    assert (
        occurrences_of(desk[0], "december-2017")[0].name
        == f"{date(2017, 12, 28):%Y%m%d}-december-2017"
    )


def test_a_users_messages_are_found_and_masked(desk: Desk) -> None:
    """Guards against "who got what" that cannot be answered, or answers with the number."""
    made = plan(*desk, people([("a", phone(1), "李"), ("b", None, "李")]))
    dispatch(*desk)
    assert (
        find_occurrence(desk[0], the_task(desk[0])) == occurrences_of(desk[0], "december-2017")[0]
    )
    store, settings = desk
    vault, now = open_vault(settings.home), business_now(settings)

    def messages_of(user_id: str) -> list[dict[str, object]]:
        return read_person(store, settings, vault, user_id, [], now).messages

    (sent,) = messages_of("a")
    assert (sent["state"], sent["address"], sent["task_id"]) == (
        "accepted",
        "+999********01",
        "december-2017",
    )
    (skipped,) = messages_of("b")
    assert (skipped["state"], skipped["reason"], skipped["address"]) == (
        "skipped",
        "no_phone",
        None,
    )
    assert messages_of("c") == []
    assert made.occurrence.name == skipped["occurrence"]
