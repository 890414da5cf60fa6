"""An uploaded population into the ``population`` table, one partition a date and task."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

from usergrowth_dagster.data.contracts import CONTRACTS, Reading
from usergrowth_dagster.data.forgotten import Forgotten
from usergrowth_dagster.data.landing import FileSet
from usergrowth_dagster.data.loader import PARSED, Loader
from usergrowth_dagster.data.notices import variables_sql
from usergrowth_dagster.data.population import (
    VENDOR_VARIABLES,
    population_files,
    task_folder,
    variable_names,
)
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.landing import (
    MEMORY_SHARE,
    QUARANTINE,
    check_written,
    row_stream,
    write_quarantine,
)
from usergrowth_dagster.warehouse.tables import Warehouse

POPULATION = "population"


@dataclass(frozen=True)
class LandedPopulation:
    """What became of an upload.

    Args:
        rows_in: rows of the files: accepted + quarantined.
        accepted: rows in the population table.
        quarantined: rows in the quarantine table, their digits masked.
        warnings: sentences about what is accepted but may go wrong later.
        version: Delta version of the population table that holds the upload.
        unchanged: the same files had been landed for this date before; nothing was written.
        forgotten: those of the quarantined that were set aside now as rows of forgotten persons.
    """

    rows_in: int
    accepted: int
    quarantined: int
    warnings: tuple[str, ...]
    version: int
    unchanged: bool
    forgotten: int = 0


def quarantine_name(task_id: str) -> str:
    """``table_name`` of a task's rejects: its own, so that tasks of one date keep apart."""
    return f"{POPULATION}.{task_id}"


def land_population(
    settings: Settings,
    landing: Storage,
    warehouse: Warehouse,
    task_id: str,
    execution_date: date,
    *,
    upload: str | None = None,
    forgotten: Forgotten | None = None,
) -> LandedPopulation:
    """Land the upload of a task for an execution date.

    Missing or ill-formed phones and repeated users are accepted: the decision gives each its
    outcome. No phone number is in the quarantine or in an error.

    Args:
        settings: limits of rejects and memory.
        landing: root of the landing files.
        warehouse: where the tables are.
        task_id: the task.
        execution_date: the partition.
        upload: name of the folder below ``population/``; the task's by default.
        forgotten: persons whose rows are set aside, without what is in them.

    Raises:
        UserError: no upload, a wrong header, an unreadable file, or too large a share of rejects;
            an earlier landing stays as it was.
        CountMismatchError: rows in are not accepted + quarantined.
    """
    upload, reading = upload or task_id, Reading.of(settings)
    file_set = population_files(landing, upload, reading)
    warnings = _warnings(landing, upload, file_set, reading)
    version = warehouse.version(POPULATION)
    scope = {"table_name": quarantine_name(task_id)}
    accepted = warehouse.fingerprint(POPULATION, execution_date, {"task_id": task_id})
    rejected = warehouse.fingerprint(QUARANTINE, execution_date, scope)
    if version is not None and accepted == rejected and file_set.matches(accepted):
        return _landed(warehouse, task_id, execution_date, warnings, version)
    fingerprints = {execution_date: file_set.fingerprint}
    with open_engine(settings, MEMORY_SHARE) as engine:
        loader = Loader(engine.connection, landing, CONTRACTS[POPULATION], forgotten, reading)
        loader.load(execution_date, file_set.files)
        counts = loader.finish()[execution_date]
        rejects = loader.rejects_sql(quarantine_name(task_id))
        write_quarantine(warehouse, engine, rejects, scope, fingerprints)
        problem = loader.complaint(
            execution_date, task_folder(upload), counts, settings.max_reject_share
        )
        if problem is not None:
            raise UserError(problem, code="population.invalid")
        commit = warehouse.replace(
            POPULATION,
            row_stream(engine, _rows_sql(task_id, reading)),
            days=fingerprints,
            scope={"task_id": task_id},
            fingerprints=fingerprints,
        )
    check_written(commit, counts.accepted)
    return LandedPopulation(
        counts.rows_in,
        counts.accepted,
        counts.quarantined,
        (*warnings, *loader.notices[execution_date]),
        commit.version,
        False,
        counts.forgotten,
    )


def kept_population(
    landing: Storage,
    warehouse: Warehouse,
    task_id: str,
    execution_date: date,
    *,
    upload: str | None = None,
) -> LandedPopulation | None:
    """The population that a task was decided by, whatever has become of its upload since.

    Arguments are as those of :func:`land_population`.

    Returns:
        What is in the table, with a warning when the upload has changed; None when nothing is.
    """
    standing = standing_population(warehouse, task_id, execution_date)
    fingerprint = warehouse.fingerprint(POPULATION, execution_date, {"task_id": task_id})
    if standing is None or fingerprint is None:
        return None
    warnings: tuple[str, ...] = ()
    try:
        # The contract, and how files are read, may have changed since: the files alone count.
        changed = not population_files(landing, upload or task_id).same_files(fingerprint)
    except UserError:
        changed = True
    if changed:
        warnings = (
            f"{task_folder(upload or task_id)} has changed since the task's send plan was made and "
            "is not taken in again; upload its people into a folder of another name",
        )
    return replace(standing, warnings=warnings)


def standing_population(
    warehouse: Warehouse, task_id: str, execution_date: date
) -> LandedPopulation | None:
    """What the table holds of a task and a date; None when nothing was ever landed."""
    version = warehouse.version(POPULATION)
    scope = {"task_id": task_id}
    if version is None or warehouse.fingerprint(POPULATION, execution_date, scope) is None:
        return None
    return _landed(warehouse, task_id, execution_date, (), version)


def _landed(
    warehouse: Warehouse,
    task_id: str,
    execution_date: date,
    warnings: tuple[str, ...],
    version: int,
) -> LandedPopulation:
    """What is in the table already, by its log alone."""
    rejects = {"table_name": quarantine_name(task_id)}
    good = _rows(warehouse, POPULATION, {"task_id": task_id}, execution_date)
    bad = _rows(warehouse, QUARANTINE, rejects, execution_date)
    return LandedPopulation(good + bad, good, bad, warnings, version, True)


def _rows(warehouse: Warehouse, table: str, scope: Mapping[str, str], day: date) -> int:
    return warehouse.row_counts(table, scope, first=day, last=day).get(day, 0)


def _rows_sql(task_id: str, reading: Reading) -> str:
    contract = CONTRACTS[POPULATION]
    expressions = {"ds": "day", "task_id": literal(task_id), "variables": variables_sql(reading)}
    columns = ", ".join(
        f"cast({expressions.get(name, name)} as {kind}) as {name}"
        for name, kind in contract.raw_types().items()
    )
    # Rejects keep their place, so that a row number can be found in the upload. Places are worked
    # out apart from the rows, since a window holds all that it reads.
    return f"""
        select {columns}
        from {PARSED}
        inner join (
            select file, line, row_number() over (order by file, line) as row from {PARSED}
        ) using (file, line)
        where reject = 0
    """


def _warnings(
    landing: Storage, upload: str, file_set: FileSet, reading: Reading
) -> tuple[str, ...]:
    names = variable_names(landing, file_set, reading.encoding)
    if len(names) <= VENDOR_VARIABLES:
        return ()
    return (
        f"{task_folder(upload)}: {len(names)} variables; more than {VENDOR_VARIABLES} may fail "
        "at the vendor",
    )
