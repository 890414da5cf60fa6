"""The control database: connections, migrations, guarded status changes and their history."""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import IntEnum
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import TRANSITIONS, Kind
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.settings.places import sqlite_file

HEAD = "0010"
"""Newest migration; a test holds it against the files."""

_BUSY_MS = 60_000
_LOCK_KEY = 0x75677264  # advisory lock of migrations and record changes: "ugrd"
TABLES: Mapping[Kind, Table] = {
    Kind.CAMPAIGN: schema.campaign,
    Kind.GROUP: schema.group,
    Kind.TRAINING_JOB: schema.training_job,
    Kind.INFERENCE_JOB: schema.inference_job,
    Kind.SIGNATURE: schema.signature,
    Kind.TEMPLATE: schema.template,
    Kind.SCHEDULE: schema.schedule,
    Kind.OCCURRENCE: schema.occurrence,
}


@dataclass(frozen=True)
class Event:
    """One line of a record's history: time (UTC), actor, statuses by name, note.

    Attributes:
        code: of the error that the record failed with; None when it did not fail, when the error
            has no code, or when it failed before codes were kept.
        hint: what a person can do about that error.
    """

    time: datetime
    actor: str
    source: str | None
    target: str | None
    note: str
    code: str | None = None
    hint: str | None = None


def utc_now() -> datetime:
    """The real clock, in UTC."""
    return datetime.now(UTC)


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])


class ControlStore:
    """The control records and the ledger's tables in one SQLite or PostgreSQL database.

    Args:
        database_url: SQLAlchemy URL, ``sqlite:///<file>`` or ``postgresql://…``.
        zone: time zone of times that a campaign file gives without one.
    """

    def __init__(self, database_url: str, zone: tzinfo = UTC) -> None:
        self.url = database_url
        self.zone = zone
        self.engine = _open(database_url)

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is SQLite."""
        return self.engine.dialect.name == "sqlite"

    @property
    def shown(self) -> str:
        """The database's URL without its password."""
        return _public(self.url)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for queries, with one consistent view."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self, *, alone: bool = False) -> Iterator[Connection]:
        """A transaction that is committed at the end, or rolled back on an exception.

        On SQLite it takes the write lock at once: a lock taken half-way cannot be waited for.

        Args:
            alone: keep other ``alone`` transactions out until the end (on SQLite all are alone).
        """
        with self.engine.connect().execution_options(write=True) as connection, connection.begin():
            if alone and not self.is_sqlite:
                connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            yield connection

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Keep other holders of a name out until the end; waits for them first.

        PostgreSQL frees what a connection held when it ends, however that is. All users of an
        SQLite database are on its machine: there it is the lock of a file beside the database.
        """
        if self.is_sqlite:
            file = Path(f"{self.engine.url.database}.lock-{_digest(name):016x}")
            with file.open("w") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
            return
        with self.engine.connect() as connection, connection.begin():
            key = _digest(name) - (1 << 63)
            connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": key})
            yield

    def migrate(self) -> None:
        """Bring the tables to the newest form; safe when several processes start at once.

        Raises:
            UserError: the database belongs to a newer version of the product.
        """
        if self.revision() == HEAD:
            return
        with self.write(alone=True) as connection:
            present = _revision(connection)
            if present == HEAD:  # another process was faster
                return
            self.refuse_newer(present)
            upgrade(connection)

    def refuse_newer(self, revision: str | None) -> None:
        """Refuse the database of a newer version of the product.

        Args:
            revision: the newest migration applied.

        Raises:
            UserError: this version does not know it.
        """
        if revision is not None and revision > HEAD:
            raise UserError(
                f"the database {self.shown} was made by a newer version of the product "
                f"(migration {revision}, this one knows {HEAD}): upgrade usergrowth-dagster",
                code="database.newer",
            )

    def revision(self) -> str | None:
        """The newest migration applied, or None for an empty database."""
        with self.read() as connection:
            return _revision(connection)

    def note(
        self,
        connection: Connection,
        kind: Kind,
        record_id: int,
        actor: str,
        *,
        source: IntEnum | str | None = None,
        target: IntEnum | str | None = None,
        note: str = "",
        error: UserError | None = None,
    ) -> None:
        """Add a line to a record's history, with the code and the hint of an error."""
        connection.execute(
            schema.history.insert().values(
                {
                    "kind": str(kind),
                    "record_id": record_id,
                    "time": utc_now(),
                    "actor": actor,
                    "from": _name(source),
                    "to": _name(target),
                    "note": note,
                    "code": None if error is None else error.code,
                    "hint": None if error is None else error.hint,
                }
            )
        )

    def history(self, kind: Kind, record_id: int) -> list[Event]:
        """A record's history, oldest first."""
        table = schema.history
        with self.read() as connection:
            rows = connection.execute(
                select(table)
                .where(table.c.kind == str(kind), table.c.record_id == record_id)
                .order_by(table.c.id)
            ).mappings()
            return [
                Event(r["time"], r["actor"], r["from"], r["to"], r["note"], r["code"], r["hint"])
                for r in rows
            ]

    def move(
        self,
        connection: Connection,
        kind: Kind,
        record_id: int,
        to: IntEnum,
        actor: str,
        *,
        note: str = "",
        values: Mapping[str, Any] | None = None,
        error: UserError | None = None,
    ) -> IntEnum:
        """Change a record's status if that is allowed, with its history.

        The change is one conditional update, so of two processes only one makes it.

        Args:
            connection: the transaction.
            kind: of the record.
            record_id: its id.
            to: its status from now on.
            actor: who changes it.
            note: a sentence for its history.
            values: further columns to set.
            error: what it failed with; its code and hint go to the history.

        Returns:
            The status before.

        Raises:
            UserError: the present status does not allow it; the record stays as it is.
        """
        table = TABLES[kind]
        label = table.c.name
        row = connection.execute(
            select(table.c.status, label).where(table.c.id == record_id).with_for_update()
        ).one()
        present: IntEnum = row[0]
        if to not in TRANSITIONS[kind][present]:
            allowed = ", ".join(sorted(_spell(s) for s in TRANSITIONS[kind][present])) or "nothing"
            raise UserError(
                f"{kind.replace('_', ' ')} {row[1]!r} is {_spell(present)} and cannot become "
                f"{_spell(to)}; from there it can become {allowed}",
                code="record.forbidden_change",
            )
        connection.execute(
            table.update()
            .where(table.c.id == record_id)
            .values(status=to, updated_time=utc_now(), **(values or {}))
        )
        self.note(
            connection, kind, record_id, actor, source=present, target=to, note=note, error=error
        )
        return present


def open_store(settings: Settings) -> ControlStore:
    """The store of the settings' database, migrated and ready."""
    store = ControlStore(settings.database, zone=settings.zone)
    store.migrate()
    return store


def refuse_newer(settings: Settings) -> None:
    """Make sure that this version knows a home's database, before anything of the home is written.

    A database that is not there, or cannot be reached, is left to the step that needs it.

    Raises:
        UserError: a newer version has migrated it.
    """
    file = sqlite_file(settings.database)
    if file is not None and not file.exists():
        return
    store = ControlStore(settings.database)
    try:
        with suppress(DBAPIError):
            store.refuse_newer(store.revision())
    finally:
        store.close()


def _name(status: IntEnum | str | None) -> str | None:
    return status.name.lower() if isinstance(status, IntEnum) else status


def _spell(status: IntEnum) -> str:
    return status.name.lower().replace("_", " ")


def _public(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)


def _open(database_url: str) -> Engine:
    try:
        url = make_url(database_url)
    except ArgumentError:
        raise UserError(
            "setting 'database_url' (USERGROWTH_DATABASE_URL) is not a database URL; use "
            "sqlite:///<file> or postgresql://<user>@<host>/<database>",
            code="setting.invalid",
        ) from None
    kind = url.get_backend_name()
    if kind not in {"sqlite", "postgresql"}:
        raise UserError(
            f"setting 'database_url' (USERGROWTH_DATABASE_URL) names {kind!r}; "
            "only sqlite and postgresql are known",
            code="setting.invalid",
        )
    if kind == "sqlite":
        if not url.database or url.database == ":memory:":
            raise UserError(
                "setting 'database_url' (USERGROWTH_DATABASE_URL) is a database in memory, which "
                "would forget what was sent; name a file: sqlite:///<file>",
                code="setting.invalid",
            )
        _make_private(Path(url.database))
    try:
        engine = create_engine(url, pool_pre_ping=kind == "postgresql", pool_size=4)
    except (ImportError, NoSuchModuleError) as error:
        raise UserError(
            f"setting 'database_url' (USERGROWTH_DATABASE_URL) needs a driver that is missing "
            f"({error}): pip install 'usergrowth-dagster[postgres]'",
            code="setting.invalid",
        ) from None
    if kind == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_private(file: Path) -> None:
    """Make an SQLite file that is not there yet readable by its owner alone; it holds numbers."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600))


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """WAL and a patient lock; transactions are begun by us, not by the driver."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"pragma busy_timeout = {_BUSY_MS}")
    cursor.execute("pragma foreign_keys = on")
    # full: a row must be on disk as "submitting" before the provider hears of it
    cursor.execute("pragma synchronous = full")
    for wait in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0):
        try:  # switching to WAL does not heed the busy timeout
            cursor.execute("pragma journal_mode = wal")
            break
        except Exception:
            time.sleep(wait)
    else:
        cursor.execute("pragma journal_mode = wal")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("write", False)
    driver = connection.connection.dbapi_connection
    assert driver is not None
    driver.cursor().execute("begin immediate" if write else "begin")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.execute(text("select version_num from alembic_version")).first()
    return None if row is None else str(row[0])


def upgrade(connection: Connection, revision: str = HEAD) -> None:
    """Bring the tables to a revision, in the transaction of a connection.

    Raises:
        UserError: the database refuses.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    folder = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except DBAPIError as error:
        raise UserError(
            f"the control database could not be brought up to date: {error.orig}; "
            "check that the database user may create tables",
            code="database.unusable",
        ) from None
