"""The asset of the interest ranking of a home that has an interest.yml."""

from pathlib import Path
from typing import Any

import dagster as dg

from usergrowth_dagster.affinity.interest import BEHAVIOR, CATEGORIES, COLUMNS, TABLE
from usergrowth_dagster.affinity.interest_file import FILE_NAME, Interest, read_interest
from usergrowth_dagster.defs.metadata import OWNER, data_table, table_schema
from usergrowth_dagster.defs.model_assets import SNAPSHOT_DAYS
from usergrowth_dagster.defs.partitions import day_mapping, partition_days
from usergrowth_dagster.defs.resources import ProjectResource, user_errors
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.tags.item_words import ITEMS as STAGED_ITEMS

INTEREST = "interest"
"""Job that ranks users by interest on an execution date; also the asset's group."""


def interest_assets(
    partitions: dg.PartitionsDefinition[str], home: Path
) -> list[dg.AssetsDefinition]:
    """The asset of a home's interest ranking; none without an interest.yml."""
    path = home / FILE_NAME
    if not path.exists():
        return []
    try:
        keys = read_interest(path)
        days, items = keys.lookback_days, STAGED_ITEMS if keys.words else CATEGORIES
    except UserError:  # the asset says what is wrong
        days, items = int(Interest.model_fields["lookback_days"].default), CATEGORIES
    return [_ranking_asset(partitions, days, items)]


def interest_job() -> Any:
    """The job that writes the ranking of an execution date."""
    return dg.define_asset_job(
        INTEREST,
        selection=dg.AssetSelection.groups(INTEREST),
        description=f"Rank users by their interest in each category, as {FILE_NAME} says.",
    )


def _ranking_asset(
    partitions: dg.PartitionsDefinition[str], lookback_days: int, items: str
) -> dg.AssetsDefinition:
    @dg.asset(
        name=TABLE,
        deps=[
            dg.AssetDep(BEHAVIOR, partition_mapping=day_mapping(-lookback_days, -1)),
            dg.AssetDep(items, partition_mapping=day_mapping(-SNAPSHOT_DAYS, -1)),
        ],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=INTEREST,
        kinds={"duckdb", "deltalake"},
        owners=[OWNER],
        description="The users of each category by interest: recent events, amounts, and tf-idf of "
        f"the category, as {FILE_NAME} says.",
        metadata={"dagster/column_schema": table_schema(COLUMNS)},
    )
    def ranking(
        context: dg.AssetExecutionContext, project: ProjectResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from usergrowth_dagster.affinity.interest import rank_interest

        opened = project.open(context)
        with user_errors():
            done = [rank_interest(opened, day) for day in partition_days(context)]
        rows = [(one.day, one.rows, "unchanged" if one.unchanged else "written") for one in done]
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": sum(one.rows for one in done),
                "by_date": data_table(("date", "rows", "state"), rows),
            }
        )

    return ranking
