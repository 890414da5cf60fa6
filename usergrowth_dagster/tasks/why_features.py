"""Which features mattered for one row's score, read from what the score was made from."""

from dataclasses import asdict, replace
from typing import Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.tasks.pinned import pinned_project, pinned_task
from usergrowth_dagster.tasks.pins import Pins
from usergrowth_dagster.tasks.project import Project
from usergrowth_dagster.tasks.score import bind_population, bind_scoring_rows
from usergrowth_dagster.tasks.train import training_config
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.models import load_graph

FEATURE_TABLES = ("user_features", "user_item_features")


def what_mattered(
    project: Project, pins: Pins | None, row: int, *, top: int = 6
) -> tuple[list[dict[str, Any]], str]:
    """The features that moved a row's score most, and why there are none, if so.

    Each has ``feature``, ``meaning``, ``value``, ``usual`` and ``odds``, see
    :class:`usergrowth_dagster.learning.contributions.Contribution`.

    Args:
        project: the home.
        pins: what the decision was made from.
        row: the row's place in the upload.
        top: how many at most.
    """
    from usergrowth_dagster.learning.artifacts import load
    from usergrowth_dagster.learning.contributions import contributions
    from usergrowth_dagster.learning.store import versions

    if pins is None or pins.scored is None or "response" not in pins.scored.models:
        return [], "what the score was made from was not written down then"
    storage = project.warehouse.storage
    if not all(storage.exists(path) for path in pins.scored.files):
        return [], "features that the score was made from are gone"
    pin = pins.scored.models["response"]
    refs = [ref for ref in versions(project.settings, pin.name) if ref.version == pin.version]
    if not refs:
        return [], f"{pin.name} version {pin.version} is not in MLflow any more"
    try:
        model = load(replace(refs[0], digest=pin.digest))
    except UserError as error:
        return [], str(error)
    then, task = pinned_project(project, pins, as_scored=True), pinned_task(pins)
    with open_engine(then.settings) as engine:
        bind_population(engine, then, task)
        bind_scoring_rows(engine, then, task, training_config(then, task.spec))
        found = contributions(engine, model, "scoring_rows", row, top=top)
    told = [{**asdict(one), "meaning": meaning_of(one.column, one.key)} for one in found]
    return told, "" if told else "no feature of this user differs from those of the others"


def meaning_of(column: str, key: str | None) -> str:
    """What a feature says, in words."""
    graph = load_graph()
    meanings = {
        one.name: one.description
        for table in FEATURE_TABLES
        for one in graph.columns(table).values()
    }
    told = meanings.get(column, column.replace("_", " "))
    short = told.split(", 1 = ")[0].split("; ")[0]
    return short if key is None else f"{short}: {key}"
