"""The plain sentence of what became of a person in a task."""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.wall_clock import shown_moment
from usergrowth_dagster.explain.story import Story
from usergrowth_dagster.messaging.people.person import Contact

OUTCOME_WORDS = {
    "duplicate": "the row repeats an earlier one of the upload",
    "no_features": "nothing is known of the user before the date, so there is no score",
    "no_phone": "the population has no phone number for the user",
    "bad_phone": "the phone number in the population is not one",
    "no_country": "the phone number in the population does not say its country, and no default "
    "country is set",
    "no_email": "the population has no e-mail address for the user",
    "bad_email": "the e-mail address in the population is not one",
    "suppressed": "suppressed",
    "capped": "had as many messages as one may get",
    "no_consent": "has not given the consent that the campaign asks for",
    "not_active": "was silent already, and the model speaks of active users only",
    "unknown_zone": "the time zone given for the user is not known, so neither is the night there",
    "missing_variable": "a variable of the text has no value for the user",
    "too_long": "the text would be too long",
    "other_item": "another item of the same user was better",
    "shared_phone": "another user with the same phone number was chosen",
    "shared_email": "another user with the same e-mail address was chosen",
    "below_threshold": "the score is not above the threshold",
    "not_in_top_n": "others rank higher",
    "not_profitable": "the text is not worth its cost",
    "over_budget": "the budget went to those who rank higher",
    "holdout": "held out as control",
    "explored": "chosen at random from those who were not to be texted",
    "selected": "selected",
}
"""What an outcome of a decision says of a person."""

_BELOW = ("below_threshold", "not_in_top_n", "not_profitable", "over_budget")

SKIP_WORDS = {
    **OUTCOME_WORDS,
    "cancelled": "the campaign was cancelled",
    "forgotten": "the person was forgotten",
    "unusable_row": "the message could not be made",
    "min_gap": "the last message was too short ago",
    "number_cap": "the provider's limit for the number was reached",
    "quiet_hours": "it was never day where the person is before the deadline",
    "send_by_passed": "the deadline passed before its turn came",
}
"""What a reason of the ledger says of a person."""


def task_sentence(story: Story, contact: Contact, zone: ZoneInfo) -> str:
    """One sentence, without the person's name, that says how a task ended for them."""
    if story.messages:
        newest = _message(story.messages[-1], contact, zone)
        sent = sum(bool(message["sent_time"]) for message in story.messages[:-1])
        if not sent:
            return newest
        texts = f"{sent} earlier message" + "s" * (sent > 1)
        return f"was sent {texts} of this campaign; of the newest: {newest}"
    if not story.decisions:
        return f"is in the population, but the task has not been decided: it is {story.status}"
    decision = story.decisions[0]
    outcome = decision["outcome"]
    if outcome in ("selected", "explored"):
        return f"was {OUTCOME_WORDS[outcome]}, but no send plan has been made"
    words = OUTCOME_WORDS.get(outcome, outcome.replace("_", " "))
    if outcome == "suppressed":
        words = _suppressed(contact, zone) or "suppressed when it was decided"
    if outcome == "holdout" and decision.get("holdout") == "global":
        words = "held out as control of all campaigns"
    score = decision["score"]
    place = f" (score {score:.4f})" if score is not None and outcome in _BELOW else ""
    return f"got nothing: {words}{place}"


def outcome_sentence(story: Story) -> str:
    """What came after a decision, as far as it is measured."""
    found = story.outcome
    if found is None:
        return "what came after is not measured yet (usergrowth report)"
    if found["counted_until"] is None:
        return "no behavior has landed since"
    last, counted = found["window_last"], found["counted_until"]
    if found["returned"]:
        days = found["days_to_return"]
        day = story.execution_date + timedelta(days=days)
        past = "stayed: was active" if story.stays else "came back"
        after = f"after {days} day{'s' * (days > 1)}, on {day}" if days else "on the day itself"
        sentence = f"{past} {after}"
    elif counted >= last:
        sentence = f"did not {'stay: not active' if story.stays else 'come back'} by {last}"
    else:
        past = "not been active" if story.stays else "not come back"
        sentence = f"has {past} by {counted}; counted until {last}"
    return sentence + (f"; amount {found['amount']:,.2f}" if found["amount"] else "")


def _message(message: dict[str, Any], contact: Contact, zone: ZoneInfo) -> str:
    state: MessageState = message["state"]
    code = f" ({message['error_code']})" if message["error_code"] else ""
    sent = at(message["sent_time"], zone)
    if state is MessageState.DELIVERED:
        when = at(message["final_time"] or message["updated_time"], zone)
        return f"got the message: sent {sent}, delivered {when}"
    if state is MessageState.ACCEPTED:
        return f"was sent the message {sent}: the provider took it and has not reported since"
    if state is MessageState.IN_DOUBT:
        return (
            f"may have got the message: submitted {sent} without an answer "
            f"({message['reason'] or 'unknown'}), so it is looked up and not sent again"
        )
    if state is MessageState.SUBMITTING:
        return "is being sent the message right now"
    if state is MessageState.UNDELIVERED:
        return f"got nothing: sent {sent}, and the provider could not deliver it{code}"
    if state is MessageState.REJECTED:
        return f"got nothing: the provider refused the message{code}"
    if state in (MessageState.PLANNED, MessageState.CLAIMED):
        return _waiting(message, contact, zone)
    if state is MessageState.EXPIRED and message["sent_time"]:
        return f"was sent the message {sent}, and the provider never reported"
    reason = message["reason"] or state.value
    words = SKIP_WORDS.get(reason, reason.replace("_", " "))
    if reason == "suppressed":
        words = _suppressed(contact, zone) or words
    when = at(message["updated_time"], zone)
    return f"got nothing: {words} ({state.value} {when})"


def _waiting(message: dict[str, Any], contact: Contact, zone: ZoneInfo) -> str:
    """Of a message that has not gone out: what keeps it."""
    verdict = message["verdict"]
    if message["occurrence_state"] in (OccurrenceState.STOPPED, OccurrenceState.CANCELLED):
        why = f": {message['occurrence_reason']}" if message["occurrence_reason"] else ""
        return f"has got nothing: the occurrence is {message['occurrence_state'].value}{why}"
    if message["paused"]:
        return "has got nothing yet: the campaign is paused"
    if verdict is not None and verdict["wait_until"] is None:
        words = SKIP_WORDS.get(verdict["reason"], verdict["reason"])
        if verdict["reason"] == "suppressed":
            words = _suppressed(contact, zone) or words
        return f"gets nothing: {words}; the message is skipped when its turn comes"
    if verdict is not None:
        words = verdict["reason"].replace("_", " ")
        return f"has got nothing yet: waits until {at(verdict['wait_until'], zone)} ({words})"
    times = (message["not_before"], message["due"])
    due = max(time for time in times if time is not None)
    return (
        f"has got nothing yet: the message is planned for {at(due, zone)}, "
        f"at the latest {at(message['send_by'], zone)}"
    )


def _suppressed(contact: Contact, zone: ZoneInfo) -> str:
    """Since when and why, of the suppression that came first."""
    if not contact.suppressed:
        return ""
    first = contact.suppressed[0]
    where = "" if first["scope"] == "*" else f" for the signature {first['scope']}"
    return (
        f"suppressed since {at(first['created_time'], zone)} by "
        f"{first['reason'].replace('_', ' ')}{where}"
    )


def at(moment: datetime | None, zone: ZoneInfo) -> str:
    """A time for people, in the business time zone."""
    return shown_moment(moment, zone) if moment else "at an unknown time"
