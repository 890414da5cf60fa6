"""What a new version must pass before it may score anyone: calibration, leakage, the champion."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.dataset import flat_rows
from usergrowth_dagster.learning.metrics import Interval, evaluate
from usergrowth_dagster.learning.training import RESAMPLES, TrainedModels, label_gap_holds
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    from usergrowth_dagster.learning.store import LoadedModel

ECE_FLOOR = 0.02
LEAK_AUC = 0.99
LEAK_ROWS = 20_000
MIN_COMPARED = 200


@dataclass(frozen=True)
class Gate:
    """One gate: whether it was passed, and the sentence that says why."""

    name: str
    passed: bool
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """For records."""
        return asdict(self)


def calibration_gate(trained: TrainedModels) -> Gate:
    """The calibration error on the test slice is at most 0.02 plus twice what chance alone gives.

    The error is that of equal-mass bins (``ace``), since chance's part in it is known: with n rows
    and base rate b, ten bins of n / 10 perfectly calibrated rows show a mean gap of about
    sqrt(2 / π) · sqrt(b (1 − b) / (n / 10)), the mean of a half-normal.
    """
    import math

    rows, positives = trained.counts["test"]
    base = positives / rows
    chance = math.sqrt(2 / math.pi) * math.sqrt(base * (1 - base) * 10 / rows)
    bound = ECE_FLOOR + 2 * chance
    ace = trained.metrics["ace"].value
    verb = "is within" if ace <= bound else "exceeds"
    reason = f"calibration error {ace:.4f} on the test slice {verb} the bound {bound:.4f}"
    return Gate("calibration", ace <= bound, reason)


def leakage_gate(trained: TrainedModels) -> Gate:
    """Labels closed between slices and before D, and no single feature gives the label away."""
    import numpy as np
    from scipy.stats import rankdata

    if not label_gap_holds(trained):
        return Gate("leakage", False, "a label was not closed before the next slice or before D")
    label = trained.test.label
    at = np.linspace(0, len(label) - 1, min(LEAK_ROWS, len(label))).astype(int)
    y = label[at]
    positives = int(y.sum())
    negatives = len(y) - positives
    worst, name = 0.0, ""
    for feature in trained.spec.features:
        if feature.kind != "number" or not positives or not negatives:
            continue
        values = np.nan_to_num(trained.test.frame[feature.name].to_numpy()[at], nan=-np.inf)
        ranks = rankdata(values)[y == 1].sum()
        auc = (ranks - positives * (positives + 1) / 2) / (positives * negatives)
        if max(auc, 1 - auc) > worst:
            worst, name = float(max(auc, 1 - auc)), feature.label
    passed = worst < LEAK_AUC
    verb = "tells" if passed else "gives away"
    reason = f"the most telling single feature, {name}, {verb} the label with AUC {worst:.3f}"
    return Gate("leakage", passed, reason)


def champion_gate(
    engine: Engine,
    relation: str,
    trained: TrainedModels,
    current: "LoadedModel | None",
    settings: Settings,
) -> Gate:
    """The new version's log-loss is not above the current one's by more than chance.

    A paired bootstrap interval on the same test rows decides. A tie passes: the new version has
    learned from newer days.

    Only test rows after the last day the current version was fitted on are compared.
    """
    if current is None:
        return Gate("champion", True, "there is no approved version of this label to beat")
    version = current.ref.version
    where = f"{trained.test.where} and ds > '{current.ref.fit_last_label_day}'"
    frame, keys = flat_rows(engine, relation, current.spec, trained.config, where)
    label = keys.column("_label").to_numpy().astype(int)
    if len(label) < MIN_COMPARED or not 0 < label.sum() < len(label):
        reason = f"version {version} saw the test slice, so the two cannot be compared on it"
        return Gate("champion", True, reason)
    own, _ = flat_rows(engine, relation, trained.spec, trained.config, where)
    found = evaluate(
        label,
        {
            "new": trained.models[trained.champion].model.score(own),
            "old": current.model.score(frame),
        },
        keys.column("_user").to_numpy(),
        resamples=RESAMPLES,
        seed=settings.seed,
    )
    gap: Interval = found.difference("log_loss", "new", "old")
    passed = gap.low <= 0
    verb = "is not above" if gap.value <= 0 else "differs by chance from" if passed else "is above"
    reason = (
        f"log-loss {found.metrics['new']['log_loss'].value:.4f} {verb} that of version {version} "
        f"({found.metrics['old']['log_loss'].value:.4f}) on {len(label)} test rows; paired "
        f"difference {gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
    )
    return Gate("champion", passed, reason)
