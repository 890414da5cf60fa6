"""The arms of the ranked candidates, so drawn that who is chosen depends on nobody's own arm.

How far down the ranking a policy reaches depends on how many before were held out, for those cost
nothing. That is harmless while each user's draw is independent of the others': the arms of those
before say nothing of one's own, so among the chosen each arm has the chance that it was drawn with.

A stratified draw is not independent: in each stratum it takes c of every b users along the ranking,
with share = c / b. Whoever knows the first b - 1 arms knows the last. So a block's arms count only
once all its users rank before; up to then it is counted with what it can take at most. Then whether
a user is chosen depends only on blocks that the user is not in, and blocks are drawn independently
of one another. The price: of a budget the controls' cost in each stratum's last block may be left,
and of a ``top_n`` at most one text a stratum.

Within a block the draw is systematic (Madow and Madow, Annals of Mathematical Statistics 15, 1944,
p. 1): slot j is held out when (j c + start) mod b < c, for a start of equal chances in 0 .. b - 1.
So each user has exactly the chance c / b, and of the first m users of a stratum, wherever the
policy stops, the number held out is m c / b to within less than one. Users of the global control
group are passed over: the share is one of those who are left, in each stratum.
"""

from usergrowth_dagster.audience.holdout import (
    Holdout,
    hash_cell_sql,
    salt,
)
from usergrowth_dagster.audience.persons import held_sql
from usergrowth_dagster.audience.policy import MONEY
from usergrowth_dagster.control.campaign_blocks import block_of

_PRICE = f"coalesce(cast(cost as {MONEY}), 0)"
_NOTHING = f"cast(0 as {MONEY})"


def drawn_ctes(
    holdout: Holdout, global_holdout: Holdout, task_id: str, day: str, *, by_person: bool = False
) -> str:
    """CTEs from ``ranked`` (user_id, stratum, rank, cost) to ``drawn``, with further columns.

    See :func:`held_ctes` and :func:`counted_cte`, of which they consist.
    """
    held = held_ctes(holdout, global_holdout, task_id, day, by_person=by_person)
    return f"{held},{counted_cte(holdout)}"


def held_ctes(
    holdout: Holdout, global_holdout: Holdout, task_id: str, day: str, *, by_person: bool = False
) -> str:
    """CTEs from ``ranked`` to ``held``, with is_global and is_held BOOLEAN: by which draw held out.

    With strata also with place, block and slot, those of the users that the global draw left.

    Args:
        holdout: the campaign's draw.
        global_holdout: that of all campaigns.
        task_id: the task, and
        day: its date in ISO format, which salt a stratified draw.
        by_person: whether rows have the ids of the person, who is held out by any of them.
    """
    in_global = held_sql(global_holdout, by_person=by_person)
    if not holdout.strata:
        return f"""
held as (
    select *, {in_global} as is_global,
        {in_global} or {held_sql(holdout, by_person=by_person)} as is_held
    from ranked
)"""
    share = block_of(holdout.share)
    size, controls = share.denominator, share.numerator
    salted = salt("strata", holdout.namespace, holdout.epoch, task_id, day)
    start = hash_cell_sql(salted, "concat(stratum, ':', block)")
    return f"""
placed as (
    select *, {in_global} as is_global,
        row_number() over (partition by stratum, {in_global} order by rank) - 1 as place
    from ranked
),
blocked as (
    select *, place // {size} as block, place % {size} as slot from placed
),
held as (
    select *, is_global or (slot * {controls} + {start} % {size}) % {size} < {controls} as is_held
    from blocked
)"""


def counted_cte(holdout: Holdout) -> str:
    """The CTE ``drawn``: ``held`` with what each user adds to what is known of those before.

    * may_count INTEGER, may_cost decimal: to the texts and the cost of those ranked before, at most
      as far as may be known then.
    * released decimal: what, with this user, is known to be less of that cost.
    """
    if not holdout.strata:
        return f"""
drawn as (
    select *, cast(not is_held as integer) as may_count,
        case when is_held then 0 else {_PRICE} end as may_cost,
        {_NOTHING} as released
    from held
)"""
    share = block_of(holdout.share)
    size, controls = share.denominator, share.numerator
    return f"""
drawn as (
    select *,
        case when is_global then 0
            else 1 - ((slot + 1) * {controls} // {size} - slot * {controls} // {size})
        end as may_count,
        case when is_global then 0 else {_PRICE} end as may_cost,
        case when is_global or slot < {size - 1} then 0 else coalesce(
            sum({_PRICE}) filter (where is_held) over (partition by stratum, is_global, block), 0
        ) end as released
    from held
)"""
