"""Review of signatures and templates by a person or a provider."""

from dataclasses import dataclass

from sqlalchemy import select, union

from usergrowth_dagster.control import audit, schema
from usergrowth_dagster.control.codes import Kind, ReviewStatus
from usergrowth_dagster.control.store import TABLES, ControlStore, Event
from usergrowth_dagster.errors import UserError


@dataclass(frozen=True)
class Review:
    """A signature's or template's place in the review."""

    kind: Kind
    name: str
    status: ReviewStatus
    reason: str | None


def review(
    store: ControlStore,
    kind: Kind | str,
    name: str,
    approve: bool,
    reason: str | None,
    actor: str,
) -> ReviewStatus:
    """Approve or reject a signature or template; repeating a verdict changes nothing.

    Raises:
        UserError: unknown name or kind, a rejection without a reason, or a forbidden change.
    """
    if kind not in (Kind.SIGNATURE, Kind.TEMPLATE):
        raise UserError(
            f"only a signature or a template is reviewed, not a {kind}", code="command.invalid"
        )
    if not approve and not (reason or "").strip():
        raise UserError(
            f"rejecting the {kind} {name!r} needs a reason", code="command.needs_reason"
        )
    kind, table = Kind(kind), TABLES[Kind(kind)]
    verdict = ReviewStatus.APPROVED if approve else ReviewStatus.REJECTED
    with store.write(alone=True) as connection:
        row = connection.execute(
            select(table.c.id, table.c.status).where(table.c.name == name)
        ).first()
        if row is None:
            known = connection.scalars(select(table.c.name).order_by(table.c.name)).all()
            raise UserError(
                f"no {kind} is called {name!r}; there are: {', '.join(known) or 'none'}",
                code="campaign.unknown",
            )
        if approve and row[1] is ReviewStatus.REJECTED:
            raise UserError(
                f"{kind} {name!r} is rejected and cannot become approved; change it in its "
                f"campaign, or put it back into review: usergrowth review {kind} {name!r} --reopen",
                code="record.forbidden_change",
            )
        if row[1] is not verdict:
            store.move(
                connection,
                kind,
                row[0],
                verdict,
                actor,
                note=reason or "",
                values={"reason": reason},
            )
            detail = verdict.name.lower() + (f": {reason}" if reason else "")
            audit.record(connection, actor, "review", f"{kind} {name}", detail)
    return verdict


def reopen(
    store: ControlStore, kind: Kind | str, name: str, reason: str | None, actor: str
) -> ReviewStatus:
    """Put a signature or template back into review, such as one that was rejected by mistake.

    Raises:
        UserError: unknown name or kind, or it is in review already.
    """
    if kind not in (Kind.SIGNATURE, Kind.TEMPLATE):
        raise UserError(
            f"only a signature or a template is reviewed, not a {kind}", code="command.invalid"
        )
    kind, table = Kind(kind), TABLES[Kind(kind)]
    with store.write(alone=True) as connection:
        record_id = connection.scalar(select(table.c.id).where(table.c.name == name))
        if record_id is None:
            raise UserError(f"no {kind} is called {name!r}", code="campaign.unknown")
        to, note = ReviewStatus.REVIEWING, reason or "reopened"
        store.move(connection, kind, record_id, to, actor, note=note, values={"reason": None})
        audit.record(connection, actor, "review", f"{kind} {name}", note)
    return ReviewStatus.REVIEWING


def reviews(store: ControlStore, campaign: str) -> list[Review]:
    """Where the signature and the templates (every variant) of a campaign's schedules stand."""
    schedule, variant = schema.schedule, schema.schedule_variant
    mine = (
        select(schedule.c.id)
        .join(schema.campaign, schema.campaign.c.id == schedule.c.campaign_id)
        .where(schema.campaign.c.name == campaign)
    )
    used = {
        Kind.SIGNATURE: select(schedule.c.signature_id).where(schedule.c.id.in_(mine)),
        Kind.TEMPLATE: union(
            select(schedule.c.template_id).where(schedule.c.id.in_(mine)),
            select(variant.c.template_id).where(variant.c.schedule_id.in_(mine)),
        ),
    }
    open_reviews = []
    with store.read() as connection:
        for kind, ids in used.items():
            table = TABLES[kind]
            rows = connection.execute(
                select(table.c.name, table.c.status, table.c.reason)
                .where(table.c.id.in_(ids))
                .order_by(table.c.name)
            )
            open_reviews += [Review(kind, row[0], row[1], row[2]) for row in rows]
    return open_reviews


def all_reviews(store: ControlStore) -> list[Review]:
    """Where every signature and template stands, by kind and name."""
    every_review = []
    with store.read() as connection:
        for kind in (Kind.SIGNATURE, Kind.TEMPLATE):
            table = TABLES[kind]
            rows = connection.execute(
                select(table.c.name, table.c.status, table.c.reason).order_by(table.c.name)
            )
            every_review += [Review(kind, row[0], row[1], row[2]) for row in rows]
    return every_review


def review_history(store: ControlStore, name: str) -> list[tuple[Kind, Event]]:
    """What has happened to the signatures and templates of a name, oldest first.

    Raises:
        UserError: neither a signature nor a template has that name.
    """
    events: list[tuple[Kind, Event]] = []
    known: list[str] = []
    for kind in (Kind.SIGNATURE, Kind.TEMPLATE):
        table = TABLES[kind]
        with store.read() as connection:
            record = connection.scalar(select(table.c.id).where(table.c.name == name))
            known += connection.scalars(select(table.c.name).order_by(table.c.name)).all()
        if record is not None:
            events += [(kind, event) for event in store.history(kind, record)]
    if not events:
        raise UserError(
            f"no signature or template is called {name!r}; there are: {', '.join(known) or 'none'}",
            code="campaign.unknown",
        )
    return sorted(events, key=lambda one: one[1].time)
