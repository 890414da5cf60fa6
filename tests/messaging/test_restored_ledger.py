"""What is planned after a restore, where the home that was copied may have planned the same."""

from datetime import datetime, time, timedelta

import pytest
from sqlalchemy import func, select
from support.dispatch_child import D
from support.dispatch_desk import Desk, Provider, row_ids, states
from support.sending import CONTENT, YAML, crowd, plan

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import parse_campaign
from usergrowth_dagster.control.jobs import task_running, task_succeeded
from usergrowth_dagster.control.review import review
from usergrowth_dagster.control.store import utc_now
from usergrowth_dagster.control.tasks import register_task, task
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.gateways.protocol import Found, Receipt
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.operations.holds import held_messages
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.plans.plan import plan_send
from usergrowth_dagster.messaging.receiving.receipts import take_receipts
from usergrowth_dagster.messaging.restored import APART, hold_all
from usergrowth_dagster.settings import Settings


def at(settings: Settings, hour: int, days: int = 0) -> datetime:
    """An hour of D, or so many days before it, on the business clock."""
    return datetime.combine(D - timedelta(days=days), time(hour), settings.zone)


def restored(desk: Desk, until: datetime, *uploads: str) -> int:
    """The desk's ledger as a restore leaves it; returns how many messages are held."""
    store, settings = desk
    since = until - timedelta(days=1)
    with store.write(alone=True) as connection:
        return hold_all(
            connection, settings, copied=utc_now(), since=since, until=until, uploads=uploads
        )


def campaign(desk: Desk, name: str, *changes: tuple[str, str]) -> None:
    """A decided, approved campaign of one task."""
    store = desk[0]
    text = YAML.replace(CONTENT, "新年好。拒收请回复R")
    for old, new in (("name: december", f"name: {name}"), ("december-2017", name), *changes):
        text = text.replace(old, new)
    spec = parse_campaign(text)
    apply_campaign(store, spec, "ann")
    if spec.on_upload:
        register_task(store, name, name, D, "sensor")
    task_running(store, name)
    task_succeeded(store, name, population=10, selected=3)
    review(store, "template", spec.template.name, True, None, "bob")


def test_planned_again_after_the_restore(desk: Desk) -> None:
    """Guards against a second text by a plan that the copied home had made and sent after the
    copy, and against ids of its messages and batches that come again."""
    before = plan(*desk, crowd(3)).occurrence.id
    oldest = row_ids(desk)[0]
    assert dispatch(*desk, Provider()).accepted == 3
    assert restored(desk, at(desk[1], 10)) == 0
    campaign(desk, "again")
    plan_send(*desk, task(desk[0], "again"), [crowd(5)])
    assert states(desk) == {("accepted", None): 3, ("in_doubt", "restored"): 5}
    gateway = Provider(name="file")
    assert dispatch(*desk, gateway).batches == 0
    (held,) = held_messages(desk[0])
    assert (held.people, held.gateway) == (5, "file")
    ids = row_ids(desk)
    assert ids[3] - oldest >= APART
    with desk[0].read() as connection:
        batches = connection.scalars(
            select(schema.batch.c.id).where(schema.batch.c.occurrence_id != before)
        ).all()
    assert min(batches) >= APART
    vault = open_vault(desk[1].home)
    report = Receipt(Found.DELIVERED, out_id=str(ids[3]), phone="+9990000000000")
    take_receipts(desk[0], vault, "file", [report], utc_now())
    assert states(desk)["delivered", "settled_by_receipt"] == 1, (
        "a report does not settle what is held"
    )
    assert Ledger(desk[0], vault).in_doubt("file", 0, 10)[0]["id"] == ids[4]


def test_what_was_not_due_yet_goes_out(desk: Desk) -> None:
    """Guards against a restore that holds what nobody can have sent, for ever."""
    assert restored(desk, at(desk[1], 7)) == 0
    plan(*desk, crowd(4))
    assert dispatch(*desk, Provider()).accepted == 4
    with desk[0].read() as connection:
        assert (connection.scalar(select(func.max(schema.batch.c.id))) or 0) >= APART
    assert restored(desk, at(desk[1], 10)) == 0, "what was accepted is held"


@pytest.mark.parametrize("waits", [True, False])
def test_an_upload_that_waited_when_it_was_copied(desk: Desk, waits: bool) -> None:
    """Guards against a second text to an upload that the copied home decided on an earlier day
    than the restored one does."""
    restored(desk, at(desk[1], 10, days=1), *(["fresh"] if waits else []))
    upload = (
        "population: population/fresh\nexecution_date: 2017-12-28",
        "population: population/fresh\nexecution_date: on upload",
    )
    campaign(desk, "fresh", upload)
    plan_send(*desk, task(desk[0], "fresh"), [crowd(2)])
    assert states(desk) == {("in_doubt", "restored") if waits else ("planned", None): 2}


def test_what_goes_out_at_once_is_of_its_day(desk: Desk) -> None:
    """Guards against a second text by ``execute_time: now``: it is due when it is planned, which
    the copied home did earlier on the same day."""
    restored(desk, at(desk[1], 9))
    campaign(
        desk,
        "now",
        ("now send", "now"),
        ("{name: december send}", "{name: at once, execute_time: now}"),
    )
    plan_send(*desk, task(desk[0], "now"), [crowd(2)])
    assert states(desk) == {("in_doubt", "restored"): 2}
