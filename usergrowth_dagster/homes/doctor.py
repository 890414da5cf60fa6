"""Checks of a machine and a home, each with what to do when it fails.

Who may read the home, what can be written and what others share is looked at; databases are read
without changing a byte of them. The kept state of the tables is checked against their logs, and can
be derived from them again.
"""

import importlib
import json
import os
import shlex
import shutil
import sqlite3
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import DatabaseError

from usergrowth_dagster.acquisition.build import snapshot_state
from usergrowth_dagster.acquisition.definition import FILE_NAME as ACQUISITION
from usergrowth_dagster.affinity.landed import remote_jobs
from usergrowth_dagster.data.contracts import LANDING_TABLES
from usergrowth_dagster.data.landing import landing_folders
from usergrowth_dagster.data.object_store import ask_again, is_remote, open_storage, refusal_of
from usergrowth_dagster.data.strays import stray_files
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes.home import require_home
from usergrowth_dagster.messaging.gateways.registry import CHANNELS
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import CONFIG_NAME, Settings
from usergrowth_dagster.settings.gateways import DRY_RUN
from usergrowth_dagster.settings.places import local_path, sqlite_file

CLOCK_LEEWAY = timedelta(minutes=2)
_SHOWN = 5  # files that a sentence names
_NUMBERS = ("control.db*", "secret.key*", "credentials.toml", "contents.txt")
_NUMBER_TABLES = ("population", "quarantine", "decisions", "raw_user", "raw_identity")

FREE_BYTES = 2 << 30


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, whether it is well, and what was seen or is to be done."""

    name: str
    well: bool
    detail: str


def examine(settings: Settings) -> list[Finding]:
    """All checks of a home; none changes anything, so that a read-only home can be looked at."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("Python", _python),
        ("LightGBM", _lightgbm),
        ("models' SQL", _models),
        ("code location", _code_location),
        ("clock", lambda: _clock(settings)),
        ("zone", lambda: _zone(settings)),
        ("home", lambda: _home(settings)),
    ]
    if settings.home.is_dir():
        checks += [
            ("disk", lambda: _disk(settings)),
            ("folders", lambda: _writable(settings)),
            ("privacy", lambda: _private(settings)),
            ("other homes", lambda: _shared(settings)),
            ("landing files", lambda: _landing(settings)),
            ("object store", lambda: _object_store(settings)),
            ("tables", lambda: _tables(settings)),
            ("control store", lambda: _control_store(settings)),
            ("secret", lambda: _secret(settings)),
            ("MLflow", lambda: _mlflow(settings)),
            *((f"gateway, {c}", partial(_gateway, settings, c)) for c in CHANNELS),
        ]
    if (settings.home / ACQUISITION).exists():
        checks.append(("acquisition", lambda: snapshot_state(Project(settings))))
    return list(_run(checks))


def _run(checks: list[tuple[str, Callable[[], str]]]) -> Iterator[Finding]:
    for name, check in checks:
        try:
            yield Finding(name, True, check())
        except Exception as error:  # a check that breaks is itself the finding
            yield Finding(name, False, str(error) or type(error).__name__)


def _python() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _lightgbm() -> str:
    try:
        return str(importlib.import_module("lightgbm").__version__)
    except OSError as error:
        raise UserError(
            f"LightGBM does not load ({error}); install the OpenMP runtime, "
            "on Debian and Ubuntu: apt-get install libgomp1",
            code="machine.missing",
        ) from None


def _home(settings: Settings) -> str:
    require_home(settings)
    return str(settings.home)


def _disk(settings: Settings) -> str:
    """Free bytes of every file system that is written to, also the one of temporary files."""
    places = [settings.home, Path(tempfile.gettempdir())]
    places += [Path(p) for p in (settings.storage_root, settings.landing_root) if "://" not in p]
    free: dict[int, tuple[int, Path]] = {}
    for place in places:
        if place.exists():
            free.setdefault(place.stat().st_dev, (shutil.disk_usage(place).free, place))
    least, where = min(free.values(), key=lambda one: one[0])
    if least < FREE_BYTES:
        raise UserError(
            f"{least / 1e9:.1f} GB free at {where}; make room, 2 GB at least",
            code="home.unhealthy",
        )
    return ", ".join(f"{size / 1e9:.0f} GB free at {place}" for size, place in free.values())


def _models() -> str:
    from usergrowth_dagster.warehouse.models import load_graph

    return f"{len(load_graph().models)} models"


def _code_location() -> str:
    import dagster as dg

    from usergrowth_dagster.defs.build import build_definitions

    definitions = build_definitions()
    dg.Definitions.validate_loadable(definitions)
    return f"{len(list(definitions.assets or []))} assets"


def _landing(settings: Settings) -> str:
    """Days by table; every file that nothing reads is a finding."""
    landing = open_storage(settings, settings.landing_root)
    strays = stray_files(landing, _outputs(settings))
    strays += [sentence for sentence in [remote_jobs(settings)] if sentence]
    if strays:
        raise UserError("\n".join(strays), code="landing.misplaced")
    days = {table: len(landing_folders(landing, table).days) for table in LANDING_TABLES}
    return ", ".join(f"{table} {count} days" for table, count in days.items())


def _object_store(settings: Settings) -> str:
    """That commits of tables are safe where the tables are.

    Raises:
        UserError: the store refuses what each commit needs.
    """
    if not is_remote(settings.storage_root):
        return "none: the tables are in a directory"
    condition = ask_again(settings)
    if condition == "refused":
        raise refusal_of(settings.storage_root)
    return {
        "kept": "of several writers at once one wins",
        "ignored": "lets writers overwrite each other: commits take a lock in the control database",
    }[condition]


def _tables(settings: Settings) -> str:
    """That what is kept of the tables is what their logs say."""
    from usergrowth_dagster.project import Project

    project = Project(settings)
    if faults := state_faults(project):
        listed = "; ".join(f"{table} {fault}" for table, fault in faults.items())
        raise UserError(
            f"what is kept of tables {listed}; run usergrowth tables --rebuild",
            code="home.unhealthy",
        )
    return f"{len(project.warehouse.tables())} tables, kept as their logs say"


def _outputs(settings: Settings) -> list[str]:
    """Output folders of the campaigns that are on record, as far as that can be read."""
    file = sqlite_file(settings.database)
    if file is None or not file.exists():
        return []
    try:
        specs = _read_rows(file, "select spec from campaign")
    except sqlite3.Error:  # the control store's own check says so
        return []
    return [str(json.loads(spec).get("output") or "") for (spec,) in specs]


def _writable(settings: Settings) -> str:
    """That all folders can be written.

    Raises:
        UserError: one cannot.
    """
    places = [settings.home, *_local(settings.storage_root), *_local(settings.landing_root)]
    database = sqlite_file(settings.database)
    if database is not None:
        places.append(database if database.exists() else database.parent)
    bad = [place for place in places if place.exists() and not os.access(place, os.W_OK)]
    if bad:
        raise UserError(
            f"{', '.join(map(str, bad))} cannot be written by this user; commands that only show "
            "something still work",
            code="home.unhealthy",
        )
    return f"{settings.home}; tables in {settings.storage_root}; files in {settings.landing_root}"


def _local(place: str) -> list[Path]:
    path = local_path(place)
    return [] if path is None else [path]


def _private(settings: Settings) -> str:
    """That the home has mode 0700, and what holds numbers 0600.

    Raises:
        UserError: others may enter the home or read files with numbers.
    """
    problems = []
    if settings.home.stat().st_mode & 0o077:
        problems.append(
            f"{settings.home} can be entered by others: chmod 700 {shlex.quote(str(settings.home))}"
        )
    open_files = [path for path in _with_numbers(settings) if path.stat().st_mode & 0o077]
    if open_files:
        named = ", ".join(str(path) for path in open_files[:_SHOWN])
        more = f" and {len(open_files) - _SHOWN:,} more" if len(open_files) > _SHOWN else ""
        problems.append(f"files with numbers can be read by others: {named}{more}; chmod 600 them")
    if problems:
        raise UserError("\n".join(problems), code="home.unhealthy")
    return "for its owner alone"


def _with_numbers(settings: Settings) -> Iterator[Path]:
    """Files that the product wrote and that hold numbers, in clear, sealed or as the secret."""
    for pattern in _NUMBERS:
        yield from settings.home.glob(pattern)
    database = sqlite_file(settings.database)
    if database is not None and database.parent != settings.home and database.exists():
        yield database
    folders = [settings.home / "outbox", settings.home / "reports"]
    for root in _local(settings.storage_root):
        folders += [root / "tables" / name for name in _NUMBER_TABLES]
    for root in _local(settings.landing_root):
        folders.append(root / "population_output")
        if root.parent != settings.home:  # beside the home, nothing else guards the uploads
            folders.append(root / "population")
    for folder in folders:
        yield from (path for path in sorted(folder.rglob("*")) if path.is_file())


def _clock(settings: Settings) -> str:
    """The time now, unless it lies before what was written here.

    Raises:
        UserError: it does: texts would be sent at the wrong time.
    """
    now = datetime.now(UTC)
    files = [*settings.home.glob("*"), *settings.home.glob("dagster/history/*.db")]
    newest = max((path.stat().st_mtime for path in files), default=0.0)
    seen = datetime.fromtimestamp(newest, UTC)
    if seen > now + CLOCK_LEEWAY:
        raise UserError(
            f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, but files of the home were "
            f"written at {seen:%Y-%m-%d %H:%M} UTC; set the clock",
            code="home.unhealthy",
        )
    return f"{now:%Y-%m-%d %H:%M:%S} UTC"


def _zone(settings: Settings) -> str:
    """The business time zone, the time there, and a business date that is pinned."""
    local = datetime.now(settings.zone)
    pinned = f"; the business date is pinned to {settings.today}" if settings.today else ""
    return f"{settings.timezone}, {local:%Y-%m-%d %H:%M %z} there{pinned}"


def _shared(settings: Settings) -> str:
    """Which stores other homes use too.

    Raises:
        UserError: another home has the same tables or the same ledger.
    """
    places = _stores(settings.home, settings.model_dump(mode="json"))
    bad: list[str] = []
    harmless: list[str] = []
    for other, stores in _others(settings):
        for name, place in places.items():
            if stores.get(name) == place:
                sentence = f"{name} {place} is also that of the home {other}"
                (harmless if name in ("landing", "mlflow") else bad).append(sentence)
    if bad:
        raise UserError(
            "\n".join(
                f"{sentence}: each would change what the other decided and sent" for sentence in bad
            ),
            code="home.unhealthy",
        )
    return "; ".join(harmless) or "no other home uses them"


def _stores(home: Path, values: dict[str, object]) -> dict[str, str]:
    """Where a home with these settings keeps everything; a URL without its password."""
    from sqlalchemy.engine import make_url

    def folder(name: str) -> str:
        place = local_path(str(values.get(name) or home / name))
        return str(values[name]) if place is None else str(_whole(place))

    def database(name: str, default: Path) -> str:
        url = str(values.get(name) or "")
        file = sqlite_file(url) if url else default
        if file is not None:
            return str(_whole(file))
        return make_url(url).render_as_string(hide_password=True)

    return {
        "storage": folder("storage"),
        "landing": folder("landing"),
        "database": database("database_url", home / "control.db"),
        "mlflow": database("mlflow_tracking_uri", home / "mlflow" / "mlflow.db"),
    }


def _whole(path: Path) -> Path:
    return path.absolute().resolve()


def _others(settings: Settings) -> Iterator[tuple[Path, dict[str, str]]]:
    """Other homes: those beside this one, and those that hold one of its stores."""
    present = _whole(settings.home)
    near = [path for path in present.parent.iterdir() if path.is_dir()]
    for place in _stores(settings.home, settings.model_dump(mode="json")).values():
        if "://" not in place:
            near += Path(place).parents
    for home in dict.fromkeys(map(_whole, near)):
        config = home / CONFIG_NAME
        if home == present or not config.is_file():
            continue
        try:
            values = tomllib.loads(config.read_text(encoding="utf-8-sig"))
            yield home, _stores(home, values)
        except (OSError, ValueError):
            continue  # its own doctor says so


def _read_rows(file: Path, sql: str) -> list[Any]:
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


def _control_store(settings: Settings) -> str:
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
            revision = _read_rows(file, "select max(version_num) from alembic_version")[0][0]
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


def _mlflow(settings: Settings) -> str:
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
        return f"{_read_rows(file, 'select count(*) from model_versions')[0][0]} versions"
    except sqlite3.Error as error:
        raise UserError(
            f"{file}: cannot be read ({error}); restore a copy of it", code="database.unusable"
        ) from None


def _secret(settings: Settings) -> str:
    """Whether the secret that seals numbers is there and can be used.

    Raises:
        UserError: it is gone, although numbers are sealed with it, or cannot be used.
    """
    from usergrowth_dagster.messaging.people import phones
    from usergrowth_dagster.messaging.people.phones import holds_sealed, sealed_rows, secret_is_gone

    if phones.ring_from_environment() is not None:
        return f"from {phones.ENVIRONMENT}"
    path = settings.home / phones.FILE_NAME
    if path.exists():
        phones.read_ring(path)
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


def _gateway(settings: Settings, channel: str) -> str:
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


def state_faults(project: Project) -> Mapping[str, str]:
    """How the kept states of tables differ from their logs, by table; nothing is changed."""
    warehouse = project.warehouse
    faults = {table: warehouse.states.fault(warehouse.log(table)) for table in warehouse.tables()}
    return {table: fault for table, fault in faults.items() if fault is not None}


def rebuild_states(project: Project) -> list[tuple[str, int, int]]:
    """Derive the state of every table from its whole log; name, version and written days of each.

    The file that keeps the states must be writable; it may be missing or damaged.
    """
    warehouse = project.warehouse
    lines = []
    for table in warehouse.tables():
        warehouse.states.rebuild(warehouse.log(table))
        state = warehouse.state(table)
        if state is not None:
            days = {day for marks in state.marks.values() for day in marks}
            lines.append((table, state.version, len(days)))
    return lines
