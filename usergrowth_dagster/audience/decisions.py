"""The decision: one row with one outcome for every row of a population.

A person is texted once. Among the eligible rows (see
:mod:`usergrowth_dagster.audience.eligibility`):

* a user with several items keeps the pair with the best score, then the first row; the other rows
  are ``other_item``. A pair that is not eligible does not stand in the way of one that is;
* of several users with one phone (or e-mail address) the best ranked keeps it, the others are
  ``shared_phone`` (``shared_email``);
* those who are left are ranked, the policy takes a prefix of the ranking, and the holdout is drawn
  inside it (:mod:`usergrowth_dagster.audience.policy` says how each policy counts).

Arm and propensity belong to the outcomes ``selected`` and ``holdout``; other rows have the arm
``none`` and no propensity. Messages and cost are what the text would take, sent or not.
"""

from datetime import date
from typing import TYPE_CHECKING

from usergrowth_dagster.audience.eligibility import (
    ADDRESSES,
    CONTENT_OUTCOMES,
    OUTCOMES,
    Channel,
    screened_ctes,
)
from usergrowth_dagster.audience.holdout import (
    Holdout,
    hash_cell_sql,
    is_control_sql,
    propensity,
    salt,
)
from usergrowth_dagster.audience.policy import MONEY, Budget, Threshold, TopN
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import pyarrow as pa

# Name and DuckDB type of the columns of the decisions table, in order.
DECISION_COLUMNS = {
    "ds": "DATE",
    "task_id": "VARCHAR",
    "campaign": "VARCHAR",
    "row": "BIGINT",
    "user_id": "VARCHAR",
    "item_id": "VARCHAR",
    "score": "DOUBLE",
    "uplift": "DOUBLE",
    "net_value": "DOUBLE",
    "rank": "BIGINT",
    "messages": "INTEGER",
    "cost": "DOUBLE",
    "arm": "VARCHAR",
    "propensity": "DOUBLE",
    "holdout": "VARCHAR",
    "stratum": "VARCHAR",
    "variant": "VARCHAR",
    "variant_propensity": "DOUBLE",
    "outcome": "VARCHAR",
    "model_name": "VARCHAR",
    "model_version": "VARCHAR",
    "uplift_version": "VARCHAR",
    "feature_version": "VARCHAR",
    "population_version": "VARCHAR",
    "policy_hash": "VARCHAR",
}
DECISION_MEANINGS = {
    "ds": "execution date",
    "task_id": "the task",
    "campaign": "its campaign",
    "row": "place of the row in the upload",
    "user_id": "the user",
    "item_id": "the item that the message is about",
    "score": "calibrated probability that was decided by; null without features",
    "uplift": "what the text adds to the probability of a return, by the uplift model; may be null",
    "net_value": "value of a return x uplift - cost, in currency; null unless chosen by money",
    "rank": "place by score among the rows that could be chosen, from 1",
    "messages": "billed message segments of the row's text",
    "cost": "price of the text, in currency",
    "arm": "treatment, control, or none",
    "propensity": "chance of the row's arm, as it was drawn",
    "holdout": "which control group the row was held out by: campaign, global; null otherwise",
    "stratum": "stratum that the holdout was drawn in; null without strata",
    "variant": "which of the campaign's texts; null when there is one",
    "variant_propensity": "chance of that text",
    "outcome": "selected, holdout, or the reason why the row was not chosen",
    "model_name": "registered model",
    "model_version": "its version",
    "uplift_version": "version of the uplift model; null without one",
    "feature_version": "version of the feature table",
    "population_version": "version of the population table",
    "policy_hash": "hash of the selection policy",
}
OPTIONAL_COLUMNS = ("uplift", "stratum", "variant", "variant_propensity", "uplift_version")
"""Taken from the decided relation where it has them, else NULL."""
_RESULT = "_audience_decided"


def decide(
    engine: Engine,
    relation: str,
    *,
    task_id: str,
    execution_date: date,
    campaign: str,
    policy: Threshold | TopN | Budget,
    holdout: Holdout,
    channel: Channel = "sms",
    feature_version: str | int | None = None,
    population_version: str | int | None = None,
) -> "pa.Table":
    """Decide every row of a scored population.

    Args:
        engine: the engine that ``relation`` is bound in.
        relation: name of a table or view with the columns row BIGINT (unique), user_id, item_id,
            phone (nullable; the channel's address), score DOUBLE (nullable, higher is better),
            messages INTEGER (nullable), cost DOUBLE (currency; may be NULL only where no text can
            be made, or when the policy is no budget), content_problem VARCHAR (nullable, an
            outcome such as ``missing_variable``), suppressed BOOLEAN (nullable), optionally reason
            VARCHAR (not NULL: suppressed too; ``capped`` gives the outcome of that name),
            model_name, model_version.
        task_id: the task, whose id also salts the order of equal scores.
        execution_date: D, the task's execution date.
        campaign: the campaign's name.
        policy: which prefix of the ranking is taken.
        holdout: how the control group is drawn inside it.
        channel: what the column ``phone`` holds: phone numbers, or e-mail addresses.
        feature_version: version of the feature table that was scored.
        population_version: version of the population table.

    Returns:
        A table of :data:`DECISION_COLUMNS`, one row per row of the relation, ordered by row. The
        same for any order of the input rows and any number of threads.

    Raises:
        ValueError: the relation breaks what is said above; a bug of the caller, never of the user.
    """
    rows = _check_input(engine, relation, policy)
    stamp = {
        "ds": execution_date.isoformat(),
        "task_id": task_id,
        "campaign": campaign,
        "feature_version": None if feature_version is None else str(feature_version),
        "population_version": None if population_version is None else str(population_version),
        "policy_hash": policy.policy_hash,
    }
    known = engine.describe(f"select * from {quoted(relation)}")
    absent = [name for name in OPTIONAL_COLUMNS if name not in known]
    sql = _decision_sql(
        quoted(relation),
        "reason" in known,
        policy,
        holdout,
        channel,
        stamp | dict.fromkeys(absent),
    )
    engine.run(f"create or replace temp table {_RESULT} as {sql}")
    try:
        _check_output(engine, rows)
        return engine.arrow(f'select * from {_RESULT} order by "row"')
    finally:
        engine.run(f"drop table {_RESULT}")


def quoted(name: str) -> str:
    """A quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str | None) -> str:
    """An SQL text literal, or NULL."""
    return "null" if value is None else "'" + value.replace("'", "''") + "'"


def _decision_sql(
    relation: str,
    has_reason: bool,
    policy: Threshold | TopN | Budget,
    holdout: Holdout,
    channel: Channel,
    stamp: dict[str, str | None],
) -> str:
    tie = hash_cell_sql(salt("tie", str(stamp["task_id"]), str(stamp["ds"])), "user_id")
    held, treated = propensity(holdout, "control"), propensity(holdout, "treatment")
    computed = {name: literal(value) for name, value in stamp.items()} | {
        "arm": "coalesce(arms.arm, 'none')",
        "propensity": (
            f"case arms.arm when 'control' then cast('{held!r}' as double) "
            f"when 'treatment' then cast('{treated!r}' as double) end"
        ),
        "outcome": "coalesce(picked.problem, arms.outcome)",
        "rank": "arms.rank",
        "holdout": "case arms.arm when 'control' then 'campaign' end",
        "net_value": "null",
    }
    shared = f"shared_{ADDRESSES[channel].name}"
    columns = ",\n        ".join(
        f"cast({computed.get(name, f'source.{quoted(name)}')} as {kind}) as {quoted(name)}"
        for name, kind in DECISION_COLUMNS.items()
    )
    return f"""
with {screened_ctes(relation, has_reason, channel)},
best_pair as (
    select "row",
        row_number() over (partition by user_id order by score desc, "row") as place_of_user
    from screened where problem is null
),
paired as (
    select screened.* exclude (problem), {tie} as tie,
        case when place_of_user > 1 then 'other_item' else problem end as problem
    from screened left join best_pair using ("row")
),
best_user as (
    select "row",
        row_number() over (partition by phone_key order by score desc, tie, "row") as place_on_phone
    from paired where problem is null
),
picked as (
    select paired.* exclude (problem),
        case when place_on_phone > 1 then '{shared}' else problem end as problem
    from paired left join best_user using ("row")
),
ranked as (
    select "row", score, cost, {is_control_sql(holdout, "user_id")} as is_control,
        row_number() over (order by score desc, tie, "row") as rank
    from picked where problem is null
),
walked as (
    select *,
        count(*) filter (where not is_control) over before_it as treated_before,
        coalesce(
            sum(cast(cost as {MONEY})) filter (where not is_control) over before_it, 0
        ) as cost_before
    from ranked
    window before_it as (order by rank rows between unbounded preceding and 1 preceding)
),
stop as (
    select min(rank) as rank from walked where not ({policy.fits_sql()})
),
arms as (
    select walked."row", walked.rank,
        case
            when walked.rank >= stop.rank then null
            when is_control then 'control' else 'treatment'
        end as arm,
        case
            when walked.rank >= stop.rank then '{policy.outside}'
            when is_control then 'holdout' else 'selected'
        end as outcome
    from walked cross join stop
)
select
        {columns}
from {relation} as source
join picked on picked."row" = source."row"
left join arms on source."row" = arms."row"
"""


def _check_input(engine: Engine, relation: str, policy: Threshold | TopN | Budget) -> int:
    """The number of rows, when the relation is as :func:`decide` asks."""
    own = ", ".join(literal(outcome) for outcome in OUTCOMES if outcome not in CONTENT_OUTCOMES)
    unpriced = "cost is null" if isinstance(policy, Budget) else "false"
    rows, distinct, nameless, unscored, mispriced, misnamed = engine.rows(f"""
        select count(*), count(distinct "row"),
            count(*) filter (where user_id is null or item_id is null),
            count(*) filter (where score is not null and not isfinite(score)),
            count(*) filter (where cost < 0 or not isfinite(cost)
                or ({unpriced} and content_problem is null)),
            count(*) filter (where content_problem in ({own}))
        from {quoted(relation)}""")[0]
    faults = {
        "row is not unique or NULL": rows - distinct,
        "user_id or item_id is NULL": nameless,
        "score is not a finite number": unscored,
        "cost is missing, negative or not finite": mispriced,
        "content_problem is an outcome of another step": misnamed,
    }
    for fault, count in faults.items():
        if count:
            raise ValueError(f"{relation}: in {count} of {rows} rows {fault}")
    return int(rows)


def _check_output(engine: Engine, rows: int) -> None:
    """Every row once, with one outcome; nobody selected twice."""
    got, distinct, open_rows, texted, users = engine.rows(f"""
        select count(*), count(distinct "row"), count(*) filter (where outcome is null),
            count(*) filter (where arm <> 'none'),
            count(distinct user_id) filter (where arm <> 'none')
        from {_RESULT}""")[0]
    if not (got == distinct == rows and open_rows == 0 and texted == users):
        raise AssertionError(
            f"{rows} population rows gave {got} decisions of {distinct} rows, {open_rows} without "
            f"an outcome, {texted} chosen rows of {users} users"
        )
