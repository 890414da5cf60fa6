"""Maintenance of all tables of a home; see :mod:`usergrowth_dagster.warehouse.maintenance`."""

from datetime import timedelta

from usergrowth_dagster.data.file_cache import cache_of
from usergrowth_dagster.pipeline.provenance import recorded_files
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.maintenance import Maintained, maintain_table


def maintain(
    project: Project, keep_days: int | None = None, *, dry_run: bool = False
) -> list[Maintained]:
    """Write checkpoints, and remove data files that neither a table nor a replay needs.

    Args:
        project: the home.
        keep_days: for so long files of earlier versions stay; by default as the settings say.
        dry_run: only count.
    """
    warehouse, days = project.warehouse, keep_days or project.settings.keep_days
    needed, tables = recorded_files(warehouse), warehouse.tables()
    done = []
    for number, table in enumerate(tables):
        project.progress("maintain tables", number, len(tables))
        done.append(
            maintain_table(
                warehouse,
                table,
                needed=needed,
                kept_for=timedelta(days=days),
                cache=cache_of(project.settings),
                dry_run=dry_run,
            )
        )
    project.progress("maintain tables", len(tables), len(tables))
    return done
