"""The decision: one row with one outcome for every row of a population.

A person is texted once. Among the eligible rows (see
:mod:`usergrowth_dagster.audience.eligibility`):

* a user with several items keeps the pair that ranks best, then the first row; the other rows
  are ``other_item``. A pair that is not eligible does not stand in the way of one that is;
* of several users with one phone (or e-mail address) the best ranked keeps it, the others are
  ``shared_phone`` (``shared_email``);
* of several users who are one person, as far as the relation says so, the best ranked stays, the
  others are ``same_person``;
* those who are left are ranked, the policy takes a prefix of the ranking, and the holdout is drawn
  inside it (:mod:`usergrowth_dagster.audience.policy` says how each policy counts);
* where the policy explores, some of those below the cut are texted at random
  (:mod:`usergrowth_dagster.audience.explore`).

Whoever is texted has the arm ``treatment``: the outcomes ``selected`` and ``explored``. The arm
``control`` belongs to the outcome ``holdout``; other rows have the arm ``none``. Every row has a
propensity, the chance of its arm as it was drawn: 1 for those who could not be texted at all. So
the chance that a row was texted is its propensity in the arm ``treatment``, else 1 less it.
Messages and cost are what the text would take, sent or not.
"""

from collections.abc import Mapping, Sequence
from datetime import date

from usergrowth_dagster.audience.decision_sql import decision_sql, picked_sql, screened_sql
from usergrowth_dagster.audience.eligibility import CONTENT_OUTCOMES, OUTCOMES
from usergrowth_dagster.audience.holdout import NOBODY, Holdout
from usergrowth_dagster.audience.persons import USERS
from usergrowth_dagster.audience.policy import MONEY, Budget, Money, Policy
from usergrowth_dagster.control.campaign_blocks import Channel
from usergrowth_dagster.quoting import identifier, literals
from usergrowth_dagster.ranks import UPLIFT
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_query

# Name and DuckDB type of the columns of the decisions table, in order.
DECISION_COLUMNS = {
    "ds": "DATE",
    "task_id": "VARCHAR",
    "campaign": "VARCHAR",
    "row": "BIGINT",
    "user_id": "VARCHAR",
    "item_id": "VARCHAR",
    "score": "DOUBLE",
    UPLIFT: "DOUBLE",
    "net_value": "DOUBLE",
    "rank": "BIGINT",
    "messages": "INTEGER",
    "cost": "DOUBLE",
    "arm": "VARCHAR",
    "propensity": "DOUBLE",
    "holdout": "VARCHAR",
    "users": "INTEGER",
    "held_globally": "BOOLEAN",
    "stratum": "VARCHAR",
    "holdout_epoch": "VARCHAR",
    "global_epoch": "VARCHAR",
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
    "score": "calibrated probability or expected amount, decided by; null without features",
    UPLIFT: "what the text adds to the probability of a return, by the uplift model; may be null",
    "net_value": "value of a return x uplift - cost, in currency; null unless chosen by money",
    "rank": "place in the ranking of the rows that could be chosen, from 1",
    "messages": "billed message segments of the row's text",
    "cost": "price of the text, in currency",
    "arm": "treatment, control, or none",
    "propensity": "chance of the row's arm, as it was drawn",
    "holdout": "which control group the row was held out by: campaign, global; null otherwise",
    "users": "how many user ids the person has, any of which may hold them out; null: one",
    "held_globally": "whether the global control group holds such a person out; else null",
    "stratum": "stratum that the holdout was drawn in; null without strata",
    "holdout_epoch": "epoch of the campaign's control group that was in force",
    "global_epoch": "epoch of the global control group that was in force",
    "variant": "which of the campaign's texts; null when there is one",
    "variant_propensity": "chance of that text",
    "outcome": "selected, explored, holdout, or the reason why the row was not chosen",
    "model_name": "registered model",
    "model_version": "its version",
    "uplift_version": "version of the uplift model; null without one",
    "feature_version": "version of the feature table",
    "population_version": "version of the population table",
    "policy_hash": "hash of the selection policy",
}
OPTIONAL_COLUMNS = (UPLIFT, "stratum", "variant", "variant_propensity", "uplift_version")
"""Taken from the decided relation where it has them, else NULL."""
_OPTIONAL = {name: DECISION_COLUMNS[name] for name in OPTIONAL_COLUMNS} | {
    "reason": "VARCHAR",
    "outside": "BOOLEAN",
    "person": "VARCHAR",
    USERS: "VARCHAR[]",
}


def decide(
    engine: Engine,
    relation: str,
    *,
    task_id: str,
    execution_date: date,
    campaign: str,
    policy: Policy,
    holdout: Holdout,
    global_holdout: Holdout = NOBODY,
    channels: Sequence[Channel] = ("sms",),
    feature_version: str | int | None = None,
    population_version: str | int | None = None,
) -> Relation:
    """Decide every row of a scored population.

    Args:
        engine: the engine that ``relation`` is bound in.
        relation: name of a table or view with the columns row BIGINT (unique), user_id, item_id,
            phone (nullable; the channel's address), score DOUBLE (nullable, higher is better),
            messages INTEGER (nullable), cost DOUBLE (currency; may be NULL only where no text can
            be made, or when the policy counts no money), content_problem VARCHAR (nullable, an
            outcome such as ``missing_variable``), suppressed BOOLEAN (nullable), model_name,
            model_version; optionally reason VARCHAR (not NULL: suppressed too; ``capped`` gives the
            outcome of that name), outside BOOLEAN (true: not in the campaign's segment), person
            VARCHAR and person_users VARCHAR[] (of a user who is one of several of a person: its
            name and all their ids; else NULL both) and :data:`OPTIONAL_COLUMNS`: a policy by
            uplift needs uplift DOUBLE (NULL: ``no_features``), and strata need stratum VARCHAR,
            never NULL.
        task_id: the task, whose id also salts the order of equal scores.
        execution_date: D, the task's execution date.
        campaign: the campaign's name.
        policy: the ranking, which prefix of it is taken, and how much is explored below.
        holdout: how the campaign's control group is drawn inside it.
        global_holdout: how that of all campaigns is drawn.
        channels: what the column ``phone`` holds, phone numbers or e-mail addresses. With two, the
            column ``other_address`` holds that of the second: each row needs both, a refusal of
            either excludes, and of users who share either one is chosen.
        feature_version: version of the feature table that was scored.
        population_version: version of the population table.

    Returns:
        A table of the engine with :data:`DECISION_COLUMNS`, one row per row of the relation, in no
        order. The same for any order of the input rows and any number of threads.

    Raises:
        ValueError: the relation breaks what is said above; a bug of the caller, never of the user.
    """
    known = engine.describe(f"select * from {identifier(relation)}")
    _check_columns(relation, known, policy, holdout)
    stamp = {
        "ds": execution_date.isoformat(),
        "task_id": task_id,
        "campaign": campaign,
        "holdout_epoch": holdout.epoch,
        "global_epoch": global_holdout.epoch,
        "feature_version": None if feature_version is None else str(feature_version),
        "population_version": None if population_version is None else str(population_version),
        "policy_hash": policy.policy_hash,
    }
    nulls = "".join(
        f", cast(null as {kind}) as {identifier(name)}"
        for name, kind in _OPTIONAL.items()
        if name not in known
    )

    def kept(kind: str, sql: str) -> Relation:
        return bind_query(engine, kind, sql, keep=True)

    source = kept("to_decide", f"select *{nulls} from {identifier(relation)}")
    rows = _check_input(engine, relation, source, policy, holdout)
    screened = kept("screened", screened_sql(str(source), channels))
    picked = kept(
        "picked",
        picked_sql(str(screened), policy, channels, task_id, execution_date.isoformat()),
    )
    sql = decision_sql(
        str(source),
        str(picked),
        DECISION_COLUMNS,
        stamp,
        policy,
        holdout,
        global_holdout,
        by_person=USERS in known,
    )
    decided = kept("decided", sql)
    _check_output(engine, decided, source if USERS in known else None, rows, policy)
    return decided


def _check_columns(
    relation: str, known: Mapping[str, str], policy: Policy, holdout: Holdout
) -> None:
    """Refuse a relation without a column that the policy or the draw needs."""
    for column, wanted in ((UPLIFT, policy.by_uplift), ("stratum", bool(holdout.strata))):
        if wanted and column not in known:
            raise ValueError(f"{relation} has no column {column}")


def _check_input(
    engine: Engine, relation: str, source: Relation, policy: Policy, holdout: Holdout
) -> int:
    """The number of rows of ``source``, when the relation that it was made from is as asked."""
    reserved = literals(outcome for outcome in OUTCOMES if outcome not in CONTENT_OUTCOMES)
    unpriced = "cost is null" if isinstance(policy, Budget | Money) else "false"
    stratum = "stratum" if holdout.strata else "''"
    rows, distinct, nameless, unscored, mispriced, misnamed, unstratified = engine.rows(f"""
        select count(*), count(distinct "row"),
            count(*) filter (where user_id is null or item_id is null),
            count(*) filter (where not isfinite(coalesce(score, 0))
                or not isfinite(cast(coalesce({UPLIFT}, 0) as double))),
            count(*) filter (where cost < 0 or not isfinite(cost)
                or ({unpriced} and content_problem is null)),
            count(*) filter (where content_problem in ({reserved})),
            count(*) filter (where {stratum} is null)
        from {source}""")[0]
    faults = {
        "row is not unique or NULL": rows - distinct,
        "user_id or item_id is NULL": nameless,
        "score is not a finite number, or uplift is not": unscored,
        "cost is missing, negative or not finite": mispriced,
        "content_problem is an outcome of another step": misnamed,
        "stratum is NULL": unstratified,
    }
    for fault, count in faults.items():
        if count:
            raise ValueError(f"{relation}: in {count} of {rows} rows {fault}")
    return int(rows)


def _check_output(
    engine: Engine, decided: Relation, persons: Relation | None, rows: int, policy: Policy
) -> None:
    """Every row once, with one outcome and a chance; nobody chosen twice; the budget is kept.

    ``persons`` names the relation that knows persons, if there is one.
    """
    got, distinct, open_rows, unlikely, chosen, users, cost = engine.rows(f"""
        select count(*), count(distinct "row"), count(*) filter (where outcome is null),
            count(*) filter (where (propensity > 0 and propensity <= 1) is not true),
            count(*) filter (where arm <> 'none'),
            count(distinct user_id) filter (where arm <> 'none'),
            coalesce(sum(cast(cost as {MONEY})) filter (where arm = 'treatment'), 0)
        from {decided}""")[0]
    if not (got == distinct == rows and open_rows == 0 and chosen == users):
        raise AssertionError(
            f"{rows} population rows gave {got} decisions of {distinct} rows, {open_rows} without "
            f"an outcome, {chosen} chosen rows of {users} users"
        )
    if unlikely or (policy.purse is not None and cost > policy.purse):
        raise AssertionError(
            f"{unlikely} decisions without a propensity; {cost} of {policy.purse} spent"
        )
    if persons is None:
        return
    twice = engine.value(f"""
        select count(p.person) - count(distinct p.person)
        from {decided} as d join {persons} as p using ("row") where d.arm <> 'none'""")
    if twice:
        raise AssertionError(f"{twice} persons are chosen by more than one of their users")
