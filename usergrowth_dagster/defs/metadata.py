"""What the UI shows of a table: schema, lineage, rows, versions, pictures, and its drift."""

import base64
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.build import Build
from usergrowth_dagster.warehouse.lineage import kept_lineage
from usergrowth_dagster.warehouse.models import ModelGraph

if TYPE_CHECKING:
    from usergrowth_dagster.learning.drift import Drift

OWNER = "team:growth"

DRIFT_CHECK = "population_is_like_the_training"
_FEATURES_SHOWN = 15  # features in a table


def table_schema(columns: Mapping[str, tuple[str, str]]) -> dg.TableSchema:
    """Dagster's schema of columns given as name → (type, meaning)."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name=name, type=kind, description=meaning)
            for name, (kind, meaning) in columns.items()
        ]
    )


def model_schema(graph: ModelGraph, model: str) -> dg.TableSchema:
    """Dagster's schema of a SQL model."""
    columns = graph.columns(model).values()
    return table_schema({one.name: (one.data_type, one.description) for one in columns})


def lineage_metadata(graph: ModelGraph, model: str, home: Path) -> dg.TableColumnLineage:
    """Dagster's column lineage of a SQL model, kept in the home."""
    return dg.TableColumnLineage(
        deps_by_column={
            column: [
                dg.TableColumnDep(asset_key=dg.AssetKey([table]), column_name=name)
                for table, name in sorted(sources)
            ]
            for column, sources in kept_lineage(graph, model, home / "lineage").items()
        }
    )


def build_metadata(graph: ModelGraph, build: Build, home: Path) -> dict[str, Any]:
    """Metadata of one build of a SQL model."""
    metadata: dict[str, Any] = {
        "dagster/row_count": build.rows_in_all,
        "rows_written": build.rows,
        "dagster/column_lineage": lineage_metadata(graph, build.model, home),
        "dagster/code_version": build.code_version,
        "days_built": len(build.built),
        "days_unchanged": len(build.unchanged),
        "input_versions": dg.MetadataValue.json(build.inputs),
    }
    if build.version is not None:
        metadata["delta_version"] = build.version
    return metadata


def picture(png: bytes, title: str) -> dg.MarkdownMetadataValue:
    """A picture inside the page."""
    data = base64.b64encode(png).decode()
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{data})")


def data_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> dg.TableMetadataValue:
    """A small table, which the UI shows as one and the command line prints."""
    lines = [dg.TableRecord(dict(zip(header, map(_cell, row), strict=True))) for row in rows]
    columns = [dg.TableColumn(name=name) for name in header]
    return dg.MetadataValue.table(lines, dg.TableSchema(columns=columns))


def _cell(value: Any) -> str | int | float | bool | None:
    return value if value is None or isinstance(value, str | int | float) else str(value)


def day_list(days: Sequence[date]) -> str:
    """Some days in few words."""
    if len(days) <= 3:
        return ", ".join(day.isoformat() for day in days)
    return f"{days[0]}, {days[1]} … {days[-1]} ({len(days)} days)"


def drift_metadata(drifts: "Mapping[str, Drift]", settings: Settings) -> dict[str, Any]:
    """A table and a picture of each task's drift from the training of its model."""
    from usergrowth_dagster.learning.plots import draw_drift

    metadata: dict[str, Any] = {}
    bounds = settings.drift_notice, settings.drift_warning
    for task, drift in drifts.items():
        rows = [
            (s.feature, f"{s.psi:.3f}", f"{s.chance:.3f}", s.level)
            for s in drift.every()[:_FEATURES_SHOWN]
        ]
        header = ("feature", "index", "chance gives up to", "")
        metadata[f"drift: {task}"] = data_table(header, rows)
        metadata[f"drift picture: {task}"] = picture(draw_drift(drift, task, *bounds), "drift")
    return metadata


def drift_check(drifts: "Mapping[str, Drift]") -> dg.AssetCheckResult:
    """Warns when a population is so unlike the training that its scores may mislead."""
    warnings = [f"{task}: {drift.sentence()}" for task, drift in drifts.items() if drift.warns]
    compared = f"{len(drifts)} populations compared" if drifts else "nothing was scored anew"
    return dg.AssetCheckResult(
        check_name=DRIFT_CHECK,
        passed=not warnings,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(warnings) or compared,
        metadata={"sentence": "; ".join(warnings) or compared},
    )
