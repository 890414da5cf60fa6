"""Step 2 of a task: score its population with features and a model from before the date."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.pipeline.provenance import ScoreProvenance, score_provenance
from usergrowth_dagster.pipeline.scoring_rows import (
    ScoringRows,
    bind_population,
    bind_scoring_rows,
)
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.ranks import UPLIFT
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.training.level import refreshed_level
from usergrowth_dagster.training.models import no_model, usable_model
from usergrowth_dagster.training.train import effect_config, training_config
from usergrowth_dagster.warehouse.columns import types_of
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.relation import (
    Relation,
    bind_days,
    bind_query,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from usergrowth_dagster.learning.artifacts import LoadedModel
    from usergrowth_dagster.learning.drift import Drift
    from usergrowth_dagster.learning.store import ModelRef
    from usergrowth_dagster.pipeline.spark_scores import RowScorer

SCORES = "scores"
_SCORES = 65_536  # in a batch that is measured: sums of other batches are rounded otherwise
RESPONSE = "response"
"""The model that scores, in the record of what scores were made from; that of effects is
:data:`UPLIFT`."""
SCORE_COLUMNS = {
    "ds": ("DATE", "execution date"),
    "task_id": ("VARCHAR", "the task"),
    "row": ("BIGINT", "place of the row in the upload"),
    "user_id": ("VARCHAR", "the user"),
    "item_id": ("VARCHAR", "the item"),
    "score": (
        "DOUBLE",
        "probability or expected amount; null when nothing is known of the user",
    ),
    "model_name": ("VARCHAR", "registered model"),
    "model_version": ("VARCHAR", "its version"),
    UPLIFT: ("DOUBLE", "what a text adds to the chance of a return; null without such a model"),
    "uplift_version": ("VARCHAR", "version of the registered model uplift, null without one"),
}


@dataclass(frozen=True)
class Scored:
    """A scored population: rows, rows with a score, the model, and how far it is from its training.

    ``drift`` is None where nothing was scored anew, or the version has no record of its training;
    ``uplift_version`` is empty when no model of effects may score the date; ``note`` says why one
    that may did not, and by how much the level was moved.
    """

    rows: int
    scored: int
    model: str
    version: str
    unchanged: bool
    mean: float | None
    drift: "Drift | None" = None
    uplift_version: str = ""
    note: str = ""


def scoring_model(project: Project, task: Task) -> "ModelRef":
    """The newest approved model of the task's question whose last label day is before D.

    Raises:
        UserError: there is none; the sentence says what to do.
    """
    config = training_config(project, task.spec)
    model = usable_model(project, config, task.execution_date)
    if model is None:
        raise UserError(
            no_model(project, task.campaign, config, task.execution_date), code="model.none_usable"
        )
    return model


def effect_model(project: Project, task: Task) -> "ModelRef | None":
    """The newest approved model of effects for the task's outcome from before D, if there is one.

    Campaigns that choose by score get effects too, where another campaign has asked for them: the
    report compares predicted with measured ones, and estimates what other policies would have
    earned. Of a question that looks further ahead than effects are learned there are none.

    Raises:
        UserError: the campaign chooses by effects, and they cannot be learned so far ahead.
    """
    try:
        config = effect_config(project, task.spec)
    except UserError:
        if task.spec.selection.by_uplift:
            raise
        return None
    return usable_model(project, config, task.execution_date)


def bind_scores(engine: Engine, project: Project, task: Task) -> Relation:
    """The scores of a task, with :data:`SCORE_COLUMNS`; empty while it is not scored."""
    columns = types_of(SCORE_COLUMNS)
    days = [task.execution_date]
    return bind_days(engine, project.warehouse, SCORES, days, columns, task_id=task.task_id)


def score_task(project: Project, task: Task) -> Scored:
    """Score every row of a task's population; the same inputs again write nothing.

    A task whose send plan is made keeps the scores that it was decided by.

    A model of effects that cannot read the rows is as good as none, unless the campaign chooses by
    effects and names no fallback.

    Raises:
        UserError: no usable model, no features of the date, or rows that the model cannot read.
    """
    scope = {"task_id": task.task_id}
    known = project.warehouse.fingerprint(SCORES, task.execution_date, scope)
    if task.frozen and known is not None:
        with open_engine(project.settings) as engine:
            return _scored(engine, project, task, unchanged=True)
    from usergrowth_dagster.pipeline.spark_scores import row_scorer

    config = training_config(project, task.spec)
    model, effects = scoring_model(project, task), effect_model(project, task)
    with open_engine(project.settings) as engine:
        population = bind_population(engine, project, task)
        if not population.files:
            raise UserError(_nobody(task), code="population.invalid")
        rows = bind_scoring_rows(
            engine, project, task, population, config, effects=effects is not None
        )
        _require_features(engine, task, rows)
        level = refreshed_level(project, task, model)
        mark = _fingerprint(rows, model, effects, level.shift)
        drift, note = None, ""
        if effects is not None and known != mark:
            note = _unreadable(engine, project.settings, task, rows, effects)
            if note:
                effects = None
                rows = bind_scoring_rows(engine, project, task, population, config)
                mark = _fingerprint(rows, model, effects, level.shift)
        if known != mark:
            project.progress(f"score {task.task_id}", 0, 1)
            made = make_scores(
                engine,
                project.settings,
                task,
                rows,
                model,
                effects,
                level.shift,
                response_by=row_scorer(project, task, rows, pairs=config.problem.pairs),
                effects_by=row_scorer(project, task, rows, pairs=True),
            )
            drift = _drift(engine, made, rows, project.settings)
            provenance = score_provenance(
                project,
                task,
                [*population.files, *rows.feature_files],
                {RESPONSE: model, UPLIFT: effects},
                level.shift,
            )
            _write_scores(engine, project, task, made.scores, mark, provenance)
            project.progress(f"score {task.task_id}", 1, 1)
        scored = _scored(engine, project, task, unchanged=known == mark)
        note = "; ".join(part for part in (note, str(level)) if part)
        return replace(scored, drift=drift, note=note)


def _write_scores(
    engine: Engine,
    project: Project,
    task: Task,
    scores: Relation,
    mark: str,
    provenance: ScoreProvenance,
) -> None:
    day = task.execution_date
    project.warehouse.replace(
        SCORES,
        lambda: engine.stream(f'select * from {scores} order by "row"'),
        days=[day],
        scope={"task_id": task.task_id},
        fingerprints={day: mark},
        notes={day: provenance.model_dump(mode="json")},
    )


def _unreadable(
    engine: Engine, settings: Settings, task: Task, rows: ScoringRows, effects: "ModelRef"
) -> str:
    """Why a model of effects cannot score the rows; empty when it can.

    Raises:
        UserError: it cannot, and the campaign cannot do without.
    """
    from usergrowth_dagster.learning.artifacts import load
    from usergrowth_dagster.learning.scoring import require_features

    try:
        require_features(engine, load(effects), str(rows.effects), most=settings.max_unseen_share)
    except UserError as error:
        asked = task.spec.selection
        if asked.by_uplift and asked.fallback is None:
            raise UserError(
                f"campaign {task.campaign!r} chooses by uplift, but {error}; or name a policy by "
                "score at selection.fallback",
                code=error.code,
                hint=error.hint,
            ) from None
        return f"no effect was scored: {error}"
    return ""


@dataclass(frozen=True)
class MadeScores:
    """What models said of a population.

    Attributes:
        scores: all its rows, with :data:`SCORE_COLUMNS`.
        response: row and score, by the model of the campaign's question.
        model: that model.
    """

    scores: Relation
    response: Relation
    model: "LoadedModel"


def make_scores(
    engine: Engine,
    settings: Settings,
    task: Task,
    rows: ScoringRows,
    model: "ModelRef",
    effects: "ModelRef | None",
    level: float = 0.0,
    *,
    response_by: "RowScorer | None" = None,
    effects_by: "RowScorer | None" = None,
) -> MadeScores:
    """Score a population by a model, and by a model of effects, if there is one.

    ``level`` shifts the log-odds of the model's scores. A replay asks this again, of the version
    that scored then. What scores the rows is :func:`score_apart` where no other is given.

    Raises:
        UserError: a model cannot read the rows, or ``max_unseen_share`` of a column's values are
            new to it.
    """
    from usergrowth_dagster.learning.artifacts import load
    from usergrowth_dagster.learning.scoring import score_apart

    loaded, most = load(model), settings.max_unseen_share
    by = response_by or score_apart
    response = by(engine, loaded, str(rows.response), max_unseen_share=most, level=level)
    of_effects = None
    if effects is not None:
        by = effects_by or score_apart
        of_effects = by(engine, effects, str(rows.effects), max_unseen_share=most)
    sql = _scores_sql(task, rows.population, (model, response), (effects, of_effects))
    return MadeScores(bind_query(engine, "made_scores", sql, keep=True), response, loaded)


def _drift(
    engine: Engine, made: MadeScores, rows: ScoringRows, settings: Settings
) -> "Drift | None":
    """How far the scored rows are from those that the model learned from."""
    from usergrowth_dagster.learning.drift import measure

    scores = _scores_of(engine, made.response)
    return measure(engine, str(rows.response), made.model, settings, scores=scores)


def _scores_of(engine: Engine, scored: Relation) -> "Iterator[NDArray[np.float64]]":
    """The scores of a relation, in parts; the engine is not asked before the first is wanted."""
    for batch in engine.stream(f"select score from {scored}", _SCORES):
        yield batch.column(0).to_numpy()


def _scored(engine: Engine, project: Project, task: Task, *, unchanged: bool) -> Scored:
    """What the table says of a task."""
    standing = bind_scores(engine, project, task)
    rows, scored, mean, name, version, uplift = engine.rows(
        "select count(*), count(score), avg(score), any_value(model_name), "
        f"any_value(model_version), any_value(uplift_version) from {standing}"
    )[0]
    return Scored(
        rows, scored, name or "", version or "", unchanged, mean, uplift_version=uplift or ""
    )


def _nobody(task: Task) -> str:
    """Why a task without people cannot be scored."""
    if task.spec.of_segment:
        return (
            f"campaign {task.campaign!r}: selection.segment: segment {task.spec.selection.segment} "
            f"has nobody on {task.execution_date}; see usergrowth segment show"
        )
    return f"{task.population}: none of its rows was accepted; upload it anew"


def _require_features(engine: Engine, task: Task, rows: ScoringRows) -> None:
    if engine.value(f"select count(*) from {rows.features[0]}") == 0:
        raise UserError(
            f"no features of {task.execution_date}: land the days before it and materialize "
            f"user_features for it (usergrowth run --date {task.execution_date})",
            code="task.undecided",
        )


def _hash(parts: Iterable[str]) -> str:
    text = "\n".join(sorted(part.rsplit("/", 1)[-1] for part in parts))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fingerprint(
    rows: ScoringRows, model: "ModelRef", effects: "ModelRef | None", level: float
) -> str:
    """What scores are made from; it begins with the population, so that this can be asked alone."""
    models = [model.name, str(model.version)]
    if effects is not None:
        models.append(f"{effects.name} {effects.version}")
    if level:
        models.append(f"level {level:.9f}")
    return f"{rows.population.fingerprint}-{_hash([*rows.feature_files, *models])}"


def is_scored(project: Project, task: Task, population: Relation) -> bool:
    """Whether the scores that stand were made from the population as it is now."""
    mark = project.warehouse.fingerprint(SCORES, task.execution_date, {"task_id": task.task_id})
    return (mark or "").startswith(f"{population.fingerprint}-")


def _scores_sql(
    task: Task,
    population: Relation,
    by_model: "tuple[ModelRef, Relation]",
    by_effects: "tuple[ModelRef | None, Relation | None]",
) -> str:
    (model, response), (effects, of_effects) = by_model, by_effects
    uplift, uplift_version, joined = "cast(null as double)", "cast(null as varchar)", ""
    if effects is not None:
        uplift, uplift_version = "e.score", literal(str(effects.version))
        joined = f' left join {of_effects} as e using ("row")'
    return (
        f"select date '{task.execution_date}' as ds, '{task.task_id}' as task_id, "
        'p."row", p.user_id, p.item_id, s.score, '
        f"'{model.name}' as model_name, '{model.version}' as model_version, "
        f"{uplift} as uplift, {uplift_version} as uplift_version "
        f'from {population} as p left join {response} as s using ("row"){joined}'
    )


def feature_version(project: Project) -> int | None:
    """Version of the feature table, as decisions record it."""
    return project.warehouse.version("user_features")
