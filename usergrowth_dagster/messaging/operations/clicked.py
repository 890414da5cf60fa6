"""Who clicked on the short links of an occurrence, by text, after who was sent it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, Select, case, func, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.messaging.receiving.clicks import Caller

_UNSENT = (MessageState.SKIPPED, MessageState.REJECTED)
_C, _M, _O = schema.click, schema.message, schema.occurrence


@dataclass(frozen=True)
class Clicked:
    """The clicks on one text of an occurrence.

    Attributes:
        schedule: its name.
        occurrence: its name.
        variant: the text; None: the only one.
        sent: people for which a provider took it; refused ones are left out.
        delivered: people of ``sent`` whose delivery was reported.
        clicked: people of ``sent`` who clicked, each once.
        clicks: calls of these people.
        bots: calls of programs that look at links.
        channel: how the text goes.
    """

    schedule: str
    occurrence: str
    variant: str | None
    sent: int
    delivered: int
    clicked: int
    clicks: int
    bots: int
    channel: str

    @property
    def rate(self) -> float | None:
        """Share of ``sent`` who clicked; None: nothing was sent."""
        return self.clicked / self.sent if self.sent else None


def clicked_texts(store: ControlStore, occurrences: Sequence[int]) -> list[Clicked]:
    """The clicks on each text with a link that went out in some occurrences."""
    if not occurrences:
        return []
    with store.read() as connection:
        rows = connection.execute(_query(occurrences)).mappings().all()
    return [_clicked(row) for row in rows if _has_link(row)]


def _clicked(row: RowMapping) -> Clicked:
    def number(name: str) -> int:
        return int(row[name] or 0)

    return Clicked(
        schedule=row["schedule"],
        occurrence=row["occurrence"],
        variant=row["variant"],
        sent=number("sent"),
        delivered=number("delivered"),
        clicked=number("clicked"),
        clicks=number("clicks"),
        bots=number("bots"),
        channel=row["channel"],
    )


def _has_link(row: RowMapping) -> bool:
    """Whether the text of a row has a link; of several texts, some may have none."""
    if row["variants"] is None:
        return row["link"] is not None
    return row["variants"].get(row["variant"], {}).get("link") is not None


def _query(occurrences: Sequence[int]) -> Select[Any]:
    """People and calls by occurrence and text, of those with links."""
    mine = _C.c.occurrence_id.in_(occurrences)

    def calls(kind: Caller) -> Any:
        return func.sum(case((_C.c.kind == str(kind), _C.c.count), else_=0))

    per_message = (
        select(
            _C.c.message_id,
            calls(Caller.HUMAN).label("clicks"),
            calls(Caller.BOT).label("bots"),
        )
        .where(mine)
        .group_by(_C.c.message_id)
        .subquery()
    )
    delivered = case((_M.c.state == MessageState.DELIVERED, 1), else_=0)
    texts = (
        select(
            *(_M.c.occurrence_id, _M.c.variant, func.count().label("sent")),
            func.min(_M.c.channel).label("channel"),  # all of one text go the same way
            func.sum(delivered).label("delivered"),
            func.sum(case((per_message.c.clicks > 0, 1), else_=0)).label("clicked"),
            func.sum(per_message.c.clicks).label("clicks"),
            func.sum(per_message.c.bots).label("bots"),
        )
        .outerjoin(per_message, per_message.c.message_id == _M.c.id)
        .where(
            _M.c.occurrence_id.in_(occurrences),
            _M.c.sent_time.is_not(None),
            _M.c.state.not_in(_UNSENT),
        )
        .group_by(_M.c.occurrence_id, _M.c.variant)
        .subquery()
    )
    return (
        select(
            schema.schedule.c.name.label("schedule"),
            _O.c.name.label("occurrence"),
            *(_O.c.link, _O.c.variants, *texts.c),
        )
        .join(texts, texts.c.occurrence_id == _O.c.id)
        .join(schema.schedule, schema.schedule.c.id == _O.c.schedule_id)
        .where(_O.c.link_domain.is_not(None))
        .order_by(_O.c.due, _O.c.id, texts.c.variant)
    )
