"""Assets of the tags of a home: RFM groups, AIPL stages, and the wide table of tags."""

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from usergrowth_dagster.defs.metadata import OWNER, data_table, picture, table_schema
from usergrowth_dagster.defs.model_assets import SNAPSHOT_DAYS
from usergrowth_dagster.defs.partitions import day_mapping, partition_days
from usergrowth_dagster.defs.resources import ProjectResource, user_errors
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.tags.definition import (
    DUCKDB_TYPES,
    FILE_NAME,
    Aipl,
    Catalogue,
    Rfm,
    Tag,
    read_catalogue,
)
from usergrowth_dagster.tags.text_keys import ItemTexts

if TYPE_CHECKING:
    from usergrowth_dagster.project import Project
    from usergrowth_dagster.tags.inputs import Written

TAGS = "tags"
"""Job that works out tags, RFM and AIPL of an execution date; also the group of the assets."""

BROKEN = "tags_yml"
"""Asset that stands for a tags.yml that cannot be read, so that a run says so."""

COVERED = "every_tag_has_values"
"""Check that warns of tags that no user has."""

FRESH = "no_tag_is_stale"
"""Check that warns of tags whose values are older than their fresh_days."""


def catalogue_of_home(home: Path) -> tuple[Catalogue | None, UserError | None]:
    """The catalogue of a home, None without a tags.yml; and why the file cannot be read."""
    path = home / FILE_NAME
    try:
        return (read_catalogue(path) if path.exists() else None), None
    except UserError as error:
        return None, error


def tag_assets(
    partitions: dg.PartitionsDefinition[str],
    settings: Settings,
    catalogue: Catalogue | None,
    unreadable: UserError | None,
) -> list[dg.AssetsDefinition]:
    """The assets of a home's tags; none without a tags.yml."""
    if unreadable is not None:
        return [_broken_asset(partitions, settings.home)]
    if catalogue is None:
        return []
    assets = []
    if catalogue.rfm is not None:
        assets.append(_rfm_asset(partitions, catalogue.rfm))
    if catalogue.aipl is not None:
        assets.append(_aipl_asset(partitions, catalogue.aipl))
    if catalogue.texts is not None:
        assets.append(_words_asset(partitions, catalogue.texts))
    if catalogue.tags:
        assets.append(_tags_asset(partitions, catalogue))
    return assets


def tag_job() -> Any:
    """The job that works out all tags of an execution date, with the features they are about."""
    return dg.define_asset_job(
        TAGS,
        selection=dg.AssetSelection.assets("user_features") | dg.AssetSelection.groups(TAGS),
        description=f"Work out what {FILE_NAME} says of everyone on an execution date.",
    )


def _rfm_asset(partitions: dg.PartitionsDefinition[str], keys: Rfm) -> dg.AssetsDefinition:
    from usergrowth_dagster.tags.rfm import COLUMNS, TABLE, write_rfm

    facts = dg.AssetDep("user_day", partition_mapping=day_mapping(-keys.window_days, -1))
    return _grouped_asset(
        partitions,
        TABLE,
        COLUMNS,
        ["user_features", facts],
        "How recently, how often and for how much each user bought before the date, as scores, "
        "and the group that follows from which of them are high.",
        lambda project, day: write_rfm(project, keys, day),
    )


def _aipl_asset(partitions: dg.PartitionsDefinition[str], keys: Aipl) -> dg.AssetsDefinition:
    from usergrowth_dagster.tags.aipl import COLUMNS, TABLE, write_aipl

    longest = max(rule.within_days for rules in keys.stages.values() for rule in rules)
    return _grouped_asset(
        partitions,
        TABLE,
        COLUMNS,
        [dg.AssetDep("user_day", partition_mapping=day_mapping(-longest, -1))],
        "The stage that each user has reached by the date: awareness, interest, purchase, loyal.",
        lambda project, day: write_aipl(project, keys, day),
    )


def _grouped_asset(
    partitions: dg.PartitionsDefinition[str],
    table: str,
    columns: dict[str, tuple[str, str]],
    deps: Sequence[Any],
    description: str,
    write: "Callable[[Project, date], Written]",
) -> dg.AssetsDefinition:
    @dg.asset(
        name=table,
        deps=deps,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=TAGS,
        kinds={"duckdb", "deltalake"},
        owners=[OWNER],
        description=description,
        metadata={"dagster/column_schema": table_schema(columns)},
    )
    def grouped(
        context: dg.AssetExecutionContext, project: ProjectResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        opened = project.open(context)
        with user_errors():
            written = [write(opened, day) for day in partition_days(context)]
            return dg.MaterializeResult(
                metadata=_table_metadata(written) | _group_metadata(opened, written[-1])
            )

    return grouped


def _words_asset(partitions: dg.PartitionsDefinition[str], texts: ItemTexts) -> dg.AssetsDefinition:
    from usergrowth_dagster.tags.item_words import COLUMNS, ITEMS, TABLE

    @dg.asset(
        name=TABLE,
        deps=[dg.AssetDep(ITEMS, partition_mapping=day_mapping(-SNAPSHOT_DAYS, -1))],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=TAGS,
        kinds={"duckdb", "deltalake", "scikitlearn"},
        owners=[OWNER],
        description="The words of the texts of the items that the date sees, weighed by tf-idf.",
        metadata={"dagster/column_schema": table_schema(COLUMNS)},
    )
    def item_words(
        context: dg.AssetExecutionContext, project: ProjectResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from usergrowth_dagster.tags.item_words import write_item_words
        from usergrowth_dagster.views.tags import view_words

        opened = project.open(context)
        with user_errors():
            made = [write_item_words(opened, texts, day) for day in partition_days(context)]
            newest = made[-1].written
            shown = view_words(opened, newest.day + timedelta(days=1)).words if newest.rows else ()
        lines = [(one.word, one.items, round(one.weight, 4)) for one in shown]
        return dg.MaterializeResult(
            metadata=_table_metadata([one.written for one in made])
            | {
                "snapshot": newest.day.isoformat(),
                "most frequent words": data_table(("word", "items", "mean weight"), lines),
                "notices": made[-1].notice or "none",
            }
        )

    return item_words


def _table_metadata(written: "Sequence[Written]") -> dict[str, Any]:
    return {
        "dagster/row_count": sum(one.rows for one in written),
        "delta_version": written[-1].version,
        "days_built": sum(not one.unchanged for one in written),
        "days_unchanged": sum(one.unchanged for one in written),
    }


def _group_metadata(project: "Project", written: "Written") -> dict[str, Any]:
    """Users by group of the newest date, the rule, and the flow from the date before."""
    from usergrowth_dagster.tags.flows import written_days
    from usergrowth_dagster.tags.pictures import draw_flow
    from usergrowth_dagster.views.tags import view_flow, view_groups

    view = view_groups(project, written.table, written.day)
    header = ("group", "name", "name zh", "users", "share")
    lines = [(g.code, g.name, g.name_zh, g.users, round(g.share, 4)) for g in view.groups]
    metadata: dict[str, Any] = {"groups": data_table(header, lines), "rule": "\n".join(view.rules)}
    if written_days(project, written.table)[0] < written.day:
        flow = view_flow(project, written.table, last=written.day)
        metadata["flow"] = data_table(flow.header, flow.rows)
        metadata["flow picture"] = picture(draw_flow(flow), "flow")
    return metadata


def _tags_asset(
    partitions: dg.PartitionsDefinition[str], catalogue: Catalogue
) -> dg.AssetsDefinition:
    from usergrowth_dagster.tags.freshness import TABLE

    tags = catalogue.tags
    days = max((tag.statistic.days for tag in tags if tag.statistic), default=0)
    facts = [dg.AssetDep("user_day", partition_mapping=day_mapping(-days, -1))] if days else []
    scores = ["scores"] if any(tag.score for tag in tags) else []
    words = _words_deps(tags)
    columns = {"ds": ("DATE", "execution date"), "user_id": ("VARCHAR", "the user")}
    for tag in tags:
        meaning = tag.description or tag.name or tag.source
        columns[tag.key] = (DUCKDB_TYPES[tag.type] if tag.type else "", meaning)

    @dg.asset(
        name=TABLE,
        deps=["user_features", *facts, *scores, *words],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=TAGS,
        kinds={"duckdb", "deltalake"},
        owners=[OWNER],
        description=f"Every tag of {FILE_NAME}, a column each, of everyone known on the date.",
        metadata={"dagster/column_schema": table_schema(columns)},
        check_specs=[
            dg.AssetCheckSpec(COVERED, asset=TABLE, description="Each tag has users."),
            dg.AssetCheckSpec(FRESH, asset=TABLE, description="Each tag is as new as it must be."),
        ],
    )
    def user_tags(
        context: dg.AssetExecutionContext, project: ProjectResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from usergrowth_dagster.tags.item_words import write_item_words
        from usergrowth_dagster.tags.user_tags import write_user_tags

        opened = project.open(context)
        with user_errors():
            made = []
            for day in partition_days(context):
                if words and catalogue.texts is not None:  # a job may select this asset alone
                    write_item_words(opened, catalogue.texts, day)
                made.append(write_user_tags(opened, tags, day))
            return _tags_result(opened, [one.written for one in made], made[-1].notices)

    return user_tags


def _words_deps(tags: Sequence[Tag]) -> list[Any]:
    """What tags of words are made from."""
    days = max((tag.words.days for tag in tags if tag.words), default=0)
    if not days:
        return []
    behavior = dg.AssetDep("stg_behavior", partition_mapping=day_mapping(-days, -1))
    return [behavior, "item_words"]


def _tags_result(
    project: "Project", written: "Sequence[Written]", notices: Sequence[str]
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from usergrowth_dagster.views.tags import view_catalogue

    view = view_catalogue(project, written[-1].day)
    header = ("tag", "name", "type", "users", "share", "values", "as of", "stale")
    lines = [
        (t.key, t.name, t.type, t.users, round(t.share or 0.0, 4), t.top, t.as_of, bool(t.stale))
        for t in view.tags
    ]
    empty = [tag.key for tag in view.tags if not tag.users]
    stale = [tag.stale for tag in view.tags if tag.stale]
    metadata = _table_metadata(written) | {
        "catalogue": data_table(header, lines),
        "notices": "\n".join(notices) or "none",
    }
    return dg.MaterializeResult(
        metadata=metadata,
        check_results=[
            dg.AssetCheckResult(
                check_name=COVERED,
                passed=not empty,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"sentence": f"without a value: {', '.join(empty) or 'none'}"},
            ),
            dg.AssetCheckResult(
                check_name=FRESH,
                passed=not stale,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"sentence": "; ".join(stale) or "no tag is stale"},
            ),
        ],
    )


def _broken_asset(partitions: dg.PartitionsDefinition[str], home: Path) -> dg.AssetsDefinition:
    @dg.asset(
        name=BROKEN,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=TAGS,
        owners=[OWNER],
        description=f"{FILE_NAME} cannot be read; no tags are worked out until it can.",
    )
    def unreadable() -> None:
        with user_errors():
            read_catalogue(home / FILE_NAME)
            raise UserError(
                f"{FILE_NAME} has been corrected; reload the code location", code="tag.invalid"
            )

    return unreadable
