"""All campaigns of a period together: the global control group against everybody else.

A user belongs to the comparison from the first date of the period on which a campaign could have
texted them (whether it chose them or not), in the arm that the global draw gave them that day.
Being able to be texted for the first time cannot depend on the period's own texts, for there were
none before; whom a later campaign chooses may well depend on them, so that is not asked.

For a user who is one of several of a person, the decision records whether the draw held the person
out, and the chance follows from the number of ids.
"""

from collections.abc import Mapping
from datetime import date

from usergrowth_dagster.audience.holdout import Holdout, is_control_sql
from usergrowth_dagster.effects.outcomes import day
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_query

ALL = "all campaigns"


def bind_everyone(
    engine: Engine, decisions: Relation, draws: Mapping[date, Holdout]
) -> tuple[Relation, list[date]]:
    """Give each user of a period one row with an arm, for :func:`.outcomes.bind_outcomes`.

    Args:
        engine: holds the decisions.
        decisions: of every task of the period.
        draws: the global control group in force on each of its dates.

    Returns:
        The rows, and the dates whose decisions name other users as held out by the global draw
        than it does.
    """
    is_held, share = "case", "case"
    for when, draw in draws.items():
        is_held += f" when ds = {day(when)} then {is_control_sql(draw, 'user_id')}"
        share += f" when ds = {day(when)} then cast('{draw.share!r}' as double)"
    if not draws:
        is_held, share = "case when true then false", "case when true then 0.0"
    is_held = f"coalesce(held_globally, {is_held} end)"
    share = f"1 - power(1 - {share} end, coalesce(users, 1))"
    sql = (
        "with firsts as (select user_id, unnest(arg_min({'ds': ds, 'users': users, "
        f"'held_globally': held_globally}}, ds)) from {decisions} where rank is not null "
        f"group by user_id), placed as (select *, {is_held} as is_held, {share} as share "
        "from firsts) "
        f"select ds, {literal('*')} as task_id, {literal(ALL)} as campaign, "
        'row_number() over (order by user_id) as "row", user_id, null as item_id, '
        "case when is_held then 'control' else 'treatment' end as arm, "
        "case when is_held then 'holdout' else 'selected' end as outcome, "
        "case when is_held then share else 1 - share end as propensity, "
        "case when is_held then 'global' end as holdout, null as stratum, null as variant, "
        "null as variant_propensity, null as score, null as uplift, null as cost from placed"
    )
    others = [
        when
        for (when,) in engine.rows(
            f"select distinct ds from {decisions} where arm in ('treatment', 'control') "
            f"and (holdout is not distinct from 'global') <> {is_held} order by ds"
        )
    ]
    return bind_query(engine, "everyone", sql, of=[decisions], keep=True), others
