"""Assets of the affinity jobs of a home: train, then segments, then files; and their sensor."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg
from pydantic import Field

from usergrowth_dagster.affinity.landed import job_folders, jobs_folder, look_at_jobs
from usergrowth_dagster.defs.metadata import OWNER, data_table, table_schema
from usergrowth_dagster.defs.resources import ProjectResource, user_errors
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.sources.changes import Cursor

if TYPE_CHECKING:
    from usergrowth_dagster.affinity.model import Report
    from usergrowth_dagster.affinity.run import AffinityJob

Made = TypeVar("Made")

AFFINITY = "affinity"
"""Job that runs affinity jobs from their files to the announcement; also the assets' group."""

SENSOR = "affinity_files_landed"
SCORES, SEGMENTS, FILES = "affinity_scores", "affinity_segments", "affinity_files"

LEARNED = "the_model_beats_both_naive_orders"
"""Check that warns of an expression for which a naive order scores."""

ANNOUNCED = "the_webhook_took_the_announcement"

_ROWS = {
    "segment": ("INTEGER", "place of the expression in the job, from 0"),
    "rank": ("INTEGER", "place of the user, from 1"),
    "user_id": ("VARCHAR", "the user"),
    "score": ("DOUBLE", "chance of such an interaction in the period after the last one"),
}


class JobsConfig(dg.Config):
    """Which jobs are run."""

    jobs: list[str] = Field(default=[])
    """Names of folders below ``affinity/`` of the landing files; none: all of them."""


def affinity_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The assets of a home's affinity jobs; none without a folder ``<landing>/affinity``."""
    if jobs_folder(settings) is None:
        return []
    return [_scores_asset(), _segments_asset(), _files_asset()]


def affinity_job() -> Any:
    """The job that trains, cuts and exports."""
    return dg.define_asset_job(
        AFFINITY,
        selection=dg.AssetSelection.groups(AFFINITY),
        description="Score users for items with an attribute, cut segments, and write the files "
        "of their endpoints.",
    )


def affinity_sensor(job: Any) -> dg.SensorDefinition:
    """New or changed files of a job start it, once an operator turns this on."""

    @dg.sensor(
        name=SENSOR,
        job=job,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Runs each job of affinity/<job>/ below the landing files whose training or "
        "job files are new or changed and were the same on two looks.",
    )
    def landed(context: dg.SensorEvaluationContext, project: ProjectResource) -> dg.SensorResult:
        look = look_at_jobs(project.open().settings, Cursor.load(context.cursor))
        requests = [
            dg.RunRequest(
                run_key=f"affinity:{name}:{fingerprint}",
                run_config=run_config([name]),
                tags={"usergrowth/affinity_job": name},
            )
            for name, fingerprint in look.changed.items()
        ]
        skip = None if requests else dg.SkipReason("; ".join(look.notes) or "no new file")
        return dg.SensorResult(run_requests=requests, skip_reason=skip, cursor=look.cursor.dump())

    return landed


def run_config(jobs: list[str]) -> dict[str, Any]:
    """The run config of the job for some affinity jobs."""
    return {"ops": {name: {"config": {"jobs": jobs}} for name in (SCORES, SEGMENTS, FILES)}}


def _each_job(
    settings: Settings, config: JobsConfig, step: "Callable[[AffinityJob], Made]"
) -> "Iterator[tuple[AffinityJob, Made]]":
    """Each job of a run, and what a step makes of it; an error names the job."""
    from usergrowth_dagster.affinity.run import open_job

    for folder in job_folders(settings, config.jobs):
        try:
            job = open_job(folder, settings)
            made = step(job)
        except UserError as error:
            sentence = f"affinity job {folder.name}: {error}"
            raise UserError(sentence, code=error.code, hint=error.hint) from None
        yield job, made


def _scores_asset() -> dg.AssetsDefinition:
    @dg.asset(
        name=SCORES,
        group_name=AFFINITY,
        owners=[OWNER],
        metadata={"dagster/column_schema": table_schema(_ROWS)},
        description="Every user's score for each expression of the affinity jobs, and how "
        "good the scores are beside recent share and popularity in a later period.",
        kinds={"scikitlearn", "parquet"},
        check_specs=[dg.AssetCheckSpec(LEARNED, asset=SCORES)],
    )
    def scored(
        context: dg.AssetExecutionContext, config: JobsConfig, project: ProjectResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from usergrowth_dagster.affinity.run import train_job

        settings = project.open(context).settings
        reports: list[tuple[str, Report]] = []
        odd, users = [], 0
        with user_errors():
            for job, training in _each_job(settings, config, train_job):
                reports += [(job.name, report) for report in training.reports]
                odd += [f"{job.name}: {sentence}" for sentence in training.odd]
                users += training.users
        for sentence in odd:
            context.log.warning(sentence)
        return _scored(reports, odd, users)

    return scored


def _scored(
    reports: "list[tuple[str, Report]]", odd: list[str], users: int
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    header = ("job", "expression", "order", "scores", "precision", "recall", "AUC")
    rows = [
        (
            *(name, r.expression, f.order, f.order == r.shipped),
            *(f.precision.shown, f.recall.shown, f.auc.shown),
        )
        for name, r in reports
        for f in r.figures
    ]
    sentences = [f"{name}: {r.expression}: {r.sentence}" for name, r in reports]
    return dg.MaterializeResult(
        metadata={
            "users": users,
            "sentence": "; ".join(sentences),
            "rows_not_taken": "; ".join(odd) or "none",
            **({"figures": data_table(header, rows)} if rows else {}),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=LEARNED,
                passed=all(report.shipped == "model" for _, report in reports),
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"sentence": "; ".join(sentences)},
            )
        ],
    )


def _segments_asset() -> dg.AssetsDefinition:
    @dg.asset(
        name=SEGMENTS,
        group_name=AFFINITY,
        owners=[OWNER],
        metadata={"dagster/column_schema": table_schema(_ROWS)},
        description="The users of each segment of the affinity jobs: the first by score, as the "
        "jobs say.",
        deps=[SCORES],
        kinds={"duckdb", "parquet"},
    )
    def cut(
        context: dg.AssetExecutionContext, config: JobsConfig, project: ProjectResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from usergrowth_dagster.affinity.run import segment_job

        settings = project.open(context).settings
        rows = []
        with user_errors():
            for job, cuts in _each_job(settings, config, segment_job):
                rows += [
                    (job.name, one.expression, one.scored, one.users, one.least_score)
                    for one in cuts
                ]
        header = ("job", "expression", "scored", "users", "least score")
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": sum(row[3] for row in rows),
                "segments": data_table(header, rows),
            }
        )

    return cut


def _files_asset() -> dg.AssetsDefinition:
    @dg.asset(
        name=FILES,
        group_name=AFFINITY,
        owners=[OWNER],
        description="Files of endpoint ids that Amazon Pinpoint imports, one a segment under a "
        "name of its own, announced to the setting affinity_webhook.",
        deps=[SEGMENTS],
        kinds={"csv"},
        metadata={"dagster/column_schema": table_schema({"Id": ("VARCHAR", "the endpoint")})},
        check_specs=[dg.AssetCheckSpec(ANNOUNCED, asset=FILES)],
    )
    def exported(
        context: dg.AssetExecutionContext, config: JobsConfig, project: ProjectResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from usergrowth_dagster.affinity.run import export_job

        settings = project.open(context).settings
        rows, failures = [], []
        with user_errors():
            for job, done in _each_job(
                settings, config, lambda job: export_job(job, settings.affinity_webhook)
            ):
                for sentence in done.export.odd:
                    context.log.warning(f"{job.name}: {sentence}")
                rows += [
                    (
                        *(job.name, one.expression, one.users, one.without_endpoint),
                        *(one.endpoints, str(job.output / one.file), one.sha256),
                    )
                    for one in done.export.files
                ]
                if done.failure:
                    failures.append(f"affinity job {job.name}: {done.failure}")
        header = ("job", "expression", "users", "no endpoint", "endpoints", "file", "SHA-256")
        said = "announced" if settings.affinity_webhook else "no affinity_webhook is set"
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": sum(row[4] for row in rows),
                "files": data_table(header, rows),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name=ANNOUNCED,
                    passed=not failures,
                    metadata={"sentence": "; ".join(failures) or said},
                )
            ],
        )

    return exported
