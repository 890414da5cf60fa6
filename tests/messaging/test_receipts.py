"""Delivery reports and the ledger, on SQLite and PostgreSQL."""

import itertools
import random
import threading
import time
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select
from support.ledger_rows import (
    NOW,
    VAULT,
    messages,
    occurrence,
    open_store,
    rows,
    set_state,
    states,
)
from support.phones import phone

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState as S
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.messaging.dispatching.results import Settled, record
from usergrowth_dagster.messaging.gateways.protocol import Found, Receipt
from usergrowth_dagster.messaging.receiving.receipts import (
    KEEP,
    Taken,
    match_receipts,
    take_receipts,
)

END = {
    Found.DELIVERED: S.DELIVERED,
    Found.UNDELIVERED: S.UNDELIVERED,
    Found.REJECTED: S.UNDELIVERED,
}


def take(store: ControlStore, *receipts: Receipt, gateway: str = "aliyun") -> Taken:
    return take_receipts(store, VAULT, gateway, receipts, utc_now())


def test_every_state_and_report(database_url: str) -> None:
    """Guards against a state that moves backwards, or a row held back that went out after all."""
    store = open_store(database_url)
    place = occurrence(store)
    starts = [s for s in S for _ in Found]
    reports = [f for _ in S for f in Found]
    ids = messages(store, place, starts, error_code="was", reason="why")
    done = take(
        store,
        *(
            Receipt(f, out_id=str(i), request_id="r", code="E1", time=NOW)
            for i, f in zip(ids, reports, strict=True)
        ),
    )
    open_states = (S.IN_DOUBT, S.ACCEPTED, S.PLANNED, S.CLAIMED)
    expected = []
    for state, report in zip(starts, reports, strict=True):
        if state in open_states and report in END:
            expected.append(END[report])
        elif state in open_states and report is Found.ACCEPTED:
            expected.append(S.ACCEPTED)
        else:
            expected.append(state)
    assert states(store) == expected
    waiting = {r["message_id"] for r in rows(store, schema.receipt) if r["pending"]}
    final = [f is not Found.NOT_FOUND for f in reports]
    assert waiting >= {
        i for i, s, f in zip(ids, starts, final, strict=True) if s is S.SUBMITTING and f
    }
    assert done.changed == sum(a is not b for a, b in zip(starts, expected, strict=True))
    for row, start, state in zip(rows(store, schema.message), starts, expected, strict=True):
        if start is state:
            assert (row["error_code"], row["reason"], row["final_time"]) == ("was", "why", None)
        elif state is S.UNDELIVERED:
            assert (row["error_code"], row["reason"]) == ("E1", "provider_undelivered")
            assert row["final_time"] == NOW
        else:
            assert row["error_code"] is None
            assert row["reason"] == (None if start is S.ACCEPTED else "settled_by_receipt")
        if start is not state:
            assert row["sent_time"] == NOW and row["request_id"] == "r"
            assert (row["claimed_by"], row["lease_until"], row["retry_at"]) == (None, None, None)


def test_a_row_never_submitted_is_nobody_s(database_url: str) -> None:
    """Guards against a stray report that ends a row which has not gone out yet."""
    store = open_store(database_url)
    (mine,) = messages(store, occurrence(store), [S.PLANNED], batch_id=None, attempts=0)
    done = take(store, Receipt(Found.DELIVERED, out_id=str(mine)))
    assert states(store) == [S.PLANNED]
    assert done == Taken(1, 1, 0, 1)


def test_pending_until_the_answer_is_written_down(database_url: str) -> None:
    """Guards against a report lost because it overtook the provider's answer to the dispatcher."""
    store = open_store(database_url)
    ids = messages(store, occurrence(store), [S.SUBMITTING] * 3)
    first, second = str(ids[0]), str(ids[1])
    take(store, Receipt(Found.UNDELIVERED, out_id=first, code="E"))
    take(store, Receipt(Found.DELIVERED, out_id=first), Receipt(Found.DELIVERED, out_id=second))
    assert states(store) == [S.SUBMITTING] * 3
    assert match_receipts(store) == 0
    set_state(store, ids[0], S.ACCEPTED)
    set_state(store, ids[1], S.IN_DOUBT, reason="worker_lost")
    # the next report of anybody applies what was pending for its message, in order of arrival
    take(store, Receipt(Found.DELIVERED, out_id=first, code="again"))
    assert states(store) == [S.UNDELIVERED, S.IN_DOUBT, S.SUBMITTING]
    assert match_receipts(store) == 1
    assert states(store) == [S.UNDELIVERED, S.DELIVERED, S.SUBMITTING]
    assert [r["pending"] for r in rows(store, schema.receipt)] == [False] * 4
    assert match_receipts(store) == 0
    # the dispatcher that comes late with its answer changes nothing
    record(store, None, [Settled(ids[1], S.ACCEPTED)])
    assert states(store)[1] is S.DELIVERED


def test_by_request_and_address(database_url: str) -> None:
    """Guards against a report that settles the wrong person's message."""
    store = open_store(database_url)
    place = occurrence(store)
    messages(store, place, [S.ACCEPTED, S.ACCEPTED], request_id="biz")
    messages(store, occurrence(store, name="two"), [S.ACCEPTED], request_id="other")
    take(store, Receipt(Found.DELIVERED, request_id="biz"))  # of two messages: whose?
    take(store, Receipt(Found.DELIVERED, request_id="biz", phone=phone(7)))
    take(store, Receipt(Found.DELIVERED, request_id="biz", phone=phone(1)), gateway="kannel")
    take(store, Receipt(Found.DELIVERED, phone=phone(1)))
    assert states(store) == [S.ACCEPTED] * 3
    take(store, Receipt(Found.DELIVERED, request_id="biz", phone="00" + phone(1)[1:]))
    take(store, Receipt(Found.UNDELIVERED, request_id="other"))
    assert states(store) == [S.ACCEPTED, S.DELIVERED, S.UNDELIVERED]


def test_by_batch_and_address(database_url: str) -> None:
    """Guards against doubts that stay because the provider knows only our batch."""
    store = open_store(database_url)
    first = occurrence(store)
    messages(store, first, [S.IN_DOUBT] * 2)
    second = occurrence(store, name="two")
    messages(store, second, [S.IN_DOUBT] * 2)
    take(
        store,
        Receipt(Found.DELIVERED, batch_id=str(first[1]), phone=phone(1)),
        Receipt(Found.UNDELIVERED, batch_id=str(second[1]), phone=phone(0)),
        Receipt(Found.DELIVERED, batch_id=str(second[1]), phone=phone(9)),
        Receipt(Found.DELIVERED, batch_id=str(second[1])),
    )
    assert states(store) == [S.IN_DOUBT, S.DELIVERED, S.UNDELIVERED, S.IN_DOUBT]


def test_another_installation_s_ids(database_url: str) -> None:
    """Guards against row ids of a second installation on the same account that hit ours."""
    store = open_store(database_url)
    ids = messages(store, occurrence(store), [S.ACCEPTED] * 2, request_id="biz")
    good, other = str(ids[0]), str(ids[1])
    strange = ["x", "", "0" + good, "-1", "9" * 30, "٣", "1.0", f" {good}", "\0", "\ud800"]
    take(store, *(Receipt(Found.DELIVERED, out_id=text, request_id="q") for text in strange))
    take(store, Receipt(Found.DELIVERED, out_id=other, phone=phone(55), request_id="their"))
    assert states(store) == [S.ACCEPTED] * 2
    # the provider's spelling of the number may differ when its request id is the right one
    take(store, Receipt(Found.DELIVERED, out_id=good, phone="0000001", request_id="biz"))
    take(store, Receipt(Found.UNDELIVERED, out_id="foreign", phone=phone(1), request_id="biz"))
    assert states(store) == [S.DELIVERED, S.UNDELIVERED]


def test_unknown_reports_are_kept_and_given_up(database_url: str) -> None:
    """Guards against reports thrown away, and against ever longer rounds of matching."""
    store = open_store(database_url)
    place = occurrence(store)
    take(store, Receipt(Found.DELIVERED, request_id="later", phone=phone(0)))
    old = NOW - timedelta(days=30)
    take_receipts(store, VAULT, "aliyun", [Receipt(Found.DELIVERED, request_id="nobody")], old)
    messages(store, place, [S.ACCEPTED], request_id="later")
    assert match_receipts(store) == 1
    assert states(store) == [S.DELIVERED]
    receipts = {
        r["request_id"]: (r["pending"], r["message_id"]) for r in rows(store, schema.receipt)
    }
    assert receipts["nobody"] == (False, None)
    assert receipts["later"][0] is False
    assert timedelta(days=30) > KEEP
    assert all(phone(0)[1:].encode() not in repr(r).encode() for r in rows(store, schema.receipt))


REPORTS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from([Found.ACCEPTED, Found.DELIVERED, Found.UNDELIVERED]),
        st.sampled_from(["", "E1", "E2"]),
        st.booleans(),  # by row id, or by request and address
    ),
    max_size=12,
)


@given(
    reports=REPORTS,
    starts=st.lists(
        st.sampled_from([S.ACCEPTED, S.IN_DOUBT, S.SUBMITTING, S.PLANNED]), min_size=3, max_size=3
    ),
    cuts=st.lists(st.integers(0, 12), max_size=4),
    repeats=st.lists(st.integers(0, 11), max_size=6),
    late=st.booleans(),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_order_and_doubling(
    shared_store: ControlStore,
    reports: list[tuple[int, Found, str, bool]],
    starts: list[S],
    cuts: list[int],
    repeats: list[int],
    late: bool,
) -> None:
    """Guards against an outcome that hangs on batching, doubling, or when the answer comes in.

    The reference: of each message the first final report that arrived counts.
    """
    store = shared_store
    with store.write() as connection:
        for table in (schema.receipt, schema.message):
            connection.execute(delete(table))
        batch = connection.scalar(select(func.max(schema.batch.c.id)))
        occurrence_id = connection.scalar(select(func.max(schema.occurrence.c.id)))
    ids = messages(store, (occurrence_id, batch), starts, request_id="biz")
    sent = [
        Receipt(status, out_id=str(ids[n]), code=code, time=NOW)
        if by_row
        else Receipt(status, request_id="biz", phone=phone(n), code=code, time=NOW)
        for n, status, code, by_row in reports
    ]
    stream = list(sent)
    for again in repeats:  # a repetition comes at any time after the first
        if again < len(sent):
            stream.insert(random.Random(again).randint(again + 1, len(stream)), sent[again])
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, stop in itertools.pairwise(edges):
        take(store, *stream[start:stop])
        if late and start:
            match_receipts(store)
    for message_id, start in zip(ids, starts, strict=True):
        if start is S.SUBMITTING:
            set_state(store, message_id, S.ACCEPTED)
    match_receipts(store)
    arrivals = {}
    edge_of = {i: max(e for e in edges if e <= i) for i in range(len(stream))}
    for place, receipt in enumerate(stream):
        n = (
            ids.index(int(receipt.out_id))
            if receipt.out_id
            else next(k for k in range(3) if phone(k) == receipt.phone)
        )
        arrivals.setdefault(n, []).append((edge_of[place], receipt.status))
    for n, start in enumerate(starts):
        expected = {S.ACCEPTED if start is S.SUBMITTING else start}
        came = arrivals.get(n, [])
        if any(status is Found.ACCEPTED for _, status in came):
            expected = {S.ACCEPTED}
        finals = [(edge, status) for edge, status in came if status in END]
        if finals:  # within one post with equal times either may count
            expected = {END[status] for edge, status in finals if edge == finals[0][0]}
        assert states(store)[n] in expected
    kept = rows(store, schema.receipt)
    assert len(kept) == len(set(sent))
    assert not any(r["pending"] for r in kept)


@pytest.fixture
def shared_store(database_url: str) -> ControlStore:
    """One store for all examples."""
    store = open_store(database_url)
    occurrence(store)
    return store


def test_a_burst_beside_dispatchers(database_url: str) -> None:
    """Guards against reports lost, doubled or waited for in a circle while rows are written."""
    store = open_store(database_url)
    size = 10_000
    ids = messages(store, occurrence(store), [S.SUBMITTING] * size)
    reports = [
        Receipt(Found.DELIVERED if i % 10 else Found.UNDELIVERED, out_id=str(i), time=NOW)
        for i in ids
    ]
    failures: list[BaseException] = []

    def guarded(work: object) -> threading.Thread:
        def run() -> None:
            try:
                work()  # type: ignore[operator]
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def answer(part: int) -> None:
        for start in range(part * 100, size, 400):
            record(
                store,
                None,
                [Settled(i, S.ACCEPTED, None, "OK", "r") for i in ids[start : start + 100]],
            )

    def report(seed: int) -> None:
        mixed = list(reports)
        random.Random(seed).shuffle(mixed)
        for start in range(0, size, 500):
            take(store, *mixed[start : start + 500])

    def match() -> None:
        while any(thread.is_alive() for thread in threads):
            match_receipts(store)

    def hold() -> None:
        chosen = random.Random(1)
        while any(thread.is_alive() for thread in threads):
            with store.write() as connection:
                one = schema.message.c.id.in_(chosen.sample(ids, 300))
                connection.execute(
                    select(schema.message.c.id)
                    .where(one)
                    .order_by(schema.message.c.id)
                    .with_for_update()
                )
                time.sleep(0.03)

    began = time.monotonic()
    threads = [guarded(lambda part=part: answer(part)) for part in range(4)]
    threads += [guarded(lambda seed=seed: report(seed)) for seed in range(2)]
    others = [guarded(match), guarded(match)]
    if not store.is_sqlite:  # whose one lock would be held
        others.append(guarded(hold))
    for thread in (*threads, *others):
        thread.join()
    match_receipts(store)
    seconds = time.monotonic() - began
    assert not failures
    assert states(store) == [S.DELIVERED if i % 10 else S.UNDELIVERED for i in ids]
    receipts = rows(store, schema.receipt)
    assert len(receipts) == size and not any(r["pending"] for r in receipts)
    assert seconds < 60, seconds
    print(
        f"{store.engine.dialect.name}: 20,000 reports, 10,000 of them doubled, in {seconds:.1f} s"
    )
