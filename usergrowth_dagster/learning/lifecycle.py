"""From a training job to a registered version, without training the same thing twice."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from usergrowth_dagster.learning.artifacts import read_artifacts, read_card
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.origin import MadeFrom, Progress
from usergrowth_dagster.learning.registry import find_fingerprint, register
from usergrowth_dagster.learning.store import ModelRef
from usergrowth_dagster.learning.targets import target_called
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
