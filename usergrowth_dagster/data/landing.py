"""Landing folders: which days are there, which files, and what does not belong.

<landing>/<table>/ds=yyyymmdd/*.csv | *.parquet
"""

import re
from dataclasses import dataclass
from datetime import date, datetime

from usergrowth_dagster.data.contracts import Contract, Reading, contract_of
from usergrowth_dagster.data.fingerprints import Fingerprint
from usergrowth_dagster.data.lines import data_files
from usergrowth_dagster.data.storage import Storage, StoredFile
from usergrowth_dagster.errors import UserError

_FOLDER = re.compile(r"ds=(\d{8})")


@dataclass(frozen=True)
class LandingFolders:
    """What lies in a table's landing folder: its days, and a sentence for each stray thing."""

    days: dict[date, str]
    strays: dict[str, str]

    def stray_of(self, day: date) -> str | None:
        """The sentence of a misnamed folder that seems to mean ``day``."""
        digits = f"{day:%Y%m%d}"
        for name, sentence in self.strays.items():
            if re.sub(r"\D", "", name) == digits:
                return sentence
        return None


def landing_folders(landing: Storage, table: str) -> LandingFolders:
    """The day folders of a table, by day, and what does not belong there.

    Raises:
        UserError: there is no such table.
    """
    contract_of(table)
    days: dict[date, str] = {}
    strays: dict[str, str] = {}
    for name in landing.folders(table):
        if name.startswith(("_", ".")):
            continue
        day = _folder_day(name)
        if day is None:
            strays[name] = f"{table}/{name}: a day's folder is named ds=yyyymmdd; rename it"
        else:
            days[day] = f"{table}/{name}"
    for file in landing.files(table):
        if not file.name.startswith("_"):
            strays[file.name] = f"{file.path}: landing files lie in a folder ds=yyyymmdd; move it"
    return LandingFolders(dict(sorted(days.items())), strays)


def landing_days(landing: Storage, table: str) -> list[date]:
    """Days that have a landing folder, in order.

    Raises:
        UserError: there is no such table, or something in its folder is misnamed.
    """
    folders = landing_folders(landing, table)
    if folders.strays:
        raise UserError("; ".join(folders.strays.values()))
    return list(folders.days)


def day_folder(table: str, day: date) -> str:
    """Path of a day's landing folder below the landing root."""
    return f"{table}/ds={day:%Y%m%d}"


def _folder_day(name: str) -> date | None:
    match = _FOLDER.fullmatch(name)
    if match is None or not match[1].isascii():
        return None
    try:
        return datetime.strptime(match[1], "%Y%m%d").date()
    except ValueError:
        return None


@dataclass(frozen=True)
class FileSet:
    """The landing files of one folder as found, and what they are known by.

    Args:
        files: the files.
        version: of the contract and of how files are read.
        known_by: the files' own fingerprint.
    """

    files: tuple[StoredFile, ...]
    version: str
    known_by: Fingerprint

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def fingerprint(self) -> str:
        """The text to keep of the files as they are now; reads them all.

        It is to be asked for before the rows are read: a file that is written in between is then
        found to be another one the next time.
        """
        return f"{self.version}-{self.known_by}"

    def matches(self, kept: str | None) -> bool:
        """Whether a kept fingerprint is of these files and this contract."""
        version, _, _ = (kept or "").rpartition("-")
        return version == self.version and self.same_files(kept)

    def same_files(self, kept: str | None) -> bool:
        """Whether a kept fingerprint is of these files, whatever the contract was."""
        return self.known_by.matches((kept or "").rpartition("-")[2])


def find_files(
    landing: Storage, folder: str, contract: Contract, reading: Reading | None = None
) -> FileSet:
    """The landing files of a folder.

    The fingerprint changes when a file is added, removed or gets another content, and when the
    contract or how files are read does.

    Raises:
        UserError: a file is neither CSV nor Parquet.
    """
    files = tuple(data_files(landing, folder))
    version = contract.version + (reading.mark if reading else "")
    return FileSet(files, version, Fingerprint(landing, files))
