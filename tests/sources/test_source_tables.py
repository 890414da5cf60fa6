"""Delta and Iceberg tables as sources: real tables, their newest snapshot, and what a change costs."""

import json
import struct
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog.sql import SqlCatalog
from typer.testing import CliRunner

from usergrowth_dagster.cli import app
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.sources.changes import Cursor, look_at_sources
from usergrowth_dagster.sources.definition import Source, parse_sources
from usergrowth_dagster.sources.land import SourceLanding, land_source
from usergrowth_dagster.sources.suggest import suggest_source
from usergrowth_dagster.sources.tables import iceberg
from usergrowth_dagster.views.sources import check_sources, preview_source

DAYS = [date(2024, 3, day) for day in range(1, 6)]
SCHEMA = pa.schema(
    {
        "user": pa.string(),
        "event": pa.string(),
        "at": pa.timestamp("us", "UTC"),
        "price": pa.decimal128(10, 2),
        "page": pa.struct({"url": pa.string()}),
        "land": pa.string(),
    }
)
KEYS = """
    fills: behavior
    day: {time: at}
    columns: {user_id: user, behavior: event}
    num: {amount: price}
    str: {page: page.url, land: land}
"""


class Desk:
    """A home, and a folder with tables."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings: Settings = make_home(
            folder / "home",
            {"start_date": "2024-01-01", "today": "2024-03-20", "timezone": "UTC"},
        )
        self.landing = Storage(self.settings.landing_root)
        self.state = Storage(self.settings.storage_root)

    def source(self, origin: str, keys: str = KEYS) -> Source:
        text = f"sources:\n  - name: events\n    from: {origin}\n{keys.strip(chr(10))}\n"
        (self.settings.home / "sources.yml").write_text(text, encoding="utf-8")
        (source,) = parse_sources(text, "sources.yml")
        return source

    def land(self, source: Source, *, reread: bool = False) -> SourceLanding:
        places = (self.settings, self.landing, self.state, source, self.folder)
        return land_source(*places, reread=reread)

    def rows(self, day: date) -> list[tuple[Any, ...]]:
        path = Path(self.settings.landing_root) / f"behavior/ds={day:%Y%m%d}/source-events.parquet"
        rows = pq.read_table(path, partitioning=None).to_pylist()
        return sorted((tuple(row.values()) for row in rows), key=str)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def event(user: str, day: date, land: str | None = "é/t 1", **other: Any) -> dict[str, Any]:
    at = datetime(day.year, day.month, day.day, 8, 30, tzinfo=UTC)
    row = {"user": user, "event": "buy", "at": at, "price": 2, "page": {"url": "/x"}, "land": land}
    return {**row, **other}


def rows_of(*events: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(events), SCHEMA)


def landing_row(user: str, land: str | None = "é/t_1", num: str = "hh08:1 amount:2.0") -> Any:
    return (user, "buy", None, num, " ".join(["page:/x", *([f"land:{land}"] if land else [])]))


class Lake:
    """An Iceberg catalog in SQLite with its warehouse on disk."""

    def __init__(self, folder: Path) -> None:
        self.uri = f"sqlite:///{folder}/catalog.db"
        self.warehouse = f"file://{folder}/warehouse"
        self.catalog = SqlCatalog("lake", uri=self.uri, warehouse=self.warehouse)
        self.catalog.create_namespace("shop")

    def origin(self, table: str = "shop.events") -> str:
        properties = f"{{name: lake, type: sql, uri: '{self.uri}', warehouse: '{self.warehouse}'}}"
        return f"{{iceberg: {table}, catalog: {properties}}}"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


DELTA = "{delta: lake/events}"


def write_delta(desk: Desk, *events: dict[str, Any], **options: Any) -> None:
    path = desk.folder / "lake/events"
    write_deltalake(
        path, rows_of(*events), **{"mode": "append", "partition_by": ["land"], **options}
    )


def test_a_delta_table_lands_with_its_partitions(desk: Desk) -> None:
    """Guards against partition values that no data file holds, with letters that paths escape."""
    write_delta(desk, event("007", DAYS[0]), event("8", DAYS[0], None), event("9", DAYS[1], "b=c"))
    landing = desk.land(desk.source(DELTA))
    assert (landing.landed, landing.version, landing.files) == (tuple(DAYS[:2]), "0", 3)
    assert desk.rows(DAYS[0]) == [landing_row("007"), landing_row("8", None)]
    assert desk.rows(DAYS[1]) == [landing_row("9", "b=c")]


def test_a_delta_table_costs_what_is_new_in_it(desk: Desk) -> None:
    """Guards against a table that is read once more for a version with one new file."""
    write_delta(desk, event("u1", DAYS[0]))
    source = desk.source(DELTA)
    desk.land(source)
    (first,) = (desk.folder / "lake/events").rglob("*.parquet")
    content = first.read_bytes()
    first.write_bytes(b"nothing that could be read")
    unchanged = desk.land(source)
    assert (unchanged.landed, unchanged.unchanged, unchanged.version) == ((), 1, "0")
    write_delta(desk, event("u2", DAYS[1]))
    grown = desk.land(source)
    assert (grown.landed, grown.version, grown.rows) == ((DAYS[1],), "1", 1)
    with pytest.raises(UserError, match=r"^source events: ") as refused:
        desk.land(desk.source(DELTA, KEYS.replace("price}", "price * 2}")))
    assert refused.value.code == "source.unreadable" and "\n" not in str(refused.value)
    assert desk.rows(DAYS[0]) == [landing_row("u1")]
    first.write_bytes(content)


def test_a_delta_table_that_changes(desk: Desk) -> None:
    """Guards against rows that were deleted and stay, and days written again for nothing."""
    for user, day in (("u1", DAYS[0]), ("u2", DAYS[0]), ("u3", DAYS[1]), ("u4", DAYS[2])):
        write_delta(desk, event(user, day))
    source = desk.source(DELTA)
    assert desk.land(source).landed == tuple(DAYS[:3])
    table = DeltaTable(desk.folder / "lake/events")
    table.optimize.compact()
    compacted = desk.land(source)
    assert (compacted.landed, compacted.gone, compacted.files) == ((), (), 1)
    table = DeltaTable(desk.folder / "lake/events")
    table.update(updates={"event": "'return'"}, predicate="user = 'u2'")
    assert desk.land(source).landed == (DAYS[0],)
    assert ("u2", "return", None, "hh08:1 amount:2.0", "page:/x land:é/t_1") in desk.rows(DAYS[0])
    table = DeltaTable(desk.folder / "lake/events")
    table.delete("user = 'u3'")
    emptied = desk.land(source)
    assert (emptied.landed, emptied.rows, emptied.kept) == ((DAYS[1],), 0, ())
    assert desk.rows(DAYS[1]) == []
    assert desk.land(source).landed == ()
    write_delta(desk, event("u5", DAYS[1]))
    assert desk.land(source).landed == (DAYS[1],)
    assert desk.rows(DAYS[1]) == [landing_row("u5")]
    write_delta(desk, event("u9", DAYS[3]), mode="overwrite")
    assert desk.land(source).landed == tuple(DAYS[:4])
    DeltaTable(desk.folder / "lake/events").delete()
    with pytest.raises(UserError, match="has no rows now, and 4 days have landed") as refused:
        desk.land(source)
    assert refused.value.code == "source.emptied" and desk.rows(DAYS[3]) == [landing_row("u9")]
    assert desk.land(source, reread=True).landed == (DAYS[3],) and desk.rows(DAYS[3]) == []


def test_a_new_version_of_a_table_is_seen(desk: Desk, lake: Lake) -> None:
    """Guards against a sensor that knows files alone."""
    write_delta(desk, event("u1", DAYS[0]))
    table = lake.catalog.create_table("shop.events", SCHEMA)
    sources = [
        desk.source(origin).model_copy(update={"name": name})
        for name, origin in (("delta", DELTA), ("iceberg", lake.origin()))
    ]
    cursor = Cursor()
    changed = []
    for step in range(8):
        if step == 3:
            write_delta(desk, event("u2", DAYS[0]))
        if step == 5:
            table.append(rows_of(event("u2", DAYS[0])))
        look = look_at_sources(sources, desk.folder, cursor)
        changed.append(look.changed)
        cursor = Cursor.load(look.cursor.dump())
    assert changed == [(), ("delta", "iceberg"), (), (), ("delta",), (), ("iceberg",), ()]


def test_a_delta_table_is_proposed(desk: Desk) -> None:
    """Guards against a table whose data files are taken for the log, or that a person describes."""
    write_delta(desk, *(event(f"u{number % 7}", DAYS[number % 5]) for number in range(40)))
    path = str(desk.folder / "lake/events")
    suggestion = suggest_source(desk.settings, path, desk.folder, "events")
    (source,) = parse_sources(suggestion.text, "the suggestion")
    assert source.table is not None and source.table.delta == path
    assert (source.day.time, source.columns["user_id"]) == ("at", "user")
    assert (suggestion.counts["rows"], suggestion.counts["users"]) == (40, 7)
    assert desk.land(source).landed == tuple(DAYS)
    row = {
        "uuid": "1",
        "event": "x",
        "distinct_id": "1",
        "person_id": "1",
        "timestamp": "2024-03-01",
    }
    write_deltalake(desk.folder / "export", pa.Table.from_pylist([row]))
    known = suggest_source(desk.settings, str(desk.folder / "export"), desk.folder)
    (source,) = parse_sources(known.text, "the suggestion")
    assert source.preset == "posthog" and source.table is not None


def test_a_column_that_a_delta_table_gained(desk: Desk) -> None:
    """Guards against older data files that lack a column of the table."""
    write_delta(desk, event("u1", DAYS[0]))
    newer = rows_of(event("u2", DAYS[0])).append_column("tier", pa.array(["gold"]))
    path = desk.folder / "lake/events"
    write_deltalake(path, newer, mode="append", schema_mode="merge", partition_by=["land"])
    keys = KEYS.replace("land: land", "tier: tier")
    desk.land(desk.source(DELTA, keys))
    assert [row[-1] for row in desk.rows(DAYS[0])] == ["page:/x", "page:/x tier:gold"]


def by_hand(
    folder: Path, protocol: dict[str, Any], columns: list[dict[str, Any]], **config: str
) -> Path:
    """The folder of a Delta table whose log is written by hand; the data file is for the caller."""
    (folder / "_delta_log").mkdir(parents=True)
    metadata = {
        "id": "0d1f7a2e-0000-4000-8000-000000000001",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": columns}),
        "partitionColumns": [],
        "configuration": config,
        "createdTime": 0,
    }
    lines = [{"protocol": protocol}, {"metaData": metadata}]
    text = "\n".join(json.dumps(line) for line in lines)
    (folder / "_delta_log" / f"{0:020}.json").write_text(text)
    return folder


def add_file(folder: Path, rows: pa.Table, **other: Any) -> None:
    pq.write_table(rows, folder / "data.parquet")
    size = (folder / "data.parquet").stat().st_size
    action = {
        "path": "data.parquet",
        "partitionValues": {},
        "size": size,
        "modificationTime": 0,
        "dataChange": True,
        "stats": json.dumps({"numRecords": rows.num_rows}),
        **other,
    }
    log = folder / "_delta_log" / f"{1:020}.json"
    log.write_text(json.dumps({"add": action}))


def field(name: str, **metadata: Any) -> dict[str, Any]:
    return {"name": name, "type": "string", "nullable": True, "metadata": metadata}


FEW_KEYS = """
    fills: behavior
    day: {time: at}
    columns: {user_id: user, behavior: "'buy'"}
"""


def z85(raw: bytes) -> str:
    """Bytes as the text that a log holds for an inline deletion vector."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    text = ""
    for start in range(0, len(raw), 4):
        value = int.from_bytes(raw[start : start + 4].ljust(4, b"\0"), "big")
        text += "".join(digits[value // 85**power % 85] for power in range(4, -1, -1))
    return text


def test_rows_that_a_deletion_vector_takes_away(desk: Desk) -> None:
    """Guards against deleted rows that land, since their data file still holds them."""
    from pyroaring import BitMap64

    features = {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    folder = by_hand(
        desk.folder / "lake/events",
        {"minReaderVersion": 3, "minWriterVersion": 7, **features},
        [field("user"), field("at")],
        **{"delta.enableDeletionVectors": "true"},
    )
    deleted = struct.pack("<i", 1681511377) + BitMap64([1]).serialize()
    vector = {"storageType": "i", "pathOrInlineDv": z85(deleted), "sizeInBytes": len(deleted)}
    rows = pa.table({"user": ["u1", "u2", "u3"], "at": [f"{DAYS[0]}T08:00:00Z"] * 3})
    add_file(folder, rows, deletionVector={**vector, "cardinality": 1})
    source = desk.source(DELTA, FEW_KEYS)
    landing = desk.land(source)
    assert (landing.landed, landing.version) == ((DAYS[0],), "1")
    assert [row[0] for row in desk.rows(DAYS[0])] == ["u1", "u3"]
    assert desk.land(source).unchanged == 1


def test_columns_that_are_called_otherwise_in_their_files(desk: Desk) -> None:
    """Guards against a renamed column, whose data files keep the old name."""

    def mapped(number: int, name: str) -> dict[str, Any]:
        keys = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": f"c{number}"}
        return field(name, **keys)

    folder = by_hand(
        desk.folder / "lake/events",
        {"minReaderVersion": 2, "minWriterVersion": 5},
        [mapped(1, "user"), mapped(2, "at")],
        **{"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "2"},
    )
    add_file(folder, pa.table({"c1": ["u1"], "c2": [f"{DAYS[0]}T08:00:00Z"]}))
    desk.land(desk.source(DELTA, FEW_KEYS))
    assert desk.rows(DAYS[0]) == [("u1", "buy", None, "hh08:1", None)]


def test_a_preset_reads_a_table(desk: Desk) -> None:
    """Guards against an export in a lake whose JSON is a text."""
    row = {
        "uuid": "018d",
        "event": "$pageview",
        "distinct_id": "00042",
        "person_id": "7d0e",
        "properties": '{"$pathname": "/tea"}',
        "timestamp": datetime(2024, 3, 1, 8, tzinfo=UTC),
    }
    write_deltalake(desk.folder / "lake/events", pa.Table.from_pylist([row]))
    (source,) = parse_sources(
        f"sources: [{{preset: posthog, name: events, from: {DELTA}}}]", "sources.yml"
    )
    desk.land(source)
    assert desk.rows(DAYS[0]) == [("00042", "$pageview", None, "hh08:1", "page:/tea")]


def test_an_id_that_lost_digits_is_refused(desk: Desk) -> None:
    """Guards against a text that a preset makes of a floating-point id."""
    pq.write_table(
        pa.table({"event": ["x"], "distinct_id": [13800000000.0]}), desk.folder / "events.parquet"
    )
    (source,) = parse_sources("sources: [{preset: posthog, from: events.parquet}]", "sources.yml")
    with pytest.raises(UserError, match=r"read\.texts: distinct_id is a DOUBLE.*1\.38e\+10"):
        desk.land(source)


class Forbidden(BaseHTTPRequestHandler):
    """A store that lets nobody in."""

    def do_GET(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_PUT = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def forbidding_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Forbidden)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "hidden-word",
    }.items():
        monkeypatch.setenv(name, value)
    yield
    server.shutdown()
    server.server_close()


def test_a_store_that_lets_nobody_in_is_a_sentence(desk: Desk, forbidding_store: None) -> None:
    """Guards against a traceback of the store's client, and a secret in the message."""
    with pytest.raises(UserError, match="set the credentials in the environment") as refused:
        desk.land(desk.source("{delta: 's3://lake/events'}"))
    sentence = str(refused.value)
    assert sentence.startswith("source events: from.delta: 's3://lake/events' cannot be opened: ")
    assert "\n" not in sentence and "\x1b" not in sentence and "hidden-word" not in sentence


@pytest.mark.parametrize(
    ("origin", "reason", "code"),
    [
        ("{delta: nowhere}", "from.delta: there is no table 'nowhere'", "source.gone"),
        ("{delta: .}", "from.delta: '.' is no Delta table: it has no folder", "source.invalid"),
        ("{delta: broken}", "from.delta: 'broken' cannot be opened: ", "source.unreadable"),
        ("{}", r"sources\.0\.from: give delta or iceberg, one of them", "source.invalid"),
        ("{delta: x, iceberg: a.b}", "give delta or iceberg, one of them", "source.invalid"),
        ("{delta: x, catalog: c}", "a catalog is of an Iceberg table", "source.invalid"),
        ("{detla: x}", r"sources\.0\.from\.detla: unknown key; did you mean 'delta'", "source.invalid"),
        ("{delta: 5}", r"sources\.0\.from\.delta: should be a valid string", "source.invalid"),
        ("[]", r"sources\.0\.from: ", "source.invalid"),
        ("[5]", r"sources\.0\.from\.0: should be a valid string", "source.invalid"),
        ("{iceberg: events}", r"sources\.0\.from\.iceberg: ", "source.invalid"),
        (
            "{iceberg: a.b, catalog: {type: rest, credential: 'me:word'}}",
            r"credential holds a credential; set it in the environment, as PYICEBERG_CATALOG__DEFAULT__CREDENTIAL",
            "source.invalid",
        ),
        (
            "{iceberg: a.b, catalog: {type: sql, name: lake, uri: 'postgresql://me:word@db/x'}}",
            "uri holds a credential; set it in the environment, as PYICEBERG_CATALOG__LAKE__URI",
            "source.invalid",
        ),
    ],
)  # fmt: skip
def test_a_wrong_table_is_one_sentence(desk: Desk, origin: str, reason: str, code: str) -> None:
    """Guards against a traceback, and an error that does not name the key or shows a password."""
    (desk.folder / "broken/_delta_log").mkdir(parents=True)
    (desk.folder / f"broken/_delta_log/{0:020}.json").write_text("{not a log")
    with pytest.raises(UserError, match=reason) as refused:
        desk.land(desk.source(origin))
    assert refused.value.code == code
    assert "\n" not in str(refused.value) and "word" not in str(refused.value)


def test_format_and_dialect_are_of_files(desk: Desk) -> None:
    """Guards against keys that a table does not heed."""
    for key in ("format: parquet", "read: {delimiter: ';'}"):
        with pytest.raises(UserError, match="format and read are of files"):
            desk.source(DELTA, f"    {key}\n{KEYS.strip(chr(10))}")


def test_an_iceberg_table_lands_and_keeps_up(desk: Desk, lake: Lake) -> None:
    """Guards against rows that were deleted and stay, and days written again for nothing."""
    table = lake.catalog.create_table("shop.events", SCHEMA)
    source = desk.source(lake.origin())
    empty = desk.land(source)
    assert (empty.landed, empty.version, empty.files) == ((), "no rows yet", 0)
    table.append(rows_of(event("007", DAYS[0]), event("8", DAYS[1], None)))
    landing = desk.land(source)
    assert landing.landed == tuple(DAYS[:2])
    assert landing.version == str(table.current_snapshot().snapshot_id)
    assert desk.rows(DAYS[0]) == [landing_row("007")]
    assert desk.rows(DAYS[1]) == [landing_row("8", None)]
    (first,) = (desk.folder / "warehouse").rglob("*.parquet")
    content = first.read_bytes()
    first.write_bytes(b"nothing that could be read")
    unchanged = desk.land(source)
    assert (unchanged.landed, unchanged.unchanged) == ((), 2)
    table.append(rows_of(event("9", DAYS[2])))
    assert desk.land(source).landed == (DAYS[2],)
    first.write_bytes(content)
    table.append(rows_of(event("9", DAYS[1])))
    assert desk.land(source).landed == (DAYS[1],)
    table.delete("user == '8'")
    assert desk.land(source).landed == (DAYS[1],)
    assert desk.rows(DAYS[1]) == [landing_row("9")]
    table.delete("user == '9' and at < '2024-03-03T00:00:00+00:00'")
    emptied = desk.land(source)
    assert (emptied.landed, desk.rows(DAYS[1])) == ((DAYS[1],), [])
    assert desk.land(source).landed == ()
    table.delete()
    with pytest.raises(UserError, match=r"the iceberg table shop\.events has no rows now"):
        desk.land(source)


def test_an_iceberg_table_whose_columns_change(desk: Desk, lake: Lake) -> None:
    """Guards against data files with the columns that the table had when they were written."""
    from pyiceberg.transforms import IdentityTransform
    from pyiceberg.types import StringType

    table = lake.catalog.create_table("shop.events", SCHEMA)
    with table.update_spec() as spec:
        spec.add_field("land", IdentityTransform())
    table.append(rows_of(event("u1", DAYS[0])))
    with table.update_schema() as schema:
        schema.rename_column("user", "customer")
        schema.add_column("tier", StringType())
    newer = rows_of(event("u2", DAYS[0])).rename_columns(
        ["customer" if name == "user" else name for name in SCHEMA.names]
    )
    table.append(newer.append_column("tier", pa.array(["gold"])))
    keys = KEYS.replace("user_id: user", "user_id: customer").replace("land: land", "tier: tier")
    desk.land(desk.source(lake.origin(), keys))
    assert [(row[0], row[-1]) for row in desk.rows(DAYS[0])] == [
        ("u1", "page:/x"),
        ("u2", "page:/x tier:gold"),
    ]


def test_rows_that_an_iceberg_delete_file_takes_away(
    desk: Desk, lake: Lake, tmp_path: Path
) -> None:
    """Guards against deleted rows that land, and a file that is not read again for its deletes."""
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
    from pyiceberg.table import FileScanTask
    from pyiceberg.typedef import Record

    table = lake.catalog.create_table("shop.events", SCHEMA)
    table.append(rows_of(*(event(user, DAYS[0]) for user in ("u1", "u2", "u3"))))
    (task,) = table.scan().plan_files()
    file = tmp_path / "deletes.parquet"
    pq.write_table(pa.table({"file_path": [task.file.file_path], "pos": pa.array([1])}), file)

    def delete(content: DataFileContent) -> FileScanTask:
        described = DataFile.from_args(
            content=content,
            file_path=f"file://{file}",
            file_format=FileFormat.PARQUET,
            partition=Record(),
            record_count=1,
            file_size_in_bytes=file.stat().st_size,
        )
        return FileScanTask(task.file, {described})

    with_deletes = delete(DataFileContent.POSITION_DELETES)
    iceberg._stream(table, with_deletes, tmp_path / "copy.parquet")
    assert pq.read_table(tmp_path / "copy.parquet").column("user").to_pylist() == ["u1", "u3"]
    tags = {iceberg._stored("x", one).tag for one in (task, with_deletes)}
    assert len(tags) == 2


def test_a_wrong_iceberg_table_is_one_sentence(
    desk: Desk, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a traceback of the catalog, and a catalog that reading makes."""
    monkeypatch.setenv("PYICEBERG_HOME", str(desk.folder))
    for origin, reason, code in (
        (lake.origin("shop.orders"), "'shop.orders': the catalog has no such table", "source.gone"),
        (lake.origin("old.events"), "'old.events': the catalog has no such table", "source.gone"),
        ("{iceberg: shop.events, catalog: prod}", "'shop.events' cannot be read: ", "source.unreadable"),
        (
            f"{{iceberg: a.b, catalog: {{type: sql, uri: 'sqlite:///{desk.folder}/other.db'}}}}",
            "'a.b' cannot be read: ",
            "source.unreadable",
        ),
        (
            "{iceberg: a.b, catalog: {type: rest, uri: 'http://127.0.0.1:9/'}}",
            "'a.b' cannot be read: ",
            "source.unreadable",
        ),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"^source events: from.iceberg: {reason}") as refused:
            desk.land(desk.source(origin))
        assert refused.value.code == code and "\n" not in str(refused.value)


def test_what_a_person_types(desk: Desk, lake: Lake) -> None:
    """Guards against commands that know files alone."""
    lake.catalog.create_table("shop.events", SCHEMA).append(rows_of(event("007", DAYS[0])))
    desk.source(lake.origin())
    project = Project(desk.settings)
    (look,) = check_sources(project).looks
    assert (look.format, look.files) == ("iceberg", 1)
    assert look.columns["price"] == "DECIMAL(10,2)"
    _, lines = preview_source(project, "events", 5)
    assert lines[0][0] == "007" and not list(Path(desk.settings.landing_root).rglob("*.parquet"))
    words = ["sources", "land", "--json", "--home", str(desk.settings.home)]
    landed = CliRunner().invoke(app, words)
    assert landed.exit_code == 0 and json.loads(landed.stdout)["sources"][0]["rows"] == 1
