"""What dispatch does beside sending: turns, rates, contact rules, stops, stalls, controls."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event, func, select
from support.dispatch_child import child_program
from support.dispatch_desk import Desk, Provider, second_campaign, states, tuned
from support.sending import crowd, outbox, plan, ready

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.messaging.dispatching import claims as claims_module
from usergrowth_dagster.messaging.dispatching import throttle
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.dispatching.throttle import Bucket
from usergrowth_dagster.messaging.gateways.protocol import Answer, OutBatch, Result
from usergrowth_dagster.messaging.schedules.occurrences import business_now

HEAVY = (
    *("dagster", "mlflow", "pandas", "duckdb", "lightgbm", "sklearn", "pyarrow"),
    *("polars", "deltalake", "matplotlib", "fastapi", "alembic"),
)


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
    outputs = [rival.communicate(timeout=60) for rival in rivals]
    assert [rival.returncode for rival in rivals] == [0, 0], outputs
    assert sum(json.loads(out)["accepted"] for out, _ in outputs) == 1500
    assert Counter(str(line["user_id"]) for line in outbox(desk[1])) == Counter(
        f"u{n}" for n in range(1500)
    )
    assert states(desk) == {("accepted", None): 1500}


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
    lost = Provider(answer=Answer.IN_DOUBT)  # as gateways answer that catch their time-outs
    for _ in range(3):
        assert dispatch(*desk, lost).in_doubt == 1
    up = Provider()
    assert dispatch(*desk, up).accepted == 294
    assert [size for _, size in up.batches] == [1, 100, 100, 93]
    assert dispatch(*desk, up).batches == 0


def test_a_gateway_that_answers_nothing_but_doubt_gets_one_message(desk: Desk) -> None:
    """Guards against the same outage where the gateway catches its time-outs, as those that speak
    HTTP do: batch after batch in doubt."""
    plan(*desk, crowd(400))
    lost = Provider(answer=Answer.IN_DOUBT)
    for _ in range(3):
        dispatch(*desk, lost)
    assert [size for _, size in lost.batches] == [100, 1, 1]
    assert dispatch(*desk, Provider()).accepted == 298


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


def test_messages_deferred_alike_are_recorded_together(desk: Desk) -> None:
    """A throttled batch took a statement for each of its messages."""
    plan(*desk, crowd(30))
    retried: list[object] = []

    def listen(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        if sql.startswith("UPDATE message") and "error_code=" in sql:
            retried.append(sql)

    event.listen(desk[0].engine, "before_cursor_execute", listen)
    assert dispatch(*desk, Throttling()).deferred == 30
    assert len(retried) == 1
    assert states(desk) == {("planned", "deferred"): 30}


class Throttling(Provider):
    """A provider that takes nothing now, and gives no id."""

    def submit(self, batch: OutBatch) -> Sequence[Result]:
        return [Result(m.out_id, Answer.DEFERRED, "X1") for m in batch.messages]
