"""Train the models that campaigns ask for, as of an execution date."""

import hashlib
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

from pydantic import ValidationError

from usergrowth_dagster.control.campaign import CampaignSpec
from usergrowth_dagster.control.codes import JobStatus
from usergrowth_dagster.control.jobs import training_moved
from usergrowth_dagster.control.model_digests import keep_digest
from usergrowth_dagster.control.tasks import campaigns, tasks_for
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.origin import MadeFrom
from usergrowth_dagster.learning.problems import problem_called, problems
from usergrowth_dagster.learning.problems.uplift import Uplift
from usergrowth_dagster.project import Project
from usergrowth_dagster.training.features import (
    bind_table,
    build_training_set,
    training_days,
)
from usergrowth_dagster.training.models import (
    how_to_approve,
    serving_columns,
    settle_models,
    usable_model,
    waiting_version,
)
from usergrowth_dagster.training.questions import asked_of
from usergrowth_dagster.training.training_code import (
    earlier_training_versions,
    training_code_version,
)
from usergrowth_dagster.warehouse.build import Build
from usergrowth_dagster.warehouse.engine import open_engine

if TYPE_CHECKING:
    from usergrowth_dagster.learning.registry import Registered
    from usergrowth_dagster.learning.store import ModelRef


@dataclass(frozen=True)
class Training:
    """One trained configuration: who asked, what was built for it, and the registered result.

    ``skipped`` says why nothing was trained; ``registered`` is None then.
    """

    config: TrainingConfig
    asked_by: tuple[str, ...]
    builds: list[Build]
    registered: "Registered | None" = None
    skipped: str = ""


def training_config(project: Project, spec: CampaignSpec) -> TrainingConfig:
    """What the model learns that a campaign's people are scored by.

    Raises:
        UserError: a value that no training can have, or a label that would look further ahead
            than the rows of its training do.
    """
    return question_config(project, spec, spec.algorithm.kind)


def effect_config(project: Project, spec: CampaignSpec) -> TrainingConfig:
    """What a model of effects learns for a campaign, whether it asks for one or not.

    Raises:
        UserError: as of :func:`training_config`.
    """
    return question_config(project, spec, Uplift.name)


def question_config(project: Project, spec: CampaignSpec, name: str) -> TrainingConfig:
    """What a model of a question learns for a campaign.

    Raises:
        UserError: as of :func:`training_config`.
    """
    try:
        problem = problem_called(name).of(asked_of(spec), project.settings)
        dates = spec.training.model_dump(exclude_none=True)
        config = TrainingConfig(algorithm=name, problem=problem, **dates)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "training"
        rule = first["msg"].removeprefix("Value error, ")
        raise UserError(f"campaign {spec.name!r}: {key}: {rule}", code="campaign.invalid") from None
    most = problem.most_days(project.settings)
    if problem.reach_days > most:
        raise UserError(
            f"campaign {spec.name!r}: algorithm: its label looks {problem.reach_days} days ahead, "
            f"and the setting label_horizon_days is {most}; raise the setting",
            code="campaign.invalid",
        )
    return config


def asked_config(project: Project, spec: CampaignSpec, algorithm: str) -> TrainingConfig | None:
    """What a campaign wants learned of a question; None when it does not ask it.

    Raises:
        UserError: as of :func:`training_config`.
    """
    if not problem_called(algorithm).is_asked(asked_of(spec)):
        return None
    return question_config(project, spec, algorithm)


def asked_questions(project: Project) -> list[str]:
    """The questions that campaigns ask, in the order of the registry."""
    specs = campaigns(project.store).values()
    return [
        name
        for name, problem in problems().items()
        if any(problem.is_asked(asked_of(spec)) for spec in specs)
    ]


def configs(project: Project, algorithm: str) -> dict[TrainingConfig, list[str]]:
    """The distinct trainings that campaigns ask for, and which campaigns ask."""
    found: dict[TrainingConfig, list[str]] = {}
    for name, spec in campaigns(project.store).items():
        if (config := _config(project, spec, algorithm)) is not None:
            found.setdefault(config, []).append(name)
    return found


def _config(project: Project, spec: CampaignSpec, algorithm: str) -> TrainingConfig | None:
    """A campaign's training; None, with the reason in its training job, when it cannot be done."""
    try:
        return asked_config(project, spec, algorithm)
    except UserError as error:
        training_moved(project.store, spec.name, JobStatus.RUNNING, note=str(error))
        training_moved(project.store, spec.name, JobStatus.FAILED, note=str(error), error=error)
        return None


def train_all(
    project: Project, algorithm: str, execution_date: date, *, only_missing: bool = False
) -> list[Training]:
    """Train every configuration of a question that campaigns ask for.

    One that cannot be trained is ``skipped`` with the reason, and the next one goes on. In a home
    without campaigns the default configuration is tried, so that a first look shows a model.

    Args:
        project: the home.
        algorithm: name of the question.
        execution_date: D; nothing from D on is used.
        only_missing: train just what the tasks of D cannot be scored without.
    """
    if only_missing:
        wanted = _asked_by_tasks(project, algorithm, execution_date)
    else:
        wanted = configs(project, algorithm) or _default(project, algorithm)
    trainings = []
    for config, names in wanted.items():
        try:
            known = _usable(project, config, names, execution_date) if only_missing else None
            trainings.append(known or train_one(project, config, names, execution_date))
        except UserError as error:
            asked = f"campaign {', '.join(names)}" if names else "no campaign asks for it, and"
            reason = f"{asked}: {error}" if names else f"{asked} {error}"
            trainings.append(Training(config, tuple(names), [], skipped=reason))
    if only_missing:
        trainings += _up_to_date(project, algorithm, execution_date, set(wanted))
    return trainings


def _up_to_date(
    project: Project, algorithm: str, execution_date: date, done: set[TrainingConfig]
) -> list[Training]:
    """The approved models of trainings that the date does not need, with their figures.

    A date whose tasks have their plans, or that has none, trains nothing; what is shown of the
    asset is the model that stands all the same.
    """
    found: dict[TrainingConfig, list[str]] = {}
    for name, spec in campaigns(project.store).items():
        try:
            config = asked_config(project, spec, algorithm)
        except UserError:  # a task that needs it says so
            continue
        if config is not None and config not in done:
            found.setdefault(config, []).append(name)
    refs = {config: usable_model(project, config, execution_date) for config in found}
    return [_known(config, found[config], ref) for config, ref in refs.items() if ref is not None]


def _default(project: Project, algorithm: str) -> dict[TrainingConfig, list[str]]:
    """What a home without campaigns trains.

    Where campaigns stand, a model that none of them asks for would only cost time and a review.
    """
    problem = problem_called(algorithm).default(project.settings)
    if problem is None or campaigns(project.store):
        return {}
    return {TrainingConfig(algorithm=algorithm, problem=problem): []}


def _asked_by_tasks(
    project: Project, algorithm: str, execution_date: date
) -> dict[TrainingConfig, list[str]]:
    """The trainings that the tasks of a date need; one whose send plan is made needs no more."""
    found: dict[TrainingConfig, list[str]] = {}
    for task in tasks_for(project.store, execution_date):
        if task.frozen:
            continue
        config = _config(project, task.spec, algorithm)
        if config is not None:
            found.setdefault(config, []).append(task.campaign)
    return found


def _usable(
    project: Project, config: TrainingConfig, names: list[str], execution_date: date
) -> Training | None:
    """The model that stands for a training, when it may score the date, or waits for a review."""
    ref = usable_model(project, config, execution_date)
    ref = ref or waiting_version(project, config, execution_date)
    return None if ref is None else _known(config, names, ref)


def _known(config: TrainingConfig, names: list[str], ref: "ModelRef") -> Training:
    """A training that was made before, with the figures and pictures of its version."""
    from usergrowth_dagster.learning.artifacts import read_artifacts, read_card
    from usergrowth_dagster.learning.registry import Registered

    summary, figures = read_artifacts(ref)
    known = Registered(ref, True, summary, figures, read_card(ref))
    return Training(config, tuple(names), [], known)


def train_one(
    project: Project, config: TrainingConfig, names: list[str], execution_date: date
) -> Training:
    """Build the training set of one configuration, train, evaluate and register.

    Raises:
        UserError: too little has landed to learn from; the campaigns' training jobs say so too.
    """
    if not _has_job(config):
        return _train(project, config, names, execution_date)
    for name in names:
        training_moved(project.store, name, JobStatus.RUNNING, note=f"as of {execution_date}")
    try:
        training = _train(project, config, names, execution_date)
    except Exception as error:
        known = error if isinstance(error, UserError) else None
        reason = str(known or type(error).__name__)
        for name in names:
            training_moved(project.store, name, JobStatus.FAILED, note=reason, error=known)
        raise
    ref = training.registered.ref if training.registered else None
    note = f"{ref.name} version {ref.version}: {ref.status}" if ref else ""
    if ref and ref.status == "waiting_review":
        note = how_to_approve(ref)
    for name in names:
        training_moved(project.store, name, JobStatus.SUCCESS, note=note, has_model_info=True)
    return training


def _has_job(config: TrainingConfig) -> bool:
    """Whether it is the training of a campaign's training job, the model that scores."""
    return config.problem.asked_in_campaigns


def _train(
    project: Project, config: TrainingConfig, names: list[str], execution_date: date
) -> Training:
    from usergrowth_dagster.learning.registry import train_and_register

    settle_models(project, config.algorithm)
    days, warnings = training_days(project, config, execution_date)
    for name in names if _has_job(config) else ():
        for warning in warnings:
            training_moved(project.store, name, JobStatus.RUNNING, note=warning)
    builds = build_training_set(project, config, days)
    table = config.problem.training_table()
    versions = {build.model: build.version for build in builds if build.version is not None}
    with open_engine(project.settings) as engine:
        files = bind_table(engine, project, table, days)
        registered = train_and_register(
            engine,
            table,
            config,
            execution_date,
            project.settings,
            made_from=MadeFrom(
                data_versions=versions,
                data_mark=_mark(files),
                code_version=training_code_version(type(config.problem)),
                earlier_code_versions=earlier_training_versions(type(config.problem)),
                dagster_run_id=project.run_id,
                vouch=partial(keep_digest, project.store),
            ),
            serving=serving_columns(table),
            progress=lambda stage: project.progress(f"{config.algorithm}: {stage}", 0, 0),
        )
    return Training(config, tuple(names), builds, registered)


def _mark(files: list[str]) -> str:
    """Hash of data files by name, which is theirs alone: a home may be moved."""
    names = sorted(name.rsplit("/", 1)[-1] for name in files)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def waiting_campaigns(project: Project, day: date) -> "list[tuple[str, ModelRef]]":
    """Campaigns for which a version waits that could score a date and is newer than what scores."""
    found = []
    for name, spec in campaigns(project.store).items():
        for algorithm in problems():
            try:
                config = asked_config(project, spec, algorithm)
            except UserError:  # its training job says so
                continue
            if config is None:
                continue
            waiting = waiting_version(project, config, day)
            now = usable_model(project, config, day) if waiting else None
            if waiting and (now is None or now.last_label_day < waiting.last_label_day):
                found.append((name, waiting))
    return found
