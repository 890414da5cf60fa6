"""AIPL: the stage of each user, from passive contact to loyalty, by rules of what they did.

A stage has rules, any of which is enough; a user is in the last stage that they reach (L, P, I,
A). Users who reach none have no row.
"""

from datetime import date

from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.tags.definition import Aipl, StageRule
from usergrowth_dagster.tags.inputs import Written, bind_facts, write_rows
from usergrowth_dagster.warehouse.engine import open_engine

TABLE = "aipl"
STAGE = "stage"
VERSION = "1"
"""Raised when the same definition and inputs would give other rows."""

COLUMNS: dict[str, tuple[str, str]] = {
    "ds": ("DATE", "execution date"),
    "user_id": ("VARCHAR", "the user"),
    STAGE: ("VARCHAR", "A awareness, I interest, P purchase, L loyal"),
}

STAGES = {
    "A": ("Awareness", "认知"),
    "I": ("Interest", "兴趣"),
    "P": ("Purchase", "购买"),
    "L": ("Loyal", "忠诚"),
}
"""Names of the stages in English and Chinese, by their letter, first stage first."""


def write_aipl(project: Project, keys: Aipl, day: date) -> Written:
    """Work out the table ``aipl`` of an execution date."""
    longest = max(rule.within_days for rules in keys.stages.values() for rule in rules)
    with open_engine(project.settings) as engine:
        facts = bind_facts(engine, project, day, longest)
        made_from = "\n".join([VERSION, keys.model_dump_json(), facts.fingerprint])
        sql = aipl_sql(keys, day, str(facts))
        return write_rows(engine, project, TABLE, day, sql, made_from)


def aipl_sql(keys: Aipl, day: date, facts: str) -> str:
    """The query of the table: a row for each user in a stage.

    Args:
        keys: the rules.
        day: the execution date.
        facts: relation like ``user_day``, of the days of the longest window.
    """
    whens = " ".join(
        f"when {' or '.join(_rule_sql(rule, day) for rule in rules)} then {literal(stage)}"
        for stage, rules in reversed(keys.stages.items())
        if rules
    )
    return (
        f"select date {literal(day.isoformat())} as ds, user_id, {STAGE} from "
        f"(select user_id, case {whens} end as {STAGE} from {facts} group by user_id) as staged "
        f"where {STAGE} is not null"
    )


def _rule_sql(rule: StageRule, day: date) -> str:
    """Condition on the days of a user, as an aggregate that is never NULL."""
    within = f"ds >= date {literal(day.isoformat())} - {rule.within_days}"
    events = " + ".join(f"coalesce(kinds[{literal(kind)}], 0)" for kind in rule.behavior)
    reached = f"coalesce(sum({events}) filter (where {within}), 0) >= {rule.at_least}"
    if rule.amount is None:
        return f"({reached})"
    amount = f"coalesce(amounts[{literal(rule.amount)}], 0)"
    # The amount is of days with the behavior: a day's amounts are not kept by kind.
    of_days = f"{within} and {events} > 0"
    enough = f"coalesce(sum({amount}) filter (where {of_days}), 0) >= {rule.amount_at_least!r}"
    return f"({reached} and {enough})"
