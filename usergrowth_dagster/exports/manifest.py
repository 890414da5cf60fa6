"""``manifest.json`` beside exported files: what they are, and when they expire.

It is written last, so whoever sees a manifest sees all files that it names.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from usergrowth_dagster.documents import document
from usergrowth_dagster.exports.definition import Export
from usergrowth_dagster.exports.rows import ExportRows

NAME = "manifest.json"
VERSION = 1


@dataclass(frozen=True)
class WrittenFile:
    """One file: its name beside the manifest, rows, bytes and SHA-256."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ManifestColumn:
    """One column: its name in the files, the home's name for it, DuckDB type and meaning."""

    name: str
    column: str
    type: str
    meaning: str


@dataclass(frozen=True)
class Manifest:
    """What one version of an export holds; no value of a row stands in it.

    Attributes:
        version: of this format.
        export: name of the export.
        what: what goes out, in words.
        execution_date: the date of the rows.
        tasks: ids of the tasks that they come from.
        table_versions: Delta version of each table that was read.
        input: fingerprint of the rows and their form.
        made_at: when the files were written (UTC).
        expires_at: when they may be removed; None: never.
        rows: rows of all files.
        left_out: rows that stayed at home, by reason.
        format: parquet or csv.
        for_spreadsheets: whether texts that look like formulas have an apostrophe before them.
        files: the files.
        schema: their columns.
        erased: rows of people who were forgotten since.
    """

    version: int
    export: str
    what: str
    execution_date: date
    tasks: tuple[str, ...]
    table_versions: Mapping[str, int]
    input: str
    made_at: datetime
    expires_at: datetime | None
    rows: int
    left_out: Mapping[str, int]
    format: str
    for_spreadsheets: bool
    files: tuple[WrittenFile, ...]
    schema: tuple[ManifestColumn, ...]
    erased: int = 0

    def content(self) -> bytes:
        """The file's bytes."""
        return (document(self) + "\n").encode()

    @property
    def sha256(self) -> str:
        """Hash of the file."""
        return hashlib.sha256(self.content()).hexdigest()

    def with_files(self, files: tuple[WrittenFile, ...], *, erased: int = 0) -> "Manifest":
        """The manifest of these files instead."""
        return replace(
            self,
            files=files,
            rows=sum(file.rows for file in files),
            erased=self.erased + erased,
        )


def expiry_of(export: Export, made_at: datetime) -> datetime | None:
    """When files of an export may be removed; None: never."""
    if export.expires_after_days is None:
        return None
    return made_at + timedelta(days=export.expires_after_days)


def manifest_of(
    export: Export, rows: ExportRows, day: date, fingerprint: str, made_at: datetime
) -> Manifest:
    """The manifest of rows of which no file is written yet."""
    return Manifest(
        version=VERSION,
        export=export.name,
        what=export.what,
        execution_date=day,
        tasks=rows.tasks,
        table_versions=rows.versions,
        input=fingerprint,
        made_at=made_at,
        expires_at=expiry_of(export, made_at),
        rows=0,
        left_out=rows.left_out,
        format=export.format,
        for_spreadsheets=export.for_spreadsheets,
        files=(),
        schema=tuple(ManifestColumn(c.name, c.column, c.kind, c.meaning) for c in rows.columns),
    )


def read_manifest(content: bytes) -> Manifest:
    """A manifest from its file.

    Raises:
        ValueError: it is none of this version.
    """
    try:
        known: dict[str, Any] = json.loads(content)
        if known["version"] != VERSION:
            raise ValueError(f"version {known['version']} is not known")
        expires = known["expires_at"]
        known |= {
            "execution_date": date.fromisoformat(known["execution_date"]),
            "made_at": datetime.fromisoformat(known["made_at"]),
            "expires_at": None if expires is None else datetime.fromisoformat(expires),
            "tasks": tuple(known["tasks"]),
            "files": tuple(WrittenFile(**file) for file in known["files"]),
            "schema": tuple(ManifestColumn(**column) for column in known["schema"]),
        }
        return Manifest(**known)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no manifest of an export: {error}") from None
