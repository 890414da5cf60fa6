"""Throwing a plan away: only while nobody can have got a text of it, and always on record."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select
from support.dispatch_desk import Desk, Provider, row_ids, states
from support.sending import crowd, ready, the_task

from usergrowth_dagster.control import audit, schema
from usergrowth_dagster.control.codes import JobStatus, Kind, MessageState
from usergrowth_dagster.control.jobs import task_running, task_succeeded
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.dispatching.claims import LEASE, Claims
from usergrowth_dagster.messaging.dispatching.dispatch import _Round, dispatch
from usergrowth_dagster.messaging.gateways.protocol import Answer
from usergrowth_dagster.messaging.operations.controls import cancel, close, release
from usergrowth_dagster.messaging.plans.discard import discard_plan
from usergrowth_dagster.messaging.plans.plan import plan_send
from usergrowth_dagster.messaging.schedules.occurrences import business_now, find_occurrence

PEOPLE = 30


@pytest.fixture
def desk(tmp_path: Path, database_url: str) -> Desk:
    store, settings = ready(tmp_path, database_url)
    plan_send(store, settings, the_task(store), [crowd(PEOPLE)])
    return store, settings


def run_id(desk: Desk) -> int:
    occurrence = find_occurrence(desk[0], the_task(desk[0]))
    assert occurrence is not None
    return occurrence.id


def untouched(desk: Desk) -> None:
    """Nothing has happened to the plan yet."""


def expired(desk: Desk) -> None:
    dispatch(*desk, Provider(), business_now(desk[1]) + timedelta(days=3))
    assert states(desk) == {("expired", "send_by_passed"): PEOPLE}


def cancelled(desk: Desk) -> None:
    cancel(desk[0], "december", "ann")


def given_back(desk: Desk) -> None:
    claims = Claims(desk[0])
    assert claims.claim(run_id(desk), 5, business_now(desk[1])).rows
    claims.give_back()


def taken_back(desk: Desk) -> None:
    """Written ahead and certainly not handed over."""
    claims, now = Claims(desk[0]), business_now(desk[1])
    rows = claims.claim(run_id(desk), 5, now).rows
    ahead = claims.submitting(run_id(desk), [row["id"] for row in rows], "provider", now)
    claims.take_back(ahead)


def claimed(desk: Desk) -> None:
    assert Claims(desk[0]).claim(run_id(desk), 1, business_now(desk[1])).rows


def submitting(desk: Desk) -> None:
    claims, now = Claims(desk[0]), business_now(desk[1])
    rows = claims.claim(run_id(desk), 1, now).rows
    claims.submitting(run_id(desk), [row["id"] for row in rows], "provider", now)


def answered(answer: Answer) -> Callable[[Desk], None]:
    def happen(desk: Desk) -> None:
        dispatch(*desk, Provider(max_batch=1, answer=answer), business_now(desk[1]))

    return happen


def in_doubt(desk: Desk) -> None:
    submitting(desk)
    claims = Claims(desk[0])
    with desk[0].write() as connection:
        connection.execute(schema.message.update().values(lease_until=None))
        connection.execute(
            schema.message.update()
            .where(schema.message.c.state == MessageState.SUBMITTING)
            .values(state=MessageState.IN_DOUBT, reason="worker_lost")
        )
    assert claims.recover() == 0


def released(desk: Desk) -> None:
    in_doubt(desk)
    assert release(desk[0], row_ids(desk), "ann", "it never went out").changed == 1


def closed(desk: Desk) -> None:
    in_doubt(desk)
    assert close(desk[0], row_ids(desk), "ann", "it may have gone out").changed == 1


@pytest.mark.parametrize("before", [untouched, expired, cancelled, given_back, taken_back])
def test_a_plan_that_never_went_out(desk: Desk, before: Callable[[Desk], None]) -> None:
    """A plan that expired as a whole binds its task for ever, or goes without a trace."""
    store, settings = desk
    before(desk)
    first_ids = row_ids(desk)
    done = discard_plan(store, the_task(store), "ann@host", "wrong day")
    assert sum(done.people.values()) == PEOPLE and done.occurrences == ("20171228-december-2017",)
    assert states(desk) == {} and not the_task(store).frozen
    assert the_task(store).status is JobStatus.QUEUED
    entries = audit.entries(store, action="redecide")
    assert [(one.actor, one.subject) for one in entries] == [("ann@host", "task december-2017")]
    assert "wrong day" in entries[0].detail and str(PEOPLE) in entries[0].detail
    with store.read() as connection:
        job = connection.scalar(select(schema.inference_job.c.id)) or 0
    assert "wrong day" in store.history(Kind.INFERENCE_JOB, job)[-1].note
    # and again, up to the texts: an id of the first plan, which a report may name, is not reused
    from usergrowth_dagster.control.jobs import task_running, task_succeeded

    task_running(store, "december-2017")
    task_succeeded(store, "december-2017", population=10, selected=3)
    plan_send(store, settings, the_task(store), [crowd(PEOPLE)])
    assert not set(first_ids) & set(row_ids(desk))
    provider = Provider()
    dispatch(store, settings, provider, business_now(settings))
    assert provider.taken.total() == len(provider.taken) == PEOPLE


@pytest.mark.parametrize(
    "before",
    [
        *(claimed, submitting, in_doubt, released, closed),
        *(answered(one) for one in Answer),
    ],
    ids=lambda one: getattr(one, "__name__", "") if one.__name__ != "happen" else "answered",
)
def test_a_plan_that_may_have_gone_out(desk: Desk, before: Callable[[Desk], None]) -> None:
    """A plan is made again although somebody may have got its text: they are texted twice."""
    before(desk)
    kept = states(desk)
    with pytest.raises(UserError, match=r"keeps its send plan: .* text a person twice"):
        discard_plan(desk[0], the_task(desk[0]), "ann", "wrong day")
    assert states(desk) == kept and the_task(desk[0]).frozen
    assert audit.entries(desk[0], action="redecide") == []


@pytest.mark.parametrize("why", ["", "  "])
def test_a_reason_is_needed(desk: Desk, why: str) -> None:
    """A plan is thrown away and nobody knows why."""
    with pytest.raises(UserError, match="--why"):
        discard_plan(desk[0], the_task(desk[0]), "ann", why)
    assert sum(states(desk).values()) == PEOPLE


def test_without_a_plan(tmp_path: Path, database_url: str) -> None:
    """Nothing to throw away is not said."""
    store, _ = ready(tmp_path, database_url)
    with pytest.raises(UserError, match=r"has no send plan, .* run --date 2017-12-28"):
        discard_plan(store, the_task(store), "ann", "wrong day")
    store.close()


def test_dispatchers_at_the_same_moment(desk: Desk) -> None:
    """A dispatcher takes rows between the look at them and their deletion."""
    store, settings = desk
    provider = Provider(max_batch=1)

    def discard() -> int:
        for _ in range(40):
            try:
                discard_plan(store, the_task(store), "ann", "again")
            except UserError:
                continue
            return 1
        return 0

    with ThreadPoolExecutor(3) as pool:
        sent = [pool.submit(dispatch, store, settings, provider, business_now(settings))]
        thrown = [pool.submit(discard) for _ in range(2)]
        gone = sum(one.result(60) for one in thrown)
        sent[0].result(60)
    with store.read() as connection:
        left = connection.scalar(select(func.count()).select_from(schema.message)) or 0
    # all or nothing, and whoever was texted still stands in the ledger
    assert (gone, left, provider.taken.total()) in [(0, PEOPLE, PEOPLE), (1, 0, 0)]


def test_a_round_under_way_never_sends_the_old_text(desk: Desk) -> None:
    """SQLite gave the new plan the old one's id, and a dispatcher that knew the old text sent it."""
    store, settings = desk
    later = business_now(settings) + timedelta(hours=1)
    with store.write() as connection:
        connection.execute(schema.message.update().values(not_before=later))
    gateway, clock = Provider(), [business_now(settings)]
    with ThreadPoolExecutor(1) as caller:
        round_ = _Round(
            store, settings, gateway, None, LEASE, timedelta(minutes=5), caller, lambda due: {}
        )
        round_.now = lambda: clock[0]  # type: ignore[method-assign]
        (old,) = round_.keep_house()
        round_.turn(old, old.channel)
        discard_plan(store, the_task(store), "ann", "a wrong text")
        task_running(store, "december-2017")
        task_succeeded(store, "december-2017", population=10, selected=3)
        plan_send(store, settings, the_task(store), [crowd(PEOPLE)])
        clock[0] = later
        round_.over.clear()
        assert round_.turn(old, old.channel)[0] == 0 and not gateway.taken
        (new,) = [one for one in round_.keep_house() if (one.id, one.channel) not in round_.over]
        assert new.id > old.id
        assert round_.turn(new, new.channel)[0] > 0 and gateway.taken
