"""From a training of effects to a registered version of ``uplift``, the same inputs once."""

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.lifecycle import Registered
from usergrowth_dagster.learning.registry import (
    TRUSTED,
    decide,
    find_fingerprint,
    read_artifacts,
)
from usergrowth_dagster.learning.runs import RunRecord, log_version, requirements
from usergrowth_dagster.learning.store import (
    CARD_FILE,
    SPEC_FILE,
    SUMMARY_FILE,
    ModelRef,
    read_card,
)
from usergrowth_dagster.learning.training import Progress, fingerprint
from usergrowth_dagster.learning.uplift import model as saved
from usergrowth_dagster.learning.uplift.card import write_uplift_card
from usergrowth_dagster.learning.uplift.training import (
    CHOSEN,
    TrainedUplift,
    interval,
    train_uplift,
)
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine

NAME = "uplift"


def train_and_register_uplift(
    engine: Engine,
    relation: str,
    config: TrainingConfig,
    execution_date: date,
    settings: Settings,
    *,
    data_versions: Mapping[str, int],
    data_mark: str = "",
    code_version: str,
    dagster_run_id: str | None = None,
    progress: Progress = lambda _: None,
) -> Registered:
    """Train, judge and register, or return the version made before from the same inputs.

    Raises:
        UserError: too little to learn from; nothing is registered then.
    """
    mark = fingerprint(config, execution_date, settings, data_mark or data_versions, code_version)
    known = find_fingerprint(settings, NAME, mark)
    ref = known
    if ref is None:
        trained = train_uplift(
            engine,
            relation,
            config,
            execution_date,
            settings,
            data_versions=data_versions,
            data_mark=data_mark,
            code_version=code_version,
            dagster_run_id=dagster_run_id,
            progress=progress,
        )
        progress("register")
        ref = register_uplift(trained, settings)
    summary, figures = read_artifacts(ref)
    return Registered(ref, known is not None, summary, figures, read_card(ref))


def register_uplift(trained: TrainedUplift, settings: Settings) -> ModelRef:
    """Log a training and register its model as the next version of ``uplift``."""
    summary = summarize_uplift(trained)
    tags = {
        "algorithm": NAME,
        "config_hash": trained.config.config_hash(),
        "last_label_day": trained.last_label_day.isoformat(),
        "fit_last_label_day": trained.fit_last_label_day.isoformat(),
        "execution_date": trained.execution_date.isoformat(),
        "champion": trained.choice.chosen.name,
        **decide(trained.gates, trained.config, settings)[1],
        "fingerprint": trained.fingerprint,
    }
    return log_version(
        settings,
        NAME,
        tags=tags,
        record=_record(trained, summary),
        write=lambda folder: _save(trained, summary, folder),
        description=trained.sentence,
    )


def summarize_uplift(trained: TrainedUplift) -> dict[str, Any]:
    """What a training found out, as JSON-ready values, in the shape of the other models'."""
    return {
        "algorithm": NAME,
        "config": trained.config.model_dump(mode="json"),
        "config_hash": trained.config.config_hash(),
        "execution_date": trained.execution_date.isoformat(),
        "last_label_day": trained.last_label_day.isoformat(),
        "champion": trained.choice.chosen.name,
        "metrics": {
            name: {metric: interval(figure) for metric, figure in found.items()}
            for name, found in trained.evaluation.metrics.items()
        },
        "paired": {
            f"chosen against {name}": interval(trained.evaluation.difference("qini", CHOSEN, name))
            for name in trained.evaluation.metrics
            if name != CHOSEN
        },
        "choice": [vars(figure) for figure in trained.choice.figures],
        "sentence": trained.sentence,
        "params": {
            name: {part: vars(size) for part, size in learner.sizes.items()}
            for name, learner in trained.choice.fitted.items()
        },
        "slices": trained.split.as_dict(),
        "rows": {
            name: {
                "rows": sum(arm["rows"] for arm in found.values()),
                "positives": sum(arm["returns"] for arm in found.values()),
                **found,
            }
            for name, found in trained.rows.items()
        },
        "left_out": vars(trained.without),
        "deciles": [found.as_dict() for found in trained.bins],
        "calibration": trained.calibration.as_dict(),
        "features": len(trained.spec.features),
        "importance": dict(list(trained.importance.items())[:50]),
        "gates": [gate.as_dict() for gate in trained.gates],
        "data_versions": trained.data_versions,
        "code_version": trained.code_version,
        "dagster_run_id": trained.dagster_run_id,
        "warnings": list(trained.warnings),
        "seconds": trained.seconds,
    }


def _record(trained: TrainedUplift, summary: dict[str, Any]) -> RunRecord:
    flat: dict[str, float] = {}
    for scorer, found in summary["metrics"].items():
        plain = "".join(c if c.isalnum() or c in "_-. /" else "-" for c in scorer)
        for metric, parts in found.items():
            for part, value in parts.items():
                if value is not None:
                    name = f"{metric}{'' if part == 'value' else f'_{part}'}"
                    flat[f"{plain}/{name}"] = value
                    if scorer == CHOSEN:
                        flat[name] = value
    params = {key: str(value) for key, value in summary["config"].items()}
    params |= {"execution_date": summary["execution_date"], "champion": summary["champion"]}
    params |= {"features": str(summary["features"])}
    tags = {
        "dagster_run_id": trained.dagster_run_id or "",
        "code_version": trained.code_version,
        "config_hash": summary["config_hash"],
        "data_versions": json.dumps(trained.data_versions, sort_keys=True),
        "mlflow.note.content": trained.sentence,
    }
    return RunRecord(f"{NAME} {trained.execution_date}", flat, params, tags)


def _save(trained: TrainedUplift, summary: dict[str, Any], folder: Path) -> None:
    """Write everything that is logged: the model, its features, the pictures, the summary."""
    import mlflow.sklearn
    from mlflow.models import infer_signature

    example = trained.example
    mlflow.sklearn.save_model(
        trained.model,
        str(folder / "model"),
        signature=infer_signature(example, trained.model.predict(example)),
        input_example=example,
        serialization_format="skops",
        skops_trusted_types=[*TRUSTED, *saved.TRUSTED],
        pip_requirements=requirements(
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
    text = json.dumps(summary, indent=1)
    (folder / SUMMARY_FILE).write_text(text, encoding="utf-8")
    (folder / CARD_FILE).write_text(write_uplift_card(json.loads(text)), encoding="utf-8")
