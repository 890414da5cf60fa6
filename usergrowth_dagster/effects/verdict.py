"""What may be concluded, in one sentence of plain words."""

from collections.abc import Sequence
from datetime import timedelta

from usergrowth_dagster.effects.result import ArmFigures, Contrast, SampleRatio, Verdict
from usergrowth_dagster.effects.rows import Plan


def conclude(
    plan: Plan,
    arms: Sequence[ArmFigures],
    whole: Contrast | None,
    ratio: SampleRatio | None,
    anything_sent: bool,
) -> tuple[Verdict, str]:
    """The verdict and its sentence.

    Args:
        plan: of the analysis.
        arms: the figures of treatment and control first.
        whole: treatment against control by intention to treat; None without both.
        ratio: the sample-ratio test.
        anything_sent: whether any text went out.
    """
    if ratio is not None and not ratio.passed:
        return "uneven_split", f"Nothing can be concluded: {ratio.sentence}."
    treatment, control = arms[0], arms[1]
    if not anything_sent:
        return "nothing_sent", "Nothing can be concluded: no text of this campaign has gone out."
    if whole is None:
        return "no_control", (
            f"{treatment.returned} of {treatment.users} texted users returned; how many would have "
            "come anyway cannot be told, since nobody was held out."
        )
    last = plan.execution_date + timedelta(days=plan.return_days)
    if plan.look == 0 or not (plan.complete or plan.looks > 1):
        return "not_yet", f"Nothing can be concluded before the behavior of {last} has landed."
    lift = whole.absolute
    amount = f"{abs(lift.value) * 1000:.0f}"
    interval = _interval(lift.low, lift.high)
    if lift.low is not None and lift.low > 0:
        return "works", (
            f"The texts bring people back: {amount} more of 1,000 came back than without the text "
            f"{interval}."
        )
    if lift.high is not None and lift.high < 0:
        return "harms", (
            f"The texts keep people away: {amount} fewer of 1,000 came back than without the text "
            f"{interval}."
        )
    more = "more" if lift.value >= 0 else "fewer"
    return "no_effect_shown", (
        f"No effect is shown: {amount} {more} of 1,000 came back than without the text {interval}, "
        f"among {treatment.users} texted and {control.users} held out; an effect within that range "
        "cannot be ruled out."
    )


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "(too few users for an interval)"
    return f"[{low * 1000:.0f}, {high * 1000:.0f}]"
