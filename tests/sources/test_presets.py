"""Exports of other tools: each sample lands as its preset says, and every odd row is counted."""

import gzip
import json
import shutil
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from usergrowth_dagster.cli import app
from usergrowth_dagster.errors import SetUpError, UserError
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.plugins import registered
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.sources.definition import parse_sources, read_sources
from usergrowth_dagster.sources.land import SourceLanding
from usergrowth_dagster.sources.presets import registry
from usergrowth_dagster.sources.presets.registry import presets
from usergrowth_dagster.sources.suggest import suggest_source
from usergrowth_dagster.views.quarantine import read_quarantine
from usergrowth_dagster.views.sources import check_sources, land_sources, preview_source
from usergrowth_dagster.warehouse.landing import land_days

SAMPLES = Path(__file__).parent / "samples"
FIRST, SECOND = date(2024, 3, 1), date(2024, 3, 2)
START = date(2024, 1, 1)
Row = tuple[str | None, ...]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_home(
        tmp_path / "home",
        {
            "start_date": START.isoformat(),
            "today": "2024-03-20",
            "timezone": "Asia/Shanghai",
            "max_reject_share": 1.0,
        },
    )


def land(settings: Settings, entry: str, *samples: str) -> SourceLanding:
    """Land samples by one entry of sources.yml."""
    for sample in samples:
        shutil.copy(SAMPLES / sample, settings.home)
    (settings.home / "sources.yml").write_text(f"sources:\n  - {entry}\n", encoding="utf-8")
    done = land_sources(Project(settings))
    assert not done.failures
    (landing,) = done.landings
    return landing


def landed(settings: Settings, table: str, day: date) -> list[Row]:
    """The landing rows of a day, in order of their text; NULL first."""
    (path,) = (settings.home / "landing" / table / f"ds={day:%Y%m%d}").glob("source-*.parquet")
    rows = pq.read_table(path, partitioning=None).to_pylist()
    return sorted((tuple(row.values()) for row in rows), key=lambda row: [one or "" for one in row])


def quarantined(settings: Settings, table: str, day: date) -> list[str]:
    """Reason codes of the rows of a day that the raw table does not take."""
    project = Project(settings)
    (done,) = land_days(settings, project.landing, project.warehouse, table, [day])
    assert done.accepted + done.quarantined == len(landed(settings, table, day))
    rejects = read_quarantine(project, table=table, day=day, rule=None, limit=10)
    return sorted(reject.broken.partition(" (")[0] for reject in rejects.rows)


def test_segment(settings: Settings) -> None:
    """Guards against calls without properties, user or time that stop a file, or vanish."""
    landing = land(settings, "{preset: segment, from: segment.jsonl}", "segment.jsonl")
    assert landing.source == "segment"
    assert (landing.duplicates, landing.without_day) == (1, 1)
    assert landing.not_numbers == {"amount": 1}
    assert landed(settings, "behavior", FIRST) == [
        (None, "Logged In", None, "hh18:1", None),
        (
            "00042",
            "Order Completed",
            None,
            "hh16:1 amount:39.95",
            "currency:EUR coupon:SPRING_10 campaign:spring",
        ),
        ("00044", "Order Completed", None, "hh18:1 value:3.0", None),
        ("00045", "Logged In", None, "hh19:1", None),
        ("12345678901234567890", "Logged In", None, "hh19:1", None),
        ("507f191e810d", "Product Viewed", None, "hh22:1", None),
        ("507f191e810e", "Coupon Entered", None, "hh17:1", None),
    ]
    assert landed(settings, "behavior", SECOND) == [
        ("00043", "Product Added", "7", "hh00:1 price:12.5 quantity:2.0", "category:Tea_green"),
    ]
    assert quarantined(settings, "behavior", FIRST) == ["user_id: not_null"]


def test_records_that_are_no_json_are_counted(settings: Settings) -> None:
    """Guards against an export of a million records that one line stops, and a line that vanishes."""
    lines = (SAMPLES / "rudderstack.jsonl").read_bytes().splitlines()
    broken = [
        b'{"messageId": "rs-9", "type": "tra',
        b"[1, 2]",
        b"7",
        b"\xff\xfe{",
        b"null",
        b"{}",
        b"",
    ]
    mixed = [line for pair in zip(lines, broken, strict=False) for line in pair] + broken[5:]
    file = settings.home / "export.jsonl"
    file.write_bytes(b"\n".join(mixed) + b"\n")
    entry = "{preset: rudderstack, from: export.jsonl}"
    landing = land(settings, entry)
    assert (landing.rows, landing.unreadable, landing.without_day) == (3, 6, 1)
    assert landing.notes()[0] == (
        "6 records are no JSON objects with a column that is read, and do not land"
    )
    assert land(settings, entry).unreadable == 6  # they are not forgotten with the next look
    file.write_bytes(b"\n".join(lines) + b"\n")
    mended = land(settings, entry)
    assert (mended.landed, mended.unreadable) == ((), 0)


def test_another_export_is_refused(settings: Settings) -> None:
    """Guards against a file of another tool of which nothing lands, without a word."""
    entry = "{preset: segment, from: [segment.jsonl, mixpanel.jsonl]}"
    for sample in ("segment.jsonl", "mixpanel.jsonl"):
        shutil.copy(SAMPLES / sample, settings.home)
    (settings.home / "mixpanel.jsonl").write_text('{"at": 1}\n{"at": 2}\n')
    (settings.home / "sources.yml").write_text(f"sources:\n  - {entry}\n")
    (failure,) = land_sources(Project(settings)).failures
    assert failure.startswith(
        "source segment: mixpanel.jsonl has no record with one of the columns"
    )
    identify = json.dumps({"type": "identify", "userId": "u1", "messageId": "m"})
    (settings.home / "mixpanel.jsonl").write_text(f'{identify}\n{{"broken\n')
    landed = land_sources(Project(settings))
    assert not landed.failures and landed.landings[0].unreadable == 1


def test_rudderstack(settings: Settings) -> None:
    """Guards against a time with an offset that is taken for UTC."""
    landing = land(settings, "{preset: rudderstack, from: r*.jsonl}", "rudderstack.jsonl")
    assert (landing.duplicates, landing.without_day) == (0, 1)
    assert landed(settings, "behavior", FIRST) == [
        (
            "u-1",
            "Product Clicked",
            "622c",
            "hh16:1 price:49.99 quantity:5.0",
            "channel:web category:Games coupon:PREORDER15",
        ),
        ("u-4", "Renewed", None, "hh11:1", "channel:server"),
    ]
    assert landed(settings, "behavior", SECOND) == [
        ("d-2", "Order Completed", None, "hh07:1 amount:20.5", "channel:mobile currency:USD"),
    ]


GA4 = [
    ("00042", "purchase", "0007", "hh16:1 amount:25.5 quantity:3.0 value:25.5", "platform:WEB country:Japan currency:JPY"),
    ("11.1", "add_to_cart", None, "hh16:1 value:4.0", "platform:WEB"),
    ("44.4", "tip", None, "hh16:1", None),
]  # fmt: skip


def test_ga4_as_json(settings: Settings) -> None:
    """Guards against repeated records that are not found by their key, and times out of range."""
    landing = land(settings, "{preset: ga4, from: ga4.jsonl}", "ga4.jsonl")
    assert (landing.duplicates, landing.without_day) == (0, 2)
    assert landing.not_numbers == {"value": 1}
    assert landed(settings, "behavior", FIRST) == GA4
    assert landed(settings, "behavior", SECOND) == [
        ("22.2", "page_view", None, "hh00:1", "platform:ANDROID")
    ]


def test_ga4_as_parquet(settings: Settings) -> None:
    """Guards against records that are read from JSON and not from Parquet."""
    value = pa.struct(
        {
            "string_value": pa.string(),
            "int_value": pa.int64(),
            "float_value": pa.float64(),
            "double_value": pa.float64(),
        }
    )
    item = pa.struct({"item_id": pa.string(), "item_name": pa.string(), "price": pa.float64()})
    sales = pa.struct({"purchase_revenue": pa.float64(), "total_item_quantity": pa.int64()})
    schema = pa.schema(
        {
            "event_date": pa.string(),
            "event_timestamp": pa.int64(),
            "event_name": pa.string(),
            "event_params": pa.list_(pa.struct({"key": pa.string(), "value": value})),
            "user_id": pa.string(),
            "user_pseudo_id": pa.string(),
            "platform": pa.string(),
            "geo": pa.struct({"city": pa.string(), "country": pa.string()}),
            "ecommerce": sales,
            "items": pa.list_(item),
        }
    )
    rows = [_typed(json.loads(line)) for line in (SAMPLES / "ga4.jsonl").read_text().splitlines()]
    table = pa.Table.from_pylist([row for row in rows if row["event_timestamp"] != -1], schema)
    pq.write_table(table, settings.home / "events_20240301.parquet")
    landing = land(settings, "{preset: ga4, from: events_*.parquet}")
    assert (landing.without_day, landing.not_numbers) == (1, {"value": 1})
    assert landed(settings, "behavior", FIRST) == GA4


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the JSON export with the numbers that BigQuery writes there as text; -1: too large."""
    stamp = row["event_timestamp"]
    row["event_timestamp"] = (int(stamp) if len(stamp) < 19 else -1) if stamp else None
    for one in row.get("event_params") or ():
        if "int_value" in one["value"]:
            one["value"]["int_value"] = int(one["value"]["int_value"])
    if "ecommerce" in row:
        row["ecommerce"]["total_item_quantity"] = int(row["ecommerce"]["total_item_quantity"])
    return row


def test_amplitude(settings: Settings) -> None:
    """Guards against packed files, events of a device alone, and times without a zone."""
    (settings.home / "1_2024-03-01_15#0.json.gz").write_bytes(
        gzip.compress((SAMPLES / "amplitude.json").read_bytes())
    )
    landing = land(settings, "{preset: amplitude, from: '*.json.gz'}")
    assert (landing.duplicates, landing.without_day) == (1, 1)
    assert landed(settings, "behavior", FIRST) == [
        (
            "00042",
            "revenue_amount",
            "p 1",
            "hh23:1 amount:10.0 price:2.5 quantity:4.0",
            "platform:iOS country:Japan",
        ),
        ("9007199254740993", "open", None, "hh11:1", None),
    ]
    assert landed(settings, "behavior", SECOND) == [
        ("dev-2", "open", None, "hh00:1", "platform:Web")
    ]


def test_mixpanel(settings: Settings) -> None:
    """Guards against different events without an insert id that are taken for one."""
    landing = land(settings, "{preset: mixpanel, from: mixpanel.jsonl}", "mixpanel.jsonl")
    assert (landing.duplicates, landing.without_day) == (1, 2)
    assert landed(settings, "behavior", FIRST) == [
        (None, "Played Song", None, "hh16:1", None),
        ("00042", "Paused", None, "hh16:1", None),
        ("00042", "Paused", None, "hh16:1", None),
        ("00042", "Signed up", None, "hh16:1", "country:JP os:Mac_OS_X"),
    ]
    assert landed(settings, "behavior", SECOND) == [
        ("$device:77", "Played Song", None, "hh00:1", None)
    ]
    assert quarantined(settings, "behavior", FIRST) == ["user_id: not_null"]


def test_mixpanel_in_the_time_of_its_project(settings: Settings) -> None:
    """Guards against a zone of a preset that cannot be changed."""
    entry = "{preset: mixpanel, from: mixpanel.jsonl, day: {zone: America/Los_Angeles}}"
    assert land(settings, entry, "mixpanel.jsonl").landed == (SECOND,)
    rows = landed(settings, "behavior", SECOND)
    assert ("00042", "Signed up", None, "hh00:1", "country:JP os:Mac_OS_X") in rows
    assert ("$device:77", "Played Song", None, "hh08:1", None) in rows


POSTHOG = [
    (None, "signup", None, "hh18:1", None),
    ("00042", "$pageview", None, "hh23:1", "page:/tea os:Linux"),
    ("0190-anon", "signup", None, "hh18:1", None),
]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_posthog(settings: Settings, form: str) -> None:
    """Guards against properties that are an object in one form and a text in the other."""
    if form == "parquet":
        rows = [json.loads(line) for line in (SAMPLES / "posthog.jsonl").read_text().splitlines()]
        for row in rows:
            row["properties"] = json.dumps(row["properties"])
            row["person_properties"] = "{}"
            for key in ("timestamp", "created_at"):
                row[key] = row[key] and datetime.fromisoformat(row[key])
        pq.write_table(pa.Table.from_pylist(rows), settings.home / "posthog.parquet")
        landing = land(settings, "{preset: posthog, from: posthog.parquet}")
    else:
        landing = land(settings, "{preset: posthog, from: posthog.jsonl}", "posthog.jsonl")
    assert (landing.duplicates, landing.without_day) == (1, 1)
    assert landed(settings, "behavior", FIRST) == POSTHOG
    assert landed(settings, "behavior", SECOND) == [("00042", "order placed", None, "hh00:1", None)]


def test_snowplow(settings: Settings) -> None:
    """Guards against quotes within values, and events of visitors who have not logged in."""
    shutil.copy(SAMPLES / "snowplow.tsv", settings.home / "part-00000")
    landing = land(settings, "{preset: snowplow, from: part-*}")
    assert (landing.duplicates, landing.without_day) == (1, 1)
    assert landed(settings, "behavior", FIRST) == [
        (None, "page_view", None, "hh18:1", "platform:web"),
        (
            "0042",
            "transaction_item",
            'pb "125"',
            "hh23:1 price:10.99 quantity:2.0",
            "platform:web country:JP page:/cart category:Tea",
        ),
        ("net-3", "transaction", None, "hh18:1 amount:99.5", "platform:mob campaign:spring_sale"),
    ]
    assert landed(settings, "behavior", SECOND) == [
        ("bc2e-2", "event", None, "hh00:1 value:13.99", "platform:web category:video action:play"),
    ]


def test_shopify(settings: Settings) -> None:
    """Guards against line items of one order that are lost or doubled, and against phone numbers."""
    landing = land(settings, "{preset: shopify, from: shopify.csv}", "shopify.csv")
    assert (landing.duplicates, landing.without_day) == (0, 1)
    assert landing.not_numbers == {"amount": 1, "quantity": 1}
    assert landed(settings, "behavior", FIRST) == [
        (None, "buy", "SPN-07", "hh19:1 amount:8.0 quantity:1.0", "currency:EUR"),
        ("ada@example.com", "buy", "Cup", "hh16:1 amount:10.0 quantity:1.0", None),
        (
            "ada@example.com",
            "buy",
            "TEA-01",
            "hh16:1 amount:43.5 quantity:3.0",
            "currency:EUR coupon:WELCOME10",
        ),
        ("eve@example.com", "buy", "SPN-07", "hh19:1", "currency:EUR"),
    ]
    assert landed(settings, "behavior", SECOND) == [
        ("bob@example.com", "buy", "SPN-07", "hh09:1 amount:8.0 quantity:1.0", "currency:EUR")
    ]


@pytest.mark.parametrize("sample", ["shopify_orders.json", "shopify_orders.jsonl"])
def test_shopify_of_the_admin_api(settings: Settings, sample: str) -> None:
    """Guards against line items that are lost, doubled or of another order, and test orders."""
    landing = land(settings, f"{{preset: shopify_json, from: {sample}}}", sample)
    assert (landing.empty, landing.unreadable) == (1, 0)
    assert (landing.duplicates, landing.without_day) == (2, 1)
    assert "1 records have an empty list (each) and give no row" in landing.notes()
    assert landed(settings, "behavior", FIRST) == [
        (
            "ada@example.com",
            "buy",
            "Cup",
            "hh16:1 amount:10.0 quantity:1.0",
            "currency:EUR coupon:WELCOME10",
        ),
        (
            "ada@example.com",
            "buy",
            "TEA-01",
            "hh16:1 amount:43.5 quantity:3.0",
            "currency:EUR coupon:WELCOME10",
        ),
        ("zoe@example.com", "buy", "SPN-07", "hh19:1 quantity:2.0", "currency:EUR"),
    ]
    assert landed(settings, "behavior", SECOND) == [
        ("bob@example.com", "buy", "SPN-07", "hh09:1 amount:8.0 quantity:1.0", "currency:EUR")
    ]


def test_personalize(settings: Settings) -> None:
    """Guards against one of the three files that does not fill its table."""
    landing = land(
        settings,
        "{preset: personalize, from: personalize_interactions.csv}",
        "personalize_interactions.csv",
    )
    assert (landing.without_day, landing.not_numbers) == (1, {"value": 1})
    assert landed(settings, "behavior", FIRST) == [
        (None, "Watch", "m-002", "hh16:1 value:1.0", None),
        ("0042", "Watch", "m-001", "hh16:1 value:4.5", None),
        ("0043", "Watch", "m-001", "hh16:1", None),
        ("0043", "interaction", "m-002", "hh16:1 value:1.0", None),
    ]
    assert landed(settings, "behavior", SECOND) == [("0042", "Click", "m-002", "hh00:1", None)]
    users = "{preset: personalize, fills: user, from: personalize_users.csv}"
    landing = land(settings, users, "personalize_users.csv")
    assert (landing.source, landing.landed, landing.duplicates) == ("personalize_user", (START,), 1)
    assert landed(settings, "user", START) == [
        ("0042", "2", "34", None, None, None, None),
        ("0043", "1", None, None, None, None, None),
        ("0044", None, "51", None, None, None, None),
    ]
    assert quarantined(settings, "user", START) == []
    items = "{preset: personalize, fills: item, from: personalize_items.csv, day: {snapshot: 2024-03-01}}"
    landing = land(settings, items, "personalize_items.csv")
    assert landing.not_numbers == {"price": 1}
    assert landed(settings, "item", FIRST) == [
        ("m-001", "price:3.5 created:1580515200.0", "genres:Action|Crime"),
        ("m-002", None, "genres:Drama"),
    ]


@pytest.mark.parametrize("form", ["csv", "json"])
def test_pinpoint(settings: Settings, form: str) -> None:
    """Guards against phone numbers that land, and users who come out otherwise from JSON."""
    land(settings, f"{{preset: pinpoint, from: pinpoint.{form}}}", f"pinpoint.{form}")
    rows = landed(settings, "user", START)
    assert rows == [
        ("0042", "2", "34", None, None, None, "country:US opt_out:NONE"),
        ("0043", "1", None, None, None, None, "country:GB opt_out:ALL"),
        ("e-3", None, "51", None, None, None, "opt_out:NONE"),
    ]
    assert "55501" not in str(rows) and "example.com" not in str(rows)


def test_pai_files_of_another_folder(settings: Settings) -> None:
    """Guards against pairs that are written once more, and days that the folders name."""
    shutil.copytree(SAMPLES / "pai", settings.home / "export")
    expected: dict[str, list[Row]] = {
        "behavior": [
            (None, "buy", "i-1", "hh09:1", None),
            ("0042", "buy", "i-1", "hh09:2 amount:7", "channel:app"),
            ("10001", "login", None, "hh14:1", None),
        ],
        "user": [
            ("0042", "2", "34", "20230105", "vip", "balance:12.5", "city:Kyoto"),
            ("0043", None, None, None, None, None, None),
        ],
        "item": [("i-1", "price:3.5", "brand:tea")],
        "operation": [("0042", "sms", "i-1", "hh10:1", "copy:spring")],
    }
    for table, rows in expected.items():
        entry = f"{{preset: pai, fills: {table}, from: export/{table}/ds=*/*.csv}}"
        assert land(settings, entry).landed == (FIRST,)
        assert landed(settings, table, FIRST) == rows
    assert quarantined(settings, "behavior", FIRST) == ["user_id: not_null"]


def test_every_key_of_a_preset_can_be_changed() -> None:
    """Guards against a preset that a person must give up for one key."""
    (source,) = parse_sources(
        """
sources:
  - preset: segment
    name: shop
    from: x.jsonl
    day: {zone: Asia/Tokyo}
    columns: {behavior: lower(event), item_id: null}
    num: {level: "properties ->> '$.level'", price: null}
    str: {currency: null}
    where: null
    unique: []
""",
        "sources.yml",
    )
    plain = parse_sources("sources: [{preset: segment, from: x.jsonl}]", "sources.yml")[0]
    assert source.name == "shop" and source.fills == "behavior" and source.read == plain.read
    assert (source.day.time, source.day.zone) == (plain.day.time, "Asia/Tokyo")
    assert source.columns == {"user_id": plain.columns["user_id"], "behavior": "lower(event)"}
    assert set(source.num) == {*plain.num, "level"} - {"price"}
    assert set(source.str_) == {*plain.str_} - {"currency"}
    assert source.where is None and source.unique == ()
    (dated,) = parse_sources(
        "sources: [{preset: pinpoint, from: x.csv, day: {snapshot: 2024-03-01}}]", "sources.yml"
    )
    assert dated.day.snapshot == FIRST


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("{preset: segmnt, from: x}", r"sources\.0\.preset: no preset is called 'segmnt'; did you mean 'segment'"),
        ("{preset: zzzz, from: x}", r"no preset is called 'zzzz'; there are amplitude, ga4, "),
        ("{preset: segment, fills: user, from: x}", r"sources\.0\.fills: the preset segment fills behavior, not user"),
        ("{preset: segment}", r"sources\.0\.from: required, but missing"),
        ("{preset: segment, from: x, columns: {user: userId}}", "behavior has no column 'user'"),
        ("{preset: segment, from: x, num: many}", r"sources\.0\.num: "),
        ("{preset: pinpoint, from: x, day: {snapshot: soon}}", r"sources\.0\.day\.snapshot: should be a valid date"),
        ("{preset: [segment], from: x}", r"sources\.0\.preset: no preset is called"),
        ("{preset: segment, from: x}, {preset: segment, from: y}", "two sources have the name 'segment'"),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_one_sentence(entry: str, reason: str) -> None:
    """Guards against a typing error that ends in a traceback, or does not name what is near."""
    with pytest.raises(UserError, match=reason) as refused:
        parse_sources(f"sources: [{entry}]", "sources.yml")
    assert "\n" not in str(refused.value) and refused.value.code == "source.invalid"


def test_sources_of_before_keep_their_days(settings: Settings) -> None:
    """Guards against a new key of the format that has every day of every source written again."""
    (settings.home / "people.csv").write_text("id\n007\n")
    entry = (
        "{name: people, fills: user, from: people.csv, day: {snapshot: 2024-03-01}, "
        "columns: {user_id: id}}"
    )
    land(settings, entry)
    state = json.loads(Project(settings).state.read_bytes("_sources/people.json"))
    assert state["definition"] == "3da5d0712c56891e"


RECOGNIZED = {
    "segment.jsonl": ("segment", "behavior"),
    "rudderstack.jsonl": ("rudderstack", "behavior"),
    "ga4.jsonl": ("ga4", "behavior"),
    "amplitude.json": ("amplitude", "behavior"),
    "mixpanel.jsonl": ("mixpanel", "behavior"),
    "posthog.jsonl": ("posthog", "behavior"),
    "snowplow.tsv": ("snowplow", "behavior"),
    "shopify.csv": ("shopify", "behavior"),
    "shopify_orders.jsonl": ("shopify_json", "behavior"),
    "personalize_interactions.csv": ("personalize", "behavior"),
    "personalize_users.csv": ("personalize", "user"),
    "personalize_items.csv": ("personalize", "item"),
    "pinpoint.csv": ("pinpoint", "user"),
    "pinpoint.json": ("pinpoint", "user"),
    "pai/behavior/ds=20240301/part.csv": ("pai", "behavior"),
    "pai/user/ds=20240301/part.csv": ("pai", "user"),
    "pai/item/ds=20240301/part.csv": ("pai", "item"),
    "pai/operation/ds=20240301/part.csv": ("pai", "operation"),
}


@pytest.mark.parametrize("sample", RECOGNIZED)
def test_an_export_is_recognized(settings: Settings, sample: str) -> None:
    """Guards against an export that a person describes by hand, or that is taken for another."""
    preset, table = RECOGNIZED[sample]
    suggestion = suggest_source(settings, str(SAMPLES / sample), settings.home)
    (source,) = parse_sources(suggestion.text, "the suggestion")
    assert (source.preset, source.fills) == (preset, table)
    assert presets()[preset].title in suggestion.reasons["preset"]
    assert suggestion.reasons["preset"] in suggestion.text
    assert suggestion.counts["rows"] > 0
    (settings.home / "sources.yml").write_text(suggestion.text, encoding="utf-8")
    done = land_sources(Project(settings))
    assert not done.failures and done.landings[0].rows > 0


def test_each_export_of_each_preset_has_a_sample() -> None:
    """Guards against a preset that nobody has ever landed."""
    exports = {(name, table) for name, preset in presets().items() for table in preset.fills}
    assert exports == set(RECOGNIZED.values())


def test_what_a_person_types(settings: Settings) -> None:
    """Guards against commands that know nothing of presets."""
    home = ["--home", str(settings.home)]
    shown = CliRunner().invoke(app, ["sources", "presets", "--json"])
    assert shown.exit_code == 0
    rows = json.loads(shown.stdout)["presets"]
    assert {(row["preset"], row["fills"]) for row in rows} == set(RECOGNIZED.values())
    file = settings.home / "export.jsonl"
    shutil.copy(SAMPLES / "segment.jsonl", file)
    words = ["sources", "suggest", str(file), "--write", *home]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert read_sources(settings.home / "sources.yml")[0].preset == "segment"
    project = Project(settings)
    (look,) = check_sources(project).looks
    assert (look.source, look.format) == ("segment", "json")
    assert look.columns["properties"] == "JSON"
    names, lines = preview_source(project, "segment", 5)
    assert names[:2] == ["user_id", "behavior"] and len(lines) == 5
    assert not list((settings.home / "landing").rglob("*.parquet"))


def test_a_package_adds_a_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against presets that only this package can have, and broken ones without a name."""
    package = tmp_path / "shop_presets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    dist = tmp_path / "shop_presets-1.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-presets\nVersion: 1\n")
    (dist / "entry_points.txt").write_text("[usergrowth.presets]\nshop = shop_presets\n")
    preset = """
title: Tills
documentation: [https://example.com/tills]
fills:
  behavior:
    file: the day's receipts as CSV
    known_by: [till, card, at]
    source: {day: {time: at}, columns: {user_id: card, behavior: "'buy'"}}
    becomes: {card: "`user_id`"}
"""
    (package / "tills.yml").write_text(preset)
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        for cached in (registered, presets):
            cached.cache_clear()
        (source,) = parse_sources("sources: [{preset: tills, from: x.csv}]", "sources.yml")
        assert source.columns["user_id"] == "card" and "segment" in presets()
        (package / "tills.yml").write_text(preset.replace("known_by", "known"))
        presets.cache_clear()
        with pytest.raises(SetUpError, match=r"tills\.yml: fills\.behavior\.known: unknown key"):
            presets()
        (package / "tills.yml").write_text(preset)
        shutil.copy(package / "tills.yml", package / "ga4.yml")
        presets.cache_clear()
        with pytest.raises(SetUpError, match="there is another preset 'ga4'"):
            presets()
    finally:
        monkeypatch.undo()
        for cached in (registered, presets):
            cached.cache_clear()
    assert "tills" not in registry.presets()
