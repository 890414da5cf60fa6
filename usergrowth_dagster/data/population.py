"""Uploads of populations: who may be contacted, one folder a task.

<landing>/population/<task>/*.csv | *.parquet   columns user_id, item_id, phone, then any others
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from usergrowth_dagster.data.contracts import CONTRACTS, Reading
from usergrowth_dagster.data.fingerprints import Fingerprint
from usergrowth_dagster.data.header import extra_names
from usergrowth_dagster.data.landing import FileSet, find_files
from usergrowth_dagster.data.lines import read_header
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError

FOLDER = "population"
MARKER = "_SUCCESS"
"""A file of this name says that an upload is complete."""

VENDOR_VARIABLES = 10
"""More template variables than this may fail at the vendor."""

_TASK = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Upload:
    """An upload as it is now.

    Args:
        known_by: the data files' fingerprint; the marker is no part.
        complete_marker: whether a file ``_SUCCESS`` is there.
        size: bytes of the data files.
    """

    known_by: Fingerprint
    complete_marker: bool
    size: int

    @property
    def fingerprint(self) -> str:
        """Changes whenever a file is added, removed or written again; nothing is read."""
        return self.known_by.tags


def task_folder(task_id: str) -> str:
    """Path of a task's upload below the landing root.

    Raises:
        UserError: the task id is not 1 to 64 letters, digits, hyphens and underscores.
    """
    if _TASK.fullmatch(task_id) is None:
        raise UserError(
            f"population/{task_id}: a task's name is 1 to 64 of the characters "
            "A-Z a-z 0-9 _ and -; rename the folder",
            code="task.invalid_name",
        )
    return f"{FOLDER}/{task_id}"


def population_files(landing: Storage, task_id: str, reading: Reading | None = None) -> FileSet:
    """The files of an upload.

    Raises:
        UserError: the task id is malformed, a file is neither CSV nor Parquet, or there is none.
    """
    folder = task_folder(task_id)
    file_set = find_files(landing, folder, CONTRACTS["population"], reading)
    if not file_set.files:
        raise UserError(
            f"{folder}: holds no CSV or Parquet file; upload the population there",
            code="population.invalid",
        )
    return file_set


def variable_names(landing: Storage, file_set: FileSet, encoding: str = "utf-8") -> list[str]:
    """Names of the extra columns of an upload's files, in order of appearance.

    Raises:
        UserError: a file is empty or not what its name says.
    """
    contract = CONTRACTS[FOLDER]
    names = (
        name
        for file in file_set.files
        for name in extra_names(contract, read_header(landing, file, encoding))
    )
    return list(dict.fromkeys(names))


def population_uploads(landing: Storage) -> dict[str, Upload]:
    """Every upload by task id, also of folders that cannot be landed (landing them says why).

    A folder without files is no upload yet, unless its marker says that it is complete. Hidden
    and underscore folders are skipped.
    """
    uploads = {}
    for task in landing.folders(FOLDER):
        if task.startswith(("_", ".")):
            continue
        files = landing.files(f"{FOLDER}/{task}", deep=True)
        marked = any(file.name == MARKER for file in files)
        data = [file for file in files if not file.name.startswith("_")]
        if data or marked:
            size = sum(file.size for file in data)
            uploads[task] = Upload(Fingerprint(landing, tuple(data)), marked, size)
    return uploads


def complete_uploads(
    uploads: Mapping[str, Upload], previous: Mapping[str, str]
) -> dict[str, Upload]:
    """The uploads that have been written to the end.

    Args:
        uploads: what is there now.
        previous: fingerprints by task id, as the last look found them.

    Returns:
        Those with a ``_SUCCESS`` file, and those that did not change since the last look.
    """
    return {
        task: upload
        for task, upload in uploads.items()
        if upload.complete_marker or previous.get(task) == upload.fingerprint
    }
