"""What may be concluded, in one sentence of plain words, and what should be known beside it.

The verdict rests on one comparison that was fixed beforehand: returns of everybody drawn for a text
against everybody held out, adjusted where the arms are large enough
(:mod:`usergrowth_dagster.effects.contrasts`). The amounts, the tenths and the texts stand beside it
and decide nothing, so that not the best of many figures is picked.

Texts that blur the arms are counted, not removed: leaving out those who were texted by another
campaign would make the arms differ by what the campaigns chose them for. By intention to treat they
stay in their arm, and the effect measured is that of this campaign on top of whatever else goes on.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.effects.interim import analysis_day
from usergrowth_dagster.effects.result import (
    CAME_BACK,
    STAYED,
    ArmFigures,
    Contrast,
    Estimate,
    SampleRatio,
    Verdict,
)
from usergrowth_dagster.effects.rows import Plan, Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

CONTROL_ELSEWHERE = "control_texted_by_others"
TREATED_ELSEWHERE = "treated_texted_by_others"
CONTROL_HERE = "control_texted_by_this"
MEANINGS = {
    CONTROL_ELSEWHERE: "control users who got a text of another task in the window",
    TREATED_ELSEWHERE: "treated users who got a text of another task in the window too",
    CONTROL_HERE: "control users who got this task's text, which must never be",
}

_SMALL_ARM = 100


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
    treatment, control = arms[0], arms[1]
    if ratio is not None and not ratio.passed:
        return "uneven_split", f"Nothing can be concluded: {ratio.sentence}."
    if treatment.users == 0:
        nobody = "could be texted" if plan.everything else "was chosen for a text"
        return "nothing_sent", f"Nothing can be concluded: nobody {nobody}."
    if not anything_sent and plan.sent_later:
        return "nothing_sent", (
            f"Nothing can be concluded: no text had gone out by the end of {plan.sent_until}, the "
            "last day that counts; all went out later."
        )
    if not anything_sent:
        return "nothing_sent", "Nothing can be concluded: no text has gone out."
    if whole is None:
        return "no_control", (
            f"{treatment.returned} of {treatment.users} {_drawn(plan)} {_returned(plan)}; how many "
            "would have done so without the text is unknown, since nobody was held out."
        )
    waits = not plan.complete and (plan.looks <= 1 or plan.look == 0)
    if waits or not (plan.complete or whole.lift.excludes_zero()):
        return "not_yet", _not_yet(plan, treatment, control)
    return _shown(plan, whole, control)


def _not_yet(plan: Plan, treatment: ArmFigures, control: ArmFigures) -> str:
    """When the next analysis is due, and the bare counts so far."""
    days = analysis_day(plan.look + 1 if plan.looks > 1 else 1, plan.looks, plan.return_days)
    due = plan.execution_date + timedelta(days=days)
    so_far = ""
    if plan.counted_until is not None:
        so_far = (
            f"; by {plan.counted_until}, {treatment.returned} of {treatment.users} {_drawn(plan)} "
            f"and {control.returned} of {control.users} held-out users {_returned(plan)}"
        )
    what = (
        f"analysis {plan.look + 1} of {plan.looks}" if plan.looks > 1 else "the end of the window"
    )
    return f"Nothing can be concluded before {what}, when {due} has landed{so_far}."


def _shown(plan: Plan, whole: Contrast, control: ArmFigures) -> tuple[Verdict, str]:
    """The verdict of an analysis that may conclude."""
    lift = whole.lift
    size = per_thousand(lift, plan)
    early = (
        "" if plan.complete else f" by {plan.counted_until} (analysis {plan.look} of {plan.looks})"
    )
    beyond = "whether the same holds for people who were not chosen is not shown"
    if plan.everything:
        beyond = "which of the campaigns that is due to is not shown"
    if lift.low is None or lift.high is None:
        return "no_effect_shown", (
            f"No effect is shown: {control.users} users held out are too few for an interval."
        )
    if lift.low > 0:
        verb = "The texts work" if plan.everything else "The text works"
        return "works", f"{verb}: {size} {_interval(lift.low, lift.high)}{early}; {beyond}."
    if lift.high < 0:
        verb = "The texts do harm" if plan.everything else "The text does harm"
        return "harms", f"{verb}: {size} {_interval(-lift.high, -lift.low)}{early}; {beyond}."
    return "no_effect_shown", (
        f"No effect is shown: {size}; with {control.users} users held out, anything from "
        f"{_signed(lift.low)} to {_signed(lift.high)} of 1,000 fits what was seen."
    )


def per_thousand(lift: Estimate, plan: Plan) -> str:
    """A lift as "12 more of 1,000 came back than without the text"."""
    word = "more" if lift.value >= 0 else "fewer"
    without = "any text" if plan.everything else "the text"
    return f"{_number(abs(lift.value))} {word} of 1,000 {_returned(plan)} than without {without}"


def _interval(low: float, high: float) -> str:
    return f"[{_number(low)}, {_number(high)}]"


def _drawn(plan: Plan) -> str:
    """Who is in the treatment arm: of all campaigns together, also whom none of them chose."""
    return "users who could be texted" if plan.everything else "chosen users"


def _returned(plan: Plan) -> str:
    return (STAYED if plan.stays else CAME_BACK).past


def _number(rate: float) -> str:
    """A rate as users of 1,000; with a decimal where it is small."""
    users = rate * 1000
    shown = f"{abs(users):.1f}" if abs(users) < 9.95 else f"{abs(users):.0f}"
    shown = shown.removesuffix(".0")
    return shown if users >= 0 or shown == "0" else f"\N{MINUS SIGN}{shown}"


def _signed(rate: float) -> str:
    return f"{_number(abs(rate))} {'fewer' if rate < 0 else 'more'}"


def notes_of(plan: Plan, rows: Rows, whole: Contrast | None) -> list[str]:
    """What a reader should know beside the verdict; without a word about a person."""
    crossed = crossover(rows.treated, rows.sent, rows.others)
    notes = _redrawn(crossed) if plan.everything else crossover_notes(crossed)
    if plan.sent_later and rows.sent.any():
        notes.append(
            f"{plan.sent_later} users got a text of this task after {plan.sent_until}, the last "
            "day that counts; neither its cost nor what it brought is in these figures."
        )
    if plan.gaps > 0:
        notes.append(
            f"{plan.gaps} of the counted days of the window hold no behavior at all: if they have "
            "not landed, returns are missing in both arms."
        )
    if plan.looks > 1 and whole is not None and plan.look:
        notes.append(
            f"This is analysis {plan.look} of {plan.looks}; the intervals are at "
            f"{whole.level:.2%}, so that all analyses together err in {1 - plan.level:.0%} of "
            "campaigns without an effect."
        )
    smaller = min(int(rows.treated.sum()), int((~rows.treated).sum()))
    if 0 < smaller < _SMALL_ARM and whole is not None:
        notes.append(
            f"The smaller arm has {smaller} users: a mean of amounts has an interval only where "
            "enough of them paid."
        )
    unsent = int((rows.treated & ~rows.sent).sum())
    if unsent and rows.sent.any():
        notes.append(
            f"{unsent} of {int(rows.treated.sum())} {_drawn(plan)} got no text; they count "
            "all the same, for of the control group it is not known who would have got none."
        )
    if whole is not None and rows.sent.any() and not rows.has_receipts:
        notes.append("No delivery was ever reported, so texts that went out count as delivered.")
    return notes


def _redrawn(crossed: dict[str, int]) -> list[str]:
    """What a period's arms got by decisions of another draw of the global control group."""
    one, other = crossed[CONTROL_ELSEWHERE], crossed[TREATED_ELSEWHERE]
    never = crossover_notes(crossed | {CONTROL_ELSEWHERE: 0, TREATED_ELSEWHERE: 0})
    if not one and not other:
        return never
    return [
        *never,
        f"{one} users of the control group and {other} of the others got texts in the window that "
        "were decided under another draw of the control group; the effect is on top of those.",
    ]


def crossover(treated: "Array", sent: "Array", others: "Array") -> dict[str, int]:
    """Users by what they got besides; see :data:`MEANINGS`.

    Args:
        treated: whether each row is of the treatment arm, shape (n,), booleans.
        sent: whether a text of this task went out, shape (n,), booleans.
        others: texts of other tasks in the window, shape (n,).
    """
    return {
        CONTROL_ELSEWHERE: int((~treated & (others > 0)).sum()),
        TREATED_ELSEWHERE: int((treated & (others > 0)).sum()),
        CONTROL_HERE: int((~treated & sent).sum()),
    }


def crossover_notes(people: dict[str, int]) -> list[str]:
    """A sentence about each kind of crossing that there is."""
    sentences = []
    if people[CONTROL_HERE]:
        sentences.append(
            f"{people[CONTROL_HERE]} users of the control group got this task's text, which must "
            "never be: the effect is underrated."
        )
    if people[CONTROL_ELSEWHERE] or people[TREATED_ELSEWHERE]:
        sentences.append(
            f"{people[CONTROL_ELSEWHERE]} users of the control group and "
            f"{people[TREATED_ELSEWHERE]} of the chosen got texts of other campaigns in the "
            "window; the effect is that of this text on top of those."
        )
    return sentences
