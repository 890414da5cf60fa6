"""What a new version must pass before it may score anyone.

``positives`` (enough of either class), ``features`` (what it takes is there when scoring),
``leakage`` (the canary of :mod:`leakage`), ``calibration``, ``champion`` (not worse than the
version that scores now). Bounds are in ``settings/__init__.py``.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.learning.calibration import AGAIN, LEVEL
from usergrowth_dagster.learning.dataset import flat_rows
from usergrowth_dagster.learning.encoding import kind_of
from usergrowth_dagster.learning.leakage import is_trusted
from usergrowth_dagster.learning.metrics import Interval, evaluate
from usergrowth_dagster.learning.origin import Trained, label_gap_holds
from usergrowth_dagster.learning.training import RESAMPLES, TrainedModels
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    from usergrowth_dagster.learning.artifacts import LoadedModel

MIN_COMPARED = 200
SURE = 3.0  # standard errors: many features are looked at


@dataclass(frozen=True)
class Gate:
    """One gate: whether it was passed, and the sentence that says why."""

    name: str
    passed: bool
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """For records."""
        return asdict(self)


def positives_gate(trained: TrainedModels, settings: Settings) -> Gate:
    """The train and the test slice hold enough rows of the rarer class to learn and judge by."""
    least = {"train": settings.min_positives_train, "test": settings.min_positives_test}
    sentences, passed = [], True
    for name, bound in least.items():
        rows, positives = trained.counts[name]
        few, kind = min((positives, "positive"), (rows - positives, "negative"))
        enough = few >= bound
        passed = passed and enough
        verb = "at least" if enough else "fewer than"
        sentences.append(f"{few:,} {kind} rows in the {name} slice, {verb} {bound}")
    return Gate("positives", passed, "; ".join(sentences))


def features_gate(trained: Trained, serving: Mapping[str, str] | None) -> Gate:
    """Every column that the model takes is there, of the same kind, when people are scored.

    Args:
        trained: the training.
        serving: column → SQL type of the tables that are scored; None when the caller has none.
    """
    if serving is None:
        return Gate("features", True, "no serving tables were given to compare with")
    kinds = {c: k for c, k in trained.spec.columns.items() if c in _taken(trained)}
    missing = sorted(c for c in kinds if c not in serving)
    retyped = sorted(c for c in kinds if c in serving and kind_of(serving[c]) != kinds[c])
    if not missing and not retyped:
        return Gate("features", True, f"all {len(kinds)} columns are there when people are scored")
    sentences = []
    if missing:
        sentences.append(f"{', '.join(missing)} will be missing when people are scored")
    sentences += [
        f"{c} is a {kinds[c]} here and {serving[c]} when people are scored" for c in retyped
    ]
    return Gate("features", False, "; ".join(sentences))


def _taken(trained: Trained) -> set[str]:
    return {f.column for f in trained.spec.features}


def calibration_gate(trained: TrainedModels, settings: Settings) -> Gate:
    """The calibration error on the test slice is at most the bound plus twice what chance gives.

    It is that of the map as it is kept: fitted again as labels close, and with its level refreshed
    where the setting is on. A map that went stale within the test slice says nothing of the
    version, which scores with a newer one.

    The error is that of equal-mass bins (``ace``), since chance's part in it is known: with n rows
    and base rate b, ten bins of n / 10 perfectly calibrated rows show a mean gap of about
    sqrt(2 / π) · sqrt(b (1 − b) / (n / 10)), the mean of a half-normal. Of a weighted sample n is
    Kish's effective rows, and b the base rate of all rows.
    """
    import math

    import numpy as np

    label, weight = trained.test.label, trained.test.weight
    base = float(np.average(label, weights=weight))
    rows = len(label) if weight is None else weight.sum() ** 2 / (weight**2).sum()
    chance = math.sqrt(2 / math.pi) * math.sqrt(base * (1 - base) * 10 / rows)
    bound = settings.max_calibration_error + 2 * chance
    kept = LEVEL if settings.refresh_level_days else AGAIN
    ace = trained.upkeep[kept]["ace"].value
    verb = "is within" if ace <= bound else "exceeds"
    reason = f"calibration error {ace:.4f} on the test slice, {kept}, {verb} the bound {bound:.4f}"
    return Gate("calibration", ace <= bound, reason)


def leakage_gate(
    trained: TrainedModels, settings: Settings, before: Mapping[str, Any] | None = None
) -> Gate:
    """Labels closed between slices and before D, and no feature knows the future.

    Args:
        trained: the training.
        settings: the bounds and the trusted features.
        before: the summary of the approved version before, where there is one.
    """
    if not label_gap_holds(trained):
        return Gate("leakage", False, "a label was not closed before the next slice or before D")
    screening = trained.screening
    trusted = {f.label for f in trained.spec.features if is_trusted(f, settings)}
    alone = {name: auc for name, auc in screening.alone.items() if name not in trusted}
    sentences = [
        f"{name} gives away the label with AUC {auc:.3f} by itself"
        for name, auc in alone.items()
        if auc >= settings.leak_auc
    ]
    if screening.dependence is not None:
        fall = screening.dependence.fall
        names = " and ".join(screening.dependence.features)
        sentences.append(
            f"{names} {'know' if ' and ' in names else 'knows'} what no other feature does: "
            f"{fall.value:.0%} [{fall.low:.0%}, {fall.high:.0%}] of the log-loss goes with it"
        )
    sentences += _jumps(trained, alone, before or {}, settings.leak_jump)
    if sentences:
        advice = (
            "; see where it comes from: if it is known on the day of the snapshot, name it in the "
            "setting trusted_features, or approve the version with a reason"
        )
        return Gate("leakage", False, "; ".join(sentences) + advice)
    name, auc = next(iter(alone.items()), ("none", 0.5))
    return Gate(
        "leakage",
        True,
        f"the most telling single feature, {name}, has AUC {auc:.3f} by itself, and no feature is "
        "one the others could not stand in for",
    )


def _jumps(
    trained: TrainedModels, alone: Mapping[str, float], before: Mapping[str, Any], bound: float
) -> list[str]:
    """Features that tell far more by themselves than in the version before, beyond chance."""
    sentences = []
    rows = before.get("rows", {}).get("test", {})
    seen = trained.screening.seen
    then = before.get("screened") or (rows.get("rows", 0), rows.get("positives", 0))
    for name, known in before.get("alone", {}).items():
        now = alone.get(name, 0.0)
        error = _error(now, *seen) ** 2 + _error(known, *then) ** 2
        if now - known > bound + SURE * error**0.5:
            sentences.append(
                f"{name} has AUC {now:.3f} by itself, and had {known:.3f} in the version before"
            )
    return sentences


def _error(auc: float, rows: int, positives: int) -> float:
    """Standard error of an AUC (Hanley & McNeil 1982, equation 1), rows taken as independent."""
    one, two = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    rest = rows - positives
    spread = auc * (1 - auc) + (positives - 1) * (one - auc**2) + (rest - 1) * (two - auc**2)
    return float((max(spread, 0.0) / max(positives * rest, 1)) ** 0.5)


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
        return Gate("champion", True, "there is no approved version of this label to compare with")
    version = current.ref.version
    where = f"{trained.test.where} and ds > '{current.ref.fit_last_label_day}'"
    frame, keys = flat_rows(engine, relation, current.spec, trained.config, where)
    label = keys.column("_label").to_numpy().astype(int)
    if len(label) < MIN_COMPARED or not 0 < label.sum() < len(label):
        kept = f"{len(label):,} test rows, {label.sum():,} of them positive, are of days that"
        reason = f"{kept} version {version} has not seen: too few to compare the two"
        return Gate("champion", True, reason)
    day = keys.column("_ds").to_numpy().astype("datetime64[D]")
    own, _ = flat_rows(engine, relation, trained.spec, trained.config, where)
    evaluation = evaluate(
        label,
        {
            "new": trained.models[trained.champion].model.score(own),
            "old": current.model.as_judged().score(frame),
        },
        keys.column("_user").to_numpy(),
        weight=trained.sample.weights(day, label) if trained.sample else None,
        resamples=RESAMPLES,
        seed=settings.seed,
    )
    new, old = (evaluation.metrics[name]["log_loss"].value for name in ("new", "old"))
    gap: Interval = evaluation.difference("log_loss", "new", "old")
    passed = gap.low <= 0
    verb = "is not above" if gap.value <= 0 else "differs by chance from" if passed else "is above"
    reason = (
        f"log-loss {new:.4f} {verb} that of version {version} "
        f"({old:.4f}) on {len(label)} test rows; paired "
        f"difference {gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
    )
    return Gate("champion", passed, reason)
