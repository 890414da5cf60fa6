"""The model registry: from a training job to a registered version, and what may score.

A version's life: registered as ``approved`` when it passes every gate of :mod:`gates`,
``waiting_review`` when the job wants a person's word first or a person took the label's version
back, ``rejected`` otherwise. The same inputs make a version once: their fingerprint is one of its
tags, so nothing is trained twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from usergrowth_dagster.learning.artifacts import (
    FilesChangedError,
    FilesGoneError,
    load,
    read_artifacts,
    read_card,
)
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.gates import Gate
from usergrowth_dagster.learning.origin import MadeFrom, Progress, Trained
from usergrowth_dagster.learning.recording import record
from usergrowth_dagster.learning.reviewing import newest_model, taken_back
from usergrowth_dagster.learning.store import ModelRef, Status, versions
from usergrowth_dagster.learning.targets import target_called
from usergrowth_dagster.learning.targets.base import Before
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine


@dataclass(frozen=True)
class Registered:
    """A registered version.

    Attributes:
        ref: the version, with its status.
        reused: whether it had been made before from the same inputs.
        summary: everything found out, as plain values: ``metrics`` (scorer → metric → value, low,
            high), ``champion``, ``paired``, ``sentence``, ``rows``, ``slices``, ``gates``,
            ``importance``, ``directions``, ``parts``, ``gains``, ``drift``, ``warnings``,
            ``seconds`` and what it was made from.
        figures: picture name → PNG bytes.
        card: the model card, markdown.
    """

    ref: ModelRef
    reused: bool
    summary: dict[str, Any]
    figures: dict[str, bytes] = field(repr=False)
    card: str = field(default="", repr=False)


def train_and_register(
    engine: Engine,
    relation: str,
    config: TrainingConfig,
    execution_date: date,
    settings: Settings,
    *,
    made_from: MadeFrom,
    serving: Mapping[str, str] | None = None,
    progress: Progress = lambda _: None,
) -> Registered:
    """Train, judge and register, or return the version made before from the same inputs.

    Arguments as in :meth:`Target.train` and :func:`registry.register`; the same inputs are the
    same job, execution date, data, code version and settings.

    Raises:
        UserError: too little to learn from; nothing is registered then.
    """
    marks = made_from.fingerprints(config, execution_date, settings)
    asked = (find_fingerprint(settings, config.algorithm, mark) for mark in marks)
    known = next((ref for ref in asked if ref is not None), None)
    ref = known
    if ref is None:
        target = target_called(config.problem.target)
        job = (engine, relation, config, execution_date, settings)
        trained = target.train(*job, made_from=made_from, progress=progress)
        progress("register")
        ref = register(engine, relation, trained, settings, serving=serving)
    summary, figures = read_artifacts(ref)
    return Registered(ref, known is not None, summary, figures, read_card(ref))


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
