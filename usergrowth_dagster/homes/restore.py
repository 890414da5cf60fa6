"""A home made anew from a copy, with every message that may have gone out since held.

The new home is put together beside its place and gets its name last, so that no command can work on
half of it, nor on a ledger whose messages are not held yet.
"""

import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, inspect

from usergrowth_dagster.control import audit
from usergrowth_dagster.control.copying import put_control, put_rows, revision_of
from usergrowth_dagster.control.store import HEAD, ControlStore
from usergrowth_dagster.data.population import population_uploads
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes.backup import (
    CONTROL_FILE,
    DATABASE,
    HOME,
    LANDING,
    SECRET_FILES,
    SECRETS,
    SECRETS_LIST,
    STORAGE,
)
from usergrowth_dagster.homes.manifest import (
    Entry,
    Manifest,
    check_entry,
    entry_of,
    read_document,
    read_manifest,
    take_out,
)
from usergrowth_dagster.messaging.people import phones
from usergrowth_dagster.messaging.people.rotation import hold_key
from usergrowth_dagster.messaging.restored import hold_all
from usergrowth_dagster.messaging.schedules.occurrences import business_now
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.settings.databases import DAGSTER, MLFLOW
from usergrowth_dagster.settings.places import keep_private, local_path, sqlite_file


@dataclass(frozen=True)
class Restored:
    """A restored home: how many messages are held, and what the copy was."""

    home: Path
    held: int
    manifest: Manifest


def restore_backup(
    folder: Path, home: Path, actor: str, *, secrets_folder: Path | None = None
) -> Restored:
    """Make a home from a copy.

    Args:
        folder: the copy.
        home: the new home; missing, or an empty folder.
        actor: who restores, for the audit log.
        secrets_folder: where the secret files are; ``secrets`` in the copy by default.

    Raises:
        UserError: the copy is damaged or of a newer version, the home or the database is not
            empty, or the secrets are missing or of another copy. No home is left behind then; in
            PostgreSQL the schemas of Dagster and MLflow may be.
    """
    keep_private()
    folder, home = folder.absolute(), home.absolute()
    manifest = read_manifest(folder)
    _require_known(manifest, folder)
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise UserError(
            f"{home} is not empty: a copy is restored into a new home", code="home.exists"
        )
    home.parent.mkdir(parents=True, exist_ok=True)
    draft = home.with_name(f".{home.name}.{secrets.token_hex(8)}")
    draft.mkdir(mode=0o700)
    made: list[Path] = [draft]
    try:
        _put_secrets(
            manifest, folder / SECRETS if secrets_folder is None else secrets_folder, draft
        )
        _put_files(manifest, folder, HOME, draft)
        settings = load_settings(draft)
        _put_beside(manifest, folder, settings, made)
        held = _put_database(manifest, folder, settings, actor)
        draft.replace(home)
    except BaseException:
        for place in made:
            if place.is_dir():
                shutil.rmtree(place, ignore_errors=True)
            else:
                place.unlink(missing_ok=True)
        raise
    return Restored(home, held, manifest)


def _require_known(manifest: Manifest, folder: Path) -> None:
    """Refuse a copy whose database this version cannot read."""
    if manifest.revision > HEAD:
        raise UserError(
            f"{folder} was made by a newer version of the product (migration {manifest.revision}, "
            f"this one knows {HEAD}): upgrade usergrowth-dagster",
            code="backup.newer",
        )


def _put_secrets(manifest: Manifest, folder: Path, home: Path) -> None:
    if not manifest.secrets:
        return
    listed = folder / SECRETS_LIST
    if not listed.exists():
        raise UserError(
            f"{folder} has no {SECRETS_LIST}: name the folder with the secrets of this copy "
            f"({', '.join(manifest.secrets)}) by --secrets",
            code="key.missing",
        )
    document = read_document(listed)
    if document["id"] != manifest.id:
        raise UserError(
            f"{folder} has the secrets of another copy; name those of this one by --secrets",
            code="key.unknown",
        )
    for name, values in document["files"].items():
        if name in SECRET_FILES:
            take_out(folder, name, Entry(*values), home / name)


def _put_files(manifest: Manifest, folder: Path, part: str, target: Path) -> None:
    """Put the files of a part of the copy below a folder."""
    for name, entry in manifest.files.items():
        if name.startswith(f"{part}/"):
            take_out(folder, name, entry, target / name.removeprefix(f"{part}/"))


def _put_beside(manifest: Manifest, folder: Path, settings: Settings, made: list[Path]) -> None:
    """Put what lay outside the home where its settings say; only into empty places."""
    for part, root in ((STORAGE, settings.storage_root), (LANDING, settings.landing_root)):
        if not _has(manifest.files, part):
            continue
        place = local_path(root)
        if place is None or (place.exists() and any(place.iterdir())):
            raise UserError(
                f"setting {part!r}: {root} is not an empty folder, and the copy's {part} files go "
                f"there; name another one in USERGROWTH_{part.upper()}",
                code="home.exists",
            )
        made.append(place)
        _put_files(manifest, folder, part, place)
    file = sqlite_file(settings.database)
    if CONTROL_FILE in manifest.files:
        if file is None or file.exists():
            raise UserError(
                "setting 'database_url' must name an SQLite file that is not there yet; set "
                "USERGROWTH_DATABASE_URL",
                code="database.occupied",
            )
        made.append(file)
        take_out(folder, CONTROL_FILE, manifest.files[CONTROL_FILE], file)


def _has(files: Mapping[str, Entry], part: str) -> bool:
    return any(name.startswith(f"{part}/") for name in files)


def _put_database(manifest: Manifest, folder: Path, settings: Settings, actor: str) -> int:
    """Bring the ledger to the newest form and hold what may have gone out; returns how many."""
    if (sqlite_file(settings.database) is None) != (manifest.database == "postgresql"):
        raise UserError(
            f"the copy is of a {manifest.database} database, and setting 'database_url' names "
            "another kind; set USERGROWTH_DATABASE_URL to an empty one of that kind",
            code="setting.invalid",
        )
    store = ControlStore(settings.database, settings.zone)
    try:
        if store.is_sqlite:
            store.migrate()
        else:
            _check_rows(manifest, folder)
        with store.write(alone=True) as connection:
            if not store.is_sqlite:
                put_control(
                    store, connection, folder / DATABASE, manifest.revision, manifest.sequences
                )
                _put_further(manifest, folder, settings, connection)
            if manifest.secrets or phones.ring_from_environment() is not None:
                hold_key(connection, phones.open_vault(settings.home))
            held = hold_all(
                connection,
                settings,
                copied=manifest.copied,
                since=manifest.since,
                until=business_now(settings),
                uploads=population_uploads(Project(settings).landing),
            )
            audit.record(
                connection,
                actor,
                "restore",
                f"copy of {manifest.copied:%Y-%m-%d %H:%M:%S} UTC",
                f"{held} messages are in doubt since",
            )
    finally:
        store.close()
    return held


def _put_further(
    manifest: Manifest, folder: Path, settings: Settings, connection: Connection
) -> None:
    """Let Dagster and MLflow make their tables, and put the copied rows into them.

    Raises:
        UserError: the schemas are there, or the copy is of another version of these programs.
    """
    if not manifest.schemas:
        return
    if not settings.one_database:
        raise UserError(
            "the copy has the records of Dagster and MLflow in its database, and setting "
            "'one_database' is false; set USERGROWTH_ONE_DATABASE=true",
            code="setting.invalid",
        )
    from usergrowth_dagster.defs.postgres_storage import storage_of
    from usergrowth_dagster.learning.store import client

    make = {DAGSTER: storage_of, MLFLOW: client}
    for name, rows in manifest.schemas.items():
        if name in inspect(connection).get_schema_names():
            raise UserError(
                f"the database has a schema {name!r} already: name an empty database in "
                "USERGROWTH_DATABASE_URL",
                code="database.occupied",
            )
        make[name](settings)
        made = revision_of(connection, name)
        if made != rows.revision:
            raise UserError(
                f"the copy's records of {name} are of revision {rows.revision}, and the installed "
                f"{name} makes {made}: install version {manifest.version} of the product with its "
                "lock file, restore, then upgrade",
                code="backup.newer",
            )
        put_rows(connection, folder / DATABASE / name, rows.sequences, name)


def _check_rows(manifest: Manifest, folder: Path) -> None:
    for name, entry in manifest.files.items():
        if name.startswith(f"{DATABASE}/"):
            path = folder / name
            if not path.exists():
                raise UserError(
                    f"{path} is missing from the copy; take another copy", code="backup.damaged"
                )
            check_entry(path, entry_of(path), entry)
