"""What a training leaves in MLflow: one run with its figures and files, and the version made of it.

The same for every kind of model: tags of the version, figures and parameters of the run, the saved
model with its features, pictures, summary and card.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.artifacts import CARD_FILE, SPEC_FILE, SUMMARY_FILE, folder_digest
from usergrowth_dagster.learning.origin import Trained
from usergrowth_dagster.learning.store import (
    DIGEST,
    ModelRef,
    add_version,
    client,
    experiment,
)
from usergrowth_dagster.learning.trusted import TRUSTED
from usergrowth_dagster.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

BATCH = {"metrics": 1000, "params": 100, "tags": 100}  # that MLflow takes at once
PACKAGES = ("usergrowth-dagster", "scikit-learn", "lightgbm", "skops", "pandas", "numpy")


@dataclass(frozen=True)
class SavedModel:
    """A model as MLflow keeps it.

    Attributes:
        model: what is saved, by skops.
        example: some rows that it takes.
        predict: the method that MLflow asks.
        files: further files, path below the run's folder → text.
    """

    model: Any
    example: "pd.DataFrame"
    predict: str
    files: Mapping[str, str] = field(default_factory=dict)


def record(
    settings: Settings,
    trained: Trained,
    saved: SavedModel,
    summary: Mapping[str, Any],
    *,
    verdict: Mapping[str, str],
    own: str,
    params: Mapping[str, str],
    card: str,
    description: str,
) -> ModelRef:
    """Log one run with its files, and register its model as the next version of its algorithm.

    A run that fails half-way is marked FAILED and nothing is registered.

    Args:
        settings: where MLflow is.
        trained: the training.
        saved: its model.
        summary: what it found out, as JSON-ready values.
        verdict: the version's tags ``status``, ``gates`` and ``held``.
        own: the scorer whose figures also stand without its name before them.
        params: parameters of the run, beside those of the configuration.
        card: the model card, markdown.
        description: markdown that MLflow shows of the version.
    """
    name = trained.config.algorithm
    made = client(settings)
    run = made.create_run(
        experiment(made, settings, name),
        run_name=f"{name} {trained.execution_date}",
        tags={"fingerprint": trained.fingerprint},
    )
    run_id = str(run.info.run_id)
    try:
        _log(
            made, run_id, _figures(summary, own), {**_params(summary), **params}, _run_tags(summary)
        )
        with TemporaryDirectory(prefix="usergrowth-model-") as folder:
            _write(trained, saved, summary, card, Path(folder))
            digest = folder_digest(Path(folder) / "model")
            made.log_artifacts(run_id, folder)
        made.set_terminated(run_id, "FINISHED")
    except BaseException:
        made.set_terminated(run_id, "FAILED")
        raise
    trained.made_from.vouch(run_id, digest)
    tags = _version_tags(trained, summary, verdict) | {DIGEST: digest}
    return add_version(made, settings, name, run_id, tags, description)


def _version_tags(
    trained: Trained, summary: Mapping[str, Any], verdict: Mapping[str, str]
) -> dict[str, str]:
    """The tags that decide about a version, those that :class:`store.ModelRef` is made of."""
    names = ("algorithm", "config_hash", "last_label_day", "execution_date", "champion")
    return {
        **{name: str(summary[name]) for name in names},
        "fit_last_label_day": trained.fit_last_label_day.isoformat(),
        **verdict,
        "fingerprint": trained.fingerprint,
    }


def _run_tags(summary: Mapping[str, Any]) -> dict[str, str]:
    return {
        "dagster_run_id": summary["dagster_run_id"] or "",
        "code_version": summary["code_version"],
        "config_hash": summary["config_hash"],
        "data_versions": json.dumps(summary["data_versions"], sort_keys=True),
        "mlflow.note.content": summary["sentence"],
    }


def _params(summary: Mapping[str, Any]) -> dict[str, str]:
    names = ("execution_date", "champion", "features")
    params = {**summary["config"], **{name: summary[name] for name in names}}
    return {key: str(value) for key, value in params.items()}


def _figures(summary: Mapping[str, Any], own: str) -> dict[str, float]:
    """Every figure of the test slice by name, such as ``lightgbm/auc_low``."""
    flat: dict[str, float] = {}
    for scorer, metrics in summary["metrics"].items():
        # a feature's name may hold what MLflow's names may not
        plain = "".join(c if c.isalnum() or c in "_-. /" else "-" for c in scorer)
        prefixes = [f"{plain}/", *([""] if scorer == own else [])]
        for metric, parts in metrics.items():
            for part, value in parts.items():
                if value is not None:
                    suffix = "" if part == "value" else f"_{part}"
                    flat |= {f"{prefix}{metric}{suffix}": value for prefix in prefixes}
    return flat


def _write(
    trained: Trained, saved: SavedModel, summary: Mapping[str, Any], card: str, folder: Path
) -> None:
    """Write everything that is logged: model, features, pictures, summary, card."""
    save_model(saved, folder / "model")
    spec = trained.spec
    listed = [{"name": f.name, "feature": f.label, "kind": f.kind} for f in spec.features]
    texts = {
        f"model/{SPEC_FILE}": spec.model_dump_json(indent=1),
        CARD_FILE: card,
        SUMMARY_FILE: json.dumps(summary, indent=1),
        "features.json": json.dumps(listed, indent=1),
        **saved.files,
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "figures").mkdir()
    for name, content in trained.figures.items():
        (folder / "figures" / f"{name}.png").write_bytes(content)


def save_model(saved: SavedModel, folder: Path) -> None:
    """Write a model into a new folder, as MLflow keeps it."""
    import mlflow.sklearn
    from mlflow.models import infer_signature

    answer = getattr(saved.model, saved.predict)(saved.example)
    mlflow.sklearn.save_model(
        saved.model,
        str(folder),
        signature=infer_signature(saved.example, answer),
        input_example=saved.example,
        pyfunc_predict_fn=saved.predict,
        serialization_format="skops",
        skops_trusted_types=list(TRUSTED),
        pip_requirements=requirements(PACKAGES),
    )


def _log(
    made: "MlflowClient",
    run_id: str,
    figures: Mapping[str, float],
    settled: Mapping[str, str],
    tag_values: Mapping[str, str],
) -> None:
    """Figures, parameters and tags, in as many requests as MLflow's limits want."""
    from mlflow.entities import Metric, Param, RunTag

    metrics = iter([Metric(key, value, 0, 0) for key, value in figures.items()])
    params = iter([Param(key, value) for key, value in settled.items()])
    tags = iter([RunTag(key, value) for key, value in tag_values.items()])
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
