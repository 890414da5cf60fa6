"""One run in MLflow and the version registered from it, for every kind of model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from usergrowth_dagster.learning.store import ModelRef, add_version, client, experiment
from usergrowth_dagster.settings import Settings

BATCH = {"metrics": 1000, "params": 100, "tags": 100}  # that MLflow takes at once


@dataclass(frozen=True)
class RunRecord:
    """What a run tells beside its files: figures, parameters, tags."""

    name: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str] = field(default_factory=dict)


def log_version(
    settings: Settings,
    name: str,
    *,
    tags: dict[str, str],
    record: RunRecord,
    write: Callable[[Path], None],
    description: str = "",
) -> ModelRef:
    """Log one run with its files and register its ``model`` folder as the next version of ``name``.

    A run that fails half-way is marked FAILED and nothing is registered.

    Args:
        settings: where MLflow is.
        name: registered model, and experiment.
        tags: of the version, those that :class:`store.ModelRef` is made of.
        record: of the run.
        write: writes every file into a folder: the saved model in ``model`` (with its
            ``feature_spec.json``), pictures in ``figures``, ``summary.json``.
        description: markdown that MLflow shows of the version.
    """
    made = client(settings)
    run = made.create_run(
        experiment(made, settings, name),
        run_name=record.name,
        tags={"fingerprint": tags["fingerprint"]},
    )
    run_id = str(run.info.run_id)
    try:
        _log(made, run_id, record)
        with TemporaryDirectory(prefix="usergrowth-model-") as folder:
            write(Path(folder))
            made.log_artifacts(run_id, folder)
        made.set_terminated(run_id, "FINISHED")
    except BaseException:
        made.set_terminated(run_id, "FAILED")
        raise
    return add_version(made, settings, name, run_id, tags, description)


def _log(made: object, run_id: str, record: RunRecord) -> None:
    """Everything of the record, in as many requests as MLflow's limits want."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    assert isinstance(made, MlflowClient)
    metrics = iter([Metric(key, value, 0, 0) for key, value in record.metrics.items()])
    params = iter([Param(key, value) for key, value in record.params.items()])
    tags = iter([RunTag(key, value) for key, value in record.tags.items()])
    while True:
        parts = (
            list(islice(metrics, BATCH["metrics"] - BATCH["params"] - BATCH["tags"])),
            list(islice(params, BATCH["params"])),
            list(islice(tags, BATCH["tags"])),
        )
        if not any(parts):
            return
        made.log_batch(run_id, *parts)


def requirements(packages: Sequence[str]) -> list[str]:
    """Installed versions of packages as pip requirements."""
    from importlib.metadata import version

    return [f"{name}=={version(name)}" for name in packages]
