"""The assets of the recommendations of a home that has a recommend.yml."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from usergrowth_dagster.defs.metadata import OWNER, data_table, table_schema
from usergrowth_dagster.defs.model_assets import SNAPSHOT_DAYS
from usergrowth_dagster.defs.partitions import day_mapping, partition_days
from usergrowth_dagster.defs.resources import ProjectResource, user_errors
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.recommend.definition import FILE_NAME, Recommend, read_recommend
from usergrowth_dagster.recommend.landed import BEHAVIOR, ITEMS
from usergrowth_dagster.recommend.nightly import ROUTE_COLUMNS, ROUTES
from usergrowth_dagster.stages import Stage
from usergrowth_dagster.warehouse.recommendations import COLUMNS, TABLE

RECOMMEND = "recommend"
"""Job that recommends items on an execution date."""
STAGE: Stage = "activation"
"""The assets' group: a first item that fits is a reason to stay."""


def recommend_assets(
    partitions: dg.PartitionsDefinition[str], home: Path
) -> list[dg.AssetsDefinition]:
    """The assets of a home's recommendations; none without a recommend.yml."""
    path = home / FILE_NAME
    if not path.exists():
        return []
    try:
        days = read_recommend(path).lookback_days
    except UserError:  # the asset says what is wrong
        days = int(Recommend.model_fields["lookback_days"].default)
    return [_lists_asset(partitions, days)]


def recommend_job() -> Any:
    """The job that writes the recommendations of an execution date."""
    return dg.define_asset_job(
        RECOMMEND,
        selection=dg.AssetSelection.assets(ROUTES, TABLE),
        description=f"Recommend items to every user, as {FILE_NAME} says.",
    )


def _lists_asset(
    partitions: dg.PartitionsDefinition[str], lookback_days: int
) -> dg.AssetsDefinition:
    deps = [
        dg.AssetDep(BEHAVIOR, partition_mapping=day_mapping(-lookback_days, -1)),
        dg.AssetDep(ITEMS, partition_mapping=day_mapping(-SNAPSHOT_DAYS, -1)),
    ]

    def spec(name: str, columns: dict[str, tuple[str, str]], description: str) -> dg.AssetSpec:
        return dg.AssetSpec(
            name,
            deps=deps,
            group_name=STAGE,
            kinds={"lightgbm", "deltalake"},
            owners=[OWNER],
            description=description,
            metadata={"dagster/column_schema": table_schema(columns)},
        )

    @dg.multi_asset(
        name=TABLE,
        specs=[
            spec(ROUTES, ROUTE_COLUMNS, "What each route recalls for an item, a category, or all."),
            spec(TABLE, COLUMNS, f"The first items of every user, as {FILE_NAME} says."),
        ],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def lists(
        context: dg.AssetExecutionContext, project: ProjectResource
    ) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
        from usergrowth_dagster.recommend.nightly import recommend_day

        opened = project.open(context)
        with user_errors():
            done = [recommend_day(opened, day) for day in partition_days(context)]
        rows = [
            (one.day, one.rows, one.order, "unchanged" if one.unchanged else "written")
            for one in done
        ]
        tried = [(one.day, name, ndcg) for one in done for name, ndcg in one.tried.items()]
        yield dg.MaterializeResult(
            asset_key=ROUTES,
            metadata={"dagster/row_count": sum(one.route_rows for one in done)},
        )
        yield dg.MaterializeResult(
            asset_key=TABLE,
            metadata={
                "dagster/row_count": sum(one.rows for one in done),
                "by_date": data_table(("date", "rows", "order", "state"), rows),
                "tried": data_table(("date", "order", "NDCG@10"), tried),
            },
        )

    return lists
