"""A decision whose texts go by two channels: both addresses of a row count, whatever its text."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.decided import decided_table

from usergrowth_dagster.audience.decisions import decide
from usergrowth_dagster.audience.eligibility import OTHER_ADDRESS
from usergrowth_dagster.audience.holdout import Holdout
from usergrowth_dagster.audience.policy import Threshold
from usergrowth_dagster.control.campaign_blocks import Channel
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import Engine, open_engine

BOTH: tuple[Channel, Channel] = ("sms", "email")
EXPECTED = {
    "best": "selected",
    "same phone": "shared_phone",
    # the better one of a mail keeps it, although it is left out for its phone
    "mail of the same phone": "shared_email",
    "same mail": "shared_email",
    "no phone": "no_phone",
    "no mail": "no_email",
    "neither": "no_phone",
    "bad phone": "bad_phone",
    "bad mail": "bad_email",
    "refused": "suppressed",
    "phone of the refused": "suppressed",
    "mail of the refused": "suppressed",
    "capped": "capped",
    "mail of the capped": "capped",
}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with open_engine(load_settings(tmp_path)) as opened:
        yield opened


def people() -> list[dict[str, Any]]:
    """A row for each case, the best first, each with addresses of its own but where it says so."""
    made: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(EXPECTED):
        made[name] = {
            "row": place + 1,
            "user_id": name,
            "item_id": "i",
            "phone": f"+999{place:010d}",
            OTHER_ADDRESS: f"u{place}@shop.example",
            "score": 0.9 - place / 100,
            "messages": 1,
            "cost": 0.05,
            "content_problem": None,
            "suppressed": name == "refused",
            "reason": "capped" if name == "capped" else None,
            "model_name": "winback",
            "model_version": "3",
        }
    made["same phone"]["phone"] = made["best"]["phone"]
    made["mail of the same phone"][OTHER_ADDRESS] = made["same phone"][OTHER_ADDRESS]
    made["same mail"][OTHER_ADDRESS] = f" {made['best'][OTHER_ADDRESS].upper()} "
    for name, column, value in (
        ("no phone", "phone", " "),
        ("no mail", OTHER_ADDRESS, None),
        ("neither", "phone", None),
        ("neither", OTHER_ADDRESS, ""),
        ("bad phone", "phone", "12"),
        ("bad mail", OTHER_ADDRESS, "nobody"),
        ("phone of the refused", "phone", made["refused"]["phone"]),
        ("mail of the refused", OTHER_ADDRESS, made["refused"][OTHER_ADDRESS]),
        ("mail of the capped", OTHER_ADDRESS, made["capped"][OTHER_ADDRESS]),
    ):
        made[name][column] = value
    return list(made.values())


def outcomes(engine: Engine, people_in: list[dict[str, Any]], channels: tuple[Channel, ...]) -> Any:
    """The outcome of each user."""
    kinds = {"messages": pa.int32(), "content_problem": pa.string(), "reason": pa.string()}
    table = pa.Table.from_pylist(people_in)
    for name, kind in kinds.items():
        table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
    engine.bind_arrow("scored", table)
    rows = decide(
        engine,
        "scored",
        task_id="spring",
        execution_date=date(2017, 10, 2),
        campaign="Spring",
        policy=Threshold(threshold=0.1),
        holdout=Holdout(share=0),
        channels=channels,
    )
    decided = decided_table(engine, rows)
    return dict(zip(decided["user_id"].to_pylist(), decided["outcome"].to_pylist(), strict=True))


def test_a_row_needs_both_addresses_and_a_refusal_of_either_counts(engine: Engine) -> None:
    """Guards against arms that differ by who can be reached, has refused, or shares an address."""
    assert outcomes(engine, people(), BOTH) == EXPECTED
    assert outcomes(engine, list(reversed(people())), BOTH) == EXPECTED


def test_one_channel_asks_for_one_address(engine: Engine) -> None:
    """Guards against people who lack an address that no text goes to."""
    decided = outcomes(engine, people(), ("sms",))
    assert decided["no mail"] == decided["same mail"] == decided["bad mail"] == "selected"
    assert decided["mail of the refused"] == "selected" and decided["no phone"] == "no_phone"


def test_no_address_of_either_kind_is_texted_twice(engine: Engine) -> None:
    """Guards against two texts to one address in a chain of people who share one with the next."""
    chain = [row for row in people() if EXPECTED[row["user_id"]] == "selected"][:1] * 9
    rows = [
        row
        | {
            "row": n + 1,
            "user_id": f"u{n}",
            "phone": f"+999{(n + 1) // 2:010d}",
            OTHER_ADDRESS: f"u{n // 2}@shop.example",
            "score": 0.9 - (n * 5 % 9) / 100,
        }
        for n, row in enumerate(chain)
    ]
    chosen = [
        rows[int(user[1:])]
        for user, one in outcomes(engine, rows, BOTH).items()
        if one == "selected"
    ]
    assert len(chosen) > 1
    for column in ("phone", OTHER_ADDRESS):
        assert len({row[column] for row in chosen}) == len(chosen)
