"""Populations of synthetic worlds: who may be texted, on which phone, about which item."""

from datetime import date
from typing import IO

import numpy as np

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.examples.worlds._population import (
    CATEGORIES,
    Array,
    draw_items,
    draw_users,
    phones,
)
from usergrowth_dagster.examples.worlds._synthetic_rows import ITEM_ID, USER_ID
from usergrowth_dagster.examples.worlds.synthetic import SyntheticWorld, connect


def write_population(
    world: SyntheticWorld,
    landing: Storage,
    task: str,
    execution_date: date,
    among: Array | None = None,
) -> int:
    """Write the population of a task: all users registered before the execution date.

    Some of them have no event in the lookback. Each is offered an item, mostly of the favorite
    category. Columns: ``user_id, item_id, phone``, and ``name`` and ``offer`` for templates. A
    phone is +999 (an unassigned country code) and ten digits made one-to-one from the user.

    Args:
        world: the world, as it was landed.
        landing: root of the landing files.
        task: name of the task, the folder below ``population``.
        execution_date: only users registered before it are in.
        among: numbers of the users who may be in; default: all.

    Returns:
        Rows written.
    """
    import pyarrow as pa

    offered_by, chunk = 43, 200_000  # purpose of the draw; users at a time
    day = (execution_date - world.start).days
    count = 0

    def produce(handle: IO[bytes]) -> None:
        nonlocal count
        handle.write(b"user_id,item_id,phone,name,offer\n")
        for first in range(0, world.users, chunk):
            users = draw_users(world.seed, first, min(first + chunk, world.users), world.days)
            there = users.registered < day
            if among is not None:
                there &= np.isin(users.index, among)
            who = np.flatnonzero(there)
            item = draw_items(users, who, np.full(len(who), max(day, 0)), world.items, offered_by)
            index = users.index[who]
            con.register("incoming", pa.table({"n": index, "item": item, "phone": phones(index)}))
            text = con.execute(
                f"select string_agg(concat_ws(',', {USER_ID}, {ITEM_ID}, "
                "'+999' || lpad(phone::varchar, 10, '0'), 'Member ' || n, "
                f"'Offer ' || item % {CATEGORIES}) || chr(10), '' order by n) from incoming"
            ).fetchall()[0][0]
            con.unregister("incoming")
            handle.write((text or "").encode())
            count += len(who)

    with connect() as con:
        landing.write_atomic(f"population/{task}/population.csv", produce)
    return count
