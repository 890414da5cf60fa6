"""Arrays of the synthetic world as rows of the landing and truth tables, in SQL over Arrow."""

from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from usergrowth_dagster.examples.worlds._landing import kvs
from usergrowth_dagster.examples.worlds._population import (
    CATEGORIES,
    KINDS,
    Array,
    Users,
    draw_items,
    item_prices,
    uniform,
)
from usergrowth_dagster.examples.worlds._simulation import COPIES, NEVER, STATES, Lives, Touches
from usergrowth_dagster.quoting import literals

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

USER_ID = "'u' || lpad(n::varchar, 8, '0')"
ITEM_ID = "'i' || lpad(item::varchar, 6, '0')"
_KINDS_OF_BEHAVIOR = ("login", "view", "buy")
_PURPOSE = {"hour": 32, "hour_more": 33, "view": 34, "buy": 35, "quantity": 36}
_VIEWED, _BOUGHT = 37, 40  # three purposes each


def _list(names: tuple[str, ...], position: str) -> str:
    listed = literals(names)
    return f"([{listed}])[{position} + 1]"


def _events(users: Users, lives: Lives, seed: int, items: int, days: tuple[int, int]) -> "pa.Table":
    """One row an event: a login a session, often a view, sometimes a purchase.

    Args:
        users: the users.
        lives: their lives.
        seed: the world's seed.
        items: number of items.
        days: first day of the world and the day after the last, of which the events are.

    Returns:
        Columns day, n (user), seq (order within the user's day), kind, hour, item, quantity,
        cents; ``item`` and the rest are -1 and 0 where they do not apply.
    """
    import pyarrow as pa

    day, who = np.nonzero(lives.sessions[days[0] : days[1]])
    day = day + days[0]
    count = lives.sessions[day, who].astype(np.int64)
    session = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
    day, who = np.repeat(day, count), np.repeat(who, count)
    counter = day * 8 + session
    key = users.key[who]
    spread = uniform(key, _PURPOSE["hour"], counter) + uniform(key, _PURPOSE["hour_more"], counter)
    hour = (users.hour[who] + np.floor(5 * (spread - 1)).astype(np.int64)) % 24
    kinds = {
        0: np.arange(len(who)),
        1: np.flatnonzero(uniform(key, _PURPOSE["view"], counter) < 0.7),
        2: np.flatnonzero(uniform(key, _PURPOSE["buy"], counter) < users.buys[who]),
    }
    nothing = np.full(len(who), -1)
    bought = kinds[2]
    item = {
        0: nothing,
        1: draw_items(users, who[kinds[1]], counter[kinds[1]], items, _VIEWED),
        2: draw_items(users, who[bought], counter[bought], items, _BOUGHT),
    }
    quantity = 1 + (uniform(key[bought], _PURPOSE["quantity"], counter[bought]) < 0.2)
    price = item_prices(seed, items)[item[2]] * users.budget[who[bought]]
    zeros = [np.zeros(len(kinds[0]) + len(kinds[1]), dtype=np.int64)]
    every = np.concatenate([kinds[kind] for kind in (0, 1, 2)])
    kind = np.repeat(np.arange(3), [len(kinds[k]) for k in (0, 1, 2)])
    columns: dict[str, Array] = {
        "day": day[every].astype(np.int16),
        "n": users.index[who[every]].astype(np.int32),
        "seq": (session[every] * 3 + kind).astype(np.int8),
        "kind": kind.astype(np.int8),
        "hour": hour[every].astype(np.int8),
        "item": np.concatenate([item[k] for k in (0, 1, 2)]).astype(np.int32),
        "quantity": np.concatenate([*zeros, quantity]).astype(np.int8),
        "cents": np.concatenate([*zeros, np.round(price * quantity)]).astype(np.int32),
    }
    return pa.table(columns)


def touches_table(users: Users, touches: Touches) -> "pa.Table":
    """Touches with the user's number ``n`` for the position."""
    import pyarrow as pa

    columns = {name: getattr(touches, name) for name in touches.__dataclass_fields__}
    columns["n"] = users.index[columns.pop("who")]
    return pa.table(columns)


def _users(users: Users, lives: Lives) -> "pa.Table":
    import pyarrow as pa

    names = ("kind", "engagement", "rate", "favorite", "gender", "age", "registered")
    columns: dict[str, Array] = {name: getattr(users, name) for name in names}
    return pa.table(
        {
            **columns,
            "boost": users.boost,
            "annoy": users.annoy,
            "n": users.index,
            "died": lives.died,
            "channel": (uniform(users.key, 17) * 4).astype(np.int8),
        }
    )


def truth_columns(start: date, price: float) -> str:
    """SQL of the columns of a truth row, from :func:`touches_table`."""
    return (
        f"{USER_ID} as user_id, date '{start}' + day::integer as ds, {ITEM_ID} as item_id, "
        f"{_list(COPIES, 'copy')} as copy, {_list(STATES, 'state')} as state, "
        "propensity, treated, p0 as return_without, p1 as return_with, p1 - p0 as effect, "
        f"(1 + copy) * {price}::double as cost, "
        "case when returned >= 0 then returned = 1 end as returned"
    )


_HOUR = "'hh' || lpad(hour::varchar, 2, '0') || ':1'"
_BUY_NUM = kvs({"quantity": "nullif(quantity, 0)", "amount": "nullif(cents, 0) / 100"})


def bind(
    con: "DuckDBPyConnection",
    users: Users,
    lives: Lives,
    *,
    seed: int,
    items: int,
    start: date,
    snapshots: list[date],
    price: float,
    held_out: bool = False,
    days: tuple[int, int] | None = None,
) -> None:
    """Make the relations of a chunk of users.

    ``landing_user``, ``landing_behavior``, ``landing_operation`` have the landing columns, ``ds``
    and ``n, seq`` to order by; ``truth_touch`` and ``truth_user`` are the saved truth.

    Args:
        con: a connection; relations of an earlier chunk are replaced.
        users: the chunk's users.
        lives: their lives.
        seed: the world's seed.
        items: number of items.
        start: first day of the world.
        snapshots: days on which the user table is landed.
        price: price of one message, in currency.
        held_out: whether candidates who were not texted are landed too, as target ``holdout``.
        days: first day of the world and the day after the last that are landed; default: all.
    """
    first, end = days or (0, len(lives.sessions))
    for name, table in (
        ("events", _events(users, lives, seed, items, (first, end))),
        ("touches", touches_table(users, lives.touches)),
        ("users", _users(users, lives)),
    ):
        con.register("incoming", table)
        con.execute(f"create or replace table {name} as from incoming").fetchall()
        con.unregister("incoming")
    begin = f"date '{start}'"
    listed = ", ".join(f"date '{day}'" for day in snapshots)
    chance = "' propensity:' || if(treated, propensity, 1 - propensity)"
    numbers = f"{_HOUR} || ' messages:' || (1 + copy)"
    if held_out:
        numbers = f"if(treated, {numbers} || {chance}, ltrim({chance}))"
    statements = {
        "landing_user": f"""
            select {USER_ID} as user_id, nullif(gender, 0) as gender, nullif(age, -1) as age,
                strftime({begin} + registered::integer, '%Y%m%d') as reg_time,
                null::varchar as user_type, null::varchar as kvs_num,
                'channel:' || {_list(("organic", "search", "referral", "ads"), "channel")}
                    as kvs_str,
                snapshot as ds, n, 0 as seq
            from users, (select unnest(cast([{listed}] as date[])) as snapshot)
            where {begin} + registered::integer <= snapshot
        """,
        "landing_behavior": f"""
            select {USER_ID} as user_id, {_list(_KINDS_OF_BEHAVIOR, "kind")} as behavior,
                case when item >= 0 then {ITEM_ID} end as item_id,
                {_HOUR} || coalesce(' ' || {_BUY_NUM}, '')
                    as kvs_num,
                null::varchar as kvs_str, {begin} + day::integer as ds, n, seq
            from events
        """,
        "landing_operation": f"""
            select {USER_ID} as user_id, if(treated, 'sms', 'holdout') as target,
                {ITEM_ID} as item_id, {numbers} as kvs_num,
                if(treated, 'copy:' || {_list(COPIES, "copy")}, null) as kvs_str,
                {begin} + day::integer as ds, n, 0 as seq
            from touches where (treated or {held_out}) and day >= {first} and day < {end}
        """,
        "truth_touch": f"""
            select {truth_columns(start, price)} from touches order by day, n
        """,
        "truth_user": f"""
            select {USER_ID} as user_id, {_list(KINDS, "kind")} as kind, engagement,
                rate as sessions_a_day, boost, annoy,
                'c' || lpad(favorite::varchar, 2, '0') as favorite_category,
                {begin} + registered::integer as registered,
                case when died > {NEVER} then {begin} + died::integer end as died
            from users order by n
        """,
    }
    for name, query in statements.items():
        con.execute(f"create or replace temp view {name} as {query}").fetchall()


def bind_items(con: "DuckDBPyConnection", seed: int, items: int, day: date) -> None:
    """Make ``landing_item``: category and brand in kvs_str, price in kvs_num, one snapshot."""
    import pyarrow as pa

    table = pa.table({"n": np.arange(items), "cents": item_prices(seed, items)})
    con.register("incoming", table)
    con.execute(
        f"""
        create or replace table landing_item as
        select {ITEM_ID.replace("item::", "n::")} as item_id,
            'price:' || (cents / 100) as kvs_num,
            'category:c' || lpad((n % {CATEGORIES})::varchar, 2, '0') || ' brand:b' || (n % 7)
                as kvs_str,
            date '{day}' as ds, n, 0 as seq
        from incoming
        """
    ).fetchall()
    con.unregister("incoming")
