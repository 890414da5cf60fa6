"""Assets of the sources of a home: rows from where they live, as landing files of their days."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from usergrowth_dagster.data.contracts import CONTRACTS
from usergrowth_dagster.defs.landing_assets import contract_schema
from usergrowth_dagster.defs.metadata import OWNER, day_list
from usergrowth_dagster.defs.partitions import partition_days
from usergrowth_dagster.defs.resources import ProjectResource, user_errors
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.intake.forgotten import forgotten_people
from usergrowth_dagster.sources.databases.pull import Pull
from usergrowth_dagster.sources.definition import FILE_NAME, Source, read_sources
from usergrowth_dagster.sources.land import SourceLanding, land_source

BROKEN = "sources_yml"
"""Asset that stands for a sources.yml that cannot be read, so that a run says so."""

NOTES = "all_rows_land"
"""Check that warns of rows, days and files of a source that do not land."""


LAND = "land_sources"
"""Job that lands sources and nothing after them."""


def asset_name(source: str) -> str:
    """The name of the asset of a source."""
    return f"source_{source}"


def land_job(sources: Sequence[Source]) -> Any:
    """The job that lands the sources of a home."""
    return dg.define_asset_job(
        LAND,
        selection=dg.AssetSelection.assets(*(asset_name(source.name) for source in sources)),
        description="Land sources; the job ingest takes their days from there.",
    )


def sources_of_home(home: Path) -> tuple[tuple[Source, ...], UserError | None]:
    """The sources of a home, none without a sources.yml; and why the file cannot be read."""
    path = home / FILE_NAME
    try:
        return (read_sources(path) if path.exists() else ()), None
    except UserError as error:
        return (), error


def source_assets(
    partitions: dg.PartitionsDefinition[str], home: Path
) -> tuple[list[dg.AssetsDefinition], dict[str, list[str]]]:
    """The assets of a home's sources, and the names of those that each landing table waits for."""
    sources, error = sources_of_home(home)
    if error is not None:
        return [_broken_asset(partitions, home)], {table: [BROKEN] for table in CONTRACTS}
    upstream: dict[str, list[str]] = {}
    for source in sources:
        upstream.setdefault(source.lands_in, []).append(asset_name(source.name))
    return [_source_asset(source, partitions) for source in sources], upstream


def _system(source: Source) -> str:
    """What holds the rows of a source, as the UI knows it."""
    if source.database is not None:
        return source.database.dialect
    return source.table.kind if source.table else "duckdb"


def _source_asset(source: Source, partitions: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    check = dg.AssetCheckSpec(
        NOTES,
        asset=asset_name(source.name),
        description="No rows without a day, no texts where numbers belong, no days that wait.",
    )

    @dg.asset(
        name=asset_name(source.name),
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="landing",
        kinds={_system(source), "parquet"},
        owners=[OWNER],
        description=f"Landing files {source.lands_in}/ds=yyyymmdd/source-{source.name}.parquet, "
        f"made from {source.rows_from} as {FILE_NAME} says. A day is written when it is over and "
        "a file with rows of it is new or changed.",
        metadata={"dagster/column_schema": contract_schema(source.contract)},
        check_specs=[check],
    )
    def landed(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        opened = project.open(context)
        with user_errors():
            landing = land_source(
                *(opened.settings, opened.landing, opened.state, source, opened.settings.home),
                days=frozenset(partition_days(context)),
                forgotten=forgotten_people(opened),
            )
        notes = landing.notes()
        return dg.MaterializeResult(
            metadata=_metadata(landing),
            check_results=[
                dg.AssetCheckResult(
                    check_name=NOTES,
                    passed=not notes,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={"sentence": "; ".join(notes)} if notes else {},
                )
            ],
        )

    return landed


def _metadata(landing: SourceLanding) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "dagster/row_count": landing.rows_in_all,
        "rows_written": landing.rows,
        "files": landing.files,
        "days_landed": len(landing.landed),
        "days_unchanged": landing.unchanged,
        "days_waiting": len(landing.waiting),
        "late_rows": sum(landing.late.values()),
        "rows_left_out": landing.duplicates,
        "rows_of_forgotten": landing.forgotten,
        "rows_without_day": landing.without_day,
        "records_unreadable": landing.unreadable,
        "records_empty": landing.empty,
    }
    if landing.newest is not None:
        metadata["newest_day"] = landing.newest.isoformat()
    if landing.pull is not None:
        metadata |= _pull_metadata(landing.pull)
    if landing.version:
        metadata["table_version"] = landing.version
    if landing.landed:
        metadata["landed"] = day_list(list(landing.landed))
    return metadata


def _pull_metadata(pull: Pull) -> dict[str, Any]:
    return {
        "rows_pulled": pull.rows_read,
        "rows_new": pull.rows_new,
        "rows_replaced": pull.rows_replaced,
        "rows_held": pull.rows_held,
        "cursor": pull.cursor or "none: all rows are read",
        "pulled_at": dg.MetadataValue.timestamp(pull.at),
    }


def _broken_asset(partitions: dg.PartitionsDefinition[str], home: Path) -> dg.AssetsDefinition:
    @dg.asset(
        name=BROKEN,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="landing",
        owners=[OWNER],
        description=f"{FILE_NAME} cannot be read; nothing lands until it can.",
    )
    def unreadable() -> None:
        with user_errors():
            read_sources(home / FILE_NAME)
            raise UserError(
                f"{FILE_NAME} has been corrected; reload the code location", code="source.invalid"
            )

    return unreadable
