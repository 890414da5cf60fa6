"""The rule that chooses among the candidates of a training.

The candidates are compared on the test slice, simplest first: recency, RFM, logistic regression,
LightGBM, the blend of both. A more complex one takes the place of the best so far when its log-loss
is smaller with a paired 95 % interval (bootstrap by user) that leaves out 0. On a tie the simpler
one wins, so on small or drifting data a baseline may be the champion.
"""

from usergrowth_dagster.learning.candidates import KINDS, SIMPLE, ModelKind
from usergrowth_dagster.learning.metrics import Evaluation, Interval

NAMES: dict[ModelKind, str] = {
    "recency": "recency alone",
    "rfm": "RFM (recency, frequency and money)",
    "logistic": "the logistic regression",
    "lightgbm": "LightGBM",
    "blend": "the blend of both",
}
COMPARED = ("auc", "pr_auc", "log_loss", "ece", "capture_40")


def choose_champion(evaluation: Evaluation) -> tuple[ModelKind, dict[str, Interval], str]:
    """The champion by the rule, LightGBM minus logistic by metric, and what each step gained.

    Returns:
        Kind of the champion, paired differences with intervals, a sentence a step.
    """
    present = [kind for kind in KINDS if kind in evaluation.metrics]
    champion = present[0]
    said = []
    for rival in present[1:]:
        loss = evaluation.difference("log_loss", rival, champion)
        auc = evaluation.difference("auc", rival, champion)
        wins = loss.value < 0 and loss.excludes_zero()
        said.append(
            f"{NAMES[rival][0].upper()}{NAMES[rival][1:]} {'beats' if wins else 'does not beat'} "
            f"{NAMES[champion]} on the test slice: AUC {auc.value:+.4f} "
            f"[{auc.low:+.4f}, {auc.high:+.4f}], log-loss {loss.value:+.4f} "
            f"[{loss.low:+.4f}, {loss.high:+.4f}] (paired 95 % interval by user)"
            + ("." if wins else ", so the simpler model stands.")
        )
        champion = rival if wins else champion
    if champion in SIMPLE:
        said.insert(
            0,
            f"A baseline scores: {NAMES[champion]}, since no model of more features is better on "
            "these rows by more than chance.",
        )
    paired = {m: evaluation.difference(m, "lightgbm", "logistic") for m in COMPARED}
    return champion, paired, " ".join(said)
