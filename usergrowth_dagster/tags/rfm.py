"""RFM: how recently, how often and for how much each user bought, as scores and as a group.

Fixed cuts score a value by the first cut that it does not exceed; days since the last order score
the other way round. Quintiles score by the share of buyers below (``percent_rank``), so that equal
values have equal scores. A score is high when it is at least the mean score of all buyers of the
date, or the value that ``tags.yml`` gives. Users without an order in the window are in no group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.tags.definition import Rfm
from usergrowth_dagster.tags.inputs import Written, bind_facts, bind_features, write_rows
from usergrowth_dagster.warehouse.engine import Engine, open_engine

TABLE = "rfm"
TYPE = "rfm_type"
NEVER_BOUGHT = "none"
VERSION = "1"
"""Raised when the same definition and inputs would give other rows."""

COLUMNS: dict[str, tuple[str, str]] = {
    "ds": ("DATE", "execution date"),
    "user_id": ("VARCHAR", "the user"),
    "recency_days": ("BIGINT", "days since the last order of the window; null: none"),
    "orders": ("DOUBLE", "orders of the window"),
    "amount": ("DOUBLE", "money of the window; refunds are negative"),
    "r_score": ("INTEGER", "score of recency; the highest is the most recent"),
    "f_score": ("INTEGER", "score of frequency"),
    "m_score": ("INTEGER", "score of money; null without an amount in tags.yml"),
    TYPE: ("VARCHAR", "group by which of the three scores are high; none: never bought"),
}


@dataclass(frozen=True)
class RfmType:
    """One of the eight groups: its code, its names, and which scores are high (R, F, M)."""

    code: str
    name: str
    name_zh: str
    high: tuple[bool, bool, bool]


TYPES = (
    RfmType("high_value", "High value", "高价值", (True, True, True)),
    RfmType("key_retain", "Key, to retain", "重点保持", (False, True, True)),
    RfmType("key_develop", "Key, to develop", "重点发展", (True, False, True)),
    RfmType("key_win_back", "Key, to win back", "重点挽留", (False, False, True)),
    RfmType("general_value", "General value", "一般价值", (True, True, False)),
    RfmType("general_retain", "General, to retain", "一般保持", (False, True, False)),
    RfmType("general_develop", "General, to develop", "一般发展", (True, False, False)),
    RfmType("potential", "Potential", "潜在", (False, False, False)),
)
"""The eight groups, in the order of the vendor's document."""

_PARTS = (
    ("r_score", "recency_days", "recency"),
    ("f_score", "orders", "frequency"),
    ("m_score", "amount", "monetary"),
)


def write_rfm(project: Project, keys: Rfm, day: date) -> Written:
    """Work out the table ``rfm`` of an execution date.

    Raises:
        UserError: the features of the date are not there.
    """
    with open_engine(project.settings) as engine:
        users = bind_features(engine, project, day)
        facts = bind_facts(engine, project, day, keys.window_days)
        made_from = "\n".join(
            [VERSION, keys.model_dump_json(), users.fingerprint, facts.fingerprint]
        )
        sql = rfm_sql(keys, day, str(users), str(facts))
        return write_rows(engine, project, TABLE, day, sql, made_from)


def rfm_sql(keys: Rfm, day: date, users: str, facts: str) -> str:
    """The query of the table: a row a user, with the columns of :data:`COLUMNS`.

    Args:
        keys: the definition.
        day: the execution date.
        users: relation with ``user_id`` of everyone who is known.
        facts: relation like ``user_day``, of the days of the window.
    """
    events = " + ".join(f"coalesce(kinds[{literal(kind)}], 0)" for kind in keys.orders)
    orders = "count(*)" if keys.count == "days" else "sum(events)"
    amount = "null" if keys.amount is None else f"sum(coalesce(amounts[{literal(keys.amount)}], 0))"
    cast = ", ".join(
        f"cast({identifier(name)} as {kind}) as {identifier(name)}"
        for name, (kind, _) in COLUMNS.items()
    )
    return f"""
with ordered as (
    select ds, user_id, amounts, {events} as events from {facts} where {events} > 0
),
buyers as (
    select user_id, date_diff('day', max(ds), {_day(day)}) as recency_days,
        {orders} as orders, {amount} as amount
    from ordered group by user_id
),
scored as (select *, {_scores_sql(keys)} from buyers),
highs as (select {_highs_sql(keys)} from scored),
typed as (select scored.*, {_type_sql(keys)} as {TYPE} from scored cross join highs),
final as (
    select {_day(day)} as ds, u.user_id, t.* exclude (user_id, {TYPE}),
        coalesce(t.{TYPE}, {literal(NEVER_BOUGHT)}) as {TYPE}
    from (select distinct user_id from {users}) as u left join typed as t using (user_id)
)
select {cast} from final"""


def _day(day: date) -> str:
    return f"date {literal(day.isoformat())}"


def _scores_sql(keys: Rfm) -> str:
    parts = []
    for score, value, name in _PARTS:
        falling = score == "r_score"
        if score == "m_score" and keys.amount is None:
            parts.append(f"null as {score}")
        elif keys.scoring == "quintiles":
            order = f"{value} desc" if falling else value
            rank = f"percent_rank() over (order by {order})"
            parts.append(f"least(5, 1 + floor(5 * {rank})) as {score}")
        else:
            parts.append(f"{_cut_sql(value, getattr(keys, name), falling)} as {score}")
    return ", ".join(parts)


def _cut_sql(value: str, cuts: Sequence[float], falling: bool) -> str:
    """The score of a value by fixed cuts: 1 for the worst."""
    best = len(cuts) + 1
    scores = range(best, 0, -1) if falling else range(1, best + 1)
    whens = " ".join(
        f"when {value} <= {cut!r} then {score}" for cut, score in zip(cuts, scores, strict=False)
    )
    return f"case {whens} else {list(scores)[-1]} end"


def _highs_sql(keys: Rfm) -> str:
    parts = []
    for score, _, name in _PARTS:
        given = getattr(keys.high, name)
        parts.append(f"{f'avg({score})' if given is None else repr(given)} as high_{score}")
    return ", ".join(parts)


def _type_sql(keys: Rfm) -> str:
    whens = []
    for kind in TYPES:
        tests = [
            f"coalesce({score} >= high_{score}, false) = {high}"
            for (score, _, _), high in zip(_PARTS, kind.high, strict=True)
        ]
        whens.append(f"when {' and '.join(tests)} then {literal(kind.code)}")
    return f"case {' '.join(whens)} end"


def rule_sentences(engine: Engine, keys: Rfm, rows: str) -> list[str]:
    """The rule by which scores are given and are high, for people.

    Args:
        engine: holds the rows.
        keys: the definition.
        rows: relation of the table ``rfm`` of one date.
    """
    means = engine.rows(f"select avg(r_score), avg(f_score), avg(m_score) from {rows}")[0]
    units = {"recency": "days since the last order", "frequency": "orders", "monetary": "money"}
    sentences = []
    for (score, _, name), mean in zip(_PARTS, means, strict=True):
        if score == "m_score" and keys.amount is None:
            sentences.append("M: not scored, since rfm.amount names no amount; never high")
            continue
        given = getattr(keys.high, name)
        limit, what = (mean, "the mean score of the buyers") if given is None else (given, "set")
        scored = _cuts_sentence(keys, name, units[name])
        high = "nobody bought" if limit is None else f"high from {limit:.4g} on ({what})"
        sentences.append(f"{score[0].upper()}: {scored}; {high}")
    return sentences


def _cuts_sentence(keys: Rfm, name: str, unit: str) -> str:
    if keys.scoring == "quintiles":
        return f"{unit} by fifths of the buyers, scores 1 to 5"
    cuts = [f"{cut:g}" for cut in getattr(keys, name)]
    best = len(cuts) + 1
    scores = list(range(best, 0, -1) if name == "recency" else range(1, best + 1))
    parts = [f"up to {cut} → {score}" for cut, score in zip(cuts, scores, strict=False)]
    return f"{unit} {', '.join(parts)}, above → {scores[-1]}"
