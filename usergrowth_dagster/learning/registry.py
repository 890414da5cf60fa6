"""The model registry: what a training made is judged, logged and registered; what may score.

A version's life: registered as ``approved`` when it passes every gate of :mod:`gates`,
``waiting_review`` when the job wants a person's word first, ``rejected`` otherwise. The same
inputs make a version once: their fingerprint is one of its tags.
"""

import json
import math
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.gates import Gate, calibration_gate, champion_gate, leakage_gate
from usergrowth_dagster.learning.metrics import Interval
from usergrowth_dagster.learning.store import (
    SPEC_FILE,
    SUMMARY_FILE,
    LoadedModel,
    ModelRef,
    Status,
    add_version,
    as_ref,
    client,
    experiment,
    load,
    move_alias,
    read_artifacts,
    versions,
)
from usergrowth_dagster.learning.training import TrainedModels
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "LoadedModel",
    "ModelRef",
    "find_fingerprint",
    "load",
    "newest_model",
    "read_artifacts",
    "register",
    "review",
    "summarize",
    "versions",
]

TRUSTED = [  # the types outside scikit-learn's own that a saved model is made of
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "numpy.dtype",
    "usergrowth_dagster.learning.model.Blend",
    "usergrowth_dagster.learning.model.CalibratedModel",
]


def register(engine: Engine, relation: str, trained: TrainedModels, settings: Settings) -> ModelRef:
    """Judge a training's champion, log it and register it as the next version.

    Args:
        engine: holds the training relation, so that the current version can be scored on the new
            test slice.
        relation: the training relation.
        trained: what :func:`training.train` returned.
        settings: where MLflow is.

    Returns:
        The version with its status; the one made before when the inputs are the same.
    """
    known = find_fingerprint(settings, trained.config.algorithm, trained.fingerprint)
    if known is not None:
        return known
    config = trained.config
    current = newest_model(settings, config.algorithm, config.config_hash(), trained.execution_date)
    gates = [
        calibration_gate(trained),
        leakage_gate(trained),
        champion_gate(engine, relation, trained, load(current) if current else None, settings),
    ]
    return _register(trained, gates, settings)


def newest_model(
    settings: Settings, algorithm: str, config_hash: str, before: date
) -> ModelRef | None:
    """The newest approved version for a label whose last label day lies before a date.

    Args:
        settings: where MLflow is.
        algorithm: ``churn`` or ``winback``.
        config_hash: of the label.
        before: the execution date D scored at; a model never saw D or later.
    """
    approved = versions(
        settings, algorithm, tags={"status": "approved", "config_hash": config_hash}
    )
    usable = [ref for ref in approved if ref.last_label_day < before]
    return max(usable, key=lambda r: (r.last_label_day, r.version), default=None)


def find_fingerprint(settings: Settings, algorithm: str, fingerprint: str) -> ModelRef | None:
    """The version made from exactly the same inputs, if there is one."""
    found = versions(settings, algorithm, tags={"fingerprint": fingerprint})
    return found[-1] if found else None


def review(
    settings: Settings, algorithm: str, version: int, *, approve: bool, actor: str
) -> ModelRef:
    """A person's word on a version that waits for review.

    Raises:
        UserError: there is no such version, or it does not wait for review.
    """
    known = {ref.version: ref for ref in versions(settings, algorithm)}
    ref = known.get(version)
    if ref is None:
        raise UserError(
            f"model {algorithm}: there is no version {version}; known are {sorted(known) or 'none'}"
        )
    if ref.status != "waiting_review":
        raise UserError(
            f"model {algorithm}: version {version} is {ref.status}, only a version that is "
            "waiting_review can be approved or rejected"
        )
    made = client(settings)
    status: Status = "approved" if approve else "rejected"
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    for key, value in (("status", status), ("reviewed_by", actor), ("reviewed_at", moment)):
        made.set_model_version_tag(algorithm, str(version), key, value)
    decided = as_ref(made, made.get_model_version(algorithm, str(version)))
    if approve:
        move_alias(made, decided)
    return decided


def decide(gates: list[Gate], require_review: bool) -> Status:
    """Status of a new version by its gates."""
    if not all(gate.passed for gate in gates):
        return "rejected"
    return "waiting_review" if require_review else "approved"


def summarize(trained: TrainedModels, gates: list[Gate]) -> dict[str, Any]:
    """What a training found out, as JSON-ready values."""
    return {
        "algorithm": trained.config.algorithm,
        "config": trained.config.model_dump(mode="json"),
        "config_hash": trained.config.config_hash(),
        "execution_date": trained.execution_date.isoformat(),
        "last_label_day": trained.last_label_day.isoformat(),
        "champion": trained.champion,
        "metrics": {
            name: {metric: _plain(figure) for metric, figure in found.items()}
            for name, found in trained.evaluation.metrics.items()
        },
        "paired": {metric: _plain(figure) for metric, figure in trained.paired.items()},
        "sentence": trained.sentence,
        "params": {kind: fitted.params for kind, fitted in trained.models.items()},
        "slices": trained.split.as_dict(),
        "rows": {
            name: {"rows": rows, "positives": positives}
            for name, (rows, positives) in trained.counts.items()
        },
        "features": len(trained.spec.features),
        "importance": dict(list(trained.importance.items())[:50]),
        "gates": [gate.as_dict() for gate in gates],
        "data_versions": trained.data_versions,
        "code_version": trained.code_version,
        "dagster_run_id": trained.dagster_run_id,
        "warnings": list(trained.warnings),
        "seconds": trained.seconds,
    }


def _plain(figure: Interval) -> dict[str, float | None]:
    values = {"value": figure.value, "low": figure.low, "high": figure.high}
    return {key: value if math.isfinite(value) else None for key, value in values.items()}


def _register(trained: TrainedModels, gates: list[Gate], settings: Settings) -> ModelRef:
    """Log one run and register its model; a run that fails half-way is marked FAILED."""
    name = trained.config.algorithm
    summary = summarize(trained, gates)
    made = client(settings)
    run = made.create_run(
        experiment(made, settings, name),
        run_name=f"{name} {trained.execution_date}",
        tags={"fingerprint": trained.fingerprint, "dagster_run_id": trained.dagster_run_id or ""},
    )
    run_id = str(run.info.run_id)
    try:
        _log_values(made, run_id, trained, summary)
        with TemporaryDirectory(prefix="usergrowth-model-") as folder:
            _save(trained, summary, Path(folder))
            made.log_artifacts(run_id, folder)
        made.set_terminated(run_id, "FINISHED")
    except BaseException:
        made.set_terminated(run_id, "FAILED")
        raise
    tags = {
        "algorithm": name,
        "config_hash": trained.config.config_hash(),
        "last_label_day": trained.last_label_day.isoformat(),
        "fit_last_label_day": trained.fit_last_label_day.isoformat(),
        "execution_date": trained.execution_date.isoformat(),
        "champion": trained.champion,
        "status": decide(gates, trained.config.require_review),
        "gates": "; ".join(f"{g.name} {'passed' if g.passed else 'failed'}" for g in gates),
        "fingerprint": trained.fingerprint,
    }
    return add_version(made, settings, name, run_id, tags)


def _log_values(
    made: "MlflowClient", run_id: str, trained: TrainedModels, summary: dict[str, Any]
) -> None:
    from mlflow.entities import Metric, Param, RunTag

    flat: dict[str, float] = {}
    for scorer, found in summary["metrics"].items():
        prefixes = [f"{scorer}/", *([""] if scorer == trained.champion else [])]
        for metric, parts in found.items():
            for part, value in parts.items():
                if value is not None:
                    suffix = "" if part == "value" else f"_{part}"
                    flat |= {f"{prefix}{metric}{suffix}": value for prefix in prefixes}
    params = {key: str(value) for key, value in summary["config"].items()}
    params |= {"execution_date": summary["execution_date"], "champion": trained.champion}
    params |= {"features": str(len(trained.spec.features))}
    for kind, fitted in trained.models.items():
        params |= {f"{kind}.{key}": str(value) for key, value in fitted.params.items()}
    tags = {
        "code_version": trained.code_version,
        "config_hash": summary["config_hash"],
        "data_versions": json.dumps(trained.data_versions, sort_keys=True),
        "mlflow.note.content": trained.sentence,
    }
    made.log_batch(
        run_id,
        metrics=[Metric(key, value, 0, 0) for key, value in flat.items()],
        params=[Param(key, value) for key, value in params.items()],
        tags=[RunTag(key, value) for key, value in tags.items()],
    )


def _save(trained: TrainedModels, summary: dict[str, Any], folder: Path) -> None:
    """Write everything that is logged: the model, its features, the pictures, the summary."""
    import mlflow.sklearn
    from mlflow.models import infer_signature

    model = trained.models[trained.champion].model
    example = trained.test.frame.head(5)
    mlflow.sklearn.save_model(
        model,
        str(folder / "model"),
        signature=infer_signature(example, model.predict_proba(example)),
        input_example=example,
        pyfunc_predict_fn="predict_proba",
        serialization_format="skops",
        skops_trusted_types=TRUSTED,
        pip_requirements=_requirements(
            ["usergrowth-dagster", "scikit-learn", "lightgbm", "skops", "pandas", "numpy"]
        ),
    )
    (folder / "model" / SPEC_FILE).write_text(
        trained.spec.model_dump_json(indent=1), encoding="utf-8"
    )
    pictures = folder / "figures"
    pictures.mkdir()
    for name, content in trained.figures.items():
        (pictures / f"{name}.png").write_bytes(content)
    (folder / SUMMARY_FILE).write_text(json.dumps(summary, indent=1), encoding="utf-8")
    listed = [{"name": f.name, "feature": f.label, "kind": f.kind} for f in trained.spec.features]
    (folder / "features.json").write_text(json.dumps(listed, indent=1), encoding="utf-8")


def _requirements(packages: Sequence[str]) -> list[str]:
    """Installed versions of packages as pip requirements."""
    from importlib.metadata import version

    return [f"{name}=={version(name)}" for name in packages]
