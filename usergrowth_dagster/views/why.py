"""Why a person got a message, or did not: the whole story, with addresses masked."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from usergrowth_dagster.explain.story import Step, Story, Why, at, outcome_sentence
from usergrowth_dagster.explain.why import why
from usergrowth_dagster.messaging.people.person import Contact
from usergrowth_dagster.project import Project


@dataclass(frozen=True)
class SuppressionView:
    """A suppression of the person, in force or lifted; ``of`` is what it is known by."""

    since: str
    by: str
    of: str
    channel: str
    scope: str
    source: str
    lifted: str


@dataclass(frozen=True)
class MessageView:
    """A message of the ledger; times are for people, empty where there is none.

    ``receipts`` are the provider's reports, oldest first.
    """

    occurrence: str
    channel: str
    address: str | None
    state: str
    reason: str | None
    code: str | None
    gateway: str | None
    due: str
    not_before: str
    sent: str
    final: str
    receipts: tuple[str, ...]


@dataclass(frozen=True)
class FeatureView:
    """A feature that moved a score: its value, the usual one, and the factor of the odds."""

    meaning: str
    value: Any
    usual: Any
    odds: float


@dataclass(frozen=True)
class TaskStoryView:
    """What became of the person in one task.

    Attributes:
        task: the task.
        campaign: its campaign.
        execution_date: its date.
        sentence: how it ended.
        decisions: rows of the decision by column, the one that counts first; none: not decided.
        steps: all that the decision asked.
        features: those that moved the score.
        features_note: why none are listed.
        messages: of the ledger, oldest first.
        since_then: what came after, as far as it is measured; empty where nothing was decided.
    """

    task: str
    campaign: str
    execution_date: date
    sentence: str
    decisions: tuple[Mapping[str, Any], ...]
    steps: tuple[Step, ...]
    features: tuple[FeatureView, ...]
    features_note: str
    messages: tuple[MessageView, ...]
    since_then: str


@dataclass(frozen=True)
class WhyView:
    """The answer in one sentence, then what stands behind it.

    Attributes:
        sentence: the answer.
        tasks: those that have the person in their population, newest first.
        elsewhere: how many of the tasks do not.
        suppressions: of the person, those in force first.
        now: whether the person may be contacted now.
        answer: the same in full, as a document has it; times are UTC.
    """

    sentence: str
    tasks: tuple[TaskStoryView, ...]
    elsewhere: int
    suppressions: tuple[SuppressionView, ...]
    now: str
    answer: Why


def read_why(project: Project, user_id: str, *, campaign: str | None, day: date | None) -> WhyView:
    """What became of a person.

    Args:
        project: the home.
        user_id: the user.
        campaign: only tasks of this campaign.
        day: only tasks of this execution date.

    Raises:
        UserError: no such campaign, no task of that date, or nothing is known of the user.
    """
    zone = project.settings.zone
    answer = why(project, user_id, campaign=campaign, day=day)
    contact = answer.contact
    return WhyView(
        answer.sentence,
        tuple(_task(story, zone) for story in answer.tasks),
        answer.elsewhere,
        tuple(_suppression(row, zone) for row in (*contact.suppressed, *contact.lifted)),
        _now(contact, zone),
        answer,
    )


def _task(story: Story, zone: ZoneInfo) -> TaskStoryView:
    return TaskStoryView(
        story.task_id,
        story.campaign,
        story.execution_date,
        story.sentence,
        tuple(story.decisions),
        tuple(story.steps),
        tuple(
            FeatureView(one["meaning"], one["value"], one["usual"], one["odds"])
            for one in story.mattered
        ),
        story.mattered_note,
        tuple(_message(row, zone) for row in story.messages),
        outcome_sentence(story) if story.decisions else "",
    )


def _message(row: Mapping[str, Any], zone: ZoneInfo) -> MessageView:
    due, not_before, sent, final = (
        _time(row[name], zone) for name in ("due", "not_before", "sent_time", "final_time")
    )
    return MessageView(
        row["occurrence"],
        row["channel"],
        row["address"],
        row["state"].value,
        row["reason"],
        row["error_code"],
        row["gateway"],
        due,
        not_before,
        sent,
        final,
        tuple(_receipt(one, zone) for one in row["receipts"]),
    )


def _receipt(row: Mapping[str, Any], zone: ZoneInfo) -> str:
    code = f" {row['code']}" if row["code"] else ""
    return f"{row['status']}{code} {at(row['report_time'] or row['received_time'], zone)}"


def _suppression(row: Mapping[str, Any], zone: ZoneInfo) -> SuppressionView:
    return SuppressionView(
        at(row["created_time"], zone),
        row["reason"],
        "user" if row["by_user"] else "address",
        row["channel"],
        row["scope"],
        row["source"],
        _time(row["lifted_time"], zone),
    )


def _time(moment: datetime | None, zone: ZoneInfo) -> str:
    return at(moment, zone) if moment else ""


def _now(contact: Contact, zone: ZoneInfo) -> str:
    """Whether the person may be contacted now, by the settings' own rules."""
    parts = []
    if contact.suppressed:
        first = contact.suppressed[0]
        parts.append(f"suppressed since {at(first['created_time'], zone)} by {first['reason']}")
    if contact.capped:
        listed = ", ".join(f"{m['campaign']} {at(m['sent_time'], zone)}" for m in contact.counted)
        parts.append(
            f"capped by {len(contact.counted)} messages in {contact.cap_days} days: {listed}"
        )
    if contact.opens is not None:
        parts.append(f"quiet hours until {at(contact.opens, zone)}")
    if not parts:
        count = f"{len(contact.counted)} of {contact.cap}" if contact.cap else "no cap,"
        return f"Now: may be contacted ({count} messages in {contact.cap_days} days)."
    return f"Now: {'; '.join(parts)}."
