"""The way of the people from the upload to the return, with every loss named.

    uploaded → eligible → chosen → planned → sent → delivered → returned

Each step is the one before less its losses, and each loss has a reason: the outcome of the
decision up to ``chosen``, the state and reason of the send ledger from there on. ``sent`` means
that the provider took the text. Where no delivery was ever reported for the task (a dry run, a
provider without receipts), ``delivered`` says nothing and is left out; ``returned`` is left out as
long as no day of the window has landed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from usergrowth_dagster.audience.eligibility import OUTCOMES
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.effects.result import Funnel, Loss

STEPS = ("uploaded", "eligible", "chosen", "planned", "sent", "delivered", "returned")

ELIGIBLE = frozenset(OUTCOMES[OUTCOMES.index("other_item") :])
"""Outcomes of rows that could be texted; every other row could not be texted at all."""
TEXTED = ("selected", "explored")
"""Outcomes of the rows whose arm is ``treatment``."""


@dataclass(frozen=True)
class Fate:
    """People who were chosen, by what became of their text.

    ``state`` and ``reason`` are those of the ledger; a ``state`` of None means that no send plan
    holds them. ``handed_over`` says whether the provider was given the text (``sent_time``), which
    distinguishes an expired row that went out from one that did not. A person with several texts
    counts once, by the one that got furthest. ``returned`` are those of ``rows`` who came back.
    """

    state: str | None
    reason: str | None
    handed_over: bool
    rows: int
    returned: int = 0


def build_funnel(
    decided: Mapping[str, int],
    fates: Iterable[Fate],
    *,
    unreadable: int = 0,
    held_globally: int = 0,
    complete: bool = True,
    landed: bool = True,
) -> Funnel:
    """The funnel of one task.

    Args:
        decided: rows of the decision by outcome.
        fates: of the rows that were chosen: those of the outcomes :data:`TEXTED`.
        unreadable: rows of the upload that are in quarantine.
        held_globally: those of the outcome ``holdout`` who are in the global control group.
        complete: whether the whole window has landed.
        landed: whether any day of the window has.

    Raises:
        ValueError: the counts do not add up, or a state is unknown.
    """
    people = list(fates)
    losses = [Loss("eligible", "unreadable", unreadable)]
    chosen = 0
    for outcome, rows in decided.items():
        if outcome in TEXTED:
            chosen += rows
        elif outcome == "holdout":
            losses.append(Loss("chosen", "holdout", rows - held_globally))
            losses.append(Loss("chosen", "global_holdout", held_globally))
        else:
            losses.append(Loss("chosen" if outcome in ELIGIBLE else "eligible", outcome, rows))
    if (known := sum(fate.rows for fate in people)) != chosen:
        raise ValueError(f"{chosen} rows were chosen, but the fate of {known} is known")
    lost: Counter[tuple[str, str]] = Counter()
    returned = {"delivered": 0, "sent": 0}
    for fate in people:
        step, reason = lost_at(fate)
        lost[step, reason] += fate.rows
        if step == "returned":
            returned["delivered"] += fate.returned
        if step in ("returned", "delivered"):
            returned["sent"] += fate.returned
    reported = bool(lost["returned", ""] or lost["delivered", "undelivered"])
    last = "delivered" if reported else "sent"
    ends = "not_returned" if complete else "not_returned_yet"
    losses += [Loss(step, reason, rows) for (step, reason), rows in lost.items() if reason]
    if not reported:
        losses = [loss for loss in losses if loss.step != "delivered"]
    names = [s for s in STEPS if (reported or s != "delivered") and (landed or s != "returned")]
    if landed:
        reached = sum(fate.rows for fate in people if _reached(fate, last))
        losses.append(Loss("returned", ends, reached - returned[last]))
    steps = _steps(names, unreadable + sum(decided.values()), losses)
    ordered = sorted(
        (loss for loss in losses if loss.rows),
        key=lambda loss: (STEPS.index(loss.step), -loss.rows, loss.reason),
    )
    funnel = Funnel(steps, ordered)
    if landed and steps["returned"] != returned[last]:
        raise ValueError(f"{returned[last]} returned, but the funnel ends in {steps['returned']}")
    check(funnel)
    return funnel


def check(funnel: Funnel) -> None:
    """Refuse a funnel that leaves anybody unexplained.

    Raises:
        ValueError: names the step and the number that nothing explains.
    """
    steps = list(funnel.steps.items())
    strays = {loss.step for loss in funnel.losses} - {name for name, _ in steps[1:]}
    if strays:
        raise ValueError(f"losses at steps that the funnel does not have: {sorted(strays)}")
    if any(loss.rows < 0 for loss in funnel.losses) or any(rows < 0 for _, rows in steps):
        raise ValueError("a count of the funnel is negative")
    for (before, many), (name, few) in pairwise(steps):
        explained = sum(loss.rows for loss in funnel.losses if loss.step == name)
        if many - few != explained:
            raise ValueError(
                f"{before} {many:,}, {name} {few:,}: nothing explains "
                f"{many - few - explained:,} of the {many - few:,}"
            )


def _steps(names: list[str], uploaded: int, losses: list[Loss]) -> dict[str, int]:
    steps = {"uploaded": uploaded}
    left = uploaded
    for name in names[1:]:
        left -= sum(loss.rows for loss in losses if loss.step == name)
        steps[name] = left
    return steps


def _reached(fate: Fate, step: str) -> bool:
    """Whether people got as far as ``sent`` or ``delivered``."""
    lost = lost_at(fate)[0]
    return STEPS.index(lost) > STEPS.index(step)


def lost_at(fate: Fate) -> tuple[str, str]:
    """The step that people did not reach, and why; ``("returned", "")``: it was delivered."""
    if fate.state is None:
        return "planned", "no_plan"
    state = MessageState(fate.state)
    if state is MessageState.DELIVERED:
        return "returned", ""
    if state is MessageState.ACCEPTED:
        return "delivered", "no_report"
    if state is MessageState.UNDELIVERED:
        return "delivered", "undelivered"
    if state is MessageState.EXPIRED:
        if fate.handed_over:
            return "delivered", "never_reported"
        return "sent", fate.reason or "send_by_passed"
    if state is MessageState.SKIPPED:
        return "sent", fate.reason or "skipped"
    return "sent", {
        MessageState.PLANNED: "waiting",
        MessageState.CLAIMED: "waiting",
        MessageState.SUBMITTING: "being_sent",
        MessageState.IN_DOUBT: "in_doubt",
        MessageState.REJECTED: "rejected",
    }[state]
