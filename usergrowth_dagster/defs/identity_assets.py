"""Assets of a home with identity.yml: landed ids of users, and the persons that they make."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from usergrowth_dagster.data.contracts import CONTRACTS, IDENTITY
from usergrowth_dagster.defs.jobs import IDENTITY as JOB
from usergrowth_dagster.defs.landing_assets import raw_asset
from usergrowth_dagster.defs.metadata import OWNER, data_table, table_schema
from usergrowth_dagster.defs.partitions import day_mapping, partition_days
from usergrowth_dagster.defs.resources import ProjectResource, user_errors
from usergrowth_dagster.identity.definition import FILE_NAME
from usergrowth_dagster.identity.tables import ONE_ID, ONE_ID_COLUMNS, REASONS

if TYPE_CHECKING:
    from usergrowth_dagster.identity.run import Identified

LOOKBACK_DAYS = 3650
"""Landed days before an execution date that its persons come from, as the UI shows them."""

ALL_LINKS = "all_links_taken_in"
"""Check that warns of dates that do not know links which landed late."""

NO_CONFLICTS = "no_refused_links"
"""Check that warns of links that would join two values of a unique type."""


def has_identity(home: Path) -> bool:
    """Whether a home has an identity.yml."""
    return (home / FILE_NAME).exists()


def identity_assets(
    partitions: dg.PartitionsDefinition[str], home: Path, sources: Sequence[str] = ()
) -> list[dg.AssetsDefinition]:
    """The assets of a home with an identity.yml; none without it.

    Args:
        partitions: the days.
        home: the home.
        sources: assets of the sources that fill the landing table.
    """
    if not has_identity(home):
        return []
    return [raw_asset(IDENTITY, partitions, sources), _one_id_asset(partitions)]


def identity_job() -> Any:
    """The job that makes the persons of an execution date."""
    return dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(ONE_ID),
        description="Make persons of all ids that landed before an execution date.",
    )


def _one_id_asset(partitions: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    raw = CONTRACTS[IDENTITY].raw_table

    @dg.asset(
        name=ONE_ID,
        deps=[dg.AssetDep(raw, partition_mapping=day_mapping(-LOOKBACK_DAYS, -1))],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=JOB,
        kinds={"deltalake", "duckdb"},
        owners=[OWNER],
        description="Persons: the one_id of every id that landed before the execution date, by the "
        f"types of {FILE_NAME}. Changes are in the table one_id_history, links that join nobody in "
        "identity_conflicts. No table but the landed one holds an address.",
        metadata={"dagster/column_schema": table_schema(ONE_ID_COLUMNS)},
        check_specs=[
            dg.AssetCheckSpec(
                ALL_LINKS,
                asset=ONE_ID,
                description="No date was left as it is because a later one is made already.",
            ),
            dg.AssetCheckSpec(
                NO_CONFLICTS,
                asset=ONE_ID,
                description="No link would join two values of a unique type.",
            ),
        ],
    )
    def one_id(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from usergrowth_dagster.identity.run import identify_or_keep

        opened = project.open(context)
        made = []
        with user_errors():
            for day in partition_days(context):
                made.append(identify_or_keep(opened, day))
                context.log.info(made[-1].sentence)
        refused = made[-1].refused
        kept = [one.sentence for one in made if one.state in ("kept", "left_out")]
        return dg.MaterializeResult(
            metadata=_metadata(made),
            check_results=[
                dg.AssetCheckResult(
                    check_name=ALL_LINKS,
                    passed=not kept,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={"sentence": "; ".join(kept)} if kept else {},
                ),
                dg.AssetCheckResult(
                    check_name=NO_CONFLICTS,
                    passed=refused == 0,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={"links_refused": refused},
                ),
            ],
        )

    return one_id


def _metadata(made: "Sequence[Identified]") -> dict[str, Any]:
    """Figures of the newest date, and of each date in a table."""
    header = ("date", "state", "ids", "links", "persons", "created", "merged", "split", "gone")
    rows = [
        [m.execution_date, m.state, m.ids, m.links, m.persons, m.created, m.merged, m.split, m.gone]
        for m in made
    ]
    newest = made[-1]
    metadata: dict[str, Any] = {
        "dagster/row_count": sum(one.ids - one.hubs for one in made),
        "nodes": newest.ids,
        "links": newest.links,
        "people": newest.persons,
        "created": newest.created,
        "merges": newest.merged,
        "splits": newest.split,
        "gone": newest.gone,
        "conflicts": newest.refused,
        "hubs": newest.hubs,
        "by_date": data_table(header, rows[-50:]),
        "sentence": newest.sentence,
    }
    if newest.sizes:
        metadata["sizes"] = data_table(("users", "persons"), list(newest.sizes.items()))
    if newest.left_out:
        metadata["rows_left_out"] = data_table(
            ("reason", "rows", "meaning"),
            [(reason, n, REASONS[reason]) for reason, n in newest.left_out.items()],
        )
    return metadata
