"""What a restored ledger cannot know: which of its messages went out after the copy was made.

The home that was copied may have sent everything that was due until the restore. So every message
of that time is in doubt with the reason :data:`REASON`: the next dispatcher looks it up at its
gateway, a report settles it, and a person releases or cancels the rest. That holds too for what is
planned only after the restore, where the copied home may have planned the same (:func:`covers`).

Ids of messages and batches begin anew, far above those that the copied home can have given out
meanwhile: a provider that is asked for an id, or reports one, means one message only.
"""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Table, func, select, text

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.store import utc_now
from usergrowth_dagster.messaging.gateways.registry import gateway_setting
from usergrowth_dagster.settings import Settings

REASON = "restored"
"""Reason of a message that may have gone out between the copy and the restore."""

APART = 1 << 28
"""Ids that are left out: more than a home gives out between two copies. Short links allow for 255
restores, see :mod:`usergrowth_dagster.messaging.texts.links`."""

WORKER = "restore"
"""Worker of the batches that stand for the calls which the copied home may have made."""

_NAME = "restored"  # in the table meta
_OPEN = (OccurrenceState.READY, OccurrenceState.SENDING, OccurrenceState.STOPPED)
_NUMBERED = (schema.message, schema.batch, schema.export_run)
_WAITING = (MessageState.PLANNED, MessageState.CLAIMED)
message = schema.message
occurrence = schema.occurrence


@dataclass(frozen=True)
class Restore:
    """The time that a restored ledger knows nothing of.

    Attributes:
        copied: when the copy was begun, on the real clock (UTC).
        since: the same on the business clock.
        until: when it was restored, on the business clock.
        uploads: uploads that were no task yet when the copy was made.
        batches: the first id of batches made after the restore.
    """

    copied: datetime
    since: datetime
    until: datetime
    uploads: tuple[str, ...] = ()
    batches: int = 0

    def dump(self) -> str:
        """As text."""
        return json.dumps(asdict(self), default=datetime.isoformat)

    @classmethod
    def load(cls, written: str) -> "Restore":
        """From its text."""
        values = json.loads(written)
        times = {
            name: datetime.fromisoformat(values[name]).astimezone(UTC)
            for name in ("copied", "since", "until")
        }
        return cls(**times, uploads=tuple(values["uploads"]), batches=values["batches"])

    def sent_time(self, due: datetime) -> datetime:
        """The earliest moment at which a message may have gone out, on the business clock."""
        return min(max(due, self.since), self.until)


def hold_all(
    connection: Connection,
    settings: Settings,
    *,
    copied: datetime,
    since: datetime,
    until: datetime,
    uploads: Collection[str],
) -> int:
    """Put in doubt what may have gone out since the copy, and leave out ids.

    Args:
        connection: of ``ControlStore.write`` on the restored database, before others use it.
        settings: of the restored home.
        copied: when the copy was begun, on the real clock.
        since: the same on the business clock.
        until: the business clock now.
        uploads: the uploads among the landing files.

    Returns:
        How many messages are in doubt now that were not in the copy.
    """
    firsts = {table.name: _leave_out(connection, table) for table in _NUMBERED}
    waiting = sorted(set(uploads) - _decided(connection))
    restore = Restore(copied, since, until, tuple(waiting), firsts["batch"])
    meta = schema.meta
    connection.execute(meta.delete().where(meta.c.name == _NAME))
    connection.execute(meta.insert().values(name=_NAME, value=restore.dump()))
    held = _doubt_submitted(connection)
    due = select(occurrence.c.id, occurrence.c.due).where(
        occurrence.c.state.in_(_OPEN), occurrence.c.due <= until
    )
    for occurrence_id, moment in connection.execute(due).all():
        held += _hold(connection, settings, restore, occurrence_id, moment)
    _number_batches(connection, restore)
    return held


def _decided(connection: Connection) -> set[str]:
    """Names of the uploads that are tasks."""
    paths = connection.scalars(select(schema.inference_job.c.data_path).distinct())
    return {path.rpartition("/")[2] for path in paths}


def restore_of(connection: Connection) -> Restore | None:
    """The newest restore of a ledger; None: it never was restored."""
    meta = schema.meta
    written = connection.scalar(select(meta.c.value).where(meta.c.name == _NAME))
    return None if written is None else Restore.load(written)


def covers(restore: Restore, earliest: datetime, upload: str) -> bool:
    """Whether a home that was copied may have planned and sent the same before the restore.

    Args:
        restore: the ledger's newest.
        earliest: when the messages can have gone out at the earliest, on the business clock.
        upload: the upload that their people come from.
    """
    return earliest <= restore.until or upload in restore.uploads


def hold_planned(
    connection: Connection,
    settings: Settings,
    occurrence_id: int,
    earliest: datetime,
    upload: str,
) -> int:
    """Put the planned messages of an occurrence in doubt where a restore covers them.

    To be called in the transaction that opens the occurrence for dispatch.

    Returns:
        How many.
    """
    restore = restore_of(connection)
    if restore is None:
        return 0
    _number_batches(connection, restore)
    if not covers(restore, earliest, upload):
        return 0
    return _hold(connection, settings, restore, occurrence_id, earliest)


def _doubt_submitted(connection: Connection) -> int:
    """What was with a provider when the copy was made: nobody has the answer."""
    return connection.execute(
        message.update()
        .where(message.c.state == MessageState.SUBMITTING)
        .values(_doubtful(reason=REASON))
    ).rowcount


def _hold(
    connection: Connection,
    settings: Settings,
    restore: Restore,
    occurrence_id: int,
    due: datetime,
) -> int:
    """Put what waits of an occurrence in doubt, as a batch of each channel's gateway."""
    waiting = (
        message.c.occurrence_id == occurrence_id,
        message.c.state.in_(_WAITING),
    )
    sizes = (
        select(message.c.channel, func.count()).where(*waiting).group_by(message.c.channel)
    ).order_by(message.c.channel)
    sent, held = restore.sent_time(due), 0
    submitted = restore.copied if settings.today else sent
    for channel, size in connection.execute(sizes).all():
        gateway = getattr(settings, gateway_setting(channel))
        batch_id = _batch(connection, restore, occurrence_id, gateway, size, submitted)
        held += connection.execute(
            message.update()
            .where(*waiting, message.c.channel == channel)
            .values(
                _doubtful(
                    reason=REASON,
                    batch_id=batch_id,
                    sent_time=sent,
                    attempts=message.c.attempts + 1,  # so that a report is heard
                )
            )
        ).rowcount
    return held


def _doubtful(**values: Any) -> dict[str, Any]:
    free = {"claimed_by": None, "lease_until": None, "retry_at": None}
    return {"state": MessageState.IN_DOUBT, **free, "updated_time": utc_now(), **values}


def _batch(
    connection: Connection,
    restore: Restore,
    occurrence_id: int,
    gateway: str,
    size: int,
    submitted: datetime,
) -> int:
    """A batch that stands for the calls which the copied home may have made."""
    batch = schema.batch
    numbered = {}
    if connection.dialect.name == "sqlite":
        newest = connection.scalar(select(func.max(batch.c.id))) or 0
        numbered = {"id": max(newest + 1, restore.batches)}
    made = connection.execute(
        batch.insert().values(
            **numbered,
            occurrence_id=occurrence_id,
            gateway=gateway,
            worker=WORKER,
            size=size,
            submitted_time=submitted,
        )
    )
    return int(made.inserted_primary_key[0])  # type: ignore[index]


def _number_batches(connection: Connection, restore: Restore) -> None:
    """Let ids of batches begin anew; SQLite goes on from the newest that is there."""
    if connection.dialect.name != "sqlite":
        return
    newest = connection.scalar(select(func.max(schema.batch.c.id))) or 0
    first = connection.scalar(select(func.min(occurrence.c.id)))
    if newest < restore.batches and first is not None:
        _batch(connection, restore, first, "", 0, restore.copied)


def _leave_out(connection: Connection, table: Table) -> int:
    """Move a table's next id far above all that it has; returns that id.

    SQLite cannot move that of batches without a row, see :func:`_number_batches`.
    """
    newest = connection.scalar(select(func.max(table.c.id))) or 0
    if connection.dialect.name == "sqlite":
        given = text("select seq from sqlite_sequence where name = :name")
        known = connection.scalar(given, {"name": table.name})
        first = max(newest, known or 0) + APART
        values = {"name": table.name, "last": first - 1}
        if table is not schema.batch:
            connection.execute(text("delete from sqlite_sequence where name = :name"), values)
            connection.execute(text("insert into sqlite_sequence values (:name, :last)"), values)
        return first
    sequence = text("select pg_get_serial_sequence(:name, 'id')")
    name = connection.scalar(sequence, {"name": table.name})
    known = connection.scalar(text("select nextval(cast(:name as regclass))"), {"name": name})
    first = max(newest, known or 0) + APART
    connection.execute(
        text("select setval(cast(:name as regclass), :last)"), {"name": name, "last": first - 1}
    )
    return first
