"""Numbers and codes of an effect in words that need no explanation."""

import re
from dataclasses import asdict
from datetime import date

from usergrowth_dagster.effects.lift import wilson
from usergrowth_dagster.effects.result import Effect, Estimate, Loss, Verdict, View

STEP_WORDS = {
    "uploaded": "Uploaded",
    "eligible": "Eligible",
    "chosen": "Chosen",
    "planned": "Planned",
    "sent": "Sent",
    "delivered": "Delivered",
    "returned": "Returned",
}
STEP_MEANINGS = {
    "uploaded": "rows of the upload",
    "eligible": "could be texted at all",
    "chosen": "are to be texted",
    "planned": "are in the send plan",
    "sent": "the provider took the text",
    "delivered": "the provider reported the text as delivered",
    "returned": "{past} in the window",
}
"""``{past}`` and the like stand for the words of :class:`~.result.ReturnWords`."""
LOSS_WORDS = {
    "unreadable": "row that could not be taken in, now in quarantine",
    "duplicate": "repeated an earlier row of the upload",
    "not_in_segment": "not in the snapshot of the campaign's segment",
    "no_features": "nothing was known of them before the date, so there is no score",
    "no_phone": "no phone number in the upload",
    "bad_phone": "the phone number is not one",
    "no_country": "the phone number does not say its country, and no default country is set",
    "no_email": "no e-mail address in the upload",
    "bad_email": "the e-mail address is not one",
    "suppressed": "opted out, or on the suppression list",
    "capped": "had as many texts already as one may get",
    "many_users": "the person has more user ids than one person can have",
    "no_consent": "without the consent that the campaign asks for",
    "not_active": "silent already, while the model speaks of active users only",
    "not_in_question": "not a user that the campaign's question is about",
    "unknown_zone": "the time zone given for them is not known, so neither is the night there",
    "missing_variable": "a variable of the text had no value",
    "too_long": "the text would have been too long",
    "other_item": "another item of the same user was better",
    "shared_phone": "another user with the same phone number was chosen",
    "shared_email": "another user with the same e-mail address was chosen",
    "same_person": "another user of the same person was chosen",
    "below_threshold": "score not above the threshold",
    "not_in_top_n": "others ranked better",
    "over_budget": "the budget went to better ranked ones",
    "not_profitable": "the text would cost more than it is expected to bring",
    "holdout": "held out as this campaign's control group",
    "global_holdout": "held out as the control group of all campaigns",
    "no_plan": "no send plan holds them yet",
    "waiting": "the text has not gone out yet",
    "being_sent": "the text is being handed over",
    "in_doubt": "no answer from the provider: may have gone out, is not sent again",
    "rejected": "the provider refused the text",
    "send_by_passed": "the deadline passed before their turn came",
    "cancelled": "the campaign was cancelled",
    "forgotten": "the person was forgotten",
    "unusable_row": "the message could not be made",
    "min_gap": "the last message was too short ago",
    "number_cap": "the provider's limit for the number was reached",
    "quiet_hours": "it was never day where they are before the deadline",
    "skipped": "left out of the send plan",
    "after_window": "the text went out after the last day that counts",
    "undelivered": "the provider could not deliver the text",
    "no_report": "the provider has not reported on the text",
    "never_reported": "went out, and the provider never reported on it",
    "not_clicked": "nobody called the link",
    "only_bots": "only programs called the link",
    "not_returned": "did not {infinitive} in the window",
    "not_returned_yet": "not known to have {participle} so far; the window is still open",
}
VIEW_WORDS: dict[View, str] = {
    "intention_to_treat": "everybody who was to be texted, whether the text arrived or not",
    "delivered_only": "only those whose text was delivered",
}
VIEW_NAMES: dict[View, str] = {
    "intention_to_treat": "Intention to treat",
    "delivered_only": "Delivered only",
}
VERDICT_WORDS: dict[Verdict, str] = {
    "works": "The texts worked",
    "harms": "The texts did harm",
    "no_effect_shown": "No effect shown",
    "not_yet": "Too early to conclude",
    "nothing_sent": "Nothing was sent",
    "dry_run": "Dry run: nobody was texted",
    "no_control": "No control group",
    "uneven_split": "The split is uneven: no conclusion",
}


def verdict_words(effect: Effect) -> str:
    """The verdict's headline."""
    if effect.verdict != "dry_run" and effect.sample_ratio and effect.sample_ratio.altered:
        return "The decision was altered: no conclusion"
    return VERDICT_WORDS[effect.verdict]


def in_words(text: str, effect: Effect) -> str:
    """A text with what a return is called in place of ``{past}`` and the like."""
    return text.format(**asdict(effect.words))


def step_meaning(step: str, effect: Effect) -> str:
    """What a step of the funnel means."""
    return in_words(STEP_MEANINGS.get(step, ""), effect)


def loss_words(loss: Loss, effect: Effect) -> str:
    """The reason of a loss in plain words."""
    known = LOSS_WORDS.get(loss.reason)
    return loss.reason.replace("_", " ") if known is None else in_words(known, effect)


def count(value: float) -> str:
    """A number of people, messages or rows: ``1,234``."""
    return f"{round(value):,}".replace("-", "\N{MINUS SIGN}")


def percent(value: float, digits: int = 1) -> str:
    """A share: ``12.3 %``."""
    return signed(f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%")


def rate(value: float | None) -> str:
    """A rate, or that nobody was there to have one."""
    return "nobody" if value is None else percent(value)


def signed(text: str) -> str:
    """A number with a real minus sign; nothing is not negative."""
    return re.sub(r"-(0(?:\.0+)?)(?![\d.])", r"\1", text).replace("-", "\N{MINUS SIGN}")


def money(value: float, currency: str) -> str:
    """An amount: ``1,234.50 CNY``; small prices keep their digits."""
    digits = 2 if abs(value) >= 1 or value == 0 else 4
    return signed(f"{value:,.{digits}f}\N{NO-BREAK SPACE}{currency}")


def per_thousand(value: float) -> str:
    """A difference of rates as people of 1,000: ``+12.3``."""
    return signed(f"{1000 * value:+.1f}")


def between(estimate: Estimate, form: str = "{:+.1f}", factor: float = 1.0) -> str:
    """The interval in brackets, or why there is none."""
    if estimate.low is None or estimate.high is None:
        return "too few for an interval"
    low, high = (form.format(factor * bound) for bound in (estimate.low, estimate.high))
    return signed(f"[{low}, {high}]")


def day(value: date) -> str:
    """A date for people: ``4 May 2017``."""
    return f"{value.day} {value:%b %Y}"


def rate_interval(returned: int, users: int, level: float) -> tuple[float, float] | None:
    """Wilson's interval of a return rate; None without users."""
    return wilson(returned, users, level) if users else None


def cost_bounds(estimate: Estimate) -> str:
    """Interval of a cost; one that may be endless, as when no effect is shown, has no bound."""
    if estimate.low is None and estimate.high is None:
        return ""
    low = "0" if estimate.low is None else f"{estimate.low:,.2f}"
    high = "no limit" if estimate.high is None else f"{estimate.high:,.2f}"
    return signed(f"[{low}, {high}]")
