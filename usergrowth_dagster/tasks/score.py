"""Step 2 of a task: score its population with features and a model from before the date."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.ranks import UPLIFT
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.tasks.features import bind_table
from usergrowth_dagster.tasks.level import refreshed_level
from usergrowth_dagster.tasks.models import no_model, usable_model
from usergrowth_dagster.tasks.pins import pin_scores
from usergrowth_dagster.tasks.project import Project
from usergrowth_dagster.tasks.train import effect_config, training_config
from usergrowth_dagster.warehouse.engine import Engine, open_engine

if TYPE_CHECKING:
    from usergrowth_dagster.learning.artifacts import LoadedModel
    from usergrowth_dagster.learning.drift import Drift
    from usergrowth_dagster.learning.store import ModelRef

SCORES = "scores"
RESPONSE = "response"
"""The model that scores, in the record of what scores were made from; that of effects is
:data:`UPLIFT`."""
SCORE_COLUMNS = {
    "ds": ("DATE", "execution date"),
    "task_id": ("VARCHAR", "the task"),
    "row": ("BIGINT", "place of the row in the upload"),
    "user_id": ("VARCHAR", "the user"),
    "item_id": ("VARCHAR", "the item"),
    "score": ("DOUBLE", "calibrated probability; null when nothing is known of the user"),
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
    report sets predicted against measured ones, and tells what other policies would have earned.
    """
    return usable_model(project, effect_config(project, task.spec), task.execution_date)


def bind_population(engine: Engine, project: Project, task: Task) -> list[str]:
    """Make the view ``task_population``; returns the files it reads."""
    days = [task.execution_date]
    files = [
        name
        for name in bind_table(engine, project, "population", days)
        if f"/task_id={task.task_id}/" in name
    ]
    engine.run(
        "create or replace view task_population as select * from population "
        f"where task_id = '{task.task_id}'"
    )
    return files


def bind_scoring_rows(
    engine: Engine,
    project: Project,
    task: Task,
    config: TrainingConfig,
    *,
    effects: bool = False,
) -> list[str]:
    """Make the view ``scoring_rows``: rows of ``task_population`` with features.

    With ``effects`` the view ``effect_rows`` is made too, from features of users and of pairs.

    Returns:
        The feature files it reads.
    """
    day = [task.execution_date]
    files = bind_table(engine, project, "user_features", day)
    pairs = config.problem.pairs
    if effects or pairs:
        files += bind_table(engine, project, "user_item_features", day)
    _bind_rows(engine, "scoring_rows", pairs=pairs)
    if effects:
        _bind_rows(engine, "effect_rows", pairs=True)
    return files


def _bind_rows(engine: Engine, view: str, *, pairs: bool) -> None:
    extra = ", x.* exclude (ds, user_id, item_id)" if pairs else ""
    join = "left join user_item_features as x using (user_id, item_id)" if pairs else ""
    engine.run(
        f'create or replace view {view} as select p."row", p.item_id, f.*{extra} '
        f"from task_population as p inner join user_features as f using (user_id) {join}"
    )


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
    config = training_config(project, task.spec)
    model, effects = scoring_model(project, task), effect_model(project, task)
    with open_engine(project.settings) as engine:
        population = bind_population(engine, project, task)
        if not population:
            raise UserError(
                f"{task.population}: none of its rows was accepted; upload it anew",
                code="population.invalid",
            )
        files = bind_scoring_rows(engine, project, task, config, effects=effects is not None)
        _require_features(engine, task)
        level = refreshed_level(project, task, model)
        mark = _fingerprint(population, files, model, effects, level.shift)
        drift, note = None, ""
        if effects is not None and known != mark:
            note = _unreadable(engine, project.settings, task, effects)
            if note:
                effects = None
                engine.bound.pop("user_item_features", None)  # scores of users are not made from it
                files = bind_scoring_rows(engine, project, task, config)
                mark = _fingerprint(population, files, model, effects, level.shift)
        if known != mark:
            project.progress(f"score {task.task_id}", 0, 1)
            made_by = make_scores(engine, project.settings, task, model, effects, level.shift)
            drift = _drift(engine, made_by, project.settings)
            project.warehouse.replace(
                SCORES,
                lambda: engine.stream('select * from _scores order by "row"'),
                days=[task.execution_date],
                scope=scope,
                fingerprints={task.execution_date: mark},
                notes={
                    task.execution_date: pin_scores(
                        *(engine, project, task),
                        {RESPONSE: model, UPLIFT: effects},
                        level.shift,
                    )
                },
            )
            project.progress(f"score {task.task_id}", 1, 1)
        scored = _scored(engine, project, task, unchanged=known == mark)
        note = "; ".join(part for part in (note, str(level)) if part)
        return replace(scored, drift=drift, note=note)


def _unreadable(engine: Engine, settings: Settings, task: Task, effects: "ModelRef") -> str:
    """Why a model of effects cannot score ``effect_rows``; empty when it can.

    Raises:
        UserError: it cannot, and the campaign cannot do without.
    """
    from usergrowth_dagster.learning.artifacts import load
    from usergrowth_dagster.learning.scoring import require_features

    try:
        require_features(engine, load(effects), "effect_rows", most=settings.max_unseen_share)
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


def make_scores(
    engine: Engine,
    settings: Settings,
    task: Task,
    model: "ModelRef",
    effects: "ModelRef | None",
    level: float = 0.0,
) -> "LoadedModel":
    """Make the table ``_scores``: all rows of ``task_population``, by a model on ``scoring_rows``,
    and by a model of effects, if there is one, on ``effect_rows``.

    ``level`` shifts the log-odds of the model's scores. A replay asks this again, of the version
    that scored then.

    Raises:
        UserError: a model cannot read the rows, or ``max_unseen_share`` of a column's values are
            new to it.
    """
    from usergrowth_dagster.learning.artifacts import load
    from usergrowth_dagster.learning.scoring import score

    loaded, most = load(model), settings.max_unseen_share
    found = score(engine, loaded, "scoring_rows", max_unseen_share=most, level=level)
    engine.bind_arrow("model_scores", found)
    if effects is not None:
        found = score(engine, effects, "effect_rows", max_unseen_share=most)
        engine.bind_arrow("model_effects", found)
    engine.run(f"create or replace temp table _scores as {_scores_sql(task, model, effects)}")
    return loaded


def _drift(engine: Engine, model: "LoadedModel", settings: Settings) -> "Drift | None":
    """How far the scored rows are from those that the model learned from."""
    from usergrowth_dagster.learning.drift import measure

    scores = engine.arrow("select score from model_scores").column("score").to_numpy()
    return measure(engine, "scoring_rows", model, settings, scores=scores)


def _scored(engine: Engine, project: Project, task: Task, *, unchanged: bool) -> Scored:
    """What the table says of a task."""
    bind_scores(engine, project, task)
    rows, scored, mean, name, version, uplift = engine.rows(
        "select count(*), count(score), avg(score), any_value(model_name), "
        "any_value(model_version), any_value(uplift_version) from task_scores"
    )[0]
    return Scored(
        rows, scored, name or "", version or "", unchanged, mean, uplift_version=uplift or ""
    )


def bind_scores(engine: Engine, project: Project, task: Task) -> list[str]:
    """Make the view ``task_scores``; returns the files it reads."""
    landed = project.warehouse.files(SCORES, first=task.execution_date, last=task.execution_date)
    files = [
        name for name in landed.get(task.execution_date, []) if f"/task_id={task.task_id}/" in name
    ]
    engine.bind_files("task_scores", files, {n: kind for n, (kind, _) in SCORE_COLUMNS.items()})
    return files


def _require_features(engine: Engine, task: Task) -> None:
    if engine.value("select count(*) from user_features") == 0:
        raise UserError(
            f"no features of {task.execution_date}: land the days before it and materialize "
            f"user_features for it (usergrowth run --date {task.execution_date})",
            code="features.missing",
        )


def _hash(parts: Iterable[str]) -> str:
    text = "\n".join(sorted(part.rsplit("/", 1)[-1] for part in parts))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fingerprint(
    population: list[str],
    files: list[str],
    model: "ModelRef",
    effects: "ModelRef | None",
    level: float,
) -> str:
    """What scores are made from; it begins with the population, so that this can be asked alone."""
    models = [model.name, str(model.version)]
    if effects is not None:
        models.append(f"{effects.name} {effects.version}")
    if level:
        models.append(f"level {level:.9f}")
    return f"{_hash(population)}-{_hash([*files, *models])}"


def is_scored(project: Project, task: Task, population: list[str]) -> bool:
    """Whether the scores that stand were made from these files of the population."""
    mark = project.warehouse.fingerprint(SCORES, task.execution_date, {"task_id": task.task_id})
    return (mark or "").startswith(f"{_hash(population)}-")


def _scores_sql(task: Task, model: "ModelRef", effects: "ModelRef | None") -> str:
    found, joined = ("cast(null as double)", "cast(null as varchar)"), ""
    if effects is not None:
        found = ("e.score", literal(str(effects.version)))
        joined = ' left join model_effects as e using ("row")'
    return (
        f"select date '{task.execution_date}' as ds, '{task.task_id}' as task_id, "
        'p."row", p.user_id, p.item_id, s.score, '
        f"'{model.name}' as model_name, '{model.version}' as model_version, "
        f"{found[0]} as uplift, {found[1]} as uplift_version "
        f'from task_population as p left join model_scores as s using ("row"){joined}'
    )


def feature_version(project: Project) -> int | None:
    """Version of the feature table, as decisions record it."""
    return project.warehouse.version("user_features")
