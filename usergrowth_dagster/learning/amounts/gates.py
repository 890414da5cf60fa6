"""What a new version of amounts must pass before it may score anyone.

``amounts`` (enough rows with one), ``features`` (what it takes is there when scoring), ``leakage``,
``bias`` (the sum is right), ``calibration`` (so is each tenth), ``champion`` (not worse than the
version that scores now).
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from usergrowth_dagster.learning.amounts.metrics import evaluate_amounts
from usergrowth_dagster.learning.amounts.training import RESAMPLES, TrainedAmounts
from usergrowth_dagster.learning.dataset import flat_rows
from usergrowth_dagster.learning.gates import MIN_COMPARED, Gate, features_gate
from usergrowth_dagster.learning.leakage import is_trusted
from usergrowth_dagster.learning.origin import label_gap_holds
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    from usergrowth_dagster.learning.artifacts import LoadedModel

MAX_BIAS = 0.1  # of the sum, beyond what chance alone shows
MAX_DECILE_ERROR = 0.15  # of all amounts, beyond what chance alone shows


def judge_amounts(
    engine: Engine,
    relation: str,
    trained: TrainedAmounts,
    settings: Settings,
    *,
    serving: Mapping[str, str] | None,
    current: "LoadedModel | None",
) -> list[Gate]:
    """Every gate."""
    return [
        amounts_gate(trained, settings),
        features_gate(trained, serving),
        leakage_gate(trained, settings),
        bias_gate(trained),
        calibration_gate(trained),
        champion_gate(engine, relation, trained, current, settings),
    ]


def amounts_gate(trained: TrainedAmounts, settings: Settings) -> Gate:
    """The train and the test slice hold enough rows with an amount to learn and judge by."""
    least = {"train": settings.min_positives_train, "test": settings.min_positives_test}
    parts, passed = [], True
    for name, bound in least.items():
        _, some, _ = trained.counts[name]
        enough = some >= bound
        passed = passed and enough
        verb = "at least" if enough else "fewer than"
        parts.append(f"{some:,} rows with an amount in the {name} slice, {verb} {bound}")
    return Gate("amounts", passed, "; ".join(parts))


def leakage_gate(trained: TrainedAmounts, settings: Settings) -> Gate:
    """Labels closed between slices and before D, and no number alone knows the amounts."""
    if not label_gap_holds(trained):
        return Gate("leakage", False, "a label was not closed before the next slice or before D")
    trusted = {f.label for f in trained.spec.features if is_trusted(f, settings)}
    bound = 2 * settings.leak_auc - 1  # the Gini of an AUC
    alone = {name: gini for name, gini in trained.alone.items() if name not in trusted}
    leaks = [name for name, gini in alone.items() if gini >= bound]
    if leaks:
        return Gate(
            "leakage",
            False,
            f"{', '.join(leaks)} alone order the amounts with a normalized Gini of {bound:.2f} or "
            "more; see where it comes from: if it is known on the day of the snapshot, name it in "
            "the setting trusted_features, or approve the version with a reason",
        )
    name, gini = next(iter(alone.items()), ("none", 0.0))
    return Gate(
        "leakage",
        True,
        f"the most telling single feature, {name}, has a normalized Gini of {gini:.3f} by itself",
    )


def bias_gate(trained: TrainedAmounts) -> Gate:
    """The sum of the predictions is that of the amounts, within :data:`MAX_BIAS` and chance."""
    bias = trained.metrics["bias"]
    passed = bias.low <= MAX_BIAS and bias.high >= -MAX_BIAS
    verb = "is within" if passed else "is beyond"
    return Gate(
        "bias",
        passed,
        f"the predictions of the test slice sum up to {1 + bias.value:.1%} [{1 + bias.low:.1%}, "
        f"{1 + bias.high:.1%}] of the amounts, which {verb} {MAX_BIAS:.0%} of them",
    )


def calibration_gate(trained: TrainedAmounts) -> Gate:
    """The predictions of each tenth are those of its amounts, but for chance.

    Chance's part is what a normal error of each tenth's sum shows: sqrt(2 / π) of its standard
    error, the mean of a half-normal. Twice that is allowed.
    """
    error = trained.metrics["decile_error"]
    wrong = sum(one["error"] * one["rows"] for one in trained.bins)
    real = sum(one["real"] * one["rows"] for one in trained.bins)
    chance = math.sqrt(2 / math.pi) * wrong / real
    bound = MAX_DECILE_ERROR + 2 * chance
    passed = error.value <= bound
    verb = "is within" if passed else "exceeds"
    return Gate(
        "calibration",
        passed,
        f"the tenths of the test slice are off by {error.value:.1%} [{error.low:.1%}, "
        f"{error.high:.1%}] of all amounts, which {verb} the bound {bound:.1%}",
    )


def champion_gate(
    engine: Engine,
    relation: str,
    trained: TrainedAmounts,
    current: "LoadedModel | None",
    settings: Settings,
) -> Gate:
    """The new version's deviance is not above the current one's by more than chance.

    A paired bootstrap interval on the same test rows decides, those after the last day that the
    current version was fitted on. A tie passes: the new version has learned from newer days.
    """
    import numpy as np

    if current is None:
        return Gate("champion", True, "there is no approved version of this label to compare with")
    version = current.ref.version
    where = f"{trained.test.where} and ds > '{current.ref.fit_last_label_day}'"
    frame, keys = flat_rows(engine, relation, current.spec, trained.config, where)
    amount = keys.column("_label").to_numpy().astype(np.float64)
    if len(amount) < MIN_COMPARED or not amount.sum() > 0:
        reason = f"{len(amount):,} test rows are of days that version {version} has not seen: too "
        return Gate("champion", True, reason + "few to compare the two")
    own, _ = flat_rows(engine, relation, trained.spec, trained.config, where)
    evaluation = evaluate_amounts(
        amount,
        {
            "new": trained.models[trained.champion].model.score(own),
            "old": current.model.as_judged().score(frame),
        },
        keys.column("_user").to_numpy(),
        resamples=RESAMPLES,
        seed=settings.seed,
    )
    new, old = (evaluation.metrics[name]["deviance"].value for name in ("new", "old"))
    gap = evaluation.difference("deviance", "new", "old")
    passed = not gap.low > 0
    verb = "is not above" if gap.value <= 0 else "differs by chance from" if passed else "is above"
    return Gate(
        "champion",
        passed,
        f"deviance {new:.4f} {verb} that of version {version} "
        f"({old:.4f}) on {len(amount)} test rows; paired "
        f"difference {gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]",
    )
