"""What a destination does, whatever it is."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from usergrowth_dagster.exports.definition import Export
from usergrowth_dagster.exports.rows import ExportRows
from usergrowth_dagster.exports.runs import ExportRun, RowError
from usergrowth_dagster.project import Project


@dataclass(frozen=True)
class Delivery:
    """What a destination is to take.

    Attributes:
        project: the home.
        export: the export.
        day: the execution date.
        rows: the rows.
        run: the run, in the state ``running``.
        before: the run before it, when that did not end: its traces are left by a crash.
    """

    project: Project
    export: Export
    day: date
    rows: ExportRows
    run: ExportRun
    before: ExportRun | None = None


@dataclass(frozen=True)
class Delivered:
    """What a destination took, beyond what it has recorded as progress already.

    Attributes:
        sent: rows.
        failed: of these, rows that it refused.
        errors: the refused rows, as far as they are known one by one.
        manifest: hash of the manifest; empty without one.
    """

    sent: int
    failed: int = 0
    errors: Sequence[RowError] = ()
    manifest: str = ""


class Destination(Protocol):
    """Where the rows of one export go. Methods raise ``UserError`` in one sentence."""

    shown: str
    """The destination for people, without a secret."""

    resumes: bool
    """Whether a run that was broken off goes on where it stopped; else it begins anew."""

    def check(self, rows: ExportRows | None) -> None:
        """Check that it can be reached, and that it can take the rows, before anything is written.

        Args:
            rows: the rows; None: look at the destination alone.
        """

    def holds(self, run: ExportRun) -> bool:
        """Whether it still has what a run that is done has brought."""

    def finished(self, run: ExportRun) -> Delivered | None:
        """What a run that was broken off had brought, if that was all; else None."""

    def deliver(self, delivery: Delivery) -> Delivered:
        """Take the rows."""

    def remove(self, run: ExportRun) -> bool:
        """Remove the files of a run, of destinations that make files; whether any were there."""


def destination_fingerprint(export: Export) -> str:
    """One hash of where an export goes; no secret is in it."""
    keys = export.to.model_dump(mode="json", exclude_none=True)
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:32]
