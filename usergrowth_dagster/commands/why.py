"""Why a person got a message, or did not, as a page or as JSON."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from usergrowth_dagster.commands.show import Say, Shows, ShowTable
from usergrowth_dagster.explain.story import Story, Why, at, outcome_sentence
from usergrowth_dagster.explain.why import why
from usergrowth_dagster.homes.home import open_home
from usergrowth_dagster.project import Project
from usergrowth_dagster.ranks import UPLIFT


def explain(
    home: Path | None,
    user_id: str,
    *,
    campaign: str | None,
    day: date | None,
    page: Shows,
) -> None:
    """Say why; no address is shown unmasked."""
    project = Project(open_home(home))
    answer = why(project, user_id, campaign=campaign, day=day)
    page.document(answer)
    if not page.as_json:
        _show(answer, project.settings.zone, page.say, page.table)


def _show(answer: Why, zone: ZoneInfo, say: Say, table: ShowTable) -> None:
    say(f"{answer.sentence}.")
    for story in answer.tasks:
        say("")
        say(f"{story.execution_date} {story.task_id} (campaign {story.campaign}): {story.sentence}")
        _show_story(story, zone, say, table)
    if answer.elsewhere:
        say("")
        say(f"Not in the population of {answer.elsewhere} more tasks.")
    contact = answer.contact
    records = [*contact.suppressed, *contact.lifted]
    if records:
        say("")
        table(
            "suppressions",
            ("since", "by", "of", "channel", "signature", "source", "lifted"),
            [
                (
                    at(row["created_time"], zone),
                    row["reason"],
                    "user" if row["by_user"] else "address",
                    row["channel"],
                    row["scope"],
                    row["source"],
                    at(row["lifted_time"], zone) if row["lifted_time"] else "",
                )
                for row in records
            ],
        )
    say("")
    say(_contact_line(answer, zone))


def _show_story(story: Story, zone: ZoneInfo, say: Say, table: ShowTable) -> None:
    if story.decisions:
        _show_decisions(story, table)
        say("")
        _show_steps(story, table)
        say("")
        _show_mattered(story, say, table)
    lines = []
    for message in story.messages:
        lines.append(
            (
                message["occurrence"],
                message["address"],
                message["state"].value,
                message["reason"],
                message["error_code"],
                message["gateway"],
                *(
                    at(message[name], zone) if message[name] else ""
                    for name in ("due", "not_before", "sent_time", "final_time")
                ),
                "; ".join(_receipt(one, zone) for one in message["receipts"]),
            )
        )
    if lines:
        say("")
        header = ("occurrence", "address", "state", "reason", "code", "gateway")
        table("", (*header, "due", "not before", "sent", "final", "receipts"), lines)
    if story.decisions:
        say("")
        say(f"Since then: {outcome_sentence(story)}.")


def _show_decisions(story: Story, table: ShowTable) -> None:
    """The decision's rows; columns without any value are left out."""
    names = [
        *("row", "item_id", "outcome", "score", UPLIFT, "rank", "arm", "propensity", "holdout"),
        *("stratum", "variant", "variant_propensity", "messages", "cost", "net_value"),
    ]
    names = [name for name in names if any(row[name] is not None for row in story.decisions)]
    words = {"propensity": "chance of the arm", "variant_propensity": "chance of the variant"}
    table(
        "",
        tuple(words.get(name, name.replace("_", " ")) for name in names),
        [tuple(_short(row[name]) for name in names) for row in story.decisions],
    )


def _show_steps(story: Story, table: ShowTable) -> None:
    """What was asked, and what was answered."""
    lines = [(step.question, step.answer, step.detail) for step in story.steps]
    table("", ("asked", "answer", ""), lines)


def _show_mattered(story: Story, say: Say, table: ShowTable) -> None:
    if not story.mattered:
        say(f"What moved the score: {story.mattered_note}.")
        return
    table(
        "",
        ("what moved the score", "here", "usual", "odds"),
        [
            (
                one["meaning"],
                _known(one["value"]),
                _known(one["usual"]),
                f"x {one['odds']:.2f}",
            )
            for one in story.mattered
        ],
    )


def _known(value: Any) -> str:
    """A feature's value in three digits; whole numbers in full."""
    if value is None:
        return "unknown"
    if isinstance(value, float):
        return f"{value:,.0f}" if value == round(value) else f"{value:,.3g}"
    return str(value)


def _receipt(row: Mapping[str, Any], zone: ZoneInfo) -> str:
    code = f" {row['code']}" if row["code"] else ""
    return f"{row['status']}{code} {at(row['report_time'] or row['received_time'], zone)}"


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _contact_line(answer: Why, zone: ZoneInfo) -> str:
    """Whether the person may be contacted now, by the settings' own rules."""
    contact = answer.contact
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
