"""What became of a person in a task: the answer to why, as values, steps and one plain sentence.

The steps are the questions that a decision asked of one row, in order, each with its answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from usergrowth_dagster.audience.eligibility import OUTCOMES
from usergrowth_dagster.audience.persons import MOST_USERS
from usergrowth_dagster.audience.policy import Money, Policy, Threshold, parse_policy
from usergrowth_dagster.control.campaign import CampaignSpec
from usergrowth_dagster.control.campaign_blocks import Channel
from usergrowth_dagster.control.codes import MessageState, OccurrenceState
from usergrowth_dagster.control.wall_clock import shown_moment
from usergrowth_dagster.effects.policies import words
from usergrowth_dagster.learning.problems import problems
from usergrowth_dagster.messaging.people.person import Contact
from usergrowth_dagster.pipeline.provenance import Provenance
from usergrowth_dagster.ranks import UPLIFT

Reply = Literal["yes", "no", "not asked"]

OUTCOME_WORDS = {
    "duplicate": "the row repeats an earlier one of the upload",
    "not_in_segment": "not in the snapshot of the campaign's segment",
    "no_features": "nothing is known of the user before the date, so there is no score",
    "no_phone": "the population has no phone number for the user",
    "bad_phone": "the phone number in the population is not one",
    "no_country": "the phone number in the population does not say its country, and no default "
    "country is set",
    "no_email": "the population has no e-mail address for the user",
    "bad_email": "the e-mail address in the population is not one",
    "suppressed": "suppressed",
    "capped": "had as many messages as one may get",
    "many_users": "the person has more user ids than one person can have",
    "no_consent": "has not given the consent that the campaign asks for",
    "not_active": "was silent already, and the model speaks of active users only",
    "not_in_question": "the campaign's question is about other users",
    "unknown_zone": "the time zone given for the user is not known, so neither is the night there",
    "missing_variable": "a variable of the text has no value for the user",
    "too_long": "the text would be too long",
    "other_item": "another item of the same user was better",
    "shared_phone": "another user with the same phone number was chosen",
    "shared_email": "another user with the same e-mail address was chosen",
    "same_person": "another user of the same person was chosen",
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

_CHOSEN = ("selected", "holdout")


@dataclass(frozen=True)
class Step:
    """One question and its answer; ``not asked``: an earlier answer settled it."""

    question: str
    answer: Reply
    detail: str = ""


@dataclass(frozen=True)
class Cut:
    """Where a task's choice ended: the rank of the last one chosen, and that one's score."""

    rank: int | None
    score: float | None


@dataclass
class Story:
    """What became of a person in one task.

    Attributes:
        rows: numbers of the person's rows of the population.
        features: whether the user had any.
        decisions: the rows of the decision, the one that counts first.
        messages: rows of the ledger, oldest first.
        sentence: how it ended.
        eligible: whether the first decision could have been to text the user at all.
        steps: all that the first decision asked.
        mattered: the features that moved its score.
        mattered_note: why none are listed.
        outcome: what came after it, as far as it is measured.
        stays: whether a return means that an active user did not fall silent (churn).
    """

    task_id: str
    campaign: str
    execution_date: date
    status: str
    rows: list[int] = field(default_factory=list)
    features: bool | None = None
    decisions: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    sentence: str = ""
    eligible: bool | None = None
    steps: list[Step] = field(default_factory=list)
    mattered: list[dict[str, Any]] = field(default_factory=list)
    mattered_note: str = ""
    outcome: dict[str, Any] | None = None
    stays: bool = False


@dataclass
class Why:
    """A person's whole story; ``sentence`` is the answer, ``tasks`` come newest first.

    ``elsewhere`` counts the tasks asked for that do not have the person in their population.
    """

    user_id: str
    sentence: str
    forgotten: datetime | None
    tasks: list[Story]
    elsewhere: int
    contact: Contact


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
        words = _suppressed(contact, zone) or (
            "suppressed when it was decided"
            if decision.get("users") is None
            else "suppressed when it was decided, by this or another user id of the person"
        )
    if outcome == "holdout" and decision.get("holdout") == "global":
        words = "held out as control of all campaigns"
    score = decision["score"]
    place = f" (score {score:.4f})" if score is not None and outcome in _BELOW else ""
    return f"got nothing: {words}{place}"


def outcome_sentence(story: Story) -> str:
    """What came after a decision, as far as it is measured."""
    outcome = story.outcome
    if outcome is None:
        return "what came after is not measured yet (usergrowth report)"
    if outcome["counted_until"] is None:
        return "no behavior has landed since"
    last, counted = outcome["window_last"], outcome["counted_until"]
    if outcome["returned"]:
        days = outcome["days_to_return"]
        day = story.execution_date + timedelta(days=days)
        past = "stayed: was active" if story.stays else "came back"
        after = f"after {days} day{'s' * (days > 1)}, on {day}" if days else "on the day itself"
        sentence = f"{past} {after}"
    elif counted >= last:
        sentence = f"did not {'stay: not active' if story.stays else 'come back'} by {last}"
    else:
        past = "not been active" if story.stays else "not come back"
        sentence = f"has {past} by {counted}; counted until {last}"
    return sentence + (f"; amount {outcome['amount']:,.2f}" if outcome["amount"] else "")


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


@dataclass(frozen=True)
class Asking:
    """The users that a campaign's question is about.

    Attributes:
        within: days in which a user had to be active to be decided on; None: any user.
        about: what else a user had to be; empty: nothing.
    """

    within: int | None
    about: str = ""


def steps_of(
    row: Mapping[str, Any],
    spec: CampaignSpec,
    provenance: Provenance | None,
    cut: Cut,
    asked: Asking,
) -> list[Step]:
    """All that was asked of a row of a decision, in order.

    Args:
        row: with the columns of the decisions table.
        spec: the campaign as the task sees it, used where nothing was kept.
        provenance: what the decision was made from, if that was kept.
        cut: of the task.
        asked: who could be decided on.
    """
    return [
        *_eligibility(row, spec, provenance, asked),
        *_selection(row, provenance, cut),
        *_control(row, provenance),
    ]


def _eligibility(
    row: Mapping[str, Any], spec: CampaignSpec, provenance: Provenance | None, asked: Asking
) -> Iterator[Step]:
    outcome = row["outcome"]
    reached = OUTCOMES.index(outcome) if outcome in OUTCOMES else len(OUTCOMES)
    for name, question in _questions(row, spec, asked).items():
        place = OUTCOMES.index(name)
        answer: Reply = "yes" if place < reached else "no" if place == reached else "not asked"
        detail = ""
        if name in ("suppressed", "capped") and answer == "no" and provenance is not None:
            detail = f"by the contact policy as of {provenance.contact['moment'][:16]} UTC"
        if name == "not_in_segment" and provenance is not None and provenance.segment is not None:
            detail = f"snapshot {provenance.segment['snapshot']}"
        if name == "no_features" and row["score"] is not None:
            detail = _scored(row)
        yield Step(question, answer, detail)


def _scored(row: Mapping[str, Any]) -> str:
    problem = problems().get(row["model_name"])
    quantity = problem.words.score if problem else "score"
    sentence = (
        f"{quantity} {row['score']:.4f}, by {row['model_name']} version {row['model_version']}"
    )
    if row[UPLIFT] is not None:
        sentence += f"; a text adds {row[UPLIFT]:+.4f}, by uplift version {row['uplift_version']}"
    return sentence


_OF_CHANNEL: Mapping[Channel, set[str]] = {
    "sms": {"no_phone", "bad_phone", "no_country", "shared_phone"},
    "email": {"no_email", "bad_email", "shared_email"},
}
"""Outcomes that are asked about only where a text goes by the channel."""


def _questions(row: Mapping[str, Any], spec: CampaignSpec, users: Asking) -> dict[str, str]:
    """By the outcome that a no leads to, what is asked, in order."""
    asked = {
        "duplicate": "first row of this user and item in the upload",
        "not_in_segment": f"in the segment {spec.selection.segment}",
        "no_features": "known well enough to be scored",
        "no_phone": "has a phone number",
        "bad_phone": "the phone number can be one",
        "no_country": "the phone number says its country, or a default country is set",
        "no_email": "has an e-mail address",
        "bad_email": "the e-mail address can be one",
        "suppressed": "not suppressed",
        "capped": "has had fewer messages than one may get",
        "no_consent": f"has given the consent {spec.contact.require_consent!r}",
        "not_active": f"was active in the last {users.within} days",
        "not_in_question": users.about,
        "unknown_zone": "the time zone is one that is known, or none is given",
        "missing_variable": "every variable of the text has a value",
        "too_long": "the text is short enough",
        "other_item": "best row of this user",
        "shared_phone": "best user of this phone number",
        "shared_email": "best user of this e-mail address",
        "many_users": f"the person has at most {MOST_USERS} user ids",
        "same_person": "best user of the person",
    }
    unasked: set[str] = set()
    for channel, outcomes in _OF_CHANNEL.items():
        unasked |= set() if channel in spec.channels else outcomes
    if row.get("users") is None:
        unasked |= {"many_users", "same_person"}
    if spec.contact.require_consent is None:
        unasked.add("no_consent")
    if users.within is None:
        unasked.add("not_active")
    if not users.about:
        unasked.add("not_in_question")
    if spec.selection.segment is None:
        unasked.add("not_in_segment")
    return {one: asked[one] for one in OUTCOMES if one in asked and one not in unasked}


def _selection(row: Mapping[str, Any], provenance: Provenance | None, cut: Cut) -> Iterator[Step]:
    outcome = row["outcome"]
    ranked = row["rank"] is not None
    policy = None if provenance is None else parse_policy(provenance.choice["policy"])
    if policy is None or provenance is None:
        question = "chosen by the campaign's policy"
    else:
        question = words(policy, provenance.settings.get("currency", ""))
        if provenance.choice.get("note"):
            question += " (the campaign's fallback)"
    if not ranked:
        yield Step(question, "not asked")
        return
    yield Step(question, "yes" if outcome in _CHOSEN else "no", _placed(row, policy, cut))
    if policy is not None and policy.explore > 0 and outcome not in _CHOSEN:
        explored = outcome == "explored"
        chance = row["propensity"] if explored else 1 - row["propensity"]
        yield Step(
            "drawn at random from those not chosen",
            "yes" if explored else "no",
            f"the chance was {chance:.2%}",
        )


def _placed(row: Mapping[str, Any], policy: Policy | None, cut: Cut) -> str:
    """Where the row stood."""
    if isinstance(policy, Threshold):
        return f"score {row['score']:.4f}"
    standing = f"rank {row['rank']:,}"
    if cut.rank is not None:
        standing += f"; the last one chosen has rank {cut.rank:,}"
    if isinstance(policy, Money) and row["net_value"] is not None:
        standing += f"; net value of the text {row['net_value']:.4f}"
    return standing


def _control(row: Mapping[str, Any], provenance: Provenance | None) -> Iterator[Step]:
    """Both control groups, the one of all campaigns first."""
    outcome, by = row["outcome"], row["holdout"] or "campaign"
    draws = {} if provenance is None else provenance.choice
    for kind, name, question in (
        ("global", "global_holdout", "not in the control group of all campaigns"),
        ("campaign", "holdout", "not in the campaign's control group"),
    ):
        answer: Reply = "not asked"
        if outcome in ("selected", "explored"):
            answer = "yes"
        elif outcome == "holdout":
            answer = "no" if by == kind else "yes" if kind == "global" else "not asked"
        group = draws.get(name)
        detail = ""
        if group is not None and answer != "not asked":
            drawn_from = "all" if kind == "global" else "the chosen"
            detail = f"{group['share']:.1%} of {drawn_from}, epoch {group['epoch']}"
            if kind == "campaign" and row["stratum"] is not None:
                detail += f", stratum {row['stratum']}"
            elif row.get("users") is not None:
                detail += f", by any of the {row['users']} user ids of the person"
        yield Step(question, answer, detail)


def sending_step(messages: Sequence[Mapping[str, Any]]) -> Step:
    """What the contact policy said when the text's turn came, by the newest message."""
    question = "the contact policy when the text's turn came"
    if not messages:
        return Step(question, "not asked", "no send plan has been made")
    newest = messages[-1]
    verdict = newest["verdict"]
    if newest["sent_time"]:
        return Step(question, "yes")
    if newest["state"] is MessageState.SKIPPED or newest["state"] is MessageState.EXPIRED:
        reason = newest["reason"] or newest["state"].value
        return Step(question, "no", SKIP_WORDS.get(reason, reason.replace("_", " ")))
    if verdict is not None:
        words = SKIP_WORDS.get(verdict["reason"], verdict["reason"].replace("_", " "))
        return Step(question, "not asked", f"now it would say: {words}")
    return Step(question, "not asked", f"the text is {newest['state'].value}")
