"""A refusal of one user holds for the whole person, and for nobody else."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from chain_world import campaign
from support.identity_desk import DAY, IdentityDesk, before, phone

from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import load_campaign
from usergrowth_dagster.control.tasks import register_task, task
from usergrowth_dagster.identity.persons import bind_persons
from usergrowth_dagster.identity.refusals import excluded_with_person
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.policy.suppression import suppress
from usergrowth_dagster.pipeline.exclusions import contact_moment, exclusions
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.relation import bind_arrow

USERS = ("a", "b", "c", "d", "e", "f")
"""b is a's person by a number, d is c's by an e-mail address; e and f share a hub with four more."""


@pytest.fixture
def asked(desk: IdentityDesk) -> IdentityDesk:
    """A home with a task, whose people have numbers of their own that no link knows."""
    path = desk.home / "care.yaml"
    path.write_text(campaign("care", population="population/care*", execution_date="on upload"))
    apply_campaign(desk.project.store, load_campaign(path), "test")
    register_task(desk.project.store, "care", "care", DAY, "test")
    hub = [(user, "phone", phone(9)) for user in ("e", "f", "g", "h", "i", "j")]
    mails = [("c", "email", "C@x.example"), ("d", "email", "c@x.example")]
    desk.land([*((user, "phone", phone(1)) for user in "abz"), *mails, *hub], before(1))
    desk.run()
    return desk


def excluded(desk: IdentityDesk) -> tuple[dict[str, str], str]:
    """The reason by user, and the fingerprint, of the people that the task's policy excludes."""
    one = task(desk.project.store, "care")
    rows = pa.table(
        {
            "row": pa.array(range(len(USERS)), pa.int64()),
            "user_id": list(USERS),
            "item_id": [""] * len(USERS),
            "phone": [phone(100 + place) for place in range(len(USERS))],
            "variables": pa.array([[]] * len(USERS), pa.map_(pa.string(), pa.string())),
        }
    )
    with open_engine(desk.project.settings) as engine:
        population = bind_arrow(engine, "population", rows)
        moment = contact_moment(desk.project.settings, one)
        found = exclusions(engine, desk.project, one, population, moment)
        reasons = engine.rows(f'select "row", reason from {found}')
        return {USERS[row]: reason for row, reason in reasons}, found.fingerprint


def refuse(desk: IdentityDesk, **who: str) -> None:
    now = datetime(2024, 3, 1, tzinfo=UTC)
    vault = open_vault(desk.home)
    suppress(desk.project.store, vault, reason="by_hand", source="test", now=now, **who)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("who", "alone", "together"),
    [
        ({"user_id": "a"}, {"a"}, {"a", "b"}),
        ({"user_id": "z"}, set(), {"a", "b"}),  # a user who was not uploaded
        ({"phone": phone(101)}, {"b"}, {"a", "b"}),  # the number of b's row
        ({"phone": phone(1)}, set(), {"a", "b"}),  # a number that only links know
        ({"phone": "c@X.example"}, set(), {"c", "d"}),
        ({"phone": phone(9)}, set(), set()),  # a hub is nobody's
        ({"user_id": "e"}, {"e"}, {"e"}),
    ],
)
def test_a_refusal_holds_for_the_whole_person(
    asked: IdentityDesk, who: dict[str, str], alone: set[str], together: set[str]
) -> None:
    """A person who refused by one account is texted at the other; a home without identity.yml
    decides otherwise than before; a stranger is left out."""
    refuse(asked, **who, channel="sms" if "@" not in who.get("phone", "") else "*")
    without, mark = excluded(asked)
    assert set(without) == alone and bool(mark) == bool(alone)
    asked.types("{}")
    found, known = excluded(asked)
    assert found == dict.fromkeys(together, "suppressed")
    assert (known == mark) == (alone == together)


def test_persons_of_a_later_date_do_not_count(asked: IdentityDesk) -> None:
    """A decision of a past date knows who became one person only after it."""
    asked.types("{}")
    refuse(asked, user_id="a")
    asked.land([("c", "phone", phone(1))], DAY)
    asked.run(before(-1))
    assert set(excluded(asked)[0]) == {"a", "b"}


def test_caps_hold_for_the_whole_person(asked: IdentityDesk) -> None:
    """A person who had as many messages as one may get is texted at another account; a refusal that
    a cap hides."""
    asked.types("{}")
    vault, day = open_vault(asked.home), DAY
    with open_engine(asked.project.settings) as engine:
        population = bind_arrow(
            engine,
            "population",
            pa.table({"row": pa.array(range(6), pa.int64()), "user_id": list(USERS)}),
        )
        keys = pa.table(
            {
                "phone_hash": pa.array([None, vault.digest("c@x.example"), None], pa.binary()),
                "user_hash": pa.array([None, None, vault.user_digest("z")], pa.binary()),
                "user_id": ["a", None, None],
                "reason": ["capped", "capped", "suppressed"],
            }
        )
        engine.bind_arrow("reasons_of_keys", keys)
        none = bind_arrow(
            engine,
            "alone",
            pa.table({"row": pa.array([], pa.int64()), "reason": pa.array([], pa.string())}),
        )
        persons = bind_persons(engine, asked.project, day)
        assert persons is not None
        excluded = excluded_with_person(engine, vault, persons, population, "reasons_of_keys", none)
        reasons = dict(engine.rows(f'select "row", reason from {excluded}'))
    assert {USERS[row]: reason for row, reason in reasons.items()} == {
        "a": "suppressed", "b": "suppressed", "c": "capped", "d": "capped",
    }  # fmt: skip
