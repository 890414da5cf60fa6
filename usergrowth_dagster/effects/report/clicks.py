"""The way of each arm's people through a text with a link, as rows of text."""

from usergrowth_dagster.effects.report.figures import BLOCKED, Row
from usergrowth_dagster.effects.report.words import (
    between,
    count,
    in_words,
    loss_words,
    per_thousand,
    percent,
)
from usergrowth_dagster.effects.result import ArmPath, Contrast, Effect, Estimate, Loss
from usergrowth_dagster.effects.sample_ratio import p_words

NO_EFFECT = (
    "A click is no effect: people who click might have {participle} anyway, and nobody of the "
    "control group can click. What the texts brought is the difference to the control group."
)
_DASH = "\N{EN DASH}"
_STEPS = {
    "planned": "Planned: drawn for this arm",
    "eligible": "Eligible: the send plan does not leave them out",
    "sent": "Sent: the provider took the text",
    "delivered": "Delivered: reported as such, or the link was called",
    "clicked": "Clicked: a person called the link, each counted once",
    "converted": "Converted: clicked, and {past} in the window",
}
_BLANKS = {
    "held_out": "nothing was sent: held out",
    "no_link": "the text has no link",
    "no_reports": "no delivery was reported",
    "not_landed": "no day of the window has landed",
    "dry_run": "dry run: nobody was texted",
}


def click_note(effect: Effect) -> str:
    """Why a click is no effect."""
    return in_words(NO_EFFECT, effect)


def path_columns(effect: Effect) -> list[str]:
    """The first heading of :func:`path_rows`, then one an arm with its channel."""
    arms = effect.clicks.arms if effect.clicks else []
    heads = [f"{arm.name} ({arm.channel})" if arm.channel else arm.name for arm in arms]
    return ["step, and why people were lost", *heads]


def path_rows(effect: Effect) -> list[Row]:
    """Steps and losses, a column an arm; then bots, click rate, returns of all, and the lift."""
    if effect.clicks is None:
        return []
    arms = effect.clicks.arms
    rows: list[Row] = []
    for step, title in _STEPS.items():
        reasons = dict.fromkeys(
            loss.reason for arm in arms for loss in arm.losses if loss.step == step
        )
        for reason in reasons:
            lost = [_lost(arm, step, reason) for arm in arms]
            words = loss_words(Loss(step, reason, 0), effect)
            rows.append(Row([words, *lost], "loss"))
        cells = [_people(arm, step) for arm in arms]
        rows.append(Row([in_words(title, effect), *cells], "step"))
    return [*rows, *_shares(effect, arms)]


def _lost(arm: ArmPath, step: str, reason: str) -> str:
    if arm.steps.get(step) is None:
        return _DASH
    rows = sum(one.rows for one in arm.losses if (one.step, one.reason) == (step, reason))
    return f"\N{MINUS SIGN}{count(rows)}" if rows else "0"


def _people(arm: ArmPath, step: str) -> str:
    people = arm.steps.get(step)
    if people is None:
        return f"{_DASH}\n{_BLANKS.get(arm.blanks.get(step, ''), '')}"
    return count(people)


def _shares(effect: Effect, arms: list[ArmPath]) -> list[Row]:
    """What stands below the steps, of everybody planned."""
    landed = effect.landed and effect.verdict != "dry_run"
    rows = [
        Row(
            [
                "only programs called the link, which counts for nothing",
                *[_DASH if arm.click_rate is None else count(arm.bots) for arm in arms],
            ]
        ),
        Row(["click rate, of those planned", *[_click_rate(arm) for arm in arms]], "whole"),
        Row(
            [
                f"{effect.words.past} in the window, clicked or not",
                *[_returned(arm) if landed else _DASH for arm in arms],
            ]
        ),
    ]
    lifts = [_lift(effect, arm) for arm in arms]
    if any(lift != _DASH for lift in lifts):
        title = f"more of 1,000 {effect.words.past} than of the control group"
        rows.append(Row([title, *lifts], "whole"))
    return rows


def _click_rate(arm: ArmPath) -> str:
    rate = arm.click_rate
    if rate is None or rate.low is None or rate.high is None:
        return _DASH
    return f"{percent(rate.value)}\n[{percent(rate.low)}, {percent(rate.high)}]"


def _returned(arm: ArmPath) -> str:
    planned = arm.steps["planned"]
    return f"{count(arm.returned)}\n{percent(arm.returned / planned)}" if planned else "0"


def _lift(effect: Effect, arm: ArmPath) -> str:
    contrast = _contrast(effect, arm.name, "control")
    if contrast is None:
        return _DASH
    return f"{per_thousand(contrast.lift.value)}\n{between(contrast.lift, factor=1000)}"


def _contrast(effect: Effect, one: str, other: str) -> Contrast | None:
    """What the effect says of two arms, by intention to treat; None where nothing is concluded."""
    if effect.verdict in BLOCKED:
        return None
    for contrast in effect.contrasts:
        pair = (contrast.treated, contrast.control)
        if contrast.view == "intention_to_treat" and pair == (one, other):
            return contrast
    return None


PAIR_COLUMNS = (
    "which text against which",
    "more of 1,000 clicked",
    "more of 1,000 returned: the effect",
)


def pair_rows(effect: Effect) -> list[Row]:
    """Each pair of texts: more clicks of 1,000, and beside them more returns."""
    if effect.clicks is None or effect.verdict in BLOCKED:
        return []
    rows = []
    for pair in effect.clicks.contrasts:
        contrast = _contrast(effect, pair.one, pair.other)
        returns = "not known" if contrast is None else _lines(contrast.lift, contrast.level)
        names = f"{pair.one} against {pair.other}"
        rows.append(Row([names, _lines(pair.difference, pair.level), returns]))
    return rows


def _lines(estimate: Estimate, level: float) -> str:
    """An estimate, its interval and its p-value, each on a line."""
    said = [between(estimate, factor=1000), f"{100 * level:.3g} % interval"]
    if estimate.p_value is not None:
        said.append(p_words(estimate.p_value))
    return f"{per_thousand(estimate.value)}\n{', '.join(said)}"


Table = tuple[tuple[str, ...], ...]


def click_tables(effect: Effect) -> tuple[Table, Table]:
    """The way by arm and the pairs of texts, for a terminal or Dagster: header first, or empty."""
    tables = []
    for header, rows in (
        (path_columns(effect), path_rows(effect)),
        (PAIR_COLUMNS, pair_rows(effect)),
    ):
        lines = [tuple(cell.replace("\n", " ") for cell in row.cells) for row in rows]
        tables.append((tuple(header), *lines) if lines else ())
    return tables[0], tables[1]
