"""The way of each arm's people through a text with a link, and how often people click.

    planned → eligible → sent → delivered → clicked → converted

Every step is a part of the one before, and each loss has its reason. ``planned`` counts the people
drawn for the arm, ``eligible`` those that the send plan keeps, ``clicked`` those whose short link a
person called (each once, bots apart), ``converted`` those of them who returned.
Somebody who clicked has the text in hand, whatever the provider says of it, and counts as
``delivered``. Where no delivery of an arm was ever reported the step is left open.

People also return without a click, so ``converted`` is less than what the effect report counts:
``returned``, of everybody planned. Nobody of the control group can click, so a click is no effect;
it says which text people look at.

Texts are drawn by a hash, so the click rate is a share of everybody planned: a share of those who
got a text would compare people who were not drawn alike. Its interval is Wilson's, that of the
difference of two texts Newcombe's. Several pairs share their errors as the contrasts of
:mod:`usergrowth_dagster.effects.contrasts` do: intervals after Bonferroni, p-values after Holm.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.effects.interim import holm
from usergrowth_dagster.effects.lift import Counts, rate_difference, wilson
from usergrowth_dagster.effects.report.funnel import Fate, lost_at
from usergrowth_dagster.effects.result import (
    ArmPath,
    ClickContrast,
    ClickPaths,
    Estimate,
    Loss,
)
from usergrowth_dagster.effects.texts import LATER

PATH = ("planned", "eligible", "sent", "delivered", "clicked", "converted")
CONTROL, EXPLORED = "control", "explored"
HELD_OUT, NO_LINK, NO_REPORTS, NOT_LANDED = "held_out", "no_link", "no_reports", "not_landed"
"""Why an arm has no count at a step."""


@dataclass(frozen=True)
class TextFate:
    """People of one arm, by what became of their text and of its link.

    ``fate`` is that of their text; ``clicked``: a person called the link; ``seen_by_bots``: a
    program did.
    """

    arm: str
    fate: Fate
    clicked: bool
    seen_by_bots: bool


@dataclass(frozen=True)
class TextArm:
    """An arm: its name, its channel (None: nothing is sent), and whether its text has a link."""

    name: str
    channel: str | None
    linked: bool


def build_paths(
    arms: Sequence[TextArm],
    fates: Sequence[TextFate],
    *,
    complete: bool,
    landed: bool,
    level: float = 0.95,
) -> ClickPaths:
    """The way of each arm's people.

    Args:
        arms: in the order to show; every fate is of one of them.
        fates: everybody who was drawn for an arm.
        complete: whether the whole window of the returns has landed.
        landed: whether any day of it has.
        level: of the intervals, all comparisons together.

    Raises:
        ValueError: a fate is of no arm, or the counts of an arm do not add up.
    """
    if strays := {one.arm for one in fates} - {arm.name for arm in arms}:
        raise ValueError(f"people of arms that there are not: {sorted(strays)}")
    paths = []
    for arm in arms:
        mine = [one for one in fates if one.arm == arm.name]
        path = _path(arm, mine, complete=complete, landed=landed, level=level)
        check_path(path)
        paths.append(path)
    return ClickPaths(paths, _contrasts(paths, level))


def check_path(path: ArmPath) -> None:
    """Refuse a way that leaves somebody unexplained.

    Raises:
        ValueError: names the arm, the steps and the number that nothing explains.
    """
    counted = [(name, rows) for name, rows in path.steps.items() if rows is not None]
    for (before, many), (name, few) in pairwise(counted):
        lost = sum(loss.rows for loss in path.losses if loss.step == name)
        if many - few != lost or few < 0:
            raise ValueError(
                f"arm {path.name}: {before} {many:,}, {name} {few:,}: nothing explains "
                f"{many - few - lost:,} of the {many - few:,}"
            )


def _path(
    arm: TextArm, fates: Sequence[TextFate], *, complete: bool, landed: bool, level: float
) -> ArmPath:
    planned = sum(one.fate.rows for one in fates)
    returned = sum(one.fate.returned for one in fates)
    path = ArmPath(arm.name, arm.channel, dict.fromkeys(PATH), [], {}, returned)
    path.steps["planned"] = planned
    if arm.channel is None:
        return replace(path, blanks=dict.fromkeys(PATH[1:], HELD_OUT))
    ends = "not_returned" if complete else "not_returned_yet"
    blanks = _blanks(arm, fates, landed)
    lost: Counter[tuple[str, str]] = Counter()
    for one in fates:
        step, reason = _lost_at(one, arm.linked, reported="delivered" not in blanks)
        kept = one.fate.returned if step == "converted" else 0
        lost[step, reason or ends] += one.fate.rows - kept
    left = planned
    for step in PATH[1:]:
        if step in blanks:
            continue
        left -= sum(rows for (at, _), rows in lost.items() if at == step)
        path.steps[step] = left
    losses = [Loss(*key, rows) for key, rows in lost.items() if rows and key[0] not in blanks]
    losses.sort(key=lambda loss: (PATH.index(loss.step), -loss.rows, loss.reason))
    clicked = path.steps["clicked"]
    rate = None
    if clicked is not None and planned:
        rate = Estimate(clicked / planned, *wilson(clicked, planned, level))
    bots = sum(one.fate.rows for one in fates if one.seen_by_bots and not one.clicked)
    return replace(path, losses=losses, blanks=blanks, click_rate=rate, bots=bots)


def _blanks(arm: TextArm, fates: Sequence[TextFate], landed: bool) -> dict[str, str]:
    """Steps of an arm that have no count, and why."""
    reports = (MessageState.DELIVERED, MessageState.UNDELIVERED)
    blanks = {}
    if not any(one.fate.state in reports for one in fates):
        blanks["delivered"] = NO_REPORTS
    if not arm.linked:
        blanks |= {"clicked": NO_LINK, "converted": NO_LINK}
    elif not landed:
        blanks["converted"] = NOT_LANDED
    return blanks


def _lost_at(one: TextFate, linked: bool, *, reported: bool) -> tuple[str, str]:
    """The step of :data:`PATH` that people did not reach, and why.

    People who clicked and did not return are lost at ``converted``.
    """
    if one.clicked and linked:
        return "converted", ""
    step, reason = lost_at(one.fate)
    if step == "planned":
        return "eligible", reason
    if step == "sent" and one.fate.state == MessageState.SKIPPED and reason != LATER:
        return "eligible", reason
    if step == "returned" or (step == "delivered" and not reported):
        return "clicked", "only_bots" if one.seen_by_bots else "not_clicked"
    return step, reason


def _contrasts(paths: Sequence[ArmPath], level: float) -> list[ClickContrast]:
    """Click rates of each pair of texts with a link and people."""
    rated = [path for path in paths if path.click_rate is not None and path.name != EXPLORED]
    pairs = list(combinations(rated, 2))
    shared = 1 - (1 - level) / max(1, len(pairs))
    differences = []
    for one, other in pairs:
        counts = [path.steps[step] or 0 for path in (one, other) for step in ("clicked", "planned")]
        differences.append(rate_difference(Counts(*counts), shared))
    corrected = holm([estimate.p_value for estimate in differences])
    return [
        ClickContrast(one.name, other.name, replace(estimate, p_value=p), shared)
        for (one, other), estimate, p in zip(pairs, differences, corrected, strict=True)
    ]
