"""The rule that chooses among the candidates of a training.

The candidates are compared on the test slice, simplest first: logistic regression, LightGBM, the
blend of both. A more complex one takes the place of the best so far when its log-loss is smaller
with a paired 95 % interval (bootstrap by user) that leaves out 0. On a tie the simpler one wins.
"""

from usergrowth_dagster.learning.candidates import KINDS, ModelKind
from usergrowth_dagster.learning.metrics import Evaluation, Interval

NAMES: dict[ModelKind, str] = {
    "logistic": "the logistic regression",
    "lightgbm": "LightGBM",
    "blend": "the blend of both",
}
COMPARED = ("auc", "pr_auc", "log_loss", "ece", "capture_40")


def choose_champion(evaluation: Evaluation) -> tuple[ModelKind, dict[str, Interval], str]:
    """The champion by the rule, LightGBM minus logistic by metric, and what each step gained.

    Returns:
        Kind of the champion, paired differences with intervals, two sentences.
    """
    champion: ModelKind = KINDS[0]
    said = []
    for rival in KINDS[1:]:
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
    paired = {m: evaluation.difference(m, "lightgbm", "logistic") for m in COMPARED}
    return champion, paired, " ".join(said)
