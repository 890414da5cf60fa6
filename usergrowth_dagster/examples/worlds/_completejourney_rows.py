"""The Complete Journey's files as rows of the landing tables, in SQL.

The relations ``all_<table>`` hold the landing columns and ``ds``, over views named like the
package's files.
"""

from datetime import date

from usergrowth_dagster.examples.worlds._landing import clean, kvs

FIRST_SNAPSHOT = date(2016, 12, 31)
"""Day of the user snapshot and of the first item snapshot: the eve of the first purchase."""

SOURCES = (
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

STATEMENTS = (_USERS, _PRODUCTS, _CAMPAIGNS, _ITEMS, _BEHAVIORS, _OPERATIONS)
"""What to execute, in order."""
