"""Numbers as people upload them, from the decision to what a provider is asked to send to."""

from datetime import datetime, time
from pathlib import Path

import pyarrow as pa
import pytest
from http_provider import serving
from support.decided import decided_table
from support.sending import D, people, plan, ready
from twilio_server import ACCOUNT, FROM, TOKEN, Twilio

from usergrowth_dagster.audience.decisions import decide
from usergrowth_dagster.audience.holdout import Holdout
from usergrowth_dagster.audience.policy import Threshold
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.warehouse.engine import open_engine

ABROAD = {
    "+8613855550101": "+8613855550101",
    "008613855550102": "+8613855550102",
    "+1 212 555 0106": "+12125550106",
    "+44 (0)7700 900108": "+447700900108",
    "+49 170/1234567": "+491701234567",
    "+39 06 1234 5614": "+390612345614",
}
NO_COUNTRY = ("13855550103", "2125550104", "(212) 555-0105", "07700 900107")
NOBODY = ("00000000000", "+0791112345", "123456", "1.38E+10")
NATIONAL = {
    None: dict.fromkeys(NO_COUNTRY, "no_country"),
    "CN": {
        "13855550103": "+8613855550103",
        "2125550104": "+862125550104",
        "(212) 555-0105": "+862125550105",
        "07700 900107": "+867700900107",
    },
    "US": {
        "13855550103": "+13855550103",
        "2125550104": "+12125550104",
        "(212) 555-0105": "+12125550105",
        "07700 900107": "bad_phone",
    },
}
_SCHEMA = {
    **{"row": pa.int64(), "user_id": pa.string(), "item_id": pa.string(), "phone": pa.string()},
    **{"score": pa.float64(), "uplift": pa.float64(), "messages": pa.int32()},
    **{"cost": pa.float64(), "content_problem": pa.string(), "suppressed": pa.bool_()},
    **{"reason": pa.string(), "model_name": pa.string(), "model_version": pa.string()},
}


@pytest.mark.parametrize("country", [None, "CN", "US"])
def test_each_number_reaches_the_provider_in_one_form_or_has_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, country: str | None
) -> None:
    """Guards against a number that is guessed, altered or lost on any step of its way."""
    monkeypatch.setenv("USERGROWTH_TWILIO_ACCOUNT_SID", ACCOUNT)
    monkeypatch.setenv("USERGROWTH_TWILIO_AUTH_TOKEN", TOKEN)
    store, settings = ready(tmp_path / "home", f"sqlite:///{tmp_path / 'control.db'}")
    twilio = Twilio()
    uploaded = [*ABROAD, *NO_COUNTRY, *NOBODY]
    expected = ABROAD | NATIONAL[country] | dict.fromkeys(NOBODY, "bad_phone")
    rows = [
        {"row": n, "user_id": f"u{n}", "item_id": "i", "phone": text, "score": 0.9}
        | {"messages": 1, "cost": 0.045, "suppressed": False}
        for n, text in enumerate(uploaded)
    ]
    with serving(twilio):
        configured = settings.model_copy(
            update={
                **{"gateway": "twilio", "twilio_endpoint": twilio.url, "twilio_from": FROM},
                **{"gateway_rate": 1000.0, "callback_url": "https://ug.example"},
                "default_country": country,
            }
        )
        with open_engine(configured) as engine:
            engine.bind_arrow("scored", pa.Table.from_pylist(rows, schema=pa.schema(_SCHEMA)))
            rows_decided = decide(
                engine,
                "scored",
                task_id="december-2017",
                execution_date=D,
                campaign="december",
                policy=Threshold(threshold=0.5),
                holdout=Holdout(share=0),
            )
            decided = decided_table(engine, rows_decided).to_pylist()
        outcomes = {uploaded[row["row"]]: row["outcome"] for row in decided}
        chosen = [text for text in uploaded if outcomes[text] == "selected"]
        plan(store, configured, people([(text, text, "客") for text in chosen]))
        for hour in (10, 18, 22):  # of the business zone: by day in China, in Europe, in America
            dispatch(store, configured, now=datetime.combine(D, time(hour), configured.zone))
    store.close()
    refused = {text: why for text, why in outcomes.items() if why != "selected"}
    assert refused == {text: form for text, form in expected.items() if form[0] != "+"}
    assert sorted(twilio.attempts) == sorted(form for form in expected.values() if form[0] == "+")
