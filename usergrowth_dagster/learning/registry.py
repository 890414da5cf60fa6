"""The model registry: what a training made is judged, logged and registered; what may score.

A version's life: registered as ``approved`` when it passes every gate of :mod:`gates`,
``waiting_review`` when the job wants a person's word first or a person took the label's version
back, ``rejected`` otherwise. The same inputs make a version once: their fingerprint is one of its
tags.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from usergrowth_dagster.learning.artifacts import (
    REFERENCE_FILE,
    FilesChangedError,
    FilesGoneError,
    LoadedModel,
    load,
    read_artifacts,
)
from usergrowth_dagster.learning.card import headline, write_card
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.curves import reliability
from usergrowth_dagster.learning.gates import (
    Gate,
    calibration_gate,
    champion_gate,
    features_gate,
    leakage_gate,
    positives_gate,
)
from usergrowth_dagster.learning.recording import SavedModel, record
from usergrowth_dagster.learning.reviewing import newest_model, taken_back
from usergrowth_dagster.learning.store import ModelRef, Status, versions
from usergrowth_dagster.learning.training import TrainedModels
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine


def register(
    engine: Engine,
    relation: str,
    trained: TrainedModels,
    settings: Settings,
    *,
    serving: Mapping[str, str] | None = None,
) -> ModelRef:
    """Judge a training's champion, log it and register it as the next version.

    Args:
        engine: holds the training relation, so that the current version can be scored on the new
            test slice.
        relation: the training relation.
        trained: what :func:`training.train` returned.
        settings: where MLflow is, and the gates' bounds.
        serving: column → SQL type of the tables that people are scored from.

    Returns:
        The version with its status; the one made before when the inputs are the same.
    """
    config = trained.config
    current = newest_model(settings, config.algorithm, config.config_hash(), trained.execution_date)
    known = find_fingerprint(settings, config.algorithm, trained.fingerprint)
    if known is not None:
        return known
    kept = _kept(current) if current else None
    before, loaded = kept or (None, None)
    gates = [
        positives_gate(trained, settings),
        features_gate(trained, serving),
        leakage_gate(trained, settings, before),
        calibration_gate(trained, settings),
        champion_gate(engine, relation, trained, loaded, settings),
    ]
    held = ""
    if current is not None and kept is None:
        held = f"the files of version {current.version}, which scored, are gone from MLflow or "
        held += "were altered, so the two could not be compared"
    return _register(trained, gates, settings, held)


def find_fingerprint(settings: Settings, name: str, fingerprint: str) -> ModelRef | None:
    """The version made from exactly the same inputs, if there is one and its files are its own."""
    found = versions(settings, name, tags={"fingerprint": fingerprint})
    return found[-1] if found and _kept(found[-1]) else None


def _kept(ref: ModelRef) -> tuple[dict[str, Any], LoadedModel] | None:
    """A version's summary and model; None of one that can be made anew: its files are gone, or are
    others than were registered.
    """
    try:
        return read_artifacts(ref)[0], load(ref)
    except (FilesGoneError, FilesChangedError):
        return None


def decide(
    gates: list[Gate], config: TrainingConfig, settings: Settings, held: str = ""
) -> tuple[Status, dict[str, str]]:
    """Status of a new version by its gates, and its tags ``status``, ``gates`` and ``held``.

    ``held`` is a reason to wait for a person that no gate knows; empty when there is none.
    """
    status: Status = "waiting_review" if config.require_review or held else "approved"
    if not all(gate.passed for gate in gates):
        status = "rejected"
    elif back := taken_back(settings, config.algorithm, config.config_hash()):
        status = "waiting_review"
        why = f": {back.why}" if back.why else ""
        held = f"version {back.version} was {back.status} by {back.reviewed_by}{why}"
    return status, {"status": status, "gates": in_words(gates), "held": held}


def summarize(trained: TrainedModels, gates: list[Gate]) -> dict[str, Any]:
    """What a training found out, as JSON-ready values."""
    return {
        **trained.summary(trained.champion),
        "paired": {metric: figure.as_dict() for metric, figure in trained.paired.items()},
        "params": {kind: fitted.params for kind, fitted in trained.models.items()},
        "rows": {
            name: {"rows": rows, "positives": positives}
            for name, (rows, positives) in trained.counts.items()
        },
        "test": {"users": len(set(trained.test.user.tolist()))},
        "importance": dict(list(trained.importance.items())[:50]),
        "directions": {n: found.direction for n, found in list(trained.leans.items())[:50]},
        "parts": [_finite(part.as_dict()) for part in trained.parts],
        "gains": [_finite(gain.as_dict()) for gain in trained.gains],
        "reliability": _reliability(trained),
        "upkeep": {
            way: {name: figure.as_dict() for name, figure in found.items()}
            for way, found in trained.upkeep.items()
        },
        "drift": trained.drift.as_dict(),
        "alone": {n: round(auc, 4) for n, auc in trained.screening.alone.items()},
        "screened": list(trained.screening.seen),
        "gates": [gate.as_dict() for gate in gates],
    }


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    """A record whose figures JSON can hold."""
    return {
        name: {k: v if math.isfinite(v) else None for k, v in value.items()}
        if isinstance(value, dict)
        else value
        for name, value in record.items()
    }


def _reliability(trained: TrainedModels) -> list[dict[str, float]]:
    """The champion's calibration by tenth of the test rows, highest scores first."""
    score = trained.models[trained.champion].model.calibrated(trained.held_out.score)
    found = reliability(trained.test.label, score)
    return [
        dict(zip(found, map(float, row), strict=True)) for row in zip(*found.values(), strict=True)
    ]


def _register(trained: TrainedModels, gates: list[Gate], settings: Settings, held: str) -> ModelRef:
    """Log one run and register its model."""
    summary = summarize(trained, gates)
    status, verdict = decide(gates, trained.config, settings, held)
    fitted = trained.models
    return record(
        settings,
        trained,
        SavedModel(
            model=trained.closed,
            example=trained.test.frame.head(5),
            predict="predict_proba",
            files={f"model/{REFERENCE_FILE}": trained.reference.model_dump_json()},
        ),
        summary,
        verdict=verdict,
        own=trained.champion,
        params={f"{k}.{n}": str(v) for k, one in fitted.items() for n, v in one.params.items()},
        card=write_card(summary),
        description=headline(summary, status),
    )


def in_words(gates: Sequence[Gate]) -> str:
    """Which gates were passed and failed, as the tag ``gates`` holds it."""
    return "; ".join(f"{g.name} {'passed' if g.passed else 'failed'}" for g in gates)
