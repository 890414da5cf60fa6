"""Assets of the exports of a home: rows that go out to other tools, after decisions or scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from usergrowth_dagster.defs.after_decide import run_after_decide
from usergrowth_dagster.defs.metadata import OWNER, data_table, table_schema
from usergrowth_dagster.defs.partitions import partition_days
from usergrowth_dagster.defs.resources import ProjectResource, user_errors
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.exports.columns import ADDRESSES
from usergrowth_dagster.exports.definition import FILE_NAME, Export, read_exports

if TYPE_CHECKING:
    from usergrowth_dagster.exports.run import Exported

EXPORT = "export"
"""Job that runs every export of a date."""

AFTER_DECIDE = "export_after_decide"
"""Sensor that runs the job when today's date has been decided."""

BROKEN = "exports_yml"
"""Asset that stands for an exports.yml that cannot be read, so that a run says so."""

WHOLE = "all_rows_went_out"
"""Check that compares the rows of the query with those that the destination has had."""

REFUSED = "no_row_was_refused"
"""Check that warns of rows that the destination refused one by one."""


def asset_name(export: str) -> str:
    """The name of the asset of an export."""
    return f"export_{export}"


def exports_of_home(home: Path) -> tuple[tuple[Export, ...], UserError | None]:
    """The exports of a home, none without an exports.yml; and why the file cannot be read."""
    path = home / FILE_NAME
    try:
        return (read_exports(path) if path.exists() else ()), None
    except UserError as error:
        return (), error


def export_assets(
    partitions: dg.PartitionsDefinition[str], home: Path
) -> list[dg.AssetsDefinition]:
    """The assets of a home's exports."""
    exports, error = exports_of_home(home)
    if error is not None:
        return [_broken_asset(partitions, home)]
    return [_export_asset(export, partitions) for export in exports]


def export_job(exports: Sequence[Export]) -> Any:
    """The job that runs every export of an execution date."""
    return dg.define_asset_job(
        EXPORT,
        selection=dg.AssetSelection.assets(*(asset_name(export.name) for export in exports)),
        description="Bring audiences and scores to other tools; unchanged rows are not sent again.",
    )


def export_after_decide(decide: Any, export: Any, home: str) -> dg.SensorDefinition:
    """Run every export of today's date when it has been decided; off until it is turned on."""

    return run_after_decide(
        AFTER_DECIDE,
        decide,
        export,
        home,
        "Bring the audiences and scores of today to other tools when it has been decided. Older "
        "dates go out only when somebody asks for them.",
    )


def _table_of(export: Export) -> str:
    """The asset that the rows of an export come from."""
    return "scores" if export.scores is not None else "decisions"


def _system(export: Export) -> str:
    """What the rows become, as the UI knows it."""
    return export.to.kind if export.to.kind != "files" else export.format


def _schema(export: Export) -> dg.TableSchema:
    known = export.known_columns
    return table_schema({outside: known[column] for outside, column in export.by_name.items()})


def _lineage(export: Export) -> dg.TableColumnLineage:
    """Each column's source: the table of the rows, or the upload that has the address."""
    return dg.TableColumnLineage(
        deps_by_column={
            outside: [
                dg.TableColumnDep(
                    asset_key=dg.AssetKey(
                        ["population" if column in ADDRESSES else _table_of(export)]
                    ),
                    column_name="variables" if column == "email" else column,
                )
            ]
            for outside, column in export.by_name.items()
        }
    )


def _export_asset(export: Export, partitions: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    name = asset_name(export.name)

    @dg.asset(
        name=name,
        deps=[_table_of(export), *(["population"] if export.addresses else [])],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="exports",
        kinds={_system(export)},
        owners=[OWNER],
        description=f"The {export.what} on the execution date, as {FILE_NAME} says, to "
        f"{export.to.kind}. Rows that the destination holds already are not sent again.",
        metadata={"dagster/column_schema": _schema(export)},
        check_specs=[
            dg.AssetCheckSpec(
                WHOLE, asset=name, description="The destination has had each row of the query."
            ),
            dg.AssetCheckSpec(REFUSED, asset=name, description="It refused none of them."),
        ],
    )
    def exported(
        context: dg.AssetExecutionContext, project: ProjectResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from usergrowth_dagster.control.audit import whoami
        from usergrowth_dagster.exports.run import run_export

        opened = project.open(context)
        done = []
        with user_errors():
            for day in partition_days(context):
                done.append(run_export(opened, export, day, actor=whoami()))
                context.log.info(done[-1].sentence)
        return dg.MaterializeResult(metadata=_metadata(export, done), check_results=_checks(done))

    return exported


def _metadata(export: Export, done: "Sequence[Exported]") -> dict[str, Any]:
    header = ("date", "state", "rows", "refused", "place", "SHA-256 of the manifest")
    rows = [[e.execution_date, e.state, e.rows, e.failed, e.place, e.manifest] for e in done]
    newest = done[-1]
    metadata: dict[str, Any] = {
        "dagster/row_count": sum(one.rows for one in done),
        "dagster/column_lineage": _lineage(export),
        "destination": newest.destination,
        "by_date": data_table(header, rows),
        "rows_refused": sum(one.failed for one in done),
        "rows_left_out": sum(sum(one.left_out.values()) for one in done),
        "sentence": newest.sentence,
    }
    if newest.place:
        manifest = f"{newest.destination}/{newest.place}/manifest.json"
        metadata["manifest"] = dg.MetadataValue.path(manifest)
        metadata["manifest_sha256"] = newest.manifest
    if waiting := [task for one in done for task in one.waiting]:
        metadata["not_ready"] = ", ".join(waiting)
    return metadata


def _checks(done: "Sequence[Exported]") -> list[dg.AssetCheckResult]:
    rows, sent = sum(one.rows for one in done), sum(one.sent for one in done)
    refused = sum(one.failed for one in done)
    return [
        dg.AssetCheckResult(
            check_name=WHOLE, passed=rows == sent, metadata={"rows": rows, "sent": sent}
        ),
        dg.AssetCheckResult(
            check_name=REFUSED,
            passed=not refused,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"refused": refused},
        ),
    ]


def _broken_asset(partitions: dg.PartitionsDefinition[str], home: Path) -> dg.AssetsDefinition:
    @dg.asset(
        name=BROKEN,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="exports",
        owners=[OWNER],
        description=f"{FILE_NAME} cannot be read; nothing goes out until it can.",
    )
    def unreadable() -> None:
        with user_errors():
            read_exports(home / FILE_NAME)
            raise UserError(
                f"{FILE_NAME} has been corrected; reload the code location", code="export.invalid"
            )

    return unreadable
