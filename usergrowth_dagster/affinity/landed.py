"""Which jobs of a home have new or changed files: what a sensor asks, again and again.

A job is a folder ``<landing>/affinity/<job>/``. A file that is being written changes from look to
look, so a job counts as changed when two looks in a row see the same.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from usergrowth_dagster.affinity.files import ENDPOINTS, INTERACTIONS, ITEMS, USERS
from usergrowth_dagster.affinity.job import FILE_NAME
from usergrowth_dagster.data.object_store import open_storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.sources.changes import Cursor

FOLDER = "affinity"
"""Folder of the jobs below the landing files, and of their results in the home."""

_NEEDED = (INTERACTIONS, ITEMS, ENDPOINTS, FILE_NAME)


@dataclass(frozen=True)
class JobsLook:
    """What one look found.

    Attributes:
        changed: by name of a job to run, the fingerprint of its files.
        notes: a sentence for each folder that lacks a file.
        cursor: for the next look.
    """

    changed: dict[str, str]
    notes: tuple[str, ...]
    cursor: Cursor


def jobs_folder(settings: Settings) -> Path | None:
    """Where the jobs of a home are; None: there is no such folder on a disk of this machine."""
    root = settings.landing_root
    path = None if "://" in root else Path(root) / FOLDER
    return path if path is not None and path.is_dir() else None


def remote_jobs(settings: Settings) -> str:
    """Why no job of a home is run: its landing files are in an object store; "" if on a disk."""
    if "://" not in settings.landing_root:
        return ""
    names = open_storage(settings, settings.landing_root).folders(FOLDER)
    if not names:
        return ""
    return (
        f"the affinity jobs {', '.join(sorted(names))} below the landing root are not run, since "
        "it is an object store: copy each folder to a disk of this machine, and use `usergrowth "
        "affinity run DIR`"
    )


def job_folders(settings: Settings, names: Iterable[str] = ()) -> list[Path]:
    """The folders of some jobs of a home, or of all.

    Raises:
        UserError: there is no job of a name, or none at all.
    """
    if sentence := remote_jobs(settings):
        raise UserError(sentence, code="affinity.bad_file")
    folder = jobs_folder(settings)
    known = [] if folder is None else sorted(path for path in folder.iterdir() if path.is_dir())
    by_name = {path.name: path for path in known if not path.name.startswith(".")}
    wanted = list(names) or list(by_name)
    missing = [name for name in wanted if name not in by_name]
    if missing or not wanted:
        there = ", ".join(by_name) or "none"
        raise UserError(
            f"no affinity job {', '.join(missing) or 'is'} in {folder or FOLDER}; there is {there}",
            code="affinity.bad_file",
        )
    return [by_name[name] for name in wanted]


def results_folder(settings: Settings, job: str) -> Path:
    """Where the results of a job go."""
    return settings.home / FOLDER / job


def look_at_jobs(settings: Settings, before: Cursor) -> JobsLook:
    """Look at the files of all jobs of a home.

    Args:
        settings: of the home.
        before: the cursor of the look before.
    """
    folder = jobs_folder(settings)
    seen: dict[str, str] = {}
    changed: dict[str, str] = {}
    notes = []
    for path in job_folders(settings) if folder and any(folder.iterdir()) else []:
        missing = [name for name in _NEEDED if not (path / name).is_file()]
        if missing:
            notes.append(f"affinity job {path.name}: {', '.join(missing)} is not there yet")
            continue
        seen[path.name] = _fingerprint(path)
        settled = before.seen.get(path.name) == seen[path.name]
        if settled and before.landed.get(path.name) != seen[path.name]:
            changed[path.name] = seen[path.name]
    cursor = Cursor(before.landed | changed, seen, before.requests + bool(changed))
    return JobsLook(changed, tuple(notes), cursor)


def _fingerprint(folder: Path) -> str:
    """What changes whenever a file of a job is new, written again or gone."""
    stats = [
        (name, path.stat().st_size, path.stat().st_mtime_ns)
        for name in (*_NEEDED, USERS)
        if (path := folder / name).is_file()
    ]
    return hashlib.sha256(repr(stats).encode()).hexdigest()[:16]
