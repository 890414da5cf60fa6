"""What a step has read, and by what it was done: data files, settings, code.

Files are named by their paths below the storage root, so a home that is moved keeps them.
"""

import hashlib
import platform
from functools import cache
from importlib import metadata
from typing import Any

from usergrowth_dagster import __version__
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.tasks.code_meaning import SHOWN, source_hash
from usergrowth_dagster.tasks.project import Project
from usergrowth_dagster.warehouse.engine import Engine

_ELSEWHERE = ("decisions", "outcomes")  # tables that a decision may look at, but is not made from
_PLACES = ("home", "storage", "landing", "today", "memory_limit", "threads", "database_url")
_PLACE_WORDS = ("url", "uri", "endpoint", "gateway", "webhook", "port", "from", "callback")
_KEPT = ("send_from",)
_CODE = (
    "audience",
    "learning",
    "messaging/texts",
    "tasks/candidates.py",
    "tasks/choice.py",
    "tasks/decide.py",
    "tasks/features.py",
    "tasks/people.py",
    "tasks/score.py",
    "tasks/strata.py",
    "tasks/variants.py",
)
_LIBRARIES = ("duckdb", "lightgbm", "numpy", "scikit-learn", "pandas", "pyarrow")
_BLOCK = 1 << 20


def pinned_settings(settings: Settings) -> dict[str, Any]:
    """Every setting that says what is done; none that says where, and no address or password."""
    found = settings.model_dump(mode="json")
    return {
        name: value
        for name, value in found.items()
        if name in _KEPT
        or (
            name in Settings.model_fields  # not a gateway's
            and name not in _PLACES
            and not set(_PLACE_WORDS) & set(name.split("_"))
        )
    }


@cache
def code_version() -> dict[str, str]:
    """Versions of what decides: the package's own, a hash of its source, and libraries."""
    return {"source": source_hash(_CODE, without=SHOWN), **installed()}


@cache
def installed() -> dict[str, str]:
    """Versions of the package, of Python, and of the libraries that results depend on."""
    return {
        "usergrowth": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _LIBRARIES},
    }


def relative(storage: Storage, uri: str) -> str:
    """A data file's path below the storage root."""
    root = storage.uri().rstrip("/") + "/"
    return uri[len(root) :] if uri.startswith(root) else uri[uri.rindex("/tables/") + 1 :]


def table_of(path: str) -> str:
    """The table that a data file belongs to, by its path below the storage root."""
    return path.split("/")[1]


def file_hash(storage: Storage, path: str) -> str:
    """SHA-256 of a data file's content."""
    digest = hashlib.sha256()
    with storage.open(path) as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def read_files(engine: Engine, project: Project, task_id: str) -> dict[str, str]:
    """What an engine has read: paths and hashes, without other tasks' files of the same day."""
    storage = project.warehouse.storage
    paths = {relative(storage, uri) for files in engine.bound.values() for uri in files}
    return {
        path: file_hash(storage, path)
        for path in sorted(paths)
        if table_of(path) not in _ELSEWHERE and is_of(path, task_id)
    }


def is_of(path: str, task_id: str) -> bool:
    scopes = [part for part in path.split("/") if part.startswith("task_id=")]
    return scopes in ([], [f"task_id={task_id}"])


def read_versions(project: Project, engine: Engine) -> dict[str, int]:
    storage = project.warehouse.storage
    tables = {table_of(relative(storage, f)) for files in engine.bound.values() for f in files}
    found = {name: project.warehouse.version(name) for name in sorted(tables - {*_ELSEWHERE})}
    return {name: version for name, version in found.items() if version is not None}
