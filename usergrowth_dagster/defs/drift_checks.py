"""What the UI shows of drift: tables, pictures, and the check that warns."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from usergrowth_dagster.defs.metadata import data_table, picture
from usergrowth_dagster.settings import Settings

if TYPE_CHECKING:
    from usergrowth_dagster.learning.drift import Drift

DRIFT_CHECK = "population_is_like_the_training"
SHOWN = 15  # features in a table


def drift_metadata(drifts: "Mapping[str, Drift]", settings: Settings) -> dict[str, Any]:
    """A table and a picture of each task's drift from the training of its model."""
    from usergrowth_dagster.learning.plots import draw_drift

    found: dict[str, Any] = {}
    bounds = settings.drift_notice, settings.drift_warning
    for task, drift in drifts.items():
        rows = [
            (s.feature, f"{s.psi:.3f}", f"{s.chance:.3f}", s.level) for s in drift.every()[:SHOWN]
        ]
        header = ("feature", "index", "chance gives up to", "")
        found[f"drift: {task}"] = data_table(header, rows)
        found[f"drift picture: {task}"] = picture(draw_drift(drift, task, *bounds), "drift")
    return found


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
