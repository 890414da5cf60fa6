"""Landing folders: which days are there, which files, and what does not belong.

<landing>/<table>/ds=yyyymmdd/*.csv | *.parquet
"""

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

from usergrowth_dagster.data.contracts import DAILY_TABLES, Contract, Reading, contract_of
from usergrowth_dagster.data.fingerprints import Fingerprint
from usergrowth_dagster.data.lines import data_files
from usergrowth_dagster.data.storage import Storage, StoredFile
from usergrowth_dagster.days import check_day, read_day
from usergrowth_dagster.errors import UserError

_FOLDERS = (re.compile(r"ds=(\d{8})", re.ASCII), re.compile(r"ds=(\d{4}-\d\d-\d\d)", re.ASCII))
_NEAR = 0.75  # how alike two folder names are, so that one is taken for the other misspelt


@dataclass(frozen=True)
class LandingFolders:
    """What lies in a table's landing folder: its days, and a sentence for each stray thing.

    ``days`` holds the folder of each day. A day that two folders claim is in ``strays`` alone.
    """

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

    A day's folder is called ds=yyyymmdd or ds=yyyy-mm-dd, and a day has one folder.

    Raises:
        UserError: there is no such table.
    """
    contract_of(table)
    claims: dict[date, list[str]] = {}
    strays: dict[str, str] = {}
    for name in landing.folders(table):
        if name.startswith(("_", ".")):
            continue
        day = _folder_day(name)
        if day is None:
            strays[name] = f"{table}/{name}: {_folder_rule(name)}"
        else:
            claims.setdefault(day, []).append(name)
    for day, names in claims.items():
        if len(names) > 1:  # an empty folder claims nothing
            names[:] = [n for n in names if landing.files(f"{table}/{n}", deep=True)] or names[:1]
        if len(names) > 1:
            listed = " and ".join(f"{table}/{name}" for name in names)
            strays[names[0]] = f"{listed} are both {day}; put its files into one of them"
    for file in landing.files(table):
        if not file.name.startswith("_"):
            strays[file.name] = f"{file.path}: landing files lie in a folder ds=yyyymmdd; move it"
    days = {day: f"{table}/{names[0]}" for day, names in claims.items() if len(names) == 1}
    return LandingFolders(dict(sorted(days.items())), strays)


def landing_days(landing: Storage, table: str) -> list[date]:
    """Days that have a landing folder, in order.

    Raises:
        UserError: there is no such table, or something in its folder is misnamed.
    """
    folders = landing_folders(landing, table)
    if folders.strays:
        raise UserError("; ".join(folders.strays.values()), code="landing.misplaced")
    return list(folders.days)


_OTHER_FOLDERS = ("affinity", "population", "population_output", "tags")
"""Folders below the landing root that are read or written, and hold no days."""


def unread_landing(landing: Storage, others: Collection[str] = ()) -> list[str]:
    """A sentence for each thing among the landing files that nothing will ever read.

    Misspelt table folders (with the name that is meant), folders that are no day, files beside the
    day folders. Hidden and underscore names are skipped.

    Args:
        landing: root of the landing files.
        others: further folders below the root that belong there, such as campaigns' outputs.
    """
    known = {*DAILY_TABLES, *_OTHER_FOLDERS, *others}
    sentences = []
    for name in landing.folders():
        if name in known or name.startswith(("_", ".")):
            continue
        near = difflib.get_close_matches(name.lower(), sorted(known), n=1, cutoff=_NEAR)
        hint = f"did you mean {near[0]}/?" if near else f"tables are {', '.join(DAILY_TABLES)}"
        sentences.append(f"{name}/: nothing reads this folder; {hint}")
    sentences += [
        f"{file.path}: nothing reads a file here; move it into <table>/ds=yyyymmdd/"
        for file in landing.files()
        if not file.name.startswith("_")
    ]
    for table in DAILY_TABLES:
        sentences += landing_folders(landing, table).strays.values()
    sentences += [
        f"{file.path}: nothing reads a file here; move it into population/<task>/"
        for file in landing.files("population")
        if not file.name.startswith("_")
    ]
    return sentences


def day_folder(table: str, day: date) -> str:
    """Path below the landing root at which the product makes a day's folder."""
    return f"{table}/ds={day:%Y%m%d}"


def folder_of(landing: Storage, table: str, day: date) -> str:
    """Path below the landing root of a day's folder: the one that is there, else a new one."""
    other = f"{table}/ds={day}"
    return other if landing.exists(other) else day_folder(table, day)


def _folder_day(name: str) -> date | None:
    for form in _FOLDERS:
        match = form.fullmatch(name)
        if match is None:
            continue
        try:
            return check_day(read_day(match[1]))
        except ValueError:
            return None
    return None


def _folder_rule(name: str) -> str:
    """What is wrong with a folder's name: a day that is none, or another form."""
    for form in _FOLDERS:
        match = form.fullmatch(name)
        if match is not None:
            try:
                check_day(read_day(match[1]))
            except ValueError as error:
                return f"{error}; rename the folder"
    return "a day's folder is named ds=yyyymmdd; rename it"


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
