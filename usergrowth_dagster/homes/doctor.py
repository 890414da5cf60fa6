"""Checks of a machine and a home, each with what to do when it fails."""

import importlib
import json
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from usergrowth_dagster.data.contracts import LANDING_TABLES
from usergrowth_dagster.data.landing import landing_folders
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.data.strays import stray_files
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.homes import doctor_home, doctor_stores
from usergrowth_dagster.messaging.gateways.registry import CHANNELS
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.settings.places import sqlite_file

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
        ("clock", lambda: doctor_home.clock(settings)),
        ("zone", lambda: doctor_home.zone(settings)),
        ("home", lambda: _home(settings)),
    ]
    if settings.home.is_dir():
        checks += [
            ("disk", lambda: _disk(settings)),
            ("folders", lambda: doctor_home.writable(settings)),
            ("privacy", lambda: doctor_home.private(settings)),
            ("other homes", lambda: doctor_home.shared(settings)),
            ("landing files", lambda: _landing(settings)),
            ("tables", lambda: _tables(settings)),
            ("control store", lambda: doctor_stores.control_store(settings)),
            ("secret", lambda: doctor_stores.secret(settings)),
            ("MLflow", lambda: doctor_stores.mlflow(settings)),
            *((f"gateway, {c}", partial(doctor_stores.gateway, settings, c)) for c in CHANNELS),
        ]
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
    if not settings.home.is_dir():
        raise UserError(
            f"{settings.home}: no home folder; make one with usergrowth init", code="home.missing"
        )
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
    landing = Storage(settings.landing_root)
    strays = stray_files(landing, _outputs(settings))
    if strays:
        raise UserError("\n".join(strays), code="landing.misplaced")
    days = {table: len(landing_folders(landing, table).days) for table in LANDING_TABLES}
    return ", ".join(f"{table} {count} days" for table, count in days.items())


def _tables(settings: Settings) -> str:
    """That what is kept of the tables is what their logs say."""
    from usergrowth_dagster.homes.table_states import state_faults
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
        specs = doctor_stores.read_rows(file, "select spec from campaign")
    except sqlite3.Error:  # the control store's own check says so
        return []
    return [str(json.loads(spec).get("output") or "") for (spec,) in specs]
