"""Texts at random below the cut, so that other policies can be judged by what was seen there.

A share e of the candidates below the cut is drawn, the same chance for each: in an order by cost
and then by a salted hash of task and user, those at every 1/e-th place from a random start (a
systematic draw, as in :mod:`usergrowth_dagster.audience.draw`). Those of them who are held out get
nothing, so the chance to be texted is e times that of not being held out.

From a budget, exploring takes what the ranking leaves, of which the share e was set aside. Should
that not pay for the share e of the candidates, a smaller share is drawn, the same for all of them,
and recorded. The order makes that safe whatever the start: along falling costs, each drawn cost but
the first is at most e times the sum of the costs since the one before, so all of them come to at
most e times the sum of all costs, plus the greatest cost.

The share is a whole number of millionths, and all of it is reckoned in whole numbers.
"""

from usergrowth_dagster.audience.holdout import hash_cell, hash_cell_sql, salt
from usergrowth_dagster.audience.policy import MONEY, Policy

UNITS = 1_000_000
_CELLS = 2**52


def luck_ctes(policy: Policy, task_id: str, day: str) -> str:
    """CTEs from ``walked`` and ``cut`` (rank BIGINT, its one row) to ``luck``.

    ``luck`` has, for each candidate below the cut: row, is_lucky BOOLEAN and chance DOUBLE, that
    of being lucky. Without exploring it has no rows.

    Args:
        policy: the policy, which says how much to explore, and by how much money.
        task_id: the task, and
        day: its date in ISO format, which salt the draw.
    """
    asked = int(policy.explore * UNITS + 0.5)
    if asked == 0:
        return """
luck as (
    select cast(0 as bigint) as "row", false as is_lucky, cast(0 as double) as chance where false
)"""
    salted = salt("explore", task_id, day)
    start = hash_cell(salt("explore_start", task_id, day), "") * UNITS // _CELLS
    left = "null" if policy.purse is None else _nanos(f"cast('{policy.purse:f}' as {MONEY})")
    return f"""
below as (
    select "row", {_nanos(f"coalesce(cast(cost as {MONEY}), 0)")} as price,
        row_number() over (
            order by cost desc nulls last, {hash_cell_sql(salted, "user_id")}, "row"
        ) as place
    from walked where rank >= (select rank from cut)
),
quota as (
    select greatest(0, least({asked}, coalesce(
        ({left} - (
            select {_nanos("coalesce(sum(may_cost - released), 0)")} from walked
            where rank < (select rank from cut)
        ) - max(price)) * {UNITS} // nullif(sum(price), 0), {asked}
    ))) as units
    from below
),
luck as (
    select "row", (place * units + {start}) % {UNITS} < units as is_lucky,
        cast(units as double) / {UNITS} as chance
    from below cross join quota
)"""


def _nanos(money: str) -> str:
    """Money as a whole number of 1e-9, so that quotients are exact."""
    return f"cast({money} * 1000000000 as hugeint)"
