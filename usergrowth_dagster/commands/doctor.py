"""Checks of a machine and a home, each with what to do when it fails."""

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings

FREE_BYTES = 2 << 30


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, whether it is well, and what was seen or is to be done."""

    name: str
    well: bool
    detail: str


def examine(settings: Settings) -> list[Finding]:
    """All checks of a home; none changes anything."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("Python", _python),
        ("LightGBM", _lightgbm),
        ("disk", lambda: _disk(settings)),
        ("models' SQL", _models),
        ("code location", _code_location),
        ("landing files", lambda: _landing(settings)),
        ("control store", lambda: _store(settings)),
        ("MLflow", lambda: _mlflow(settings)),
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
            "on Debian and Ubuntu: apt-get install libgomp1"
        ) from None


def _disk(settings: Settings) -> str:
    folder = settings.home if settings.home.exists() else Path.cwd()
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES:
        raise UserError(f"{free / 1e9:.1f} GB free at {folder}; make room, 2 GB at least")
    return f"{free / 1e9:.0f} GB free"


def _models() -> str:
    from usergrowth_dagster.warehouse.models import load_graph

    return f"{len(load_graph().models)} models"


def _code_location() -> str:
    import dagster as dg

    from usergrowth_dagster.defs.build import build_definitions

    found = build_definitions()
    dg.Definitions.validate_loadable(found)
    return f"{len(list(found.assets or []))} assets"


def _landing(settings: Settings) -> str:
    from usergrowth_dagster.data.contracts import LANDING_TABLES
    from usergrowth_dagster.data.landing import landing_folders
    from usergrowth_dagster.data.storage import Storage

    landing = Storage(settings.landing_root)
    told = []
    for table in LANDING_TABLES:
        found = landing_folders(landing, table)
        if found.strays:
            raise UserError("; ".join(found.strays.values()))
        told.append(f"{table} {len(found.days)} days")
    return ", ".join(told)


def _store(settings: Settings) -> str:
    from usergrowth_dagster.control.store import open_store

    if not settings.home.is_dir():
        raise UserError(f"{settings.home}: no home folder; make one with usergrowth init")
    store = open_store(settings)
    try:
        return f"revision {store.revision()}"
    finally:
        store.close()


def _mlflow(settings: Settings) -> str:
    from usergrowth_dagster.learning.store import NAMES, versions

    if not settings.home.is_dir():
        raise UserError(f"{settings.home}: no home folder; make one with usergrowth init")
    return f"{sum(len(versions(settings, name)) for name in NAMES)} versions"
