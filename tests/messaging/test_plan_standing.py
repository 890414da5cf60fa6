"""How the people of a plan stand now, as a preview shows it."""

from datetime import timedelta
from pathlib import Path

from support.dispatch_desk import Desk, Provider
from support.sending import crowd, ready, the_task

from usergrowth_dagster.messaging.dispatching.claims import Claims
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.plans.plan import plan_send, read_plan
from usergrowth_dagster.messaging.schedules.occurrences import business_now, find_occurrence


def standing(desk: Desk) -> dict[str, int]:
    store, settings = desk
    opened = find_occurrence(store, the_task(store))
    assert opened is not None
    return read_plan(Ledger(store, open_vault(settings.home)), opened).standing


def test_a_plan_says_how_it_stands(tmp_path: Path, database_url: str) -> None:
    """A preview of a plan that was sent, or expired, says that its people get a text."""
    desk = ready(tmp_path, database_url)
    store, settings = desk
    plan_send(store, settings, the_task(store), [crowd(30)])
    assert standing(desk) == {"waiting": 30}
    claims, now = Claims(store), business_now(settings)
    opened = find_occurrence(store, the_task(store))
    assert opened is not None
    rows = claims.claim(opened.id, 10, now).rows
    claims.submitting(opened.id, [row["id"] for row in rows], "provider", now)
    assert standing(desk) == {"waiting": 20, "being sent": 10}
    dispatch(store, settings, Provider(), now)
    assert standing(desk) == {"being sent": 10, "sent": 20}
    store.close()


def test_a_plan_that_came_too_late(tmp_path: Path, database_url: str) -> None:
    """A preview of a plan that expired as a whole looks like one that waits."""
    desk = ready(tmp_path, database_url)
    store, settings = desk
    plan_send(store, settings, the_task(store), [crowd(30)])
    dispatch(store, settings, Provider(), business_now(settings) + timedelta(days=3))
    assert standing(desk) == {"expired unsent": 30}
    store.close()
