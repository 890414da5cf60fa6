"""Which features mattered for one row's score, read from what the score was made from."""

from dataclasses import asdict, replace
from typing import Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.problems import problems
from usergrowth_dagster.learning.targets import target_called
from usergrowth_dagster.pipeline.provenance import (
    Provenance,
    recorded_project,
    recorded_task,
)
from usergrowth_dagster.pipeline.score import RESPONSE, bind_population, bind_scoring_rows
from usergrowth_dagster.project import Project
from usergrowth_dagster.training.train import training_config
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.models import load_graph

FEATURE_TABLES = ("user_features", "user_item_features")


def what_mattered(
    project: Project, provenance: Provenance | None, row: int, *, top: int = 6
) -> tuple[list[dict[str, Any]], str]:
    """The features that moved a row's score most, and why there are none, if so.

    Each has ``feature``, ``meaning``, ``value``, ``usual`` and ``odds``, see
    :class:`usergrowth_dagster.learning.contributions.Contribution`.

    Args:
        project: the home.
        provenance: the provenance of the decision; None where it was not kept.
        row: the row's place in the upload.
        top: how many at most.
    """
    from usergrowth_dagster.learning.artifacts import load
    from usergrowth_dagster.learning.contributions import contributions
    from usergrowth_dagster.learning.store import versions

    if provenance is None or provenance.scored is None or RESPONSE not in provenance.scored.models:
        return [], "what the score was made from was not written down then"
    storage = project.warehouse.storage
    if not all(storage.exists(path) for path in provenance.scored.files):
        return [], "features that the score was made from are gone"
    scored_by = provenance.scored.models[RESPONSE]
    problem = problems().get(scored_by.name)
    if problem is not None and not target_called(problem.target).contributes:
        return [], "the score is an amount, which is no sum of parts of the features"
    every = versions(project.settings, scored_by.name)
    ref = next((one for one in every if one.version == scored_by.version), None)
    if ref is None:
        return [], f"{scored_by.name} version {scored_by.version} is not in MLflow any more"
    try:
        model = load(replace(ref, digest=scored_by.digest))
    except UserError as error:
        return [], str(error)
    then, task = recorded_project(project, provenance, as_scored=True), recorded_task(provenance)
    with open_engine(then.settings) as engine:
        population = bind_population(engine, then, task)
        rows = bind_scoring_rows(engine, then, task, population, training_config(then, task.spec))
        parts = contributions(engine, model, str(rows.response), row, top=top)
    features = [{**asdict(one), "meaning": meaning_of(one.column, one.key)} for one in parts]
    return features, "" if features else "no feature of this user differs from those of the others"


def meaning_of(column: str, key: str | None) -> str:
    """What a feature says, in words."""
    graph = load_graph()
    meanings = {
        one.name: one.description
        for table in FEATURE_TABLES
        for one in graph.columns(table).values()
    }
    meaning = meanings.get(column, column.replace("_", " "))
    short = meaning.split(", 1 = ")[0].split("; ")[0]
    return short if key is None else f"{short}: {key}"
