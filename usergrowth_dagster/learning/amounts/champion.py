"""The rule that chooses among the candidates of a training of amounts.

The candidates are compared on the test slice, simplest first. A more complex one takes the place of
the best so far when its mean Tweedie deviance is smaller with a paired 95 % interval (bootstrap by
user) that leaves out 0. On a tie the simpler one wins.
"""

from usergrowth_dagster.learning.amounts.candidates import KINDS, AmountKind
from usergrowth_dagster.learning.metrics import Evaluation, Interval

NAMES: dict[AmountKind, str] = {
    "past_average": "the past average",
    "tweedie": "Tweedie LightGBM",
    "two_stage": "LightGBM in two stages",
}
COMPARED = ("gini", "spearman", "decile_error", "deviance", "capture_40")


def choose_champion(
    evaluation: Evaluation,
) -> tuple[AmountKind, dict[str, dict[str, Interval]], str]:
    """The champion by the rule.

    Returns:
        Its kind; every other candidate less the past average, metric by metric; a sentence a step.
    """
    champion = KINDS[0]
    sentences = []
    for rival in KINDS[1:]:
        loss = evaluation.difference("deviance", rival, champion)
        gini = evaluation.difference("gini", rival, champion)
        wins = loss.value < 0 and loss.excludes_zero()
        name = NAMES[rival]
        sentences.append(
            f"{name[0].upper()}{name[1:]} {'beats' if wins else 'does not beat'} "
            f"{NAMES[champion]} on the test slice: normalized Gini {gini.value:+.4f} "
            f"[{gini.low:+.4f}, {gini.high:+.4f}], deviance {loss.value:+.4f} "
            f"[{loss.low:+.4f}, {loss.high:+.4f}] (paired 95 % interval by user)"
            + ("." if wins else ", so the simpler model stands.")
        )
        champion = rival if wins else champion
    paired: dict[str, dict[str, Interval]] = {
        rival: {metric: evaluation.difference(metric, rival, KINDS[0]) for metric in COMPARED}
        for rival in KINDS[1:]
    }
    return champion, paired, " ".join(sentences)
