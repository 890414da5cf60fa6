"""What the doctor reads of databases, without changing a byte of them."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import DatabaseError

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.settings.gateways import DRY_RUN
from usergrowth_dagster.settings.places import sqlite_file


def read_rows(file: Path, sql: str) -> list[Any]:
    """Rows of an SQLite file, also in a folder that cannot be written."""
    with closing(_open(file)) as connection:
        return connection.execute(sql).fetchall()


def _open(file: Path) -> sqlite3.Connection:
    """A connection that changes nothing.

    Opening a database in WAL mode makes files beside it, unless it is said to be at rest.
    """
    log = file.with_name(f"{file.name}-wal")
    busy = log.exists() and log.stat().st_size > 0
    how = "mode=ro" if busy else "mode=ro&immutable=1"
    return sqlite3.connect(f"file:{quote(str(file))}?{how}", uri=True)


def control_store(settings: Settings) -> str:
    """The control database's revision.

    Raises:
        UserError: it is damaged, cannot be reached, or is of a newer version.
    """
    from usergrowth_dagster.control.store import HEAD, ControlStore

    file = sqlite_file(settings.database)
    if file is None:
        store = ControlStore(settings.database)
        try:
            revision = store.revision()
        finally:
            store.close()
    elif not file.exists():
        return "not made yet; the next command makes it"
    else:
        try:
            revision = read_rows(file, "select max(version_num) from alembic_version")[0][0]
        except sqlite3.Error as error:
            raise UserError(
                f"{file}: cannot be read ({error}); restore a copy of it", code="database.unusable"
            ) from None
    if revision is None or revision < HEAD:
        return f"revision {revision}; the next command brings it to {HEAD}"
    if revision > HEAD:
        raise UserError(
            f"revision {revision} is of a newer version: upgrade usergrowth-dagster",
            code="database.newer",
        )
    return f"revision {revision}"


def mlflow(settings: Settings) -> str:
    """How many versions of models MLflow holds.

    Raises:
        UserError: it cannot be reached or read.
    """
    file = sqlite_file(settings.tracking_uri)
    if file is None:
        from usergrowth_dagster.learning.problems import problems
        from usergrowth_dagster.learning.store import versions

        return f"{sum(len(versions(settings, name)) for name in problems())} versions"
    if not file.exists():
        return "not made yet; the first training makes it"
    try:
        return f"{read_rows(file, 'select count(*) from model_versions')[0][0]} versions"
    except sqlite3.Error as error:
        raise UserError(
            f"{file}: cannot be read ({error}); restore a copy of it", code="database.unusable"
        ) from None


def secret(settings: Settings) -> str:
    """Whether the secret that seals numbers is there and can be used.

    Raises:
        UserError: it is gone, although numbers are sealed with it, or cannot be used.
    """
    from usergrowth_dagster.messaging.people import keys
    from usergrowth_dagster.messaging.people.phones import secret_is_gone
    from usergrowth_dagster.messaging.people.sealed import holds_sealed, sealed_rows

    if keys.from_environment() is not None:
        return f"from {keys.ENVIRONMENT}"
    path = settings.home / keys.FILE_NAME
    if path.exists():
        keys.read_file(path)
        return f"{path}; keep a copy of it apart"
    file = sqlite_file(settings.database)
    if file is None:
        sealed = holds_sealed(settings)
    elif file.exists():
        engine = create_engine("sqlite://", creator=lambda: _open(file), poolclass=NullPool)
        try:
            with engine.connect() as connection:
                sealed = sealed_rows(connection)
        except DatabaseError:
            return "not there; whether it is needed cannot be read, see the control store"
    else:
        sealed = False
    if sealed:
        raise UserError(secret_is_gone(settings.home), code="key.missing")
    return "not made yet; the first number makes it"


def gateway(settings: Settings, channel: str) -> str:
    """The gateway of a channel, with its settings and credentials; no message is sent.

    Raises:
        UserError: a setting, a credential or the provider's SDK is missing.
    """
    from usergrowth_dagster.messaging.gateways.registry import gateway_setting, make_gateway

    make_gateway(settings, channel).require_set_up()
    name = getattr(settings, gateway_setting(channel))
    if name == DRY_RUN:
        return f"{name}: messages are written down, nobody is texted"
    return f"{name}: settings and credentials are there; the provider was not asked"
