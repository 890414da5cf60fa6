"""Assets of the past experiments of a home: what each came to, as a report."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import dagster as dg

from usergrowth_dagster.defs.metadata import OWNER, data_table, picture
from usergrowth_dagster.defs.resources import ProjectResource, user_errors
from usergrowth_dagster.defs.source_assets import asset_name as source_name
from usergrowth_dagster.sources.definition import Source

if TYPE_CHECKING:
    from usergrowth_dagster.measure.experiment_report import ExperimentReport

BALANCE = "arms_were_alike_before"
"""Check that nothing known of the people before foretells their arm."""

SPLIT = "sample_ratio"
"""Check that the arms are as large as the source's chances make them."""


def asset_name(source: str) -> str:
    """The name of the asset of a past experiment."""
    return f"experiment_{source}"


def experiment_assets(sources: Iterable[Source]) -> list[dg.AssetsDefinition]:
    """One asset for each source that fills ``experiment``."""
    return [_experiment_asset(source) for source in sources if source.is_experiment]


def _experiment_asset(source: Source) -> dg.AssetsDefinition:
    name = asset_name(source.name)

    @dg.asset(
        name=name,
        deps=[source_name(source.name), "stg_operation", "stg_behavior", "user_features"],
        group_name="effects",
        kinds={"duckdb", "deltalake"},
        owners=[OWNER],
        description=f"What the past experiment {source.name} came to, as the report of a campaign "
        "has it, and whether its arms were alike before. Materialize it again when more days of "
        "behavior have landed.",
        check_specs=[
            dg.AssetCheckSpec(
                BALANCE, asset=name, description="No feature as of the day foretells the arm."
            ),
            dg.AssetCheckSpec(
                SPLIT, asset=name, description="The arms are as large as they were drawn."
            ),
        ],
    )
    def measured(
        context: dg.AssetExecutionContext, project: ProjectResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from usergrowth_dagster.measure.experiment import experiment_called
        from usergrowth_dagster.measure.experiment_report import report_experiment

        opened = project.open(context)
        with user_errors():
            made = report_experiment(opened, experiment_called(opened, source.name))
        return dg.MaterializeResult(metadata=_metadata(made), check_results=_checks(made))

    return measured


def _metadata(made: "ExperimentReport") -> dict[str, Any]:
    from usergrowth_dagster.effects.report.charts import lift_picture
    from usergrowth_dagster.effects.report.figures import figure_rows
    from usergrowth_dagster.effects.report.page import concealed

    effect = concealed(made.report.effect)
    metadata: dict[str, Any] = {
        "dagster/row_count": sum(arm.users for arm in effect.arms[:2]),
        "sentence": effect.sentence,
        "figures": data_table(("figure", "value", "interval or remark"), figure_rows(effect)),
        "report": dg.MetadataValue.path(str(made.report.page)),
    }
    if differences := made.measured.balance.differences:
        metadata["balance"] = data_table(
            ("feature before", "treated", "held out", "standardized difference"),
            [[d.feature, d.treated, d.control, d.standardized] for d in differences],
        )
    if (drawn := lift_picture(effect)) is not None:
        metadata["lift"] = picture(drawn.png(), "lift")
    return metadata


def _checks(made: "ExperimentReport") -> list[dg.AssetCheckResult]:
    balance, ratio = made.measured.balance, made.report.effect.sample_ratio
    return [
        dg.AssetCheckResult(
            check_name=BALANCE,
            passed=balance.passed,
            severity=dg.AssetCheckSeverity.ERROR,
            metadata={"sentence": balance.sentence},
        ),
        dg.AssetCheckResult(
            check_name=SPLIT,
            passed=ratio is None or ratio.passed,
            severity=dg.AssetCheckSeverity.ERROR,
            metadata={"sentence": "nobody took part" if ratio is None else ratio.sentence},
        ),
    ]
