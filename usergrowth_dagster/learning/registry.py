"""The model registry: what a training made is judged, logged and registered; what may score.

A version's life: registered as ``approved`` when it passes every gate of :mod:`gates`,
``waiting_review`` when the job wants a person's word first or a person took the label's version
back, ``rejected`` otherwise. The same inputs make a version once: their fingerprint is one of its
tags.
"""

from collections.abc import Mapping, Sequence

from usergrowth_dagster.learning.artifacts import (
    FilesChangedError,
    FilesGoneError,
    load,
    read_artifacts,
)
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.gates import Gate
from usergrowth_dagster.learning.origin import Trained
from usergrowth_dagster.learning.recording import record
from usergrowth_dagster.learning.reviewing import newest_model, taken_back
from usergrowth_dagster.learning.store import ModelRef, Status, versions
from usergrowth_dagster.learning.targets import target_called
from usergrowth_dagster.learning.targets.base import Before
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine


def register(
    engine: Engine,
    relation: str,
    trained: Trained,
    settings: Settings,
    *,
    serving: Mapping[str, str] | None = None,
) -> ModelRef:
    """Judge a training's choice, log it and register it as the next version.

    Args:
        engine: holds the training relation, so that the current version can be scored on the new
            test slice.
        relation: the training relation.
        trained: what :meth:`Target.train` returned.
        settings: where MLflow is, and the gates' bounds.
        serving: column → SQL type of the tables that people are scored from.

    Returns:
        The version with its status; the one made before when the inputs are the same.
    """
    config, day = trained.config, trained.execution_date
    target = target_called(config.problem.target)
    current = None
    if target.compares:
        current = newest_model(settings, config.algorithm, config.config_hash(), day)
    known = find_fingerprint(settings, config.algorithm, trained.fingerprint)
    if known is not None:
        return known
    before = _kept(current) if current else None
    gates = target.judge(engine, relation, trained, settings, serving=serving, before=before)
    held = ""
    if current is not None and before is None:
        held = f"the files of version {current.version}, which scored, are gone from MLflow or "
        held += "were altered, so the two could not be compared"
    summary = target.summarize(trained, gates)
    status, verdict = decide(gates, config, settings, held)
    return record(
        settings,
        trained,
        target.saved(trained),
        summary,
        verdict=verdict,
        own=target.chosen(trained),
        params=target.params(trained),
        card=target.card(summary),
        description=target.headline(summary, status),
    )


def find_fingerprint(settings: Settings, name: str, fingerprint: str) -> ModelRef | None:
    """The version made from exactly the same inputs, if there is one and its files are its own."""
    refs = versions(settings, name, tags={"fingerprint": fingerprint})
    return refs[-1] if refs and _kept(refs[-1]) else None


def _kept(ref: ModelRef) -> Before | None:
    """A version's model and summary; None of one that can be made anew: its files are gone, or are
    others than were registered.
    """
    try:
        return Before(summary=read_artifacts(ref)[0], model=load(ref))
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


def in_words(gates: Sequence[Gate]) -> str:
    """Which gates were passed and failed, as the tag ``gates`` holds it."""
    return "; ".join(f"{g.name} {'passed' if g.passed else 'failed'}" for g in gates)
