"""Several texts in one occurrence: planned, sent, repeated and killed, each person with their own."""

import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import select
from support.dispatch_child import child_program
from support.dispatch_desk import Provider
from support.sending import CAMPAIGN, SIGNATURE, decided, outbox, plan, the_task

from usergrowth_dagster.audience.variants import VariantDraw, variant, variant_sql
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import parse_campaign
from usergrowth_dagster.control.review import review
from usergrowth_dagster.control.store import HEAD, ControlStore
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.dispatching import claims as claims_module
from usergrowth_dagster.messaging.dispatching import failpoints
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.people.person import read_person
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.plans.forecast import forecast
from usergrowth_dagster.messaging.schedules.occurrences import (
    business_now,
    find_occurrence,
    occurrences_of,
)
from usergrowth_dagster.messaging.texts.billing import characters
from usergrowth_dagster.messaging.texts.content import message_columns_by_variant_sql, render
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import open_engine

Desk = tuple[ControlStore, Settings]
TEXTS = {
    "plain": "亲爱的${name}，新年好。拒收请回复R",
    "gift": "${name}，${gift}送您。拒收请回复R",
    "long": f"${{name}}，{'新年快乐' * 18}。拒收请回复R",
}
CODES = {"plain": "SMS_1", "gift": "SMS_2", "long": "UG_000003"}
YAML = (
    CAMPAIGN
    + f"""\
template:
  name: plain
  content: "{TEXTS["plain"]}"
  code: SMS_1
  variants:
    gift: {{content: "{TEXTS["gift"]}", code: SMS_2}}
    long: {{content: "{TEXTS["long"]}", share: 0.5}}
"""
)
REPEATING = YAML.replace("send}", "send, repeat_unit: day, repeat_times: 4}") + (
    "contact: {max_audience_days: 30, cap_messages: 50}\n"
)
DRAW = VariantDraw(campaign="december", epoch="1", weights={"plain": 1, "gift": 1, "long": 0.5})


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Iterator[Desk]:
    store, settings = decided(tmp_path / "home", database_url, YAML)
    yield store, settings
    store.close()


def crowd(settings: Settings, size: int, where: str = "true") -> pa.Table:
    """People with the text that is drawn for them, as a decision and the plan make it."""
    columns = message_columns_by_variant_sql(TEXTS, SIGNATURE)
    with open_engine(settings) as engine:
        return engine.arrow(
            f"""
            select *, {columns} from (
                select 'u' || n as user_id, 'item' as item_id, {variant_sql(DRAW, "'u' || n")}
                    as variant, '+999' || lpad(n::varchar, 10, '0') as phone,
                    map {{'name': '客' || n, 'gift': '茶' || n}} as variables
                from range({size}) r(n) order by n
            ) where {where}
            """
        )


def texts_sent(desk: Desk) -> list[dict[str, Any]]:
    """What went out; each line has the text and the code that were drawn for its person."""
    lines: list[dict[str, Any]] = outbox(desk[1])
    of_batch: dict[str, set[str]] = {}
    for line in lines:
        name = variant(DRAW, line["user_id"])
        number = line["user_id"][1:]
        params = {"name": f"客{number}"} | ({"gift": f"茶{number}"} if name == "gift" else {})
        assert (line["template_code"], line["params"]) == (CODES[name], params)
        assert line["text"] == render(TEXTS[name], params, SIGNATURE)
        assert line["segments"] == (2 if name == "long" else 1)
        of_batch.setdefault(line["batch_id"], set()).add(name)
    assert all(len(names) == 1 for names in of_batch.values())
    return lines


def recorded(desk: Desk) -> dict[str, str | None]:
    table = schema.message
    with desk[0].read() as connection:
        return dict(connection.execute(select(table.c.user_id, table.c.variant)).tuples().all())


def states(desk: Desk) -> Counter[str]:
    with desk[0].read() as connection:
        return Counter(str(state) for state in connection.scalars(select(schema.message.c.state)))


@pytest.mark.parametrize(
    "place",
    [failpoints.CLAIMED, failpoints.SUBMITTING, failpoints.ANSWERED, failpoints.RECORDED],
)
def test_killed_in_between_nobody_gets_two_texts(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Guards against a second text, or the other one, after a crash at any write point."""
    half = crowd(desk[1], 600).slice(0, 250)
    plan(*desk, half)
    assert recorded(desk) == {f"u{n}": variant(DRAW, f"u{n}") for n in range(250)}
    command = [*child_program(), str(desk[1].home), desk[1].database, place, "0"]
    crashed = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert crashed.returncode == 9, crashed.stderr
    later = datetime.now(UTC) + timedelta(minutes=5)
    monkeypatch.setattr(claims_module, "utc_now", lambda: later)
    dispatch(*desk)
    dispatch(*desk, look_up_again=timedelta(0))
    sent = texts_sent(desk)
    assert max(Counter(line["user_id"] for line in sent).values()) == 1
    assert states(desk)["accepted"] == len(sent)
    # what was written ahead and never handed over stays in doubt: of one call, or of two
    assert states(desk)["in_doubt"] == 250 - len(sent) <= 200
    assert (place == failpoints.CLAIMED) == (len(sent) == 250)


def test_edited_after_planning_the_planned_text_goes_out(desk: Desk) -> None:
    """Guards against a text that changes, or a variant that is lost, on its way out."""
    plan(*desk, crowd(desk[1], 60))
    edited = (
        YAML.replace("送您", "归您")
        .replace("新年快乐", "恭喜发财")
        .replace("share: 0.5", "code: N")
    )
    applied = apply_campaign(desk[0], parse_campaign(edited), "ann")
    assert sum("must be reviewed again" in note for note in applied.notes) == 2
    assert any("keeps its earlier settings" in note for note in applied.notes)
    without = YAML[: YAML.index("  variants:")]
    apply_campaign(desk[0], parse_campaign(without), "ann")
    again = plan(*desk, crowd(desk[1], 90))  # made already: read, not remade
    assert again.people == 60
    assert dispatch(*desk).accepted == 60
    assert {line["template_code"] for line in texts_sent(desk)} == set(CODES.values())


@pytest.mark.parametrize("waiting", ["plain", "gift", "long"])
def test_one_unapproved_text_holds_all(database_url: str, tmp_path: Path, waiting: str) -> None:
    """Guards against a campaign that sends what is approved and never the rest."""
    store, settings = decided(tmp_path / "home", database_url, YAML, waiting=waiting)
    with pytest.raises(UserError, match=f"campaign 'december': template '{waiting}' is reviewing;"):
        plan(store, settings, crowd(settings, 5))
    review(store, "template", waiting, False, "no joke", "bob")
    with pytest.raises(UserError, match=rf"template '{waiting}' is rejected \(no joke\)"):
        plan(store, settings, crowd(settings, 5))
    assert occurrences_of(store, "december-2017") == []
    assert dispatch(store, settings).batches == 0
    store.close()


def test_a_row_must_name_one_of_the_texts(desk: Desk) -> None:
    """Guards against somebody who is sent the first text for lack of a decided one."""
    table = crowd(desk[1], 5)
    with pytest.raises(UserError, match="lack the column variant"):
        plan(*desk, table.drop_columns(["variant"]))
    odd = table.set_column(2, "variant", pa.array(["plain", "gift", "other", None, "long"]))
    with pytest.raises(UserError, match="has no text 'other'"):
        plan(*desk, odd)
    assert not recorded(desk) and not outbox(desk[1])
    plan(*desk, table)
    with desk[0].write() as connection:  # as if a row had lost its text
        row = schema.message.c.user_id == "u1"
        connection.execute(schema.message.update().where(row).values(variant=None))
    assert dispatch(*desk).accepted == 4
    assert states(desk) == {"accepted": 4, "skipped": 1}


def test_texts_take_turns_in_full_calls(desk: Desk) -> None:
    """Guards against a text that always goes out before the other, and calls of a few people."""
    plan(*desk, crowd(desk[1], 400))
    codes: list[str] = []
    provider = Provider(max_batch=50, before=lambda batch: codes.append(batch.template_code))
    counts = dispatch(*desk, gateway=provider)
    assert counts.accepted == 400 == provider.taken.total()
    sizes = [size for _, size in provider.batches]
    assert max(sizes) == 50 and sizes.count(50) >= len(sizes) - 3
    assert len(sizes) <= 400 // 50 + 3
    assert set(codes[:4]) == set(CODES.values())


def test_a_series_keeps_everyones_text(database_url: str, tmp_path: Path) -> None:
    """Guards against repeats that send all people the first text, or one that is rejected."""
    desk = decided(tmp_path / "home", database_url, REPEATING)
    plan(*desk, crowd(desk[1], 40))
    dispatch(*desk)
    nine = datetime(2017, 12, 29, 1, tzinfo=UTC)
    assert dispatch(*desk, now=nine).accepted == 40
    sent = texts_sent(desk)
    assert Counter(Counter(line["user_id"] for line in sent).values()) == {2: 40}
    first, second, *_ = occurrences_of(desk[0], "december-2017")
    assert first.variants == second.variants and set(second.variants or {}) == set(TEXTS)
    review(desk[0], "template", "long", False, "too long", "bob")
    assert dispatch(*desk, now=nine + timedelta(days=1)).accepted == 0
    assert len(occurrences_of(desk[0], "december-2017")) == 2
    desk[0].close()


def test_a_forecast_lists_each_text(desk: Desk) -> None:
    """Guards against a preview whose people, messages, cost or length are those of one text."""
    plan(*desk, crowd(desk[1], 300, "variant <> 'gift'"))
    opened = find_occurrence(desk[0], the_task(desk[0]))
    assert opened is not None
    ledger = Ledger(desk[0], open_vault(desk[1].home))
    with open_engine(desk[1]) as engine:
        outlook = forecast(ledger, engine, opened, desk[1].zone, 4)
    dispatch(*desk)
    sent = texts_sent(desk)
    for name, text in outlook.texts.items():
        lines = [line for line in sent if line["template_code"] == CODES[name or ""]]
        assert (text.template_code, text.content) == (CODES[name or ""], TEXTS[name or ""])
        assert text.people == len(lines)
        assert text.messages == sum(line["segments"] for line in lines)
        assert text.cost == pytest.approx(text.messages * opened.price)
        assert text.longest == max((characters(line["text"]) for line in lines), default=None)
    assert outlook.texts["gift"].people == 0 < outlook.texts["long"].people
    assert sum(text.cost for text in outlook.texts.values()) == pytest.approx(outlook.plan.cost)
    assert outlook.longest is not None and outlook.longest.variant == "long"
    by_user = {line["user_id"]: line["text"] for line in sent}
    assert all(by_user[one.user_id] == one.text for one in outlook.samples)


def test_a_persons_story_names_their_text(desk: Desk) -> None:
    """Guards against an answer to "what did I get" that does not say which text it was."""
    plan(*desk, crowd(desk[1], 3))
    dispatch(*desk)
    vault = open_vault(desk[1].home)
    person = read_person(desk[0], desk[1], vault, "u1", [], business_now(desk[1]))
    assert [row["variant"] for row in person.messages] == [variant(DRAW, "u1")]


def test_a_ledger_from_before_goes_on(database_url: str, tmp_path: Path) -> None:
    """Guards against an upgrade in the middle of a campaign that loses or repeats its rows."""
    without = YAML[: YAML.index("  variants:")]
    store, settings = decided(tmp_path / "home", database_url, YAML)
    apply_campaign(store, parse_campaign(without), "ann")
    plan(store, settings, crowd(settings, 30, "variant = 'plain'"))
    people = len(recorded((store, settings)))
    with store.write() as connection:  # as migration 0002 left it
        for statement in (
            "drop table person_key",
            "drop table click",
            "alter table template drop column link",
            "alter table occurrence drop column link",
            "alter table occurrence drop column link_domain",
            "alter table occurrence drop column other_price",
            "drop index ix_message_occurrence_id_user_id",
            "drop table export_error",
            "drop table export_run",
            "alter table history drop column code",
            "alter table history drop column hint",
            "drop table failure_score",
            "drop table unread",
            "alter table reply drop column phone_number",
            "drop table schedule_variant",
            "alter table message drop column variant",
            "alter table occurrence drop column variants",
            "update alembic_version set version_num = '0002'",
        ):
            connection.exec_driver_sql(statement)
    store.close()
    store = ControlStore(settings.database, settings.zone)
    store.migrate()
    assert store.revision() == HEAD
    assert dispatch(store, settings).accepted == people > 5
    assert {line["text"] for line in texts_sent((store, settings))}
    assert dispatch(store, settings).batches == 0
    store.close()
