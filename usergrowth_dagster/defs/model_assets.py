"""Assets of the SQL models: one a table, with its yml's tests as checks."""

import dagster as dg

from usergrowth_dagster.defs.metadata import OWNER, build_metadata, day_list, model_schema
from usergrowth_dagster.defs.partitions import day_mapping, partition_days
from usergrowth_dagster.defs.resources import ProjectResource, user_errors
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.build import Builder
from usergrowth_dagster.warehouse.models import ModelGraph, Snapshot, Window, offset_days
from usergrowth_dagster.warehouse.quality import model_tests

SNAPSHOT_DAYS = 400
"""How far back the UI draws the dependency on a table of which only the newest day counts."""


def _deps(graph: ModelGraph, model: str, settings: Settings) -> list[dg.AssetDep]:
    deps = []
    for table, wanted in graph.table_inputs(model).items():
        offsets = [0] if not wanted else []
        for days in wanted:
            if isinstance(days, Snapshot):
                offsets += [-SNAPSHOT_DAYS, days.newest]
            elif isinstance(days, Window):
                offsets += [offset_days(d, settings) for d in (days.first, days.last)]
        first, last = min(offsets), max(offsets)
        # An asset cannot depend on days after its own; labels look ahead all the same.
        mapping = day_mapping(first, min(last, 0)) if (first, last) != (0, 0) else None
        deps.append(dg.AssetDep(table, partition_mapping=mapping))
    return deps


def model_asset(
    graph: ModelGraph, model: str, partitions: dg.PartitionsDefinition[str], settings: Settings
) -> dg.AssetsDefinition:
    """The asset of one SQL model."""
    facts = graph.models[model]
    tests = model_tests(graph, model)

    @dg.asset(
        name=model,
        deps=_deps(graph, model, settings),
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=facts.folder,
        kinds={"duckdb", "sql", "deltalake"},
        owners=[OWNER],
        description=f"{facts.description}\n\n```sql\n{facts.sql}\n```",
        metadata={"dagster/column_schema": model_schema(graph, model)},
        code_version=graph.code_version(model),
        check_specs=[
            dg.AssetCheckSpec(test.name, asset=model, blocking=test.blocking) for test in tests
        ],
    )
    def built(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        opened = project.open(context)
        builder = Builder(opened.settings, opened.warehouse, graph)
        days = partition_days(context)
        with user_errors():
            result = builder.build(model, days, progress=opened.progress)
        if result.immature and not (result.built or result.unchanged):
            raise dg.Failure(
                f"{model} of {day_list(result.immature)} is not complete yet: the days it looks "
                "ahead at have not landed; run it again later",
                allow_retries=False,
            )
        metadata = build_metadata(graph, result, opened.settings.home)
        if result.immature:
            metadata["days_not_complete_yet"] = day_list(result.immature)
        results = {test.name: test for test in result.tests}
        return dg.MaterializeResult(
            metadata=metadata,
            check_results=[
                dg.AssetCheckResult(
                    check_name=test.name,
                    passed=test.name not in results or results[test.name].passed,
                    severity=(
                        dg.AssetCheckSeverity.ERROR if test.blocking else dg.AssetCheckSeverity.WARN
                    ),
                    metadata={
                        "failing_rows": results[test.name].failing if test.name in results else 0
                    },
                )
                for test in tests
            ],
        )

    return built


def model_assets(
    graph: ModelGraph, partitions: dg.PartitionsDefinition[str], settings: Settings
) -> list[dg.AssetsDefinition]:
    """The assets of all models that are tables."""
    return [model_asset(graph, model, partitions, settings) for model in graph.tables]
