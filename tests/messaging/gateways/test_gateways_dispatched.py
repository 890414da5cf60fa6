"""Providers with an SDK under the real dispatcher: doubts settled by look-up and by report."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aliyun_server import KEY_ID, Aliyun
from aliyun_server import SECRET as ALIYUN_SECRET
from conformance import TIMEOUT, Mood
from http_provider import Provider, serving
from sqlalchemy import func, select
from support.sending import crowd, plan, ready
from test_twilio_gateway import signed
from twilio_server import ACCOUNT, FROM, TOKEN, Twilio

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.gateways.protocol import Callback
from usergrowth_dagster.messaging.gateways.registry import make_gateway
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.policy.suppression import lift
from usergrowth_dagster.messaging.receiving.receipts import take_receipts
from usergrowth_dagster.settings import Settings

Desk = tuple[ControlStore, Settings]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    for name, value in (
        ("ALIYUN_ACCESS_KEY_ID", KEY_ID),
        ("ALIYUN_ACCESS_KEY_SECRET", ALIYUN_SECRET),
        ("TWILIO_ACCOUNT_SID", ACCOUNT),
        ("TWILIO_AUTH_TOKEN", TOKEN),
    ):
        monkeypatch.setenv(f"USERGROWTH_{name}", value)
    store, settings = ready(tmp_path / "home", f"sqlite:///{tmp_path / 'control.db'}")
    yield store, settings
    store.close()


def states(desk: Desk) -> dict[str, int]:
    table = schema.message
    with desk[0].read() as connection:
        rows = connection.execute(select(table.c.state, func.count()).group_by(table.c.state)).all()
    return {str(state): number for state, number in rows}


def settings_for(desk: Desk, name: str, provider: Provider) -> Settings:
    update = {
        "gateway": name,
        f"{name}_endpoint": provider.url,
        "twilio_from": FROM,
        "gateway_timeout": TIMEOUT,
        "gateway_rate": 1000.0,
        "callback_url": "https://ug.example",
    }
    return desk[1].model_copy(update=update)


@pytest.mark.parametrize("provider", [Aliyun(), Twilio()], ids=["aliyun", "twilio"])
def test_time_outs_are_settled_and_nobody_is_texted_twice(desk: Desk, provider: Provider) -> None:
    """Guards against an id that is lost between the ledger and the provider, either way."""
    name = "aliyun" if isinstance(provider, Aliyun) else "twilio"
    plan(*desk, crowd(4))
    with serving(provider):
        settings = settings_for(desk, name, provider)
        provider.mood = Mood.TAKE_AND_HANG
        counts = dispatch(desk[0], settings)
        assert (counts.in_doubt, counts.accepted) == (4, 0)
        assert states(desk) == {"in_doubt": 4}
        provider.mood = Mood.TAKE
        counts = dispatch(desk[0], settings, look_up_again=timedelta(0))
        assert counts.settled == 4
        assert states(desk) == {"accepted": 4}
        plan_again = dispatch(desk[0], settings)
        assert plan_again.batches == 0
    assert Counter(provider.taken).total() == len(set(provider.taken)) == 4
    assert not provider.problems


def test_a_report_settles_a_doubt_by_batch_and_number(desk: Desk) -> None:
    """Guards against reports that are lost because the answer with the BizId never came."""
    plan(*desk, crowd(3))
    provider = Aliyun()
    with serving(provider):
        settings = settings_for(desk, "aliyun", provider)
        provider.mood = Mood.TAKE_AND_RESET
        assert dispatch(desk[0], settings).in_doubt == 3
    entries = [
        {
            "phone_number": one["PhoneNum"],
            "success": number != 1,
            "err_code": "DELIVERED" if number != 1 else "MK:0001",
            "report_time": "2026-01-01 08:00:00",
            "biz_id": "000000000000000001^0",
            "out_id": one["OutId"],
        }
        for number, one in enumerate(provider.details)
    ]
    gateway = make_gateway(settings)
    receipts = gateway.parse_receipts(Callback(json.dumps(entries).encode()))
    vault = open_vault(settings.home)
    taken = take_receipts(desk[0], vault, gateway.name, receipts, datetime.now(UTC))
    assert taken.changed == 3
    assert states(desk) == {"delivered": 2, "undelivered": 1}
    table = schema.message
    with desk[0].read() as connection:
        bad = connection.execute(
            select(table.c.user_id, table.c.error_code).where(table.c.state == "undelivered")
        ).one()
    assert tuple(bad) == ("u1", "MK:0001")


def test_refusals_known_to_the_provider_are_ours_too(desk: Desk) -> None:
    """Guards against texting through the next provider whoever has refused at this one, and
    against an old report that undoes a later START."""
    plan(*desk, crowd(3))
    provider = Twilio()
    with serving(provider):
        settings = settings_for(desk, "twilio", provider)
        provider.mood, provider.bad = Mood.REFUSE_ONE, "+9990000000001"
        provider.refusal = (400, 21610)
        counts = dispatch(desk[0], settings)
        assert (counts.accepted, counts.rejected) == (2, 1)
        (late,) = [one["sid"] for one in provider.messages if one["to"] == "+9990000000002"]
    form = {"MessageSid": late, "MessageStatus": "failed", "ErrorCode": "21610"}
    callback = signed({**form, "To": "+9990000000002"}, "https://ug.example/twilio/dlr")
    gateway, vault = make_gateway(settings), open_vault(settings.home)
    table = schema.suppression

    def report() -> list[tuple[object, ...]]:
        receipts = gateway.parse_receipts(callback)
        take_receipts(desk[0], vault, gateway.name, receipts, datetime.now(UTC))
        with desk[0].read() as connection:
            query = select(table.c.phone_hash, table.c.reason, table.c.source)
            in_force = query.where(table.c.lifted_time.is_(None)).order_by(table.c.id)
            return [tuple(row) for row in connection.execute(in_force)]

    wanted = [(vault.digest(f"+999000000000{n}"), "provider", "refused at twilio") for n in (1, 2)]
    assert report() == wanted
    lift(desk[0], vault, phone="+9990000000002", now=datetime.now(UTC))
    assert report() == wanted[:1]
