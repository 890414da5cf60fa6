"""What dispatch does beside sending: turns, rates, contact rules, stops, stalls, controls."""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from sending import YAML, child_program, crowd, outbox, phone, plan, ready, the_task
from sqlalchemy import func, select

from usergrowth_dagster.control import audit, schema
from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import parse_campaign
from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.jobs import task_running, task_succeeded
from usergrowth_dagster.control.review import review
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.control.tasks import task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.dispatching import claims as claims_module
from usergrowth_dagster.messaging.dispatching import throttle
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.dispatching.throttle import Bucket
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
)
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.operations import stalls as stalls_module
from usergrowth_dagster.messaging.operations.controls import cancel, pause, resume
from usergrowth_dagster.messaging.operations.deliveries import deliveries
from usergrowth_dagster.messaging.operations.reconcile import close, release
from usergrowth_dagster.messaging.operations.stalls import report_stalls, stalls
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.plans.plan import plan_send
from usergrowth_dagster.messaging.policy.suppression import suppress
from usergrowth_dagster.messaging.schedules.occurrences import business_now, occurrences_of
from usergrowth_dagster.settings import Settings, load_settings

Desk = tuple[ControlStore, Settings]
HEAVY = (
    *("dagster", "mlflow", "pandas", "duckdb", "lightgbm", "sklearn", "pyarrow"),
    *("polars", "deltalake", "matplotlib", "fastapi", "alembic"),
)


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Iterator[Desk]:
    store, settings = ready(tmp_path / "home", database_url)
    yield store, settings
    store.close()


def tuned(desk: Desk, **values: object) -> Desk:
    """The desk with other settings."""
    store, settings = desk
    return store, settings.model_copy(update=values)


def states(desk: Desk) -> dict[tuple[str, str | None], int]:
    table = schema.message
    query = select(table.c.state, table.c.reason, func.count()).group_by(
        table.c.state, table.c.reason
    )
    with desk[0].read() as connection:
        return {(str(row[0]), row[1]): row[2] for row in connection.execute(query)}


def row_ids(desk: Desk) -> list[int]:
    with desk[0].read() as connection:
        return list(connection.scalars(select(schema.message.c.id).order_by(schema.message.c.id)))


class Provider:
    """A gateway that counts what it takes, and does something before it answers."""

    rate: float | None = None

    def __init__(
        self,
        name: str = "provider",
        max_batch: int = 100,
        answer: Answer = Answer.ACCEPTED,
        before: Callable[[OutBatch], None] = lambda batch: None,
    ) -> None:
        self.name, self.max_batch, self.answer, self.before = name, max_batch, answer, before
        self.taken: Counter[str] = Counter()
        self.batches: list[tuple[str, int]] = []

    def require_set_up(self) -> None:
        """Nothing to set up."""

    def submit(self, batch: OutBatch) -> Sequence[Result]:
        self.batches.append((batch.schedule, len(batch.messages)))
        self.before(batch)
        if self.answer is Answer.ACCEPTED:
            self.taken.update(message.user_id for message in batch.messages)
        return [Result(m.out_id, self.answer, "X1", f"r{m.out_id}") for m in batch.messages]

    def look_up(self, inquiries: Sequence[Inquiry]) -> Sequence[Finding]:
        return [Finding(one.out_id, Found.NOT_FOUND) for one in inquiries]

    def parse_receipts(self, callback: Callback) -> Sequence[Receipt]:
        return []

    def parse_replies(self, callback: Callback) -> Sequence[Reply]:
        return []


def second_campaign(desk: Desk, name: str, signature: str = "第二商店") -> None:
    """Another campaign with people of its own, planned for the same day."""
    store, settings = desk
    text = YAML.format(selection="{threshold: 0.12}", content="新年好。拒收请回复R")
    for old, new in (
        ("name: december\n", f"name: {name}\n"),
        ("december-2017", f"{name}-2017"),
        ("示例商店", signature),
        ("december offer", f"{name} offer"),
        ("december send", f"{name} send"),
    ):
        text = text.replace(old, new)
    apply_campaign(store, parse_campaign(text), "ann")
    task_running(store, f"{name}-2017")
    task_succeeded(store, f"{name}-2017", population=10, selected=3)
    review(store, "signature", signature, True, None, "bob")
    review(store, "template", f"{name} offer", True, None, "bob")
    plan_send(store, settings, task(store, f"{name}-2017"), [crowd(30)])


def test_dispatch_is_a_small_process(tmp_path: Path) -> None:
    """Guards against a dispatcher that takes seconds and a gigabyte to start."""
    home = tmp_path / "home"
    ready(home, f"sqlite:///{home / 'control.db'}")[0].close()
    code = (
        "import sys\n"
        "from usergrowth_dagster.cli import app\n"
        "try:\n    app(['dispatch', '--once', '--home', sys.argv[1]])\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(home)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines() == ["Nothing is due.", "[]"], done.stderr


def test_two_dispatchers_started_at_once(desk: Desk) -> None:
    """Guards against a person who gets a text from each of two dispatchers."""
    plan(*desk, crowd(1500))
    command = [*child_program(), str(desk[1].home), desk[1].database, "-", "0"]
    rivals = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    found = [rival.communicate(timeout=60) for rival in rivals]
    assert [rival.returncode for rival in rivals] == [0, 0], found
    assert sum(json.loads(out)["accepted"] for out, _ in found) == 1500
    assert Counter(str(line["user_id"]) for line in outbox(desk[1])) == Counter(
        f"u{n}" for n in range(1500)
    )
    assert states(desk) == {("accepted", None): 1500}


def test_pause_and_resume_in_the_middle(desk: Desk) -> None:
    """Guards against a pause that lets the next batch out, and one that cannot be undone."""
    plan(*desk, crowd(250))
    gateway = Provider(before=lambda batch: pause(desk[0], "december", "ann") and None)
    assert dispatch(*desk, gateway).accepted == 100
    assert states(desk) == {("accepted", None): 100, ("planned", None): 150}
    (run,) = deliveries(*desk, business_now(desk[1]))
    assert (run.paused, run.stalled, run.note) == (True, False, "paused")
    assert [one.changed for one in pause(desk[0], "december send", "ann")] == [False]
    assert dispatch(*desk, Provider()).accepted == 0
    assert [one.changed for one in resume(desk[0], "december send", "bob")] == [True]
    assert dispatch(*desk, Provider()).accepted == 150
    done = [(one.actor, one.action) for one in audit.entries(desk[0], action="pause")]
    assert done[0] == ("ann", "pause")
    with pytest.raises(UserError, match=r"no schedule or campaign is called 'x'.*december send"):
        pause(desk[0], "x", "ann")


def test_cancel_in_the_middle(desk: Desk) -> None:
    """Guards against texts after a cancellation, and rows that hang between the states."""
    plan(*desk, crowd(250))
    told = []

    def stop(batch: OutBatch) -> None:
        told.extend(cancel(desk[0], "december send", "ann"))

    gateway = Provider(before=stop)
    assert dispatch(*desk, gateway).accepted == 100  # what was handed over finishes
    assert (told[0].messages + told[0].in_flight, told[0].occurrences) == (250, 1)
    assert told[0].messages >= 50  # the second batch may have been written ahead
    assert states(desk) == {("accepted", None): 100, ("skipped", "cancelled"): 150}
    assert dispatch(*desk, gateway).batches == 0
    (run,) = occurrences_of(desk[0], "december-2017")
    assert run.state is OccurrenceState.CANCELLED
    assert not cancel(desk[0], "december", "ann")[0].changed
    assert not resume(desk[0], "december", "ann")[0].changed  # cancelled is for good


def test_what_comes_back_to_a_cancelled_run_is_not_sent(desk: Desk) -> None:
    """Guards against a deferred or released row of a cancelled occurrence left in limbo."""
    plan(*desk, crowd(3))
    gateway = Provider(
        answer=Answer.DEFERRED, before=lambda batch: cancel(desk[0], "december", "ann") and None
    )
    assert dispatch(*desk, gateway).deferred == 3
    dispatch(*desk, gateway)
    assert states(desk) == {("skipped", "cancelled"): 3}
    with desk[0].write() as connection:
        connection.execute(schema.message.update().values(state=MessageState.IN_DOUBT))
    first, second, _ = row_ids(desk)
    done = release(desk[0], [first, second, 77], "ann", "the provider never saw them")
    assert (done.changed, done.left, done.cancelled) == (0, 1, 2)
    done = close(desk[0], [first, second], "ann", "cancelled anyhow")
    assert done.changed == 2
    assert audit.entries(desk[0], action="close")[0].subject == f"messages {first}, {second}"


def test_opt_out_in_the_middle_is_obeyed(desk: Desk) -> None:
    """Guards against a text to somebody who refused while the campaign was running."""
    store, settings = desk
    vault = open_vault(settings.home)
    plan(*desk, crowd(250))

    def refuse(batch: OutBatch) -> None:
        now = business_now(settings)
        suppress(store, vault, phone=phone(5), reason="reply", source="TD", now=now)
        suppress(store, vault, phone=phone(105), reason="reply", source="TD", now=now)
        suppress(store, vault, user_id="u249", reason="by_hand", source="ann", now=now)

    gateway = Provider(before=refuse)
    counts = dispatch(*desk, gateway)
    assert (counts.accepted, counts.skipped) == (248, 2)
    assert gateway.taken["u5"] == 1  # was out already
    assert not gateway.taken["u105"] + gateway.taken["u249"]
    assert states(desk) == {("accepted", None): 248, ("skipped", "suppressed"): 2}


def test_opt_out_waits_for_no_batch_and_no_batch_overtakes_it(desk: Desk) -> None:
    """Guards against a batch that reads the list before, and commits after, a refusal."""
    store, settings = desk
    if store.is_sqlite:
        pytest.skip("SQLite has one writer: nothing can happen in between")
    vault = open_vault(settings.home)
    plan(*desk, crowd(2))
    refusing = threading.Event()
    worker = claims_module.Claims(store)
    ids = [row["id"] for row in worker.claim(1, 10, business_now(settings)).rows]
    late: list[bool] = []

    def refuse() -> None:
        refusing.set()
        suppress(
            store, vault, phone=phone(1), reason="reply", source="TD", now=business_now(settings)
        )
        with store.read() as connection:
            query = select(schema.message.c.state).where(schema.message.c.user_id == "u1")
            late.append(connection.scalar(query) is MessageState.SUBMITTING)

    def screen(connection: object, message_ids: Sequence[int]) -> list[object]:
        thread.start()
        refusing.wait()
        thread.join(0.5)  # long enough to commit, if it could
        return []

    thread = threading.Thread(target=refuse)
    cleared = worker.submitting(1, ids, "file", business_now(settings), screen=screen)  # type: ignore[arg-type]
    thread.join()
    assert cleared.mine == set(ids)
    assert late == [True]  # the refusal came to stand after the batch


def test_quiet_rows_wait_for_their_own_morning(desk: Desk) -> None:
    """Guards against a text in the night of the recipient, and against one that is forgotten."""
    store, settings = tuned(desk, send_within_hours=24)
    plan(*desk, crowd(3))
    table = schema.message
    with store.write() as connection:
        connection.execute(
            table.update().where(table.c.user_id == "u1").values(zone="America/New_York")
        )
        connection.execute(
            table.update()
            .where(table.c.user_id == "u2")
            .values(not_before=datetime(2017, 12, 28, 4, tzinfo=UTC))
        )
        connection.execute(
            schema.occurrence.update().values(send_by=datetime(2017, 12, 29, 0, tzinfo=UTC))
        )
    gateway = Provider()
    evening = datetime(2017, 12, 28, 3, tzinfo=UTC)  # 11:00 in Shanghai, 22:00 in New York
    counts = dispatch(store, settings, gateway, now=evening)
    assert (counts.accepted, counts.waiting) == (1, 1)
    assert states(desk)["planned", "quiet_hours"] == 1
    morning = datetime(2017, 12, 28, 13, 0, tzinfo=UTC)
    dispatch(store, settings, gateway, now=morning - timedelta(seconds=1))
    assert "u2" in gateway.taken
    assert "u1" not in gateway.taken
    assert dispatch(store, settings, gateway, now=morning).accepted == 1
    assert gateway.taken == Counter(["u0", "u1", "u2"])


@pytest.mark.parametrize(
    ("gateway", "more", "missing"),
    [
        ("twilio", {}, "twilio_from"),
        ("twilio", {"twilio_from": "MG1"}, "twilio_account_sid"),
        ("aliyun", {}, "aliyun_access_key_id"),
        ("webhook", {}, "webhook_secret"),
        ("kannel", {}, "kannel_user"),
    ],
)
def test_a_gateway_that_is_not_set_up_gets_nothing(
    desk: Desk, gateway: str, more: dict[str, str], missing: str
) -> None:
    """Guards against rows in doubt although a setting is missing and nothing left the machine."""
    store, settings = desk
    plan(*desk, crowd(5))
    counts = dispatch(store, settings.model_copy(update={"gateway": gateway, **more}))
    assert len(counts.failed) == 1
    assert missing in counts.failed[0]
    assert states(desk) == {("planned", None): 5}


def test_a_gateway_that_fails_holds_up_no_other(desk: Desk) -> None:
    """Guards against one provider's outage that stops the campaigns of another."""
    store, settings = desk
    plan(*desk, crowd(250))
    second_campaign(desk, "other")
    with store.write() as connection:  # the second one goes another way
        connection.execute(
            schema.occurrence.update()
            .where(schema.occurrence.c.task_id == "other-2017")
            .values(channel="email")
        )

    def fail(batch: OutBatch) -> None:
        raise ConnectionError(f"no route for {batch.messages[0].phone}")

    made = {"sms": Provider("bad", before=fail), "email": Provider("good")}
    from usergrowth_dagster.messaging.dispatching import dispatch as module

    original = module.make_gateway
    module.make_gateway = lambda _settings, channel: made[channel]  # type: ignore[assignment]
    try:
        counts = dispatch(store, settings)
    finally:
        module.make_gateway = original  # type: ignore[assignment]
    assert made["sms"].batches == [("december send", 100)]
    assert sum(made["email"].taken.values()) == 30
    assert counts.failed == ["gateway bad: ConnectionError"]
    assert states(desk)["in_doubt", "ConnectionError"] == 100
    assert states(desk)["planned", None] == 150


def test_an_outage_puts_few_in_doubt(desk: Desk) -> None:
    """Guards against an hour of time-outs after which thousands must be looked up by hand."""
    plan(*desk, crowd(400))

    def fail(batch: OutBatch) -> None:
        raise TimeoutError("no answer")

    down = Provider(before=fail)
    for _ in range(4):
        assert dispatch(*desk, down).failed == ["gateway provider: TimeoutError"]
    assert [size for _, size in down.batches] == [100, 1, 1, 1]
    up = Provider()
    assert dispatch(*desk, up).accepted == 297
    assert [size for _, size in up.batches] == [1, 100, 100, 96]


def test_slow_calls_leave_no_batch_behind(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a batch whose lease has run out when its call begins at last."""
    monkeypatch.setattr("usergrowth_dagster.messaging.dispatching.worker._FRESH", 0.05)
    plan(*desk, crowd(250))
    gateway = Provider(before=lambda batch: time.sleep(0.2))
    counts = dispatch(*desk, gateway)
    assert (counts.accepted, counts.in_doubt) == (250, 0)
    assert max(gateway.taken.values()) == 1
    table = schema.message
    with desk[0].read() as connection:
        assert connection.scalar(select(func.max(table.c.attempts))) == 1
        batches = connection.execute(select(schema.batch.c.size)).scalars().all()
    assert sorted(batches) == [50, 100, 100]  # what was taken back left no batch


def test_rates_hold_over_workers(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against two workers that each use the whole rate, and against rows dropped by it."""
    moment = [datetime(2026, 1, 1, tzinfo=UTC)]
    monkeypatch.setattr(throttle, "database_clock", lambda connection: moment[0])
    plan(*desk, crowd(400))
    now = business_now(desk[1])
    bucket = Bucket.of("provider", "示例商店", 50.0)
    workers = [claims_module.Claims(desk[0]) for _ in range(2)]
    got: list[int] = []
    for tick in range(40):  # ten seconds by the bucket's clock, both always asking for more
        moment[0] += timedelta(seconds=0.25)
        for worker in workers[:: 1 if tick % 2 else -1]:
            claimed = worker.claim(1, 400, now, bucket=bucket, full=10)
            assert claimed.rows or claimed.wait > 0 or sum(got) == 400
            got.append(len(claimed.rows))
    assert sum(got) == 400
    monkeypatch.undo()
    with desk[0].write() as connection:
        connection.execute(schema.message.update().values(state=MessageState.PLANNED))
        connection.execute(schema.token_bucket.delete())
    monkeypatch.setattr(throttle, "database_clock", lambda connection: moment[0])
    total = 0
    for _ in range(12):  # 2.75 seconds: the burst and what comes back, never more
        moment[0] += timedelta(seconds=0.25)
        for worker in workers:
            total += len(worker.claim(1, 400, now, bucket=bucket, full=10).rows)
    assert 180 <= total <= 188  # 50 at once, then 50 a second
    moment[0] -= timedelta(hours=1)  # a clock that is set back neither gives nor blocks
    assert workers[0].claim(1, 400, now, bucket=bucket, full=10).rows == []
    moment[0] += timedelta(seconds=1)
    assert len(workers[0].claim(1, 400, now, bucket=bucket, full=10).rows) == 50


def test_throttled_rows_are_deferred_not_dropped(desk: Desk) -> None:
    """Guards against a rate limit that loses rows, or that holds up another signature."""
    store, settings = tuned(desk, gateway_rate=40.0, gateway_burst=20)
    plan(*desk, crowd(60))
    second_campaign(desk, "other")
    gateway = Provider(max_batch=20)
    first = dispatch(store, settings, gateway, patience=timedelta(microseconds=1))
    assert first.accepted == 40  # each signature's burst
    assert Counter(schedule for schedule, _ in gateway.batches) == {
        "december send": 1,
        "other send": 1,
    }
    assert states(desk)["planned", None] == 50
    rest = dispatch(store, settings, gateway)
    assert first.accepted + rest.accepted == 90
    assert max(gateway.taken.values()) == 2  # u0 … u29 are in both campaigns
    assert states(desk) == {("accepted", None): 90}


def test_stop_is_told_once_and_can_be_resumed(desk: Desk) -> None:
    """Guards against a stop that nobody hears of, is told a hundred times, or names a number."""
    bodies: list[bytes] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        store, settings = tuned(desk, failure_webhook=f"http://127.0.0.1:{server.server_port}/x")
        plan(*desk, crowd(150))
        gateway = Provider(answer=Answer.STOP)
        counts = dispatch(store, settings, gateway)
        assert (len(counts.stopped), counts.batches) == (1, 1)
        assert dispatch(store, settings, gateway).stopped == []
        assert [json.loads(body)["event"] for body in bodies] == ["campaign_stopped"]
        assert b"+999" not in bodies[0]
        assert json.loads(bodies[0])["schedule"] == "december send"
        assert states(desk) == {("planned", None): 50, ("planned", "stop"): 100}
        (told,) = resume(store, "december", "ann")
        assert (told.changed, told.occurrences) == (True, 1)
        gateway.answer = Answer.ACCEPTED
        assert dispatch(store, settings, gateway).accepted == 150

        settings = settings.model_copy(update={"failure_webhook": "http://127.0.0.1:1/x"})
        second_campaign((store, settings), "other")
        gateway.answer = Answer.STOP
        assert len(dispatch(store, settings, gateway).stopped) == 1  # nobody listens: no matter
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_stale_audience_is_refused(desk: Desk) -> None:
    """Guards against texting people by a decision of last week."""
    store, settings = desk
    plan(*desk, crowd(10))
    with store.write() as connection:
        connection.execute(
            schema.occurrence.update().values(
                audience_date=date(2017, 12, 24), send_by=datetime(2017, 12, 29, tzinfo=UTC)
            )
        )
    gateway = Provider()
    counts = dispatch(store, settings, gateway)
    assert (counts.batches, len(counts.stopped)) == (0, 1)
    assert deliveries(store, settings, business_now(settings))[0].note == "audience_stale"
    counts = dispatch(store, settings, gateway, now=datetime(2017, 12, 29, tzinfo=UTC))
    assert counts.expired == 10
    assert states(desk) == {("expired", "send_by_passed"): 10}
    assert deliveries(store, settings, business_now(settings))[0].state == "done"


def test_stalls_are_seen_and_told_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a campaign that nobody sends and nobody misses, and against false alarms."""
    store, settings = desk
    plan(*desk, crowd(150))
    now = business_now(settings)
    assert stalls(store, settings, now) == []  # planned just now
    later = [datetime.now(UTC) + timedelta(minutes=20)]
    monkeypatch.setattr(stalls_module, "utc_now", lambda: later[0])
    monkeypatch.setattr(
        "usergrowth_dagster.control.store.utc_now", lambda: later[0]
    )  # the history's clock
    (stall,) = stalls(store, settings, now)
    assert "december send" in str(stall)
    assert "usergrowth dispatch" in str(stall)
    assert len(report_stalls(store, settings, now)) == 1
    assert report_stalls(store, settings, now) == []  # told
    assert deliveries(store, settings, now)[0].note == "STALLED"
    pause(store, "december", "ann")
    assert stalls(store, settings, now) == []
    with store.write() as connection:
        connection.execute(schema.schedule.update().values(paused=False))
        connection.execute(  # each row's hour is still to come
            schema.message.update().values(not_before=now + timedelta(hours=1))
        )
    assert stalls(store, settings, now) == []
    with store.write() as connection:
        connection.execute(schema.message.update().values(not_before=None))
    claims_module.Claims(store).claim(1, 150, now)  # a dispatcher that dies each time it begins
    assert len(stalls(store, settings, now)) == 1
    with store.write() as connection:
        connection.execute(schema.message.update().values(state=MessageState.PLANNED))
    monkeypatch.undo()
    dispatch(
        store, settings, Provider(max_batch=10), stop=iter([False, False, True, True]).__next__
    )
    monkeypatch.setattr(stalls_module, "utc_now", lambda: later[0])
    assert len(stalls(store, settings, now)) == 1  # moved and stood still again
    assert stalls(store, settings, now)[0].since > stall.since


def test_ledger_is_not_reopened_by_a_race(desk: Desk) -> None:
    """Guards against an occurrence marked done while a row of it was released to go out."""
    plan(*desk, crowd(2))
    dispatch(*desk, Provider(answer=Answer.IN_DOUBT))
    (run,) = occurrences_of(desk[0], "december-2017")
    assert run.state is OccurrenceState.DONE
    first, second = row_ids(desk)
    assert release(desk[0], [first], "ann", "not in the provider's log").changed == 1
    gateway = Provider()
    assert dispatch(*desk, gateway).accepted == 1
    ledger = Ledger(desk[0], open_vault(desk[1].home))
    assert [row["id"] for row in ledger.in_doubt(None, 0, 10)] == [second]
    assert ledger.doubtful() == ["provider"]
    assert load_settings(desk[1].home).stall_minutes == 15
    assert the_task(desk[0]).frozen
