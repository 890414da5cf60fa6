"""Assets of the affinity jobs of a home: train, then segments, then files; and their sensor."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from usergrowth_dagster.affinity.landed import (
    job_folders,
    jobs_folder,
    look_at_jobs,
    results_folder,
)
from usergrowth_dagster.defs.metadata import OWNER, data_table, table_schema
from usergrowth_dagster.defs.resources import ProjectResource, user_errors
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.sources.changes import Cursor

if TYPE_CHECKING:
    from usergrowth_dagster.affinity.model import Report

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


def _jobs(settings: Settings, config: JobsConfig) -> Iterator[tuple[str, Path, Path]]:
    """Name, files and results of each job of a run."""
    for folder in job_folders(settings, config.jobs):
        yield folder.name, folder, results_folder(settings, folder.name)


@contextmanager
def _named(job: str) -> Iterator[None]:
    """An error names the job that it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"affinity job {job}: {error}", code=error.code, hint=error.hint) from None


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
        from usergrowth_dagster.affinity.job import FILE_NAME, read_job
        from usergrowth_dagster.affinity.train import train

        settings = project.open(context).settings
        reports: list[tuple[str, Report]] = []
        odd, users = [], 0
        with user_errors():
            for name, folder, output in _jobs(settings, config):
                with _named(name):
                    training = train(folder, read_job(folder / FILE_NAME), output, settings)
                    reports += [(name, report) for report in training.reports]
                    odd += [f"{name}: {sentence}" for sentence in training.odd]
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
        from usergrowth_dagster.affinity.job import FILE_NAME, read_job
        from usergrowth_dagster.affinity.segment import cut_segments

        settings = project.open(context).settings
        rows = []
        with user_errors():
            for name, folder, output in _jobs(settings, config):
                with _named(name):
                    cuts = cut_segments(read_job(folder / FILE_NAME), output, settings)
                    rows += [
                        (name, one.expression, one.scored, one.users, one.least_score)
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
        from usergrowth_dagster.affinity.export import export_segments
        from usergrowth_dagster.affinity.job import FILE_NAME, read_job

        settings = project.open(context).settings
        rows, failures = [], []
        with user_errors():
            for name, folder, output in _jobs(settings, config):
                with _named(name):
                    done = export_segments(folder, read_job(folder / FILE_NAME), output, settings)
                    for sentence in done.odd:
                        context.log.warning(f"{name}: {sentence}")
                    rows += [
                        (
                            *(name, one.expression, one.users, one.without_endpoint),
                            *(one.endpoints, str(output / one.file), one.sha256),
                        )
                        for one in done.files
                    ]
                    failures += _announced(settings, name, output, done.files)
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


def _announced(settings: Settings, name: str, output: Path, files: Any) -> list[str]:
    """Announce the files of a job where a webhook is set; why that failed."""
    from usergrowth_dagster.affinity.announce import announce

    if settings.affinity_webhook is None:
        return []
    try:
        announce(settings.affinity_webhook, name, output, files)
    except UserError as error:
        return [f"affinity job {name}: {error}"]
    return []
