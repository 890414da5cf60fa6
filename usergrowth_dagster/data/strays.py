"""What lies among the landing files and is read by nothing."""

import difflib
from collections.abc import Iterable

from usergrowth_dagster.data.contracts import LANDING_TABLES
from usergrowth_dagster.data.landing import landing_folders
from usergrowth_dagster.data.lines import data_files
from usergrowth_dagster.data.population import FOLDER, task_folder
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError


def stray_files(landing: Storage, outputs: Iterable[str]) -> list[str]:
    """A sentence for each file, or folder of files, below the landing root that nothing reads.

    Hidden names and those that begin with an underscore are left out on purpose.

    Args:
        landing: the landing root.
        outputs: folders below it that the product writes to.
    """
    told: list[str] = []
    for table in LANDING_TABLES:
        found = landing_folders(landing, table)
        told += found.strays.values()
        told += _unreadable(landing, found.days.values())
    for name in landing.folders(FOLDER):
        if not name.startswith(("_", ".")):
            told += _upload(landing, name)
    told += [
        f"{file.path}: an upload is a folder population/<task>; move the file into one"
        for file in landing.files(FOLDER)
        if not file.name.startswith("_")
    ]
    return told + _elsewhere(landing, {"population_output", *(o.split("/")[0] for o in outputs)})


def _unreadable(landing: Storage, folders: Iterable[str]) -> list[str]:
    told = []
    for folder in folders:
        try:
            if not data_files(landing, folder):
                told.append(f"{folder}: holds no landing file")
        except UserError as error:
            told.append(str(error))
    return told


def _upload(landing: Storage, name: str) -> list[str]:
    try:
        return _unreadable(landing, [task_folder(name)])
    except UserError as error:
        return [str(error)]


def _elsewhere(landing: Storage, outputs: set[str]) -> list[str]:
    """Files in the root itself, and in folders that are no table's."""
    known = (*LANDING_TABLES, FOLDER)
    told = [
        f"{file.path}: lies in no table's folder; move it to <table>/ds=yyyymmdd/"
        for file in landing.files()
        if not file.name.startswith("_")
    ]
    for name in landing.folders():
        if name in outputs.union(known) or name.startswith(("_", ".")):
            continue
        files = len(landing.files(name, deep=True))
        if files:
            close = difflib.get_close_matches(name.lower(), known, 1, 0.75)
            advice = f"rename it to {close[0]!r}" if close else f"tables are {', '.join(known)}"
            told.append(f"{name}/: {files:,} files that nothing reads; {advice}")
    return told
