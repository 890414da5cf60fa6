"""The rows of an occurrence copied to a later one of the same series, inside the database."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, case, func, literal, null, select
from sqlalchemy.dialects import postgresql, sqlite

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.messaging.people.rotation import hold_key

ASKED_AGAIN = (
    "suppressed",
    "capped",
    "min_gap",
    "number_cap",
    "quiet_hours",
    "shared_phone",
    "shared_email",
    "over_budget",
    "cancelled",
)
"""Reasons that held for one occurrence; whoever was skipped for another one stays so."""

_CHUNK = 20_000
message = schema.message
occurrence = schema.occurrence


def copy_recipients(store: ControlStore, source_id: int, target_id: int) -> bool:
    """Copy the rows of one occurrence to another one that is in planning, best first.

    Inside the database, in chunks; rows that are there already stay, so that an interrupted copy
    goes on and two at once make one.

    Returns:
        False: the target has left planning, so nothing more may come.
    """
    insert = sqlite.insert if store.is_sqlite else postgresql.insert
    after = 0
    while True:
        with store.write() as connection:
            state = connection.scalar(
                select(occurrence.c.state)
                .where(occurrence.c.id == target_id)
                .with_for_update(read=True)
            )
            if state is not OccurrenceState.PLANNING:
                return False
            upper = _upper(connection, source_id, after)
            if upper is None:
                return True
            hold_key(connection)
            columns, query = _copies(source_id, target_id)
            query = query.where(message.c.id > after, message.c.id <= upper).order_by(message.c.id)
            connection.execute(
                insert(message)
                .from_select(columns, query, include_defaults=False)
                .on_conflict_do_nothing(index_elements=["occurrence_id", "channel", "user_id"])
            )
        after = upper


def _upper(connection: Connection, source_id: int, after: int) -> int | None:
    ids = (
        select(message.c.id)
        .where(message.c.occurrence_id == source_id, message.c.id > after)
        .order_by(message.c.id)
        .limit(_CHUNK)
        .subquery()
    )
    last_id: int | None = connection.scalar(select(func.max(ids.c.id)))
    return last_id


def _copies(source_id: int, target_id: int) -> tuple[Sequence[str], Any]:
    """The new rows: planned, unless they can never be sent to."""
    same = (
        "channel",
        "user_id",
        "user_hash",
        "item_id",
        "phone_number",
        "phone_hash",
        "template_params",
        "segments",
        "zone",
        "variant",
    )
    skipped = message.c.state == MessageState.SKIPPED
    for_good = and_(skipped, func.coalesce(message.c.reason, "").not_in(ASKED_AGAIN))
    erased = message.c.phone_number.is_(None)
    state = case(
        (for_good | erased, literal(MessageState.SKIPPED, message.c.state.type)),
        else_=literal(MessageState.PLANNED, message.c.state.type),
    )
    reason = case((for_good, message.c.reason), (erased, literal("forgotten")), else_=null())
    query = select(
        literal(target_id),
        *(message.c[key] for key in same),
        state,
        reason,
        literal(0),
        literal(utc_now(), message.c.updated_time.type),
    ).where(message.c.occurrence_id == source_id)
    columns = ("occurrence_id", *same, "state", "reason", "attempts", "updated_time")
    return columns, query
