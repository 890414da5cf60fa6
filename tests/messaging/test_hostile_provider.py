"""A provider that contradicts itself or answers with poison, under the real dispatcher.

The property: whatever a provider answers, no message is submitted again after it may have been
taken, every message has a state and a reason, and other campaigns go out.
"""

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from support.dispatch_desk import Desk, Provider, row_ids, second_campaign, states, tuned
from support.phones import phone
from support.sending import crowd, plan, ready

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.store import utc_now
from usergrowth_dagster.messaging.dispatching import claims as claims_module
from usergrowth_dagster.messaging.dispatching import failpoints
from usergrowth_dagster.messaging.dispatching.dispatch import DispatchCounts, dispatch
from usergrowth_dagster.messaging.dispatching.results import Settled, record
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Finding,
    Found,
    Inquiry,
    OutBatch,
    Receipt,
    Result,
)
from usergrowth_dagster.messaging.operations.controls import release
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.receiving.receipts import take_receipts
from usergrowth_dagster.messaging.schedules.occurrences import business_now

Entries = list[Any]
Reply = Callable[[dict[str, Any]], bytes]


class Receiver:
    """A webhook receiver that answers as it likes, and counts what it may have taken."""

    def __init__(self) -> None:
        self.submit: Reply = lambda content: b"{}"
        self.look_up: Reply = lambda content: b'{"results": []}'
        self.attempts: list[str] = []
        self.status = 200
        self.url = ""


@contextmanager
def serving(receiver: Receiver) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        wbufsize = -1

        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path.endswith("/lookup"):
                status, body = 200, receiver.look_up(content)
            else:
                receiver.attempts += [one["out_id"] for one in content["messages"]]
                status, body = receiver.status, receiver.submit(content)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    with serving(made):
        yield made


@pytest.fixture
def desk(
    database_url: str, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    monkeypatch.setenv("USERGROWTH_WEBHOOK_SECRET", "secret-of-the-example")
    store, chosen = ready(tmp_path / "home", database_url)
    yield tuned(
        (store, chosen), gateway="webhook", webhook_url=receiver.url, fictional_numbers=True
    )
    store.close()


def each(*fields: dict[str, Any]) -> Reply:
    """An answer with these entries for each message, in ASCII with escapes."""

    def reply(content: dict[str, Any]) -> bytes:
        results = [
            {"out_id": one["out_id"], **entry} for one in content["messages"] for entry in fields
        ]
        return json.dumps({"results": results}).encode()

    return reply


TAKEN, LATER = {"answer": "accepted"}, {"answer": "deferred", "retry_after": 0.001}


@pytest.mark.parametrize(
    "fields",
    [
        (TAKEN, LATER),
        (LATER, TAKEN),
        (TAKEN, {"answer": "stop"}),
        ({"answer": "rejected"}, TAKEN),
        (LATER, LATER, LATER, TAKEN),
        (LATER, {"answer": "in_doubt"}),
        (LATER, {"answer": "eaten"}),
        (LATER, {}),
    ],
)
def test_contrary_answers_are_in_doubt(
    desk: Desk, receiver: Receiver, fields: tuple[dict[str, Any], ...], monkeypatch: Any
) -> None:
    """Guards against a row that is sent again without end, since of two answers the one that the
    provider has taken nothing was believed."""
    plan(*desk, crowd(6))
    receiver.submit = each(*fields)
    dispatch(*desk)
    later = utc_now() + timedelta(days=2)
    for module in ("claims", "look_ups"):
        monkeypatch.setattr(
            f"usergrowth_dagster.messaging.dispatching.{module}.utc_now", lambda: later
        )
    dispatch(*desk)
    assert max(Counter(receiver.attempts).values()) == 1
    assert states(desk) == {("in_doubt", "provider_in_doubt"): 6}


def test_a_key_that_comes_twice_is_contrary_too(desk: Desk, receiver: Receiver) -> None:
    """Guards against a contradiction within one object, of which a JSON parser keeps the last."""
    plan(*desk, crowd(2))

    def twice(content: dict[str, Any]) -> bytes:
        entries = ",".join(
            f'{{"out_id": "{one["out_id"]}", "answer": "accepted", "answer": "deferred"}}'
            for one in content["messages"]
        )
        return f'{{"results": [{entries}]}}'.encode()

    receiver.submit = twice
    dispatch(*desk)
    assert states(desk) == {("in_doubt", "provider_in_doubt"): 2}


@pytest.mark.parametrize("status", [429, 400, 401, 302, 503])
def test_a_status_that_contradicts_its_body_is_in_doubt(
    desk: Desk, receiver: Receiver, status: int
) -> None:
    """Guards against a second text after "429" over a body that says that it was accepted."""
    plan(*desk, crowd(3))
    receiver.status, receiver.submit = status, each(TAKEN)
    assert dispatch(*desk).stopped == []
    assert states(desk) == {("in_doubt", "provider_in_doubt"): 3}


POISON = [
    *("\ud800", "a\0b", "\x1b]0;x\x07", "\u202e30034", "x" * 100_000, 10**400, -1, 1e308),
    *(float("nan"), float("inf"), float("-inf"), True, None, [], {}, [[["a"]]], {"a": {"b": []}}),
]


@pytest.mark.parametrize("answer", ["accepted", "rejected", "deferred", "in_doubt"])
def test_poison_in_any_field_ends_nothing(desk: Desk, receiver: Receiver, answer: str) -> None:
    """Guards against one bad character or number in a provider's answer that ends the dispatcher
    in every round: a lone surrogate, NUL on PostgreSQL, NaN, a huge number, another type."""
    plan(*desk, crowd(len(POISON)))
    second_campaign(desk, "other")

    def poisoned(content: dict[str, Any]) -> bytes:
        results = [
            {
                "out_id": one["out_id"],
                "answer": answer,
                "code": p,
                "request_id": p,
                "retry_after": p,
            }
            for one, p in zip(content["messages"], POISON * 9, strict=False)
        ]
        results += [{"out_id": p, "answer": "accepted"} for p in POISON]
        return json.dumps({"results": results}).encode()

    receiver.submit = poisoned
    dispatch(*desk)
    findings = [{"found": "undelivered", "code": p, "request_id": p} for p in POISON]

    def looked_up(content: dict[str, Any]) -> bytes:
        results = [
            {"out_id": one["out_id"], **fates}
            for one, fates in zip(content["messages"], findings * 9, strict=False)
        ]
        return json.dumps({"results": results}).encode()

    receiver.look_up = looked_up
    counts = dispatch(*desk, look_up_again=timedelta(0))
    assert counts.failed == []
    state = {"deferred": "planned", "in_doubt": "undelivered"}.get(answer, answer)
    fates: Counter[str] = Counter()
    for (name, _), number in states(desk).items():
        fates[name] += number
    if answer == "in_doubt":  # from then on one message goes first
        assert fates.pop("planned") == 28
        assert fates.pop("in_doubt") == 1
    assert set(fates) == {state}
    assert max(Counter(receiver.attempts).values()) == 1


def test_poison_in_reports_ends_nothing(desk: Desk) -> None:
    """Guards against a report that cannot be stored, and keeps all others of its request out."""
    plan(*desk, crowd(2))
    dispatch(*desk, Provider("webhook"))
    store, chosen = desk
    first, second = row_ids(desk)
    reports: list[Any] = [
        Receipt(Found.DELIVERED, out_id=str(first), code=p, request_id=p, phone=p, batch_id=p)
        for p in POISON
    ]
    reports.append(Receipt(Found.DELIVERED, out_id=str(second)))
    taken = take_receipts(store, open_vault(chosen.home), "webhook", reports, utc_now())
    assert taken.received == len(POISON) + 1
    assert states(desk)["delivered", None] >= 1


class Broken(Provider):
    """A gateway class with mistakes of its own."""

    def __init__(self, results: Any, findings: Any = ()) -> None:
        super().__init__("broken")
        self.results, self.findings = results, findings

    def submit(self, batch: OutBatch) -> Any:
        self.taken.update(message.user_id for message in batch.messages)
        return self.results(batch) if callable(self.results) else self.results

    def look_up(self, inquiries: Sequence[Inquiry]) -> Any:
        return self.findings


@pytest.mark.parametrize(
    "results",
    [
        *(None, 5, "accepted", [None], [[]]),
        lambda batch: [Result(m.out_id, "accepted", 5) for m in batch.messages],
        lambda batch: [Result(None, None, None, None, None) for m in batch.messages],
        lambda batch: [Result(m.out_id, Answer.DEFERRED, "", None, "soon") for m in batch.messages],
    ],
)
def test_a_gateway_that_returns_nonsense_ends_nothing(desk: Desk, results: Any) -> None:
    """Guards against a gateway of one's own whose mistake ends the dispatcher."""
    plan(*desk, crowd(3))
    gateway = Broken(results, [None, 5, Finding("x", None), Finding(None, Found.DELIVERED)])  # type: ignore[arg-type]
    dispatch(*desk, gateway)
    assert dispatch(*desk, gateway, look_up_again=timedelta(0)).failed == []
    assert max(gateway.taken.values()) == 1


def test_an_error_in_one_campaign_keeps_no_other_from_going_out(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against one row that cannot be settled and stops all campaigns, round after round."""
    from usergrowth_dagster.messaging.dispatching import worker

    plan(*desk, crowd(5))
    second_campaign(desk, "other")
    sort = worker.sort_answers

    def unsettled(messages: Any, answers: Any, counts: Any) -> Any:
        settled, stop = sort(messages, answers, counts)
        if len(messages) == 5:
            # what no database can write, as if it had not been cleaned
            settled[0] = Settled(settled[0].message_id, settled[0].state, "\ud800\0")
        return settled, stop

    monkeypatch.setattr(worker, "sort_answers", unsettled)
    gateway = Provider("webhook")
    dispatch(*desk, gateway)
    by_state = states(desk)
    assert by_state["accepted", None] == 30
    doubts = {key: number for key, number in by_state.items() if key[0] == "in_doubt"}
    assert sum(doubts.values()) == 5
    assert all(str(reason).startswith("unwritable_") for _, reason in doubts)

    def raising(messages: Any, answers: Any, counts: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(worker, "sort_answers", raising)
    second_campaign(desk, "third", "第三商店")
    counts = dispatch(*desk, gateway)
    assert "ZeroDivisionError; other campaigns go on" in counts.failed[0]


def test_a_report_that_overtakes_a_deferral_counts(desk: Desk) -> None:
    """Guards against a second text when the provider reports a message as delivered and then
    answers that it took nothing: the row must not go out while the report waits to be applied."""
    plan(*desk, crowd(3))
    store, chosen = desk
    vault = open_vault(chosen.home)

    def report(batch: OutBatch) -> None:
        out_id = batch.messages[0].out_id
        receipts = [Receipt(Found.DELIVERED, out_id=out_id)]
        assert take_receipts(store, vault, "webhook", receipts, utc_now()).pending == 1

    first = row_ids(desk)[0]
    dispatch(*desk, Provider("webhook", answer=Answer.DEFERRED, before=report))
    with store.write() as connection:
        connection.execute(schema.message.update().values(retry_at=None))
    worker = claims_module.Claims(store)
    claimed = worker.claim(1, 10, business_now(chosen)).rows
    assert first not in [row["id"] for row in claimed]
    worker.give_back()
    gateway = Provider("webhook")
    dispatch(*desk, gateway)
    assert gateway.taken == Counter(["u1", "u2"])
    assert states(desk)["delivered", "settled_by_receipt"] == 1


@pytest.mark.parametrize("late", [Answer.DEFERRED, Answer.REJECTED, Answer.ACCEPTED])
def test_the_late_answer_of_an_earlier_batch(desk: Desk, late: Answer) -> None:
    """Guards against a worker that wakes long after its lease, and whose answer undoes what another
    worker is doing with the same row after a person has released it."""
    plan(*desk, crowd(1))
    store, chosen = desk
    now = business_now(chosen)
    (row,) = row_ids(desk)
    first, second = claims_module.Claims(store, timedelta(0)), claims_module.Claims(store)
    asleep = claims_module.Claims(store)
    asleep.claim(1, 10, now)
    old = asleep.submitting(1, [row], "webhook", now)
    assert old.mine == {row}
    with store.write() as connection:
        connection.execute(schema.message.update().values(lease_until=utc_now()))
    assert first.recover() == 1
    assert release(store, [row], "ann", "not in the provider's log").changed == 1
    states_of = {
        Answer.DEFERRED: Settled(row, MessageState.PLANNED, "deferred"),
        Answer.REJECTED: Settled(row, MessageState.REJECTED, "provider_rejected"),
        Answer.ACCEPTED: Settled(row, MessageState.ACCEPTED),
    }
    if late is Answer.ACCEPTED:  # it need not go out again
        assert record(store, old.batch_id, [states_of[late]]) == 1
        assert second.claim(1, 10, now).rows == []
        return
    second.claim(1, 10, now)
    new = second.submitting(1, [row], "webhook", now)
    assert new.mine == {row}
    assert record(store, old.batch_id, [states_of[late]]) == 0
    assert record(store, new.batch_id, [Settled(row, MessageState.ACCEPTED)]) == 1


def test_a_worker_that_wakes_after_its_lease_hands_nothing_over(desk: Desk) -> None:
    """Guards against a second text by a process that was stopped between writing a batch ahead and
    calling the provider, while a person released the batch and another worker sent it."""
    plan(*desk, crowd(4))
    store, chosen = desk
    lease = timedelta(seconds=1)
    gateway = Provider("webhook")
    gateway_of_the_other = Provider("webhook")

    def stopped() -> None:
        failpoints.ACTIONS.clear()
        time.sleep(1.2)
        dispatch(store, chosen, gateway_of_the_other, lease=lease)
        ids = row_ids(desk)
        assert release(store, ids, "ann", "not in the provider's log").changed == 4
        assert dispatch(store, chosen, gateway_of_the_other, lease=lease).accepted == 4

    failpoints.ACTIONS[failpoints.SUBMITTING] = stopped
    try:
        dispatch(store, chosen, gateway, lease=lease)
    finally:
        failpoints.ACTIONS.clear()
    assert max((gateway.taken + gateway_of_the_other.taken).values()) == 1
    assert states(desk) == {("accepted", None): 4}


ANSWERS = st.sampled_from([*(str(a) for a in Answer), "eaten", "", None])
WHOM = st.integers(0, 4)
LISTS = st.lists(
    st.tuples(WHOM, ANSWERS, st.sampled_from(["", "0", "+", " "])), min_size=0, max_size=9
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(LISTS, st.sampled_from([200, 200, 200, 429, 500])), min_size=3, max_size=3)
)
def test_nothing_goes_out_again_after_it_may_have_been_taken(
    hostile: tuple[Desk, Receiver], rounds: list[tuple[Any, int]]
) -> None:
    """Guards against any list of answers (contrary, doubled, missing, for ids that were never asked
    for) over several responses after which a message that may have been taken is sent again."""
    desk, receiver = hostile
    with desk[0].write() as connection:
        connection.execute(
            schema.message.update().values(
                state=MessageState.PLANNED, attempts=0, retry_at=None, batch_id=None, reason=None
            )
        )
        connection.execute(schema.occurrence.update().values(state=OccurrenceState.READY))
    ids = [str(one) for one in row_ids(desk)]
    may_have: set[str] = set()
    for answers, status in rounds:

        def reply(content: dict[str, Any], answers: Any = answers, status: int = status) -> bytes:
            asked = [one["out_id"] for one in content["messages"]]
            assert not may_have & set(asked), "it was sent again"
            fates: dict[str, set[Any]] = {one: set() for one in asked}
            for whom, answer, _ in answers:
                fates.setdefault(ids[whom % len(ids)], set()).add(answer)
            for one in asked:
                nothing = {"deferred", "stop", "rejected"}
                says = fates[one]
                if status == 429:
                    taken = any("accepted" in fates[each] for each in asked)
                else:
                    taken = status == 500 or len(says) != 1 or not says <= nothing
                if taken:
                    may_have.add(one)
            results = [
                {"out_id": f"{mark}{ids[whom % len(ids)]}", "answer": answer}
                for whom, answer, mark in answers
            ]
            return json.dumps({"results": results}).encode()

        receiver.submit, receiver.status = reply, status
        dispatch(*desk)
        with desk[0].write() as connection:
            connection.execute(schema.message.update().values(retry_at=None))
            connection.execute(
                schema.occurrence.update().values(state=OccurrenceState.READY, reason=None)
            )
    with desk[0].read() as connection:
        rows = connection.execute(select(schema.message.c.id, schema.message.c.state)).all()
    for row_id, state in rows:
        if str(row_id) in may_have:
            assert state in (MessageState.IN_DOUBT, MessageState.ACCEPTED), state


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, Receiver]]:
    """One desk and one receiver for all examples."""
    home = tmp_path_factory.mktemp("hostile")
    made = Receiver()
    os.environ["USERGROWTH_WEBHOOK_SECRET"] = "secret-of-the-example"
    store, chosen = ready(home / "home", f"sqlite:///{home / 'control.db'}")
    try:
        with serving(made):
            desk = tuned((store, chosen), gateway="webhook", webhook_url=made.url)
            plan(*desk, crowd(5))
            yield desk, made
    finally:
        del os.environ["USERGROWTH_WEBHOOK_SECRET"]
        store.close()


def test_watching_survives_a_round_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against `dispatch --watch` that ends, and sends nothing any more, after one error."""
    from usergrowth_dagster.homes.stores import control_store
    from usergrowth_dagster.messaging.dispatching import watching

    rounds: list[int] = []

    def failing(*_: object, **__: object) -> DispatchCounts:
        rounds.append(1)
        if len(rounds) == 1:
            raise ValueError(f"a number such as {phone(1)}")
        os.kill(os.getpid(), signal.SIGTERM)
        return DispatchCounts(accepted=7)

    monkeypatch.setattr(watching, "dispatch", failing)
    said: list[str] = []
    with control_store(tmp_path) as (store, settings):
        watching.dispatch_forever(store, settings, 0.01, said.append, lambda _due: {})
    assert "a round failed with ValueError" in said[1]
    assert "accepted 7" in said[2]
    assert phone(1) not in "".join(said)
