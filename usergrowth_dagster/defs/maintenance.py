"""Maintenance by Dagster: files of the tables that nothing needs go once a week."""

import dagster as dg

from usergrowth_dagster.defs.resources import ProjectResource, user_errors
from usergrowth_dagster.settings import Settings

MAINTAIN = "maintain"
MAINTAIN_AT = "0 3 * * 0"


def maintenance_job() -> dg.JobDefinition:
    """A job that does what `usergrowth maintain` does."""

    @dg.op(
        name="maintain_tables",
        description="Removes files of earlier versions that neither a table nor a replay needs, "
        "and writes checkpoints of the tables' logs.",
        out=dg.Out(dg.Nothing),
    )
    def tables(context: dg.OpExecutionContext, project: ProjectResource) -> None:
        from usergrowth_dagster.pipeline.maintenance import maintain

        with user_errors():
            done = maintain(project.open())
        records = [
            dg.TableRecord(
                {
                    "table": one.table,
                    "version": one.version,
                    "files": one.files,
                    "removed": one.removed,
                    "freed_mb": round(one.freed_bytes / 1e6, 1),
                    "kept_for_replays": one.for_replays,
                }
            )
            for one in done
        ]
        removed = sum(one.removed for one in done)
        freed = sum(one.freed_bytes for one in done) / 1e6
        context.log.info(f"{removed:,} files removed, {freed:,.1f} MB freed")
        context.log_event(
            dg.AssetObservation(
                asset_key="table_maintenance",
                metadata={
                    "files_removed": removed,
                    "freed_mb": freed,
                    "tables": dg.MetadataValue.table(records),
                },
            )
        )

    @dg.job(name=MAINTAIN, description="Remove files of the tables that nothing needs.")
    def job() -> None:
        tables()

    return job


def maintenance_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """Every Sunday night."""
    return dg.ScheduleDefinition(
        name="weekly_maintenance",
        job_name=MAINTAIN,
        cron_schedule=MAINTAIN_AT,
        execution_timezone=settings.timezone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Remove files of the tables that nothing needs, every Sunday.",
    )
