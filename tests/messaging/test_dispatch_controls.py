"""A person's hand on a dispatch under way: pause, cancel, refusals, stops, stalls."""

import itertools
import json
import statistics
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from sqlalchemy import event, select
from support.dispatch_desk import Desk, Provider, row_ids, second_campaign, states, tuned
from support.phones import phone
from support.sending import crowd, plan, the_task

from usergrowth_dagster.control import audit, schema
from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.dispatching import claims as claims_module
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    OutBatch,
    Result,
)
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.operations import deliveries as stalls_module
from usergrowth_dagster.messaging.operations.controls import cancel, close, pause, release, resume
from usergrowth_dagster.messaging.operations.deliveries import deliveries, report_stalls, stalls
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.policy.suppression import suppress
from usergrowth_dagster.messaging.schedules.occurrences import business_now, occurrences_of
from usergrowth_dagster.settings import load_settings


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
    sentences = []

    def stop(batch: OutBatch) -> None:
        sentences.extend(cancel(desk[0], "december send", "ann"))

    gateway = Provider(before=stop)
    assert dispatch(*desk, gateway).accepted == 100  # what was handed over finishes
    assert (sentences[0].messages + sentences[0].in_flight, sentences[0].occurrences) == (250, 1)
    assert sentences[0].messages >= 50  # the second batch may have been written ahead
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


def test_a_batch_takes_few_statements_and_one_transaction(desk: Desk) -> None:
    """Guards against a statement or a commit a message, or one more a batch, which halves the
    speed without any other sign."""
    plan(*desk, crowd(600))
    ran: list[str] = []
    event.listen(
        desk[0].engine, "before_cursor_execute", lambda _c, _cursor, sql, *_: ran.append(sql)
    )
    marks: list[int] = []
    gateway = Provider(max_batch=50, before=lambda batch: marks.append(len(ran)))
    dispatch(*desk, gateway)
    assert len(marks) == 12
    taken = [b - a for a, b in itertools.pairwise(marks)]
    # the look-up of what has changed, the score of failures, the record (its rows' request ids
    # differ), the write-ahead with the policy; the locks of PostgreSQL and the starts of SQLite
    assert statistics.median(taken) <= 14, taken
    moves = [sql for sql in ran if sql.startswith("UPDATE message") and "batch_id=" in sql]
    assert len(moves) == 12


def test_a_batch_is_found_by_its_ids(desk: Desk) -> None:
    """Guards against a statement of a batch that reads the whole ledger, or all rows of a claim."""
    store, _ = desk
    plan(*desk, crowd(600))
    ran: dict[str, dict[str, Any]] = {}
    many = "json_each" if store.is_sqlite else "ANY ("

    def listen(_connection: object, _cursor: object, sql: str, values: Any, *_: object) -> None:
        if many in sql:
            ran[sql] = values

    event.listen(store.engine, "before_cursor_execute", listen)
    assert dispatch(*desk, Alike(max_batch=50)).accepted == 600
    event.remove(store.engine, "before_cursor_execute", listen)
    assert [sql[:14] for sql in ran].count("UPDATE message") == 2  # the write-ahead, the record
    assert len(ran) >= 3  # and the policy
    if store.is_sqlite:
        _assert_sqlite_searches_by_id(store, ran)
    else:
        _assert_postgres_searches_by_id(store, ran)


def _assert_sqlite_searches_by_id(store: ControlStore, ran: dict[str, dict[str, Any]]) -> None:
    """Every statement looks its messages up by id, whatever the statistics of other indexes say."""
    with store.write() as connection:  # somebody had SQLite count rows while nothing was claimed
        connection.exec_driver_sql("analyze")
        connection.exec_driver_sql(
            "insert into sqlite_stat1 values ('message', 'ix_message_lease_until', '1 1')"
        )
    store.close()  # a new connection reads the statistics
    with store.read() as connection:
        for sql, values in ran.items():
            plan_rows = connection.exec_driver_sql(f"explain query plan {sql}", values)
            steps = [row[3] for row in plan_rows if row[3].split()[1] == "message"]
            assert steps == ["SEARCH message USING INTEGER PRIMARY KEY (rowid=?)"], sql


def _assert_postgres_searches_by_id(store: ControlStore, ran: dict[str, dict[str, Any]]) -> None:
    """The primary key can answer every statement: PostgreSQL takes it once a table is large."""
    with store.write() as connection:
        # the whole ledger is claimed, as in the middle of a large run: other indexes do not help
        connection.exec_driver_sql(
            "update message set state = case when id %% 2 = 0 then 'claimed' else 'submitting' end,"
            " claimed_by = %(worker)s,"
            " lease_until = now() + interval '1 hour'",
            next(values for values in ran.values() if "worker" in values),
        )
        connection.exec_driver_sql("analyze message")
        connection.exec_driver_sql("set local enable_seqscan = off")
        for sql, values in ran.items():
            (plan_json,) = connection.exec_driver_sql(f"explain (format json) {sql}", values).one()
            nodes = list(_plan_nodes(plan_json[0]["Plan"]))
            conditions = [node.get("Index Cond", "") for node in nodes]
            assert any(one.startswith("(id = ANY (") for one in conditions), sql
            assert "Seq Scan" not in {node["Node Type"] for node in nodes}, sql


def _plan_nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _plan_nodes(child)


class Alike(Provider):
    """A provider whose answers for a batch differ in nothing."""

    def submit(self, batch: OutBatch) -> Sequence[Result]:
        self.before(batch)
        return [Result(m.out_id, Answer.ACCEPTED, "OK", "r") for m in batch.messages]


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


def test_stop_is_reported_once_and_can_be_resumed(desk: Desk) -> None:
    """Guards against a stop that nobody hears of, is reported a hundred times, or names a number."""
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
        (sentence,) = resume(store, "december", "ann")
        assert (sentence.changed, sentence.occurrences) == (True, 1)
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


def test_stalls_are_seen_and_reported_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert report_stalls(store, settings, now) == []  # reported before
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
