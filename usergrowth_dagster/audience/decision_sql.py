"""The SQL of a decision: three queries, with a common table expression for each of their rules.

Each keeps its result, without columns that no rule reads: the tables of one query are in memory
together, and DuckDB cannot spill them all.
"""

from collections.abc import Mapping, Sequence

from usergrowth_dagster.audience.draw import drawn_ctes
from usergrowth_dagster.audience.eligibility import ADDRESSES, OTHER_ADDRESS, screened_ctes
from usergrowth_dagster.audience.explore import luck_ctes
from usergrowth_dagster.audience.holdout import Holdout, hash_cell_sql, salt
from usergrowth_dagster.audience.persons import USERS, chance_sql
from usergrowth_dagster.audience.policy import Policy
from usergrowth_dagster.control.campaign_blocks import Channel
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.ranks import UPLIFT

LAST = 2**62
"""A rank that is beyond all others."""

_RANKED_BY = ('"row"', "user_id", "person", USERS, "score", UPLIFT, "cost", "stratum")


def screened_sql(relation: str, channels: Sequence[Channel]) -> str:
    """The first query of a decision: what stands in the way of each row by itself.

    Args:
        relation: quoted name of its input, with all optional columns.
        channels: what the column ``phone`` holds, and where texts go by two, the other address.

    Returns:
        A SELECT of the columns that the ranking needs, phone_key and problem (NULL: none); of a
        second channel also other_key.
    """
    read = ["item_id", "phone", "suppressed", "reason", "outside", "content_problem"]
    other = [OTHER_ADDRESS] if len(channels) > 1 else []
    narrow = f"(select {', '.join([*_RANKED_BY, *read, *other])} from {relation})"
    keys = ["phone_key", *(["other_key"] if other else [])]
    return f"""with {screened_ctes(narrow, channels)}
select {", ".join([*_RANKED_BY, *keys, "problem"])} from screened"""


def picked_sql(
    screened: str, policy: Policy, channels: Sequence[Channel], task_id: str, day: str
) -> str:
    """The second query: one row a user, an address and a person is left without a problem.

    Args:
        screened: quoted name of the result of the first.
        policy: who is chosen.
        channels: as of :func:`screened_sql`.
        task_id: the task, and
        day: its date in ISO format, which salt the order of equals.

    Returns:
        A SELECT of the columns that the ranking needs, merit, net_value, tie and problem.
    """
    return f"""with {_picked_ctes(screened, policy, channels, task_id, day)}
select {", ".join([*_RANKED_BY, "merit", "net_value", "tie", "problem"])} from picked"""


def decision_sql(
    relation: str,
    picked: str,
    columns: Mapping[str, str],
    stamp: Mapping[str, str | None],
    policy: Policy,
    holdout: Holdout,
    global_holdout: Holdout,
    *,
    by_person: bool,
) -> str:
    """The last query: those without a problem are ranked, and chosen or held out.

    Args:
        relation: quoted name of the input of the first query.
        picked: quoted name of the result of the second.
        columns: name and type of the columns of the result.
        stamp: those of them that are the same in every row; among them task_id and ds.
        policy: who is chosen.
        holdout: the campaign's control group.
        global_holdout: that of all campaigns.
        by_person: whether the input knows who is one person with others.
    """
    task_id, day = str(stamp["task_id"]), str(stamp["ds"])
    computed = {name: literal(value) for name, value in stamp.items()} | {
        "arm": "coalesce(arms.arm, 'none')",
        "propensity": "coalesce(arms.propensity, 1)",
        "outcome": "coalesce(picked.problem, arms.outcome)",
        "rank": "arms.rank",
        "holdout": "arms.holdout",
        "users": f"len(source.{USERS})" if by_person else "null",
        "held_globally": f"case when source.{USERS} is not null then arms.is_global end"
        if by_person
        else "null",
        "net_value": "picked.net_value",
    }
    selected = ",\n        ".join(
        f"cast({computed.get(name, f'source.{identifier(name)}')} as {kind}) as {identifier(name)}"
        for name, kind in columns.items()
    )
    return f"""
with ranked as (
    select "row", user_id, {USERS}, score, uplift, net_value, cost, stratum,
        row_number() over (order by {policy.order_sql()}, tie, "row") as rank
    from {picked} where problem is null
),
{arms_ctes(policy, holdout, global_holdout, task_id, day, by_person=by_person)}
select
        {selected}
from {relation} as source
inner join {picked} as picked on picked."row" = source."row"
left join arms on arms."row" = source."row"
"""


def arms_ctes(
    policy: Policy,
    holdout: Holdout,
    global_holdout: Holdout,
    task_id: str,
    day: str,
    *,
    by_person: bool = False,
) -> str:
    """CTEs from ``ranked`` to ``arms``: who of the ranked is texted, held out, or neither.

    ``ranked`` has row, user_id, score, net_value, cost, stratum and rank, and ``by_person`` the ids
    of the person; ``arms`` has row, rank, arm, outcome, propensity, holdout and is_global.
    """
    return ",".join(
        (
            drawn_ctes(holdout, global_holdout, task_id, day, by_person=by_person),
            walked_ctes(policy),
            luck_ctes(policy, task_id, day),
            _arms_cte(policy, holdout, global_holdout, by_person=by_person),
        )
    )


def _picked_ctes(
    screened: str, policy: Policy, channels: Sequence[Channel], task_id: str, day: str
) -> str:
    """CTEs to ``picked``: every row of ``screened`` with its problem."""
    tie = hash_cell_sql(salt("tie", task_id, day), "user_id")
    shared = f"shared_{ADDRESSES[channels[0]].name}"
    order = policy.order_sql()
    paired, apart = "paired", ""
    if len(channels) > 1:  # first by the other address, then by this one among those who are left
        paired, apart = "apart", _apart_ctes(channels[1], f"{order}, tie")
    unknown = "uplift is null" if policy.by_uplift else "false"
    return f"""
valued as (
    select * replace (
            case when problem is null and {unknown} then 'no_features' else problem end as problem
        ),
        cast({policy.merit_sql()} as double) as merit,
        cast({policy.net_sql()} as double) as net_value,
        {tie} as tie
    from {screened}
),
best_pair as (
    select "row", row_number() over (partition by user_id order by {order}, "row") as place_of_user
    from valued where problem is null
),
paired as (
    select valued.* replace (
            case when place_of_user > 1 then 'other_item' else problem end as problem
        )
    from valued left join best_pair using ("row")
),{apart}
best_user as (
    select "row",
        row_number() over (partition by phone_key order by {order}, tie, "row") as place_on_phone
    from {paired} where problem is null
),
addressed as (
    select {paired}.* replace (
            case when place_on_phone > 1 then '{shared}' else problem end as problem
        )
    from {paired} left join best_user using ("row")
),
best_of_person as (
    select "row", row_number() over (partition by person order by {order}, tie, "row") as place
    from addressed where problem is null and person is not null
),
picked as (
    select addressed.* replace (
            case when place > 1 then 'same_person' else problem end as problem
        )
    from addressed left join best_of_person using ("row")
)"""


def _apart_ctes(channel: Channel, order: str) -> str:
    """From ``paired`` to ``apart``: of several users with one other address the best one stays."""
    return f"""
best_other as (
    select "row",
        row_number() over (partition by other_key order by {order}, "row") as place_on_other
    from paired where problem is null
),
apart as (
    select paired.* replace (
            case when place_on_other > 1 then 'shared_{ADDRESSES[channel].name}' else problem end
                as problem
        )
    from paired left join best_other using ("row")
),"""


def walked_ctes(policy: Policy) -> str:
    """CTEs from ``drawn`` to ``walked``, and ``cut``: the first rank that is not chosen."""
    return f"""
walked as (
    select *,
        coalesce(sum(may_count) over before_it, 0) as treated_before,
        coalesce(sum(may_cost - released) over before_it, 0) as cost_before
    from drawn
    window before_it as (order by rank rows between unbounded preceding and 1 preceding)
),
cut as (
    select coalesce(min(rank), {LAST}) as rank from walked where not ({policy.fits_sql()})
)"""


def _arms_cte(policy: Policy, holdout: Holdout, global_holdout: Holdout, *, by_person: bool) -> str:
    """``arms``, from ``walked``, ``cut`` and ``luck``."""
    control_chance, treatment_chance = (
        chance_sql(holdout, arm, global_holdout, by_person=by_person)
        for arm in ("control", "treatment")
    )
    return f"""
arms as (
    select "row", rank, is_global,
        case
            when chosen and is_held then 'control'
            when chosen or explored then 'treatment' else 'none'
        end as arm,
        case
            when chosen and is_held then 'holdout'
            when chosen then 'selected'
            when explored then 'explored' else {policy.outside_sql()}
        end as outcome,
        case
            when chosen and is_held then {control_chance}
            when chosen then {treatment_chance}
            when explored then chance * {treatment_chance} else 1 - chance * {treatment_chance}
        end as propensity,
        case when chosen and is_global then 'global' when chosen and is_held then 'campaign' end
            as holdout
    from (
        select walked.*, rank < (select rank from cut) as chosen,
            coalesce(is_lucky, false) and not is_held as explored,
            coalesce(chance, 0) as chance
        from walked left join luck using ("row")
    )
)"""
