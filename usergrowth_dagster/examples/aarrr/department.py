"""Who buys from a category of items: an affinity job, written from the home's tables."""

import json
from pathlib import Path

from usergrowth_dagster.affinity.figures import OrderFigures
from usergrowth_dagster.affinity.files import INTERACTIONS, ITEMS
from usergrowth_dagster.affinity.job import FILE_NAME, read_job
from usergrowth_dagster.affinity.model import MODEL, NAIVE
from usergrowth_dagster.affinity.train import train
from usergrowth_dagster.examples.aarrr.category import Category, bind_landed
from usergrowth_dagster.examples.aarrr.table import Figure, Line
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.warehouse.engine import open_engine

_CHOSEN = 200
"""Users of the segment."""


def department_line(project: Project, category: Category, data: str) -> Line:
    """Train an affinity job for the items of a category, and give its line.

    Args:
        project: the home; the job's files go below its folder ``demo/affinity``.
        category: the items, and what has landed before the date.
        data: what the home holds.

    Raises:
        UserError: nobody has bought from it.
    """
    folder = project.settings.home / "demo" / "affinity" / "category"
    write_job(project, folder, category)
    report = train(folder, read_job(folder / FILE_NAME), folder / "results", project.settings)
    (result,) = report.reports
    question = f"affinity, {result.period_days:.0f} days: who buys from {category.value}"
    if not result.figures:
        return Line("revenue", question, data, note=result.sentence)
    by_order = {figures.order: figures for figures in result.figures}
    naive = max((by_order[name] for name in NAIVE), key=lambda one: one.average_precision.value)
    note = (
        "" if result.shipped == MODEL else f"{result.shipped} scores, as no model surely beats it"
    )
    return Line(
        "revenue",
        question,
        data,
        "average precision",
        _figure(by_order[result.shipped]),
        _figure(naive),
        note,
    )


def _figure(figures: OrderFigures) -> Figure:
    precision = figures.average_precision
    return Figure(figures.order, precision.value, precision.low, precision.high)


def write_job(project: Project, folder: Path, category: Category) -> None:
    """Write the files of the job: what landed before the date, and the items of the newest day."""
    folder.mkdir(parents=True, exist_ok=True)
    with open_engine(project.settings) as engine:
        taken, items = bind_landed(engine, project, category)
        interactions = (
            'select user_id as "USER_ID", item_id as "ITEM_ID", epoch(ds)::bigint as "TIMESTAMP" '
            f"from {taken} where behavior = {literal(category.behavior)} and item_id is not null"
        )
        attributes = (
            f"select item_id as \"ITEM_ID\", coalesce({category.values_sql}, '') as category "
            f"from {items}"
        )
        for name, query in ((INTERACTIONS, interactions), (ITEMS, attributes)):
            engine.run(f"copy ({query} order by all) to {literal(str(folder / name))} (header)")
    job = {"itemAttributes": f'ITEMS.category = "{category.value}"', "numResults": _CHOSEN}
    (folder / FILE_NAME).write_text(json.dumps(job, indent=2) + "\n", encoding="utf-8")
