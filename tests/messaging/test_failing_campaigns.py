"""A campaign of which nearly everything fails with one cause stops, whatever the channel."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import func, select
from support.dispatch_desk import Desk, Provider, states, tuned
from support.sending import crowd, plan

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.store import utc_now
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.failures import (
    ANY,
    Outcomes,
    Stage,
    failing,
    forget,
    report_failing,
)
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Found,
    OutBatch,
    OutMessage,
    Receipt,
    Result,
)
from usergrowth_dagster.messaging.operations.controls import resume
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.receiving.receipts import take_receipts
from usergrowth_dagster.messaging.schedules.occurrences import occurrences_of

_F = schema.failure_score


class Refusing(Provider):
    """Answers each message by its place among all that it was given."""

    def __init__(self, code_of: Callable[[int], str | None], max_batch: int = 20) -> None:
        super().__init__(max_batch=max_batch)
        self.code_of, self.given = code_of, 0

    def submit(self, batch: OutBatch) -> Sequence[Result]:
        self.before(batch)
        return [self._one(message) for message in batch.messages]

    def _one(self, message: OutMessage) -> Result:
        code = self.code_of(self.given)
        self.given += 1
        if code is None:
            self.taken[message.user_id] += 1
            return Result(message.out_id, Answer.ACCEPTED, "OK", f"r{message.out_id}")
        return Result(message.out_id, Answer.REJECTED, code)


UNREGISTERED = "30034"


@pytest.mark.parametrize(
    ("code_of", "between"),
    [
        pytest.param(lambda n: UNREGISTERED, (50, 90), id="everything from the start"),
        pytest.param(lambda n: None if n < 200 else "QUOTA", (250, 290), id="from some moment on"),
        pytest.param(
            lambda n: None if n % 20 == 0 else "isv.SMS_TEMPLATE_ILLEGAL",
            (50, 200),
            id="nearly all",
        ),
    ],
)
def test_rejections_with_one_cause_stop_the_campaign(
    desk: Desk, code_of: Callable[[int], str | None], between: tuple[int, int]
) -> None:
    """Guards against a whole list burnt with a sender that is not registered, a quota that is used
    up, or a template that the operators block."""
    plan(*desk, crowd(600))
    gateway = Refusing(code_of)
    counts = dispatch(*desk, gateway)
    assert between[0] <= gateway.given <= between[1]
    (sentence,) = counts.stopped
    assert "nearly every message is rejected with" in sentence
    assert "usergrowth resume" in sentence
    (run,) = occurrences_of(desk[0], "december-2017")
    assert run.state is OccurrenceState.STOPPED
    assert dispatch(*desk, gateway).batches == 0


@pytest.mark.parametrize(
    "code_of",
    [
        pytest.param(lambda n: "21211" if n % 10 < 8 else None, id="many bad numbers"),
        pytest.param(lambda n: UNREGISTERED if n % 5 else None, id="four of five"),
        pytest.param(lambda n: "21610" if n < 150 else None, id="a block of people who refused"),
        pytest.param(lambda n: "550 5.1.1" if n < 150 else None, id="a block of dead addresses"),
        pytest.param(lambda n: "30034" if n < 40 else None, id="fewer than the setting says"),
    ],
)
def test_other_failures_stop_nothing(desk: Desk, code_of: Callable[[int], str | None]) -> None:
    """Guards against a campaign that stops because some people have bad numbers or have refused."""
    plan(*desk, crowd(600))
    gateway = Refusing(code_of)
    counts = dispatch(*desk, gateway)
    assert (counts.stopped, gateway.given) == ([], 600)


def test_bad_numbers_stop_it_when_nearly_all_are_bad(desk: Desk) -> None:
    """Guards against a list of which nothing is good that is sent to its end."""
    store, settings = tuned(desk, stop_after_failures=20)
    plan(*desk, crowd(400))
    gateway = Refusing(lambda n: "21211")
    counts = dispatch(store, settings, gateway)
    assert "for various causes" in counts.stopped[0]
    assert 200 <= gateway.given <= 240


def test_zero_means_never(desk: Desk) -> None:
    """Guards against a setting that cannot be switched off."""
    store, settings = tuned(desk, stop_after_failures=0)
    plan(*desk, crowd(200))
    counts = dispatch(store, settings, Refusing(lambda n: UNREGISTERED))
    assert (counts.rejected, counts.stopped) == (200, [])


def test_codes_that_differ_stop_it_as_well(desk: Desk) -> None:
    """Guards against a provider whose codes name the message, so that no cause comes twice, and
    against a row in the database for each of them."""
    store, settings = tuned(desk, stop_after_failures=20)
    plan(*desk, crowd(400))
    gateway = Refusing(lambda n: f"error 7 of message {n}")
    assert len(dispatch(store, settings, gateway).stopped) == 1
    assert 200 <= gateway.given <= 240
    with store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(_F)) <= 22


def reporting(desk: Desk, code_of: Callable[[int], str | None]) -> Provider:
    """A provider that takes everything and reports on each batch when it takes the third after."""
    vault = open_vault(desk[1].home)
    waiting: list[list[str]] = []
    reported: list[str] = []

    def report(batch: OutBatch) -> None:
        receipts = []
        for out_id in waiting.pop(0) if len(waiting) == 3 else ():
            code = code_of(len(reported))
            reported.append(out_id)
            status = Found.DELIVERED if code is None else Found.UNDELIVERED
            receipts.append(Receipt(status, out_id=out_id, code=code or ""))
        take_receipts(desk[0], vault, "provider", receipts, utc_now())
        waiting.append([message.out_id for message in batch.messages])

    return Provider(max_batch=20, before=report)


def test_reports_with_one_cause_stop_the_campaign(desk: Desk) -> None:
    """Guards against a provider that accepts everything, and says only in its reports that nothing
    is delivered since the sender is not registered."""
    plan(*desk, crowd(600))
    gateway = reporting(desk, lambda n: UNREGISTERED)
    counts = dispatch(*desk, gateway)
    assert f"is reported as undelivered with {UNREGISTERED}" in counts.stopped[0]
    assert gateway.taken.total() <= 200


def test_some_undelivered_reports_stop_nothing(desk: Desk) -> None:
    """Guards against a stop by the usual share of phones that are switched off."""
    plan(*desk, crowd(400))
    gateway = reporting(desk, lambda n: None if n % 3 else "30003")
    assert dispatch(*desk, gateway).stopped == []
    assert gateway.taken.total() == 400


def test_it_counts_anew_after_a_resume(desk: Desk) -> None:
    """Guards against a campaign that stops at once after somebody has mended the cause."""
    plan(*desk, crowd(400))
    assert len(dispatch(*desk, Refusing(lambda n: UNREGISTERED)).stopped) == 1
    resume(desk[0], "december", "ann")
    gateway = Refusing(lambda n: UNREGISTERED if n < 30 else None)
    counts = dispatch(*desk, gateway)
    assert counts.stopped == []
    assert counts.accepted == gateway.given - 30 > 200


def test_a_campaign_that_is_sent_already_is_reported_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against reports that come when everything is out, of which nobody hears."""
    posted: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(
        "usergrowth_dagster.messaging.failures.post",
        lambda settings, event, **facts: posted.append((event, facts)),
    )
    plan(*desk, crowd(100))
    dispatch(*desk, Provider())
    vault = open_vault(desk[1].home)
    with desk[0].read() as connection:
        ids = connection.scalars(select(schema.message.c.id)).all()
    reports = [Receipt(Found.UNDELIVERED, out_id=str(one), code=UNREGISTERED) for one in ids]
    take_receipts(desk[0], vault, "provider", reports, utc_now())
    take_receipts(desk[0], vault, "provider", reports, utc_now())  # twice counts once
    with desk[0].read() as connection:
        assert set(connection.scalars(select(_F.c.failures))) == {100}
    counts = dispatch(*desk, Provider())
    assert UNREGISTERED in counts.failed[0]
    assert [event for event, _ in posted] == ["campaign_failing"]
    assert posted[0][1]["schedule"] == "december send"
    assert report_failing(*desk) == []


def test_dispatchers_and_receivers_count_together(desk: Desk) -> None:
    """Guards against counts that are lost, or locks that wait for each other, when several
    processes count at once."""
    plan(*desk, crowd(1))
    store, settings = desk
    errors: list[BaseException] = []

    def count(worker: int) -> None:
        try:
            for round_ in range(5):
                outcomes = Outcomes()
                for cause in ("a", "b", "c")[:: 1 if worker % 2 else -1]:
                    for stage in Stage:
                        outcomes.add(1, stage, MessageState.REJECTED, cause)
                outcomes.add(1, Stage.REPORT, MessageState.DELIVERED, None, round_ == 4)
                outcomes.count(store)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=count, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    with store.read() as connection:
        rows = connection.execute(select(_F.c.stage, _F.c.cause, _F.c.failures)).tuples().all()
    counted = {(stage, cause): failures for stage, cause, failures in rows}
    assert counted == {
        (str(stage), cause): 60 if cause == ANY else 20
        for stage in Stage
        for cause in ("a", "b", "c", ANY)
    }
    assert failing(store, settings, 1) is None
    assert failing(*tuned(desk, stop_after_failures=20), 1) is not None  # type: ignore[misc]


def test_a_provider_that_always_contradicts_itself_puts_few_in_doubt(desk: Desk) -> None:
    """Guards against thousands in doubt, one batch after the other, by contrary answers."""

    class Contrary(Provider):
        def submit(self, batch: OutBatch) -> Sequence[Result]:
            return [
                Result(m.out_id, answer)
                for m in batch.messages
                for answer in (Answer.ACCEPTED, Answer.DEFERRED)
            ]

    plan(*desk, crowd(400))
    for _ in range(4):  # after the first call one message goes first, each round
        dispatch(*desk, Contrary(max_batch=20))
    assert sum(number for (state, _), number in states(desk).items() if state == "in_doubt") == 23


@pytest.mark.parametrize("cause", ["known", "new"])
def test_counting_and_resuming_lock_in_one_order(desk: Desk, cause: str) -> None:
    """A report of a new cause and a resumed campaign waited for one another, and one was ended."""
    store, settings = desk
    if store.is_sqlite:
        pytest.skip("SQLite has one writer")
    plan(store, settings, crowd(3))
    (run,) = occurrences_of(store, "december-2017")
    first = Outcomes()
    first.add(run.id, Stage.REPORT, MessageState.UNDELIVERED, "known")
    first.count(store)
    later = Outcomes()
    later.add(run.id, Stage.REPORT, MessageState.UNDELIVERED, cause)
    errors: list[BaseException] = []

    def count() -> None:
        try:
            later.count(store)
        except BaseException as error:
            errors.append(error)

    with store.write() as connection:
        occurrence = schema.occurrence
        connection.execute(
            select(occurrence.c.id).where(occurrence.c.id == run.id).with_for_update()
        )
        counting = threading.Thread(target=count)
        counting.start()
        counting.join(0.5)  # it waits for the occurrence, and must hold no score meanwhile
        forget(connection, run.id)
    counting.join()
    assert errors == []
