"""Assets of the landed tables: files of a day through their contract into a raw table.

Before the day's operation files land, what our own campaigns sent on it is written beside them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from usergrowth_dagster.data.contracts import CONTRACTS, LANDING_TABLES, Contract
from usergrowth_dagster.defs.metadata import OWNER, data_table, day_list, table_schema
from usergrowth_dagster.defs.partitions import partition_days
from usergrowth_dagster.defs.resources import ProjectResource, user_errors
from usergrowth_dagster.errors import listed
from usergrowth_dagster.intake.clicks import land_clicks
from usergrowth_dagster.intake.forgotten import forgotten_people
from usergrowth_dagster.intake.touches import export_touches
from usergrowth_dagster.warehouse.landing import LandedDay, land_days

FORMATS = {"csv", "parquet", "deltalake"}
OWN_TOUCHES = "own_touches"
NOTICES = "no_notices"
"""Check that warns of what was taken though it is not as it should be."""


def contract_schema(contract: Contract) -> dg.TableSchema:
    """Dagster's schema of a landed table."""
    meanings = contract.descriptions()
    return table_schema({n: (t, meanings.get(n, "")) for n, t in contract.raw_types().items()})


def _metadata(landed: list[LandedDay]) -> dict[str, Any]:
    new = [entry for entry in landed if entry.status == "landed"]
    versions = [entry.version for entry in landed if entry.version is not None]
    metadata: dict[str, Any] = {
        "dagster/row_count": sum(entry.accepted + entry.kept for entry in landed),
        "rows_written": sum(entry.accepted for entry in new),
        "rows_in": sum(entry.rows_in for entry in new),
        "rows_quarantined": sum(entry.quarantined for entry in new),
        "files": sum(entry.files for entry in new),
        "days_landed": len(new),
        "days_unchanged": sum(entry.status == "unchanged" for entry in landed),
        "lines_that_are_no_rows": sum(entry.no_rows for entry in new),
    }
    if versions:
        metadata["delta_version"] = max(versions)
    missing = [entry.day for entry in landed if entry.status == "missing"]
    if missing:
        metadata["days_without_files"] = day_list(missing)
    forgotten = sum(entry.forgotten for entry in new)
    if forgotten:
        metadata["rows_of_forgotten_persons"] = forgotten
    rejects = [entry for entry in new if entry.quarantined > entry.forgotten]
    if rejects:
        metadata["rejects_by_day"] = data_table(
            ("day", "rows in", "accepted", "quarantined"),
            [(e.day, e.rows_in, e.accepted, e.quarantined) for e in rejects[-50:]],
        )
    return metadata


def notice_check(notices: Sequence[str]) -> dg.AssetCheckResult:
    """The check that warns of what was taken though it is not as it should be."""
    more = "run fewer days at once to see them"
    return dg.AssetCheckResult(
        check_name=NOTICES,
        passed=not notices,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"sentence": listed(notices, more)} if notices else {},
    )


def raw_asset(
    table: str, partitions: dg.PartitionsDefinition[str], sources: Sequence[str] = ()
) -> dg.AssetsDefinition:
    """The asset of one landing table; it waits for those of the sources that fill it."""
    contract = CONTRACTS[table]
    check = dg.AssetCheckSpec(
        "no_rejects",
        asset=contract.raw_table,
        description="Rows that break the contract are set aside in the table quarantine.",
    )
    notices = dg.AssetCheckSpec(
        NOTICES,
        asset=contract.raw_table,
        description="No words such as NULL as values, no unread columns, no file twice, no footer.",
    )

    @dg.asset(
        name=contract.raw_table,
        deps=[*([OWN_TOUCHES] if table == "operation" else []), *sources],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="landing",
        kinds=FORMATS,
        owners=[OWNER],
        description=f"{contract.meaning[0].upper()}{contract.meaning[1:]}, as landed in "
        f"{table}/ds=yyyymmdd. Rows that break the contract go to the table quarantine.",
        metadata={"dagster/column_schema": contract_schema(contract)},
        code_version=contract.version,
        check_specs=[check, notices],
    )
    def landed(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        opened = project.open(context)
        with user_errors():
            if table == "behavior":  # of our own texts; writes nothing where there are none
                land_clicks(opened, partition_days(context))
            days = land_days(
                opened.settings,
                opened.landing,
                opened.warehouse,
                table,
                partition_days(context),
                forgotten=forgotten_people(opened),
                progress=opened.progress,
            )
        rejects = sum(day.quarantined - day.forgotten for day in days)
        return dg.MaterializeResult(
            metadata=_metadata(days),
            check_results=[
                dg.AssetCheckResult(
                    check_name="no_rejects",
                    passed=rejects == 0,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={"rows_quarantined": rejects},
                ),
                notice_check([notice for day in days for notice in day.notices]),
            ],
        )

    return landed


def own_touches_asset(partitions: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    """The asset of the landing files that say what our own campaigns sent."""

    @dg.asset(
        name=OWN_TOUCHES,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="landing",
        kinds={"csv"},
        owners=[OWNER],
        description="Landing files operation/ds=yyyymmdd/usergrowth-touches.csv: messages of our "
        "own campaigns that the provider accepted, and, with the target holdout, the people whom "
        "the same decisions drew not to be texted. Off with the setting export_touches.",
        metadata={"dagster/column_schema": contract_schema(CONTRACTS["operation"])},
    )
    def own_touches(
        context: dg.AssetExecutionContext, project: ProjectResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        opened = project.open(context)
        with user_errors():
            days = export_touches(opened, partition_days(context))
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": sum(day.touches + day.held_out for day in days),
                "touches": sum(day.touches for day in days),
                "held_out": sum(day.held_out for day in days),
                "files_written": sum(day.state == "written" for day in days),
                "files_unchanged": sum(day.state == "unchanged" for day in days),
                "exported": opened.settings.export_touches,
            }
        )

    return own_touches


def landing_assets(
    partitions: dg.PartitionsDefinition[str], sources: Mapping[str, Sequence[str]]
) -> list[dg.AssetsDefinition]:
    """The assets of all landing tables.

    Args:
        partitions: the days.
        sources: by landing table, the assets of the sources that fill it.
    """
    return [
        own_touches_asset(partitions),
        *(raw_asset(table, partitions, sources.get(table, ())) for table in LANDING_TABLES),
    ]
