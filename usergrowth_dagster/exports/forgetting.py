"""A person out of what exports have brought: files are written anew, and other places are named.

Files are read, so a version of long ago is found too. What went to a table, a webhook or an SFTP
server cannot be taken back from here; which runs that concerns is known from the decisions and the
scores as they stand, so they are looked at before the tables are erased.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from usergrowth_dagster.audience.records import TABLE as DECISIONS
from usergrowth_dagster.control import schema
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.exports.columns import ADDRESSES
from usergrowth_dagster.exports.definition import FILE_NAME, Export, read_exports
from usergrowth_dagster.exports.destinations.base import destination_fingerprint
from usergrowth_dagster.exports.destinations.files import FilesDestination
from usergrowth_dagster.exports.formats import Form, looks_like_a_formula
from usergrowth_dagster.exports.manifest import Manifest
from usergrowth_dagster.exports.runs import ExportRun, change_run, runs_of
from usergrowth_dagster.pipeline.score import SCORES
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import open_engine

if TYPE_CHECKING:
    import pyarrow as pa

_ERASED = re.compile(r"-e[0-9]+$")


@dataclass(frozen=True)
class Exportee:
    """The people that exported rows are compared with.

    Attributes:
        user_id: the user.
        given: addresses that are the person's, whoever stands beside them.
        found: addresses found beside the user; they count in files that have no user.
    """

    user_id: str = field(repr=False)
    given: frozenset[str] = field(default=frozenset(), repr=False)
    found: frozenset[str] = field(default=frozenset(), repr=False)


@dataclass
class ErasedExports:
    """What was erased: rows of files, refused rows on record, and what a person has to do yet."""

    rows: int = 0
    errors: int = 0
    failures: list[str] = field(default_factory=list)


def erase_from_exports(
    project: Project, person: Exportee, tombstone: str, *, dry_run: bool = False
) -> ErasedExports:
    """Erase a person from exported files and from the record of refused rows.

    To be called while the tables still have the person.

    Args:
        project: the home.
        person: the person.
        tombstone: what stands for the user from now on.
        dry_run: count only.
    """
    erased = ErasedExports(errors=_erase_errors(project, person.user_id, tombstone, dry_run))
    runs = [run for run in runs_of(project.store) if run.state != "expired"]
    if not runs:
        return erased
    exports, failure = _exports_by_destination(project)
    if failure:
        erased.failures.append(failure)
    decided = _tasks_with(project, person.user_id)
    elsewhere: dict[tuple[str, str], list[date]] = {}
    for run in runs:
        export = exports.get((run.export, run.destination))
        if export is not None and export.to.files is not None:
            erased.rows += _erase_from_run(project, export, run, person, erased, dry_run)
        elif any((run.execution_date, task) in decided for task in run.tasks) and run.sent:
            elsewhere.setdefault((run.export, run.shown), []).append(run.execution_date)
    for (name, shown), days in elsewhere.items():
        listed = ", ".join(map(str, sorted(set(days))))
        erased.failures.append(
            f"export {name}: the person may be among the rows of {listed} that went to {shown}, "
            "which cannot be reached from here; have them deleted there"
        )
    return erased


def _exports_by_destination(project: Project) -> tuple[dict[tuple[str, str], Export], str]:
    """The exports by name and destination; and why exports.yml cannot be read."""
    path = project.settings.home / FILE_NAME
    try:
        exports = read_exports(path) if path.exists() else ()
    except UserError as error:
        return {}, f"{error}; correct it and run the same command again"
    return {(one.name, destination_fingerprint(one)): one for one in exports}, ""


def _erase_errors(project: Project, user_id: str, tombstone: str, dry_run: bool) -> int:
    """Rows of the record of refusals that named the user."""
    from sqlalchemy import func, select

    table = schema.export_error
    mine = table.c.user_id == user_id
    with project.store.write() as connection:
        if project.store.is_sqlite:  # zeros over what is changed
            connection.exec_driver_sql("pragma secure_delete = on")
        count = connection.scalar(select(func.count()).select_from(table).where(mine)) or 0
        if count and not dry_run:
            connection.execute(table.update().where(mine).values(user_id=tombstone))
    return int(count)


def _tasks_with(project: Project, user_id: str) -> set[tuple[date, str]]:
    """Execution dates and tasks that decided or scored a user, as the tables stand."""
    kinds = {"ds": "DATE", "task_id": "VARCHAR", "user_id": "VARCHAR"}
    tasks: set[tuple[date, str]] = set()
    with open_engine(project.settings) as engine:
        for table in (DECISIONS, SCORES):
            files = [f for names in project.warehouse.files(table).values() for f in names]
            engine.bind_files(table, files, kinds)
            sql = f"select distinct ds, task_id from {table} where user_id = ?"
            tasks |= set(engine.rows(sql, [user_id]))
    return tasks


def _erase_from_run(
    project: Project,
    export: Export,
    run: ExportRun,
    person: Exportee,
    erased: ErasedExports,
    dry_run: bool,
) -> int:
    """Rows of the person in the files of a run."""
    if not run.place:
        return 0
    destination = FilesDestination(export, project.settings.home)
    try:
        with project.alone(f"export.{export.name}"):
            done = _erase_from_version(destination, run, person, dry_run)
    except UserError as error:
        erased.failures.append(f"{error}; correct it and run the same command again")
        return 0
    if done is None:
        return 0
    folder, manifest, rows = done
    if rows and not dry_run:
        change_run(
            project.store,
            run.id,
            place=folder,
            manifest=manifest.sha256,
            rows=manifest.rows,
            sent=manifest.rows,
        )
        destination.replace_version(run.place, folder, manifest)
    return rows


def _erase_from_version(
    destination: FilesDestination, run: ExportRun, person: Exportee, dry_run: bool
) -> tuple[str, Manifest, int] | None:
    """Write a version again without the person, beside it.

    Returns:
        The new folder, its manifest and the rows of the person; None when there is no version.
    """
    manifest = destination.manifest(run.place)
    if manifest is None:
        if not dry_run:  # what a crash has left holds people too
            destination.remove(run)
        return None
    base = _ERASED.sub("", run.place)
    if not dry_run:
        for other in destination.folders_beside(run.place):
            if other != run.place and _ERASED.sub("", other) == base:
                destination.replace_version(other, run.place, manifest)  # a killed erasure's
    matches = _Matches(manifest, person)
    rows = sum(
        matches.count(batch)
        for file in manifest.files
        for batch in destination.batches(run.place, manifest, file.name)
    )
    if not rows or dry_run:
        return run.place, manifest, rows
    folder = f"{base}-e{manifest.erased + rows}"
    form = Form("csv" if manifest.format == "csv" else "parquet")
    return folder, destination.copy_version(run.place, folder, manifest, form, matches.others), rows


class _Matches:
    """Finds the rows of a person by the columns that a manifest names.

    Args:
        manifest: of the version.
        person: the person.
    """

    def __init__(self, manifest: Manifest, person: Exportee) -> None:
        self._users = [one.name for one in manifest.schema if one.column == "user_id"]
        self._addresses = [one.name for one in manifest.schema if one.column in ADDRESSES]
        known = person.given if self._users else person.given | person.found
        self._known = _spellings([address.lower() for address in known], manifest)
        self._user_ids = _spellings([person.user_id], manifest)

    def _mine(self, batch: "pa.RecordBatch") -> "pa.Array":
        import pyarrow as pa
        import pyarrow.compute as pc

        mine = pa.array([False] * batch.num_rows, pa.bool_())
        for name in self._users:
            mine = pc.or_(mine, pc.is_in(batch.column(name), pa.array(self._user_ids, pa.string())))
        for name in self._addresses:
            cells = pc.utf8_lower(pc.utf8_trim_whitespace(batch.column(name)))
            mine = pc.or_(mine, pc.is_in(cells, pa.array(self._known, pa.string())))
        return mine

    def count(self, batch: "pa.RecordBatch") -> int:
        """Rows of the person."""
        return int(self._mine(batch).true_count)

    def others(self, batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        """The rows of all others."""
        import pyarrow.compute as pc

        for batch in batches:
            yield batch.filter(pc.invert(self._mine(batch)))


def _spellings(texts: Sequence[str], manifest: Manifest) -> list[str]:
    """Texts as the files may have them: with the apostrophe before a formula too.

    Files of an earlier release have fewer apostrophes, so the text itself stands beside it.
    """
    if not manifest.for_spreadsheets:
        return list(texts)
    return [*texts, *(f"'{text}" for text in texts if looks_like_a_formula(text))]
