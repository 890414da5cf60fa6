"""Read-only queries over the tables of a home: what they see, what they may not, how they fail."""

import io
import json
import signal
import threading
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pyarrow import parquet
from support.hostile_sql import READS, SETTINGS, WRITES
from support.patience import no_hang

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.audit import record
from usergrowth_dagster.control.store import open_store
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.sql_shell import shell as shell_module
from usergrowth_dagster.sql_shell.catalog import PHONES
from usergrowth_dagster.sql_shell.database import write_database
from usergrowth_dagster.sql_shell.records import COLUMNS, read_records
from usergrowth_dagster.sql_shell.results import WRITERS, first_rows
from usergrowth_dagster.sql_shell.shell import SqlShell
from usergrowth_dagster.sql_shell.statements import TABLE_FUNCTIONS, SqlError, is_complete
from usergrowth_dagster.sql_shell.versions import Versions, committed, read_versions
from usergrowth_dagster.views.sql import read_sql_columns, read_sql_tables
from usergrowth_dagster.warehouse.tables import Warehouse

DAY = date(2024, 3, 1)
EMAIL = "ann@example.com"
PHONE = "+447700900123"
KVS = pa.map_(pa.string(), pa.float64())


def write(warehouse: Warehouse, table: str, days: dict[date, int], **columns: Any) -> int:
    """Replace days with so many rows each; returns the version."""
    ds = [day for day, rows in days.items() for _ in range(rows)]
    data = {"ds": pa.array(ds, pa.date32()), "n": pa.array(range(len(ds)), pa.int64())}
    return warehouse.replace(table, pa.table(data | columns), days=days).version


def shell_of(settings: Settings, **versions: Any) -> SqlShell:
    settings.home.mkdir(parents=True, exist_ok=True)
    return SqlShell(Project(settings), Versions(**versions))


def rows(shell: SqlShell, sql: str) -> list[tuple[str | None, ...]]:
    """The rows of one query, as texts."""
    (statement,) = shell.statements(sql)
    return shell.run(statement, lambda result: first_rows(result, 0).rows)


def written(shell: SqlShell, sql: str, form: str) -> bytes:
    """The result of one query in a format."""
    file = io.BytesIO()
    (statement,) = shell.statements(sql)
    shell.run(statement, lambda result: WRITERS[form](result, file))
    return file.getvalue()


def refusal(shell: SqlShell, sql: str) -> str:
    """The sentence of a query that fails."""
    with pytest.raises(UserError) as error:
        rows(shell, sql)
    sentence = str(error.value)
    assert "\n" not in sentence
    return sentence


@pytest.fixture
def shell(settings: Settings, warehouse: Warehouse) -> SqlShell:
    """A home with facts, of which the first day was written twice, and a population."""
    write(warehouse, "facts", {DAY: 3})
    write(warehouse, "facts", {DAY: 2, DAY + timedelta(1): 5})
    people = {
        "ds": pa.array([DAY] * 2, pa.date32()),
        "task_id": ["spring"] * 2,
        "user_id": ["ann", "bob"],
        "phone": [PHONE, None],
        "variables": pa.array(
            [[("name", "Ann"), ("email", EMAIL)], None], pa.map_(pa.string(), pa.string())
        ),
    }
    warehouse.replace("population", pa.table(people), days=[DAY], scope={"task_id": "spring"})
    return shell_of(settings)


@pytest.mark.parametrize("sql", [*WRITES, *SETTINGS, *READS])
def test_what_a_query_may_not(shell: SqlShell, tmp_path: Path, sql: str) -> None:
    """A query that writes the home, or reads a file, a setting or a phone number."""
    project = shell.project
    (file,) = project.warehouse.files("population")[DAY]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    sentence = refusal(shell, sql.format(out=tmp_path / "out", data=file))
    assert "root:" not in sentence and PHONE not in sentence
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    changed = {path.name for path, content in after.items() if before.get(path) != content}
    made = {"tables.db", "control.db", "control.db-wal", "control.db-shm"}  # by Project itself
    assert changed <= made


@pytest.mark.parametrize(
    "sql",
    [
        "copy (select 1) to '{out}'",
        "copy (select 1 as n) to '{other}' (format parquet, use_tmp_file false)",
        "select * from read_text('/etc/passwd')",
        "select * from '{other}'",
        "set enable_external_access = true",
        "set allowed_paths = ['/etc/passwd']",
        "attach '{out}'",
        "install httpfs",
        "load httpfs",
        "select * from variable_of_python",
    ],
)
def test_the_engine_refuses_what_the_check_lets_pass(
    shell: SqlShell, tmp_path: Path, sql: str
) -> None:
    """A hole in the check of the tree that opens files, since nothing stands behind it."""
    variable_of_python = pa.table({"a": [1]})
    (other,) = shell.project.warehouse.files("population")[DAY]
    (statement,) = shell.statements("select count(*) from facts")
    with shell._engine(statement) as engine, pytest.raises(duckdb.Error):
        engine.run(sql.format(out=tmp_path / "out", other=other))
    assert not (tmp_path / "out").exists() and variable_of_python.num_rows == 1


def test_no_other_table_function_is_harmless_by_mistake() -> None:
    """A new version of DuckDB with an allowed function that is not there, or reads files."""
    with duckdb.connect() as connection:
        connection.execute("set enable_external_access = false")
        known = connection.execute(
            "select distinct function_name from duckdb_functions() where function_type = 'table'"
        ).fetchall()
    assert set(TABLE_FUNCTIONS) <= {name for (name,) in known}


def test_what_a_query_may(shell: SqlShell) -> None:
    """A check that refuses ordinary queries."""
    for sql, expected in {
        "select count(*) from facts": [("7",)],
        "SELECT count(*) FROM Facts;": [("7",)],
        "from facts select max(n) as n": [("6",)],
        "select count(*) from main.facts join population using (ds)": [("4",)],
        "with a as (select n from facts), b as (from a) select sum(n) from b": [("21",)],
        "with recursive t(x) as (select 1 union all select x + 1 from t where x < 4) "
        "select count(*) from t": [("4",)],
        "select user_id, variables['name'] from population order by 1": [
            ("ann", "Ann"),
            ("bob", None),
        ],
        "select variables['email'], cardinality(variables) from population order by 2": [
            (None, "2"),
            (None, None),
        ],
        "select * from (values (1, 'x')) as v(a, b)": [("1", "x")],
        "select list_sum([x for x in [1, 2]]), (select max(n) from facts)": [("3", "6")],
        "select * from range(2)": [("0",), ("1",)],
        "select * from facts pivot (sum(n) for ds in ('2024-03-01'))": [("1",)],
        "select count(*) from facts tablesample 100%": [("7",)],
        "select ds, sum(n) from facts group by all having sum(n) > 1 order by all": [
            ("2024-03-02", "20")
        ],
        "select n from facts qualify row_number() over (order by n desc) = 1": [("6",)],
        "select n from facts where ds = '2024-03-01' union all (select 9) order by 1": [
            ("0",),
            ("1",),
            ("9",),
        ],
        "select current_setting('TimeZone')": [("Asia/Shanghai",)],
        "-- a comment; with a semicolon\nselect ';' as a -- another": [(";",)],
        "select 7; -- a comment behind it": [("7",)],
        "select 7 /* ; */ ; ; -- a comment; behind it": [("7",)],
        "select name from (describe facts) d(name, a, b, c, d, e)": [("ds",), ("n",)],
    }.items():
        assert rows(shell, sql) == expected, sql
    assert rows(shell, "explain select count(*) from facts")
    assert rows(shell, "explain select 7; -- a comment behind it")
    assert rows(shell, "summarize facts")[0][0] == "ds"
    assert [row[0] for row in rows(shell, "show facts")] == ["ds", "n"]
    assert {row[0] for row in rows(shell, "show tables")} == {"facts", "population"}
    listed = "select table_name from information_schema.tables order by 1"
    assert rows(shell, listed) == [("facts",), ("population",)]


def test_rows_come_in_the_order_of_the_query(settings: Settings, warehouse: Warehouse) -> None:
    """A subquery around the query that loses its order."""
    write(warehouse, "facts", {DAY + timedelta(day): 4_000 for day in range(20)})
    numbers = [
        int(row[0] or -1)
        for row in rows(shell_of(settings), "select n from facts order by n desc, ds")
    ]
    assert len(numbers) == 80_000 and numbers == sorted(numbers, reverse=True)


class TestVersions:
    @given(
        commits=st.lists(
            st.dictionaries(st.integers(0, 3), st.integers(0, 4), min_size=1),
            min_size=1,
            max_size=5,
        )
    )
    @hypothesis_settings(max_examples=8)
    def test_counts_are_those_of_the_delta_table(
        self, commits: list[dict[int, int]], tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """A view that holds the files of another version, or loses one."""
        settings = load_settings(tmp_path_factory.mktemp("h") / "home", memory_limit="1GB")
        warehouse = Warehouse(Storage(settings.storage_root))
        for commit in commits:
            write(warehouse, "facts", {DAY + timedelta(d): rows for d, rows in commit.items()})
        newest = warehouse.version("facts")
        assert newest is not None
        for version in range(newest + 1):
            expected = DeltaTable(warehouse.uri("facts"), version=version).to_pyarrow_table()
            for shell in (
                shell_of(settings, by_table={"facts": version}),
                shell_of(settings, at=committed(warehouse, "facts", version)),
            ):
                at = shell.catalog.version("facts")
                assert at == version or shell.catalog.versions.at is not None
                if at == version:  # two commits may share a millisecond
                    counted = rows(shell, "select count(*), coalesce(sum(n), 0) from facts")
                    total = sum(expected.column("n").to_pylist())
                    assert counted == [(str(expected.num_rows), str(total))]
        assert rows(shell_of(settings), "select count(*) from facts") == [
            (str(DeltaTable(warehouse.uri("facts")).to_pyarrow_table().num_rows),)
        ]

    def test_a_time_reads_what_was_there(self, settings: Settings, warehouse: Warehouse) -> None:
        """A time that reads the version after it, or a zone that is taken for UTC."""
        moments = []
        for count in (1, 2, 3):
            version = write(warehouse, "facts", {DAY: count})
            moments.append(committed(warehouse, "facts", version))
            time.sleep(0.01)
        write(warehouse, "later", {DAY: 1})
        first, second, third = (one for one in moments if one is not None)
        assert (third - first) < timedelta(minutes=5)
        counts = {}
        for moment in (first, second - timedelta(milliseconds=1), second, third):
            counts[moment] = rows(shell_of(settings, at=moment), "select count(*) from facts")
        assert list(counts.values()) == [[("1",)], [("1",)], [("2",)], [("3",)]]
        then = shell_of(settings, at=third)
        assert "later was not there" in refusal(then, "select * from later")
        assert [t.table for t in read_sql_tables(then)] == ["facts"]
        assert rows(then, "show tables") == [("facts",)]
        local = second.astimezone(settings.zone).replace(tzinfo=None)
        assert read_versions(settings, local.isoformat(), []).at == second
        long_ago = shell_of(settings, at=datetime(2001, 1, 1, tzinfo=UTC))
        assert read_sql_tables(long_ago) == [] and rows(long_ago, "show tables") == []

    def test_versions_that_are_not_there(self, shell: SqlShell) -> None:
        """A version beyond the newest one that reads the newest."""
        settings = shell.project.settings
        assert "its newest is 2" in refusal(
            shell_of(settings, by_table={"facts": 3}), "select * from facts"
        )
        with pytest.raises(UserError, match="no such table; this home has facts, population"):
            shell_of(settings, by_table={"fact": 1})
        for text in ("facts", "facts=", "=1", "facts=-1", "facts=x", "facts=²"):
            with pytest.raises(UserError, match="write decisions=12"):
                read_versions(settings, "", [text])
        with pytest.raises(UserError, match="not a time"):
            read_versions(settings, "yesterday", [])

    def test_a_version_whose_files_were_removed(self, shell: SqlShell) -> None:
        """An old version of a forgotten person's table that ends in DuckDB's words for a file."""
        old = shell_of(shell.project.settings, by_table={"facts": 1})
        assert rows(old, "select count(*) from facts") == [("3",)]
        (file,) = shell.project.warehouse.files("facts", version=1)[DAY]
        Path(file).unlink()
        assert "version 1 can no longer be read" in refusal(old, "select * from facts")
        assert rows(shell, "select count(*) from facts") == [("7",)]

    def test_columns_that_came_later(self, settings: Settings, warehouse: Warehouse) -> None:
        """Older files that lack a column, in either order of the days."""
        write(warehouse, "facts", {DAY: 1})
        write(warehouse, "facts", {DAY - timedelta(1): 1}, extra=pa.array(["x"]))
        write(warehouse, "facts", {DAY + timedelta(1): 1}, extra=pa.array(["y"]))
        shell = shell_of(settings)
        assert rows(shell, "select extra from facts order by ds") == [("x",), (None,), ("y",)]
        early = shell_of(settings, by_table={"facts": 1})
        assert [c.name for c in read_sql_columns(early, "facts")] == ["ds", "n"]

    def test_a_shell_sees_what_lands_while_it_is_open(self, shell: SqlShell) -> None:
        """A shell that stays at the versions of its first query."""
        assert rows(shell, "select count(*) from facts") == [("7",)]
        write(shell.project.warehouse, "facts", {DAY: 4})
        assert rows(shell, "select count(*) from facts") == [("9",)]
        write(shell.project.warehouse, "new_table", {DAY: 1})
        assert rows(shell, "select count(*) from new_table") == [("1",)]


class TestErrors:
    @pytest.mark.parametrize(
        ("sql", "sentence"),
        [
            ("select * form facts", 'line 1, column 15: syntax error at or near "facts"'),
            ("select 1;\n\nselect 'é', nope\nfrom facts", "line 3, column 13: Referenced column"),
            (
                "select n from\n  fact",
                "line 2, column 3: there is no table fact; did you mean facts?",
            ),
            ("select * from message", "did you mean control.message?"),
            ("select n, cast('x' || n as int) from facts", "line 1, column 11: Could not convert"),
            ("select 'é'\n, error('my ' || least(n, 0)) from facts", "my 0"),
            ("select * from facts, facts", "Ambiguous reference to table"),
            ("select 'open", "line 1, column 8: unterminated string literal"),
            ("explain select * from fact", "line 1, column 23: there is no table fact"),
            ("show fact", "there is no table fact; did you mean facts?"),
            ("select 'a\udcff'", "the query is not UTF-8 text"),
        ],
    )
    def test_a_sentence_with_its_place(self, shell: SqlShell, sql: str, sentence: str) -> None:
        """An error without a place, at a wrong one, or of several lines."""
        with pytest.raises(SqlError) as error:
            for statement in shell.statements(sql):
                shell.run(statement, lambda result: first_rows(result, 0))
        assert sentence in str(error.value)
        assert "\n" not in str(error.value) and "exception_type" not in str(error.value)

    @pytest.mark.parametrize(
        "sql", ["select current_setting('s3_region')", "select st_point(1, 2)"]
    )
    def test_no_advice_that_cannot_be_followed(self, shell: SqlShell, sql: str) -> None:
        """An error that advises to install an extension or to change a locked setting."""
        sentence = refusal(shell, sql)
        assert "extension" in sentence
        assert not {"install", "load", "set"} & set(sentence.lower().replace(";", " ").split())

    def test_memory_is_limited(self, settings: Settings, warehouse: Warehouse) -> None:
        """A query that takes all memory of the machine."""
        write(warehouse, "facts", {DAY: 1})
        small = settings.model_copy(update={"memory_limit": "60MB"})
        big = "select list(a.range || b.range || 'xxxxxxxxxxxxxxxxxxxx') from range(4000) a, range(4000) b"
        assert "the setting memory_limit gives queries more" in refusal(shell_of(small), big)

    def test_ctrl_c_ends_a_query_and_the_next_one_runs(
        self, shell: SqlShell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ctrl-C that waits for the end of the query, or leaves a shell that cannot go on."""
        (endless,) = shell.statements(
            "select sum(a.range * b.range) from range(10000000) a, range(1000000) b"
        )
        main = threading.main_thread().ident
        assert main is not None
        timer = threading.Timer(1.0, lambda: signal.pthread_kill(main, signal.SIGINT))
        # a program that runs the tests may ignore it
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            timer.start()
            with no_hang(), pytest.raises(KeyboardInterrupt):
                shell.run(endless, lambda result: first_rows(result, 0))
        finally:
            signal.signal(signal.SIGINT, before)
        assert rows(shell, "select count(*) from facts") == [("7",)]


class TestResults:
    ODD = (
        "select * from (values "
        "(1, 'é, \"quoted\"\n and a line', map {'a': 1.5}, [1, null], null, 'nan'::double, true), "
        "(null, '', map {}, [], date '2024-02-29', 0.1::double, false)"
        ") t(id, text, kvs, list, day, number, flag)"
    )

    def test_csv(self, shell: SqlShell) -> None:
        """CSV in which an empty text and NULL are one, or a quote breaks a line."""
        text = written(shell, self.ODD, "csv").decode()
        assert text.splitlines()[0] == '"id","text","kvs","list","day","number","flag"'
        assert '1,"é, ""quoted""\n and a line","{a=1.5}","[1, NULL]",,nan,true\n' in text
        assert ',"","{}","[]","2024-02-29",0.1,false\n' in text

    def test_json(self, shell: SqlShell) -> None:
        """JSON that is none (NaN), loses a map, or has one name twice."""
        document = json.loads(written(shell, self.ODD, "json"), parse_constant=pytest.fail)
        assert document == [
            {
                "id": 1,
                "text": 'é, "quoted"\n and a line',
                "kvs": {"a": 1.5},
                "list": [1, None],
                "day": None,
                "number": None,
                "flag": True,
            },
            {
                "id": None,
                "text": "",
                "kvs": {},
                "list": [],
                "day": "2024-02-29",
                "number": 0.1,
                "flag": False,
            },
        ]
        twice = written(shell, 'select 1 as a, 2 as A, 3 as a_1, \'NaN\' as "a""b"', "json")
        assert json.loads(twice) == [{"a": 1, "A_1": 2, "a_1_1": 3, 'a"b': "NaN"}]
        assert json.loads(written(shell, "select 1 as a where false", "json")) == []
        big = written(shell, "select 9007199254740993 as i, 'Infinity' as t", "json")
        assert json.loads(big) == [{"i": 9007199254740993, "t": "Infinity"}]

    @pytest.mark.parametrize(
        "sql", ["explain select 'a\"b'", "explain analyze select * from facts"]
    )
    def test_a_plan_in_every_format(self, shell: SqlShell, sql: str) -> None:
        """A plan that breaks a format, or is no JSON because its text is not quoted."""
        (line,) = json.loads(written(shell, sql, "json"))
        assert set(line) == {"explain_key", "explain_value"} and "plan" in line["explain_key"]
        assert "\n" in line["explain_value"]
        assert written(shell, sql, "csv").startswith(b'"explain_key","explain_value"\n')
        table = parquet.read_table(io.BytesIO(written(shell, sql, "parquet")))
        assert table.column_names == ["explain_key", "explain_value"]

    def test_parquet(self, shell: SqlShell, tmp_path: Path) -> None:
        """Parquet that loses types; a type that Parquet lacks ends in a traceback."""
        (tmp_path / "o.parquet").write_bytes(written(shell, self.ODD, "parquet"))
        table = parquet.read_table(tmp_path / "o.parquet")
        assert str(table.schema.field("kvs").type).startswith("map<string")
        assert table.column("id").to_pylist() == [1, None]
        assert table.column("kvs").to_pylist() == [[("a", 1.5)], []] or table.num_rows == 2
        with pytest.raises(SqlError, match="Parquet cannot hold"):
            written(shell, "select interval 1 month as i", "parquet")

    def test_first_rows(self, shell: SqlShell) -> None:
        """A table that shows all rows, or says that there are more where there are none."""
        (statement,) = shell.statements("select n from facts order by n")
        for limit, count, more in ((3, 3, True), (7, 7, False), (0, 7, False)):
            shown = shell.run(statement, lambda result, n=limit: first_rows(result, n))
            assert (len(shown.rows), shown.more) == (count, more)

    @pytest.mark.parametrize("form", ["csv", "parquet"])
    def test_a_large_result_is_streamed(self, shell: SqlShell, form: str) -> None:
        """A result that is collected in Python's memory before it is written."""

        class Nothing(io.RawIOBase):
            def writable(self) -> bool:
                return True

            def write(self, data: Any) -> int:
                return len(data)

        (statement,) = shell.statements(
            "select range as a, 'text ' || range as b from range(600000)"
        )
        tracemalloc.start()
        allocated = pa.total_allocated_bytes()
        peak = 0

        def use(result: Any) -> None:
            nonlocal peak
            reader = result.read()
            for _ in reader:
                peak = max(peak, pa.total_allocated_bytes() - allocated)

        shell.run(statement, lambda result: WRITERS[form](result, Nothing()))  # type: ignore[arg-type]
        _, python_peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        shell.run(statement, use)
        assert python_peak < 10_000_000 and peak < 10_000_000


class TestRecords:
    def test_only_listed_columns_exist_and_none_is_personal(self) -> None:
        """A column with a number, its hash or a text of a person that gets onto the list."""
        personal = {"phone", "hash", "params", "digest", "content"}
        for table, columns in COLUMNS.items():
            known = schema.metadata.tables[table].c
            assert set(columns) <= set(known.keys()), table
            for column in columns:
                suspicious = any(word in column for word in personal)
                allowed = (table, column) in {
                    ("campaign", "spec_hash"),
                    ("template", "content"),
                    ("occurrence", "content"),
                }
                assert not suspicious or allowed, (table, column)
        assert not {"reply", "unread", "meta", "token_bucket"} & set(COLUMNS)
        assert "user_id" not in COLUMNS["suppression"] and PHONES == {
            "population": "phone",
            "raw_identity": "id_value",
        }

    def test_records_are_read_as_they_are_now(self, shell: SqlShell) -> None:
        """Codes as numbers, times without a zone, JSON that SQL cannot read, a copy that is old."""
        store = shell.project.store
        assert rows(shell, "select count(*) from control.message") == [("0",)]
        with store.write() as connection:
            now = datetime(2024, 3, 1, 0, 30, tzinfo=UTC)
            connection.execute(
                schema.campaign.insert().values(
                    name="spring",
                    remark="",
                    spec={"budget": [1, "é"]},
                    spec_hash="0",
                    created_time=now,
                    updated_time=now,
                )
            )
            connection.execute(
                schema.signature.insert().values(
                    name="Example", description="", status=1, created_time=now, updated_time=now
                )
            )
            record(connection, "ann", "pause", "spring")
        assert rows(
            shell,
            "select name || spec, spec->>'$.budget[1]', created_time, count(*) over () from control.campaign",
        ) == [('spring{"budget": [1, "é"]}', "é", "2024-03-01 08:30:00+08", "1")]
        assert rows(shell, "select status from control.signature") == [("approved",)]
        joined = "select subject from control.audit join control.campaign c on subject = c.name"
        assert rows(shell, joined) == [("spring",)]
        assert [c.name for c in shell.describe("control.batch")][:2] == ["id", "occurrence_id"]
        for name in COLUMNS:
            assert read_records(store, name).read_all().num_rows <= 1

    def test_records_of_either_database(self, database_url: str) -> None:
        """A type of PostgreSQL that Arrow refuses, or rows beyond the first part that are lost."""
        store = open_store(load_settings(Path("/nowhere"), database_url=database_url))
        with store.write() as connection:
            now = datetime(2024, 3, 1, tzinfo=UTC)
            connection.execute(
                schema.campaign.insert(),
                [
                    {
                        "name": f"c{number}",
                        "remark": "",
                        "spec": {"budget": number},
                        "spec_hash": "0",
                        "created_time": now,
                        "updated_time": now,
                    }
                    for number in range(10_050)
                ],
            )
        campaigns = read_records(store, "campaign").read_all()
        assert campaigns.num_rows == 10_050
        assert campaigns.column("spec").to_pylist()[7] == '{"budget": 7}'
        assert campaigns.column("created_time").to_pylist()[7] == now
        assert all(read_records(store, name).read_all().num_rows in (0, 10_050) for name in COLUMNS)
        store.close()

    def test_records_are_read_only_where_they_are_named(self, settings: Settings) -> None:
        """A query of tables that opens, makes or migrates the control store."""
        shell = shell_of(settings)
        assert rows(shell, "select 1") == [("1",)]
        assert not (settings.home / "control.db").exists()


class TestHomes:
    def test_a_home_without_tables(self, settings: Settings) -> None:
        """A stranger's home, in which nothing has landed."""
        shell = shell_of(settings)
        assert read_sql_tables(shell) == [] and rows(shell, "show tables") == []
        assert rows(shell, "select 40 + 2") == [("42",)]
        assert "there is no table facts" in refusal(shell, "select * from facts")

    def test_odd_contents(self, settings: Settings, warehouse: Warehouse) -> None:
        """NULL, other scripts, maps, empty tables and odd names that a view turns into others."""
        odd = {
            "text": pa.array([None, "", "用户 'é\"\x00"]),
            "kvs": pa.array([[("k", 1.0), ("ключ", None)], [], None], KVS),
            'a "b"': pa.array([None, None, 1], pa.int32()),
        }
        write(warehouse, "odd", {DAY: 3}, **odd)
        warehouse.replace(
            "empty", pa.table({"ds": pa.array([], pa.date32()), "x": pa.array([], KVS)}), days=[DAY]
        )
        shell = shell_of(settings)
        assert rows(shell, 'select text, kvs, "a ""b""" from odd order by n') == [
            (None, "{k=1.0, ключ=NULL}", None),
            ("", "{}", None),
            ("用户 'é\"\x00", None, "1"),
        ]
        assert rows(shell, "select kvs['ключ'] is null, cardinality(kvs) from odd where n = 0") == [
            ("true", "2")
        ]
        assert rows(shell, "select count(*), count(x) from empty") == [("0", "0")]
        assert [(c.name, c.kind) for c in read_sql_columns(shell, "empty")] == [
            ("ds", "DATE"),
            ("x", "MAP(VARCHAR, DOUBLE)"),
        ]
        (empty, _) = read_sql_tables(shell)
        assert (empty.rows, empty.days, empty.first) == (0, 0, None)

    def test_a_home_with_an_odd_path(self, tmp_path: Path) -> None:
        """A path that DuckDB reads as a pattern, so that its files may not be opened."""
        settings = load_settings(tmp_path / "my * home? 'é' {a,b} #1 %", memory_limit="1GB")
        write(Warehouse(Storage(settings.storage_root)), "facts", {DAY: 2})
        assert rows(shell_of(settings), "select count(*) from facts") == [("2",)]

    def test_opening_does_not_cost_with_history(
        self, settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A shell that binds every table, or reads every data file, before the first query."""
        for place in range(30):
            write(warehouse, "facts", {DAY + timedelta(place): 1})
        write(warehouse, "other", {DAY: 1})
        bound: list[str] = []
        bind = shell_module.bind
        monkeypatch.setattr(
            shell_module,
            "bind",
            lambda engine, table: (bound.append(table.name), bind(engine, table)),
        )
        shell = shell_of(settings)
        (statement,) = shell.statements("select count(*) from other")
        assert bound == []
        shell.run(statement, lambda result: first_rows(result, 0))
        assert bound == ["other"]


class TestDatabase:
    @pytest.fixture
    def path(self, shell: SqlShell, tmp_path: Path) -> Iterator[Path]:
        path = tmp_path / "bi.duckdb"
        write_database(shell.catalog, path)
        return path

    def test_views_of_a_version(self, shell: SqlShell, path: Path) -> None:
        """A file that other programs cannot query, or one with phone numbers in it."""
        write(shell.project.warehouse, "facts", {DAY: 9})
        with duckdb.connect(str(path), read_only=True) as connection:
            assert connection.execute("select count(*) from facts").fetchall() == [(7,)]
            people = connection.execute("from population").fetchall()
            assert len(people) == 2 and PHONE not in str(people) and EMAIL not in str(people)
            assert connection.execute(
                'select "table", version, rows from table_versions order by 1'
            ).fetchall() == [("facts", 2, 7), ("population", 1, 2)]
            names = connection.execute("select distinct column_name from duckdb_columns()")
            assert ("phone",) not in names.fetchall()
        write_database(shell.catalog, path)
        with duckdb.connect(str(path), read_only=True) as connection:
            assert connection.execute("select count(*) from facts").fetchall() == [(14,)]
        assert [file.name for file in path.parent.glob("*duckdb*")] == ["bi.duckdb"]

    def test_other_files_stay(self, shell: SqlShell, tmp_path: Path) -> None:
        """A file of somebody else that is overwritten."""
        text = tmp_path / "notes.txt"
        text.write_text("mine")
        mine = tmp_path / "mine.duckdb"
        with duckdb.connect(str(mine)) as connection:
            connection.execute("create table t as select 1")
        for file in (text, mine):
            before = file.read_bytes()
            with pytest.raises(UserError, match="another file is there"):
                write_database(shell.catalog, file)
            assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("select 1;", True),
        ("select 1; -- done", True),
        ("select 'é' ;\n", True),
        ("select 1", False),
        ("select ';", False),
        ("select ';'", False),
        ("select 1 -- ;", False),
        ("select /* ;", False),
        ("select $$;", False),
        ('select ";"', False),
        ("select ['a]'];", True),
        ("", False),
        ("-- only a comment", False),
        (";", True),
    ],
)
def test_where_a_query_ends(text: str, complete: bool) -> None:
    """A semicolon within a text that ends a query, or one after a comment that does not."""
    assert is_complete(text) is complete
