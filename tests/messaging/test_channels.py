"""Texts of one campaign on two channels: planned, priced, sent and killed, one message a person."""

import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from support.dispatch_child import child_program
from support.dispatch_desk import Provider
from support.sending import CAMPAIGN, SIGNATURE, D, decided, outbox, plan, the_task

from usergrowth_dagster.audience.variants import VariantDraw, variant, variant_sql
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.campaign import parse_campaign
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.effects.texts import bind_texts
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.dispatching import claims as claims_module
from usergrowth_dagster.messaging.dispatching import failpoints
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.plans.forecast import forecast
from usergrowth_dagster.messaging.plans.plan import in_units
from usergrowth_dagster.messaging.policy.suppression import suppress
from usergrowth_dagster.messaging.schedules.occurrences import find_occurrence, occurrences_of
from usergrowth_dagster.messaging.texts.billing import Billing
from usergrowth_dagster.messaging.texts.content import message_columns_by_variant_sql
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import open_engine

Desk = tuple[ControlStore, Settings]
TEXTS = {
    "text": f"${{name}}，{'新年快乐' * 18}。拒收请回复R",
    "letter": "亲爱的${name}，新年好。回T退订",
}
CHANNELS = {"text": "sms", "letter": "email"}
YAML = (
    CAMPAIGN
    + f"""\
template:
  name: text
  content: "{TEXTS["text"]}"
  variants:
    letter: {{content: "{TEXTS["letter"]}", channel: email, subject: 新年}}
"""
)
DRAW = VariantDraw(campaign="december", epoch="1", weights={"text": 1, "letter": 1})
SMS_PRICE, EMAIL_PRICE = 0.05, 0.001


def made(home: Path, url: str, text: str = YAML, price: float = SMS_PRICE) -> Desk:
    """A store with the campaign, decided, and its prices."""
    return decided(home, url, text, message_price=price, email_price=EMAIL_PRICE)


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Iterator[Desk]:
    store, settings = made(tmp_path / "home", database_url)
    yield store, settings
    store.close()


def crowd(settings: Settings, size: int) -> pa.Table:
    """People with the text drawn for them, and an address of each channel."""
    billing = {"text": Billing.MAINLAND, "letter": Billing.EMAIL}
    columns = message_columns_by_variant_sql(TEXTS, SIGNATURE, billing)
    with open_engine(settings) as engine:
        return engine.arrow(
            f"""
            select *, {columns} from (
                select 'u' || n as user_id, 'item' as item_id, {variant_sql(DRAW, "'u' || n")}
                    as variant, '+999' || lpad(n::varchar, 10, '0') as phone,
                    'u' || n || '@shop.example' as email, map {{'name': '客' || n}} as variables
                from range({size}) r(n) order by n
            )
            """
        )


def address(user: str) -> str:
    """Where a person's text goes."""
    if variant(DRAW, user) == "letter":
        return f"{user}@shop.example"
    return f"+999{int(user[1:]):010}"


def check_sent(desk: Desk) -> Counter[str]:
    """What went out is each person's own text, to the address of its channel; by person."""
    lines = outbox(desk[1])
    for line in lines:
        name = variant(DRAW, str(line["user_id"]))
        assert (line["channel"], line["phone"]) == (CHANNELS[name], address(str(line["user_id"])))
        assert line["segments"] == (2 if name == "text" else 1)
        assert ("【" in str(line["text"])) == (name == "text")
    return Counter(str(line["user_id"]) for line in lines)


def states(desk: Desk) -> Counter[tuple[str, str, str | None]]:
    """Rows of the ledger by channel, state and reason."""
    table = schema.message
    with desk[0].read() as connection:
        rows = connection.execute(select(table.c.channel, table.c.state, table.c.reason)).all()
    return Counter((channel, str(state), reason) for channel, state, reason in rows)


def test_each_text_goes_by_its_own_channel_at_its_own_price(desk: Desk) -> None:
    """Guards against letters to phones, and a cost, preview or effect that has one price for both."""
    store, settings = desk
    planned = plan(*desk, crowd(settings, 100))
    letters = sum(variant(DRAW, f"u{n}") == "letter" for n in range(100))
    texts = 100 - letters
    cost = 2 * texts * SMS_PRICE + letters * EMAIL_PRICE
    assert (planned.messages, planned.cost) == (2 * texts + letters, pytest.approx(cost))
    assert min(letters, texts) > 20
    opened = find_occurrence(store, the_task(store))
    assert opened is not None and opened.channels == ("sms", "email")
    with open_engine(settings) as engine:
        outlook = forecast(
            Ledger(store, open_vault(settings.home)), engine, opened, settings.zone, 9
        )
    shown = {name: (one.people, one.channel) for name, one in outlook.texts.items()}
    assert shown == {"text": (texts, "sms"), "letter": (letters, "email")}
    assert sum(one.cost for one in outlook.texts.values()) == pytest.approx(cost)
    assert dispatch(*desk).accepted == 100
    assert set(check_sent(desk).values()) == {1}
    assert dispatch(*desk).batches == 0
    with open_engine(settings) as engine:
        ledger = bind_texts(engine, store, [opened.task_id], D, D, settings.zone)
        spent = engine.value(f"select sum(cost) from {ledger.own}")
    assert spent == pytest.approx(cost)


def test_nobody_gets_a_second_message_by_the_other_channel(desk: Desk) -> None:
    """Guards against one person with two rows of an occurrence, one on each channel."""
    people = crowd(desk[1], 20)
    plan(*desk, people)
    swapped = people.set_column(
        2,
        "variant",
        pa.array(["text" if v == "letter" else "letter" for v in people["variant"].to_pylist()]),
    )
    plan(*desk, swapped)
    (opened,) = occurrences_of(desk[0], "december-2017")
    with desk[0].write() as connection:  # as a plan that was interrupted goes on
        connection.execute(schema.occurrence.update().values(state="planning"))
    plan(*desk, swapped)
    assert sum(states(desk).values()) == 20
    row = {"occurrence_id": opened.id, "channel": "email", "user_id": "u0", "template_params": "{}"}
    row |= {"segments": 1, "state": "planned", "attempts": 0, "updated_time": datetime.now(UTC)}
    for channel in ("sms", "email"):
        with pytest.raises(IntegrityError), desk[0].write() as connection:
            connection.execute(insert(schema.message).values(**row | {"channel": channel}))
    dispatch(*desk)
    assert check_sent(desk) == Counter({f"u{n}": 1 for n in range(20)})


@pytest.mark.parametrize("place", [failpoints.SUBMITTING, failpoints.RECORDED])
def test_killed_in_between_nobody_gets_two(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Guards against a second message, by either channel, after a crash at a write point."""
    plan(*desk, crowd(desk[1], 250))
    command = [*child_program(), str(desk[1].home), desk[1].database, place, "0"]
    crashed = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert crashed.returncode == 9, crashed.stderr
    later = datetime.now(UTC) + timedelta(minutes=5)
    monkeypatch.setattr(claims_module, "utc_now", lambda: later)
    dispatch(*desk)
    dispatch(*desk, look_up_again=timedelta(0))
    sent = check_sent(desk)
    assert set(sent.values()) == {1}
    ended = Counter(state for (_, state, _), rows in states(desk).items() for _ in range(rows))
    assert ended["accepted"] == len(sent) and ended["accepted"] + ended["in_doubt"] == 250


def test_a_gateway_that_fails_leaves_the_other_channel_alone(desk: Desk) -> None:
    """Guards against letters that stay because the phones' provider is down, or go there."""
    plan(*desk, crowd(desk[1], 60))
    broken = desk[1].model_copy(update={"gateway": "webhook"})  # which is not set up
    counts = dispatch(desk[0], broken)
    assert counts.failed and counts.accepted > 10
    assert {line["channel"] for line in outbox(desk[1])} == {"email"}
    assert {(channel, state) for channel, state, _ in states(desk)} == {
        ("email", "accepted"),
        ("sms", "planned"),
    }
    assert dispatch(*desk).accepted == 60 - counts.accepted
    assert set(check_sent(desk).values()) == {1}


def test_refusals_and_shared_addresses_are_those_of_the_rows_channel(desk: Desk) -> None:
    """Guards against a letter held back for its reader's phone, or one sent to who refused it."""
    store, settings = desk
    people = crowd(settings, 40)
    letters = [user for user in people["user_id"].to_pylist() if variant(DRAW, user) == "letter"]
    texts = [user for user in people["user_id"].to_pylist() if variant(DRAW, user) == "text"]
    vault = open_vault(settings.home)
    for user, channel in ((letters[0], "email"), (texts[0], "sms"), (letters[1], "sms")):
        suppress(
            store, vault, phone=address(user), reason="by_hand", source="test",
            now=datetime.now(UTC), channel=channel,
        )  # fmt: skip
    emails = people["email"].to_pylist()
    emails[people["user_id"].to_pylist().index(letters[3])] = f"{letters[2]}@shop.example"
    plan(*desk, people.set_column(people.column_names.index("email"), "email", pa.array(emails)))
    counted = states(desk)
    assert counted["email", "skipped", "suppressed"] == 1 == counted["sms", "skipped", "suppressed"]
    assert counted["email", "skipped", "shared_email"] == 1
    assert counted["sms", "planned", None] == len(texts) - 1


@pytest.mark.parametrize(("budget", "price"), [(0.5, 0.05), (0.301, 0.05), (5.0, 0.123456789)])
def test_a_budget_pays_for_both_prices(
    database_url: str, tmp_path: Path, budget: float, price: float
) -> None:
    """Guards against a budget spent as if every message cost what a text does, or a letter."""
    text = YAML.replace("{threshold: 0.12}", f"{{budget: {budget}}}")
    desk = made(tmp_path / "home", database_url, text, price)
    planned = plan(*desk, crowd(desk[1], 60))
    left, people = Decimal(str(budget)), 0
    for n in range(60):  # in the order of the plan, until one does not fit
        text_cost, letter_cost = 2 * Decimal(str(price)), Decimal("0.001")
        left -= text_cost if variant(DRAW, f"u{n}") == "text" else letter_cost
        people += left >= 0
    assert 0 < planned.people == people < 60 and planned.cost <= budget
    assert planned.reasons == {"over_budget": 60 - people}
    desk[0].close()


def test_units_are_exact() -> None:
    """Guards against a message too many, or too few, for the last digit of a float."""
    assert in_units([0.1], Decimal("0.3")) == ([1], 3)
    assert in_units([0.045, 0.001], Decimal("0.0459")) == ([45, 1], 45)
    assert in_units([0.0, 0.5], Decimal(-1)) == ([0, 5], 0)


def test_a_mistake_is_one_sentence() -> None:
    """Guards against a subject that no text has, or a channel that there is not."""
    for old, new, sentence in (
        ("channel: email", "channel: fax", "template.variants.letter.channel"),
        ("channel: email, ", "", "template.variants.letter.subject: only an e-mail has one"),
    ):
        with pytest.raises(UserError) as raised:
            parse_campaign(YAML.replace(old, new))
        assert sentence in str(raised.value) and "\n" not in str(raised.value)
    spec = parse_campaign(YAML)
    assert spec.channels == ("sms", "email")
    assert parse_campaign(
        YAML.replace("channel: email, subject: 新年", "channel: sms")
    ).channels == ("sms",)


def test_a_full_round_of_one_provider(desk: Desk) -> None:
    """Guards against calls that mix the channels."""
    plan(*desk, crowd(desk[1], 120))
    channels: list[tuple[str, bool]] = []
    provider = Provider(
        max_batch=50,
        before=lambda batch: channels.extend(
            (batch.channel, "@" in message.phone) for message in batch.messages
        ),
    )
    assert dispatch(*desk, gateway=provider).accepted == 120 == provider.taken.total()
    assert set(channels) == {("sms", False), ("email", True)}
