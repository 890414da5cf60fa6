"""What the ledger says of a task's people: their own texts, and those of other tasks.

A text that went out, or may have, has a time of sending and a state of
:data:`usergrowth_dagster.messaging.policy.contact.SENT_STATES`; its segments are billed at the
price of its occurrence.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Select, and_, case, func, select
from sqlalchemy.sql import Subquery

from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.schema import click, message, occurrence
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.control.wall_clock import moment_of
from usergrowth_dagster.messaging.ledger import PRICE
from usergrowth_dagster.messaging.policy.contact import SENT_STATES
from usergrowth_dagster.messaging.receiving.clicks import Caller
from usergrowth_dagster.quoting import literals
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_query

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 50_000
LATER = "after_window"
"""The reason of a text that went out after the counted window; it is reported as skipped."""

_FURTHEST = (
    MessageState.DELIVERED,
    MessageState.ACCEPTED,
    MessageState.IN_DOUBT,
    MessageState.SUBMITTING,
    MessageState.UNDELIVERED,
    MessageState.REJECTED,
    MessageState.CLAIMED,
    MessageState.PLANNED,
    MessageState.EXPIRED,
    MessageState.SKIPPED,
)
"""Of several texts of one person, the state that is reported: the first of these."""


@dataclass(frozen=True)
class LedgerTexts:
    """What the ledger says of some people's texts.

    Attributes:
        own: of the tasks asked about, by user: state, reason, messages (billed segments), cost,
            sent, delivered, later, clicked and seen_by_bots.
        others: of all other tasks, by user: ``texts``, how many went out.
        fingerprint: changes whenever the ledger says something else.
    """

    own: Relation
    others: Relation
    fingerprint: str


def bind_texts(
    engine: Engine,
    store: ControlStore,
    task_ids: Sequence[str],
    first: date,
    last: date,
    zone: ZoneInfo,
    *,
    until: date | None = None,
    in_days: bool = False,
) -> LedgerTexts:
    """Read the texts of tasks, and those of all other tasks in some days.

    A text of the tasks that went out after ``until`` has brought back nobody who is counted: it is
    no ``sent`` one and costs nothing here, and a user who got no other counts as skipped with the
    reason :data:`LATER`. Calls of a short link count until the end of that day too.

    Args:
        engine: where the tables are made.
        store: the ledger's.
        task_ids: whose texts are the own ones.
        first: first day of the others.
        last: last day of the others.
        zone: the business time zone, that days are of.
        until: last day of the own texts; default: ``last``.
        in_days: of the own ones only those that went out from ``first`` to ``last``.
    """
    own_rows, other_rows = engine.unique_name("own_rows"), engine.unique_name("other_rows")
    engine.run(
        f"create temp table {own_rows} (user_id varchar, state varchar, reason varchar, "
        "messages bigint, cost double, went_out boolean, later boolean, clicked boolean, "
        "seen_by_bots boolean)"
    )
    engine.run(f"create temp table {other_rows} (user_id varchar, texts bigint)")
    sent = and_(message.c.state.in_(SENT_STATES), message.c.sent_time.is_not(None))
    within = and_(
        sent,
        message.c.sent_time >= _midnight(first, zone),
        message.c.sent_time < _midnight(last + timedelta(days=1), zone),
    )
    closed = _midnight((last if until is None else until) + timedelta(days=1), zone)
    mine = [occurrence.c.task_id.in_(task_ids), *([within] if in_days else [])]
    calls = _calls(task_ids, closed)
    own = (
        select(
            message.c.user_id,
            message.c.state,
            message.c.reason,
            message.c.segments,
            PRICE.label("price"),
            and_(sent, message.c.sent_time < closed).label("went_out"),
            and_(sent, message.c.sent_time >= closed).label("later"),
            (func.coalesce(calls.c.people, 0) > 0).label("clicked"),
            (func.coalesce(calls.c.bots, 0) > 0).label("seen_by_bots"),
        )
        .join(occurrence, occurrence.c.id == message.c.occurrence_id)
        .outerjoin(calls, calls.c.message_id == message.c.id)
        .where(*mine)
    )
    others = (
        select(message.c.user_id, func.count().label("texts"))
        .join(occurrence, occurrence.c.id == message.c.occurrence_id)
        .where(occurrence.c.task_id.not_in(task_ids), within)
        .group_by(message.c.user_id)
    )
    with store.read() as connection:
        for part in _parts(connection, own):
            engine.bind_arrow("_part", part)
            engine.run(
                f"insert into {own_rows} select user_id, "
                f"if(later, '{MessageState.SKIPPED}', state), if(later, '{LATER}', reason), "
                "case when went_out then segments else 0 end, "
                "case when went_out then segments * price else 0 end, went_out, later, clicked, "
                "seen_by_bots from _part"
            )
        for part in _parts(connection, others):
            engine.bind_arrow("_part", part)
            engine.run(f"insert into {other_rows} select user_id, texts from _part")
    own_texts = _by_user(engine, own_rows)
    other_texts = bind_query(engine, "other_texts", f"from {other_rows}", keep=True)
    return LedgerTexts(own_texts, other_texts, _fingerprint(engine, own_texts, other_texts))


def _calls(task_ids: Sequence[str], closed: datetime) -> Subquery:
    """Calls of the links of some tasks before a moment, by message: of people, and of bots."""
    mine = select(occurrence.c.id).where(occurrence.c.task_id.in_(task_ids))

    def of(kind: Caller) -> Any:
        return func.sum(case((click.c.kind == str(kind), click.c.count), else_=0))

    return (
        select(click.c.message_id, of(Caller.HUMAN).label("people"), of(Caller.BOT).label("bots"))
        .where(click.c.occurrence_id.in_(mine), click.c.time < closed)
        .group_by(click.c.message_id)
        .subquery()
    )


def _by_user(engine: Engine, own_rows: str) -> Relation:
    """The texts of each user as one row."""
    ranked = literals(_FURTHEST)
    place = f"list_position([{ranked}], state)"
    return bind_query(
        engine,
        "own_texts",
        "select user_id, furthest.state, furthest.reason, "
        "messages, cost, sent, delivered, later, clicked, seen_by_bots from (select user_id, "
        f"arg_min(struct_pack(state := state, reason := reason), {place}) as furthest, "
        "cast(sum(messages) as bigint) as messages, sum(cost) as cost, "
        "bool_or(went_out) as sent, bool_or(state = 'delivered') as delivered, "
        "bool_or(later) as later, bool_or(clicked) as clicked, "
        f"bool_or(seen_by_bots) as seen_by_bots from {own_rows} group by user_id)",
        keep=True,
    )


def _fingerprint(engine: Engine, own: Relation, others: Relation) -> str:
    return str(
        engine.value(
            f"select md5(concat_ws('/', (select count(*) from {own}), "
            f"(select bit_xor(md5_number_lower(t::varchar)) from {own} as t), "
            f"(select count(*) from {others}), "
            f"(select bit_xor(md5_number_lower(t::varchar)) from {others} as t)))"
        )
    )


def _midnight(value: date, zone: ZoneInfo) -> datetime:
    return moment_of(datetime.combine(value, time()), zone)


def _parts(connection: Connection, query: Select[Any]) -> Iterator["pa.Table"]:
    """A query's rows as Arrow tables, some at a time."""
    import pyarrow as pa

    result = connection.execution_options(yield_per=_ROWS).execute(query)
    for rows in result.mappings().partitions(_ROWS):
        columns = {}
        for name in rows[0]:
            values = [row[name] for row in rows]
            kind = pa.string() if name in ("user_id", "state", "reason") else None
            columns[name] = pa.array(
                [None if v is None else str(v) for v in values] if kind else values, kind
            )
        yield pa.table(columns)
