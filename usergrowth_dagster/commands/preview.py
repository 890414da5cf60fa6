"""What a campaign would send, printed for a person before anything is sent."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from usergrowth_dagster.cli.cells import Count, Money, Share
from usergrowth_dagster.control.wall_clock import shown_moment
from usergrowth_dagster.explain.preview import Preview, preview_task, tasks_of
from usergrowth_dagster.homes.home import open_home
from usergrowth_dagster.messaging.plans.forecast import Forecast, Sample
from usergrowth_dagster.pipeline.attributes import unknown_zones_sentence
from usergrowth_dagster.pipeline.choice import variant_draw
from usergrowth_dagster.project import Project

if TYPE_CHECKING:
    from usergrowth_dagster.commands.show import Say, Shows, ShowTable


def preview_campaign(
    home: Path | None,
    campaign: str,
    day: date | None,
    samples: int,
    page: "Shows",
) -> list[str]:
    """Print what each task of a campaign and date would send.

    Returns:
        Sentences that say why something would not be sent at all.

    Raises:
        UserError: the campaign has no task on the date.
    """
    project = Project(open_home(home))
    problems, found_all = [], []
    for task in tasks_of(project, campaign, day):
        preview = preview_task(project, task, samples)
        show_preview(project, preview, page.say, page.table)
        found_all.append(_record(preview))
        problems += preview.problems
    page.document(found_all)
    return problems


def _record(preview: Preview) -> dict[str, Any]:
    """A task's preview as JSON; addresses are masked as in the samples."""
    forecast = preview.forecast
    made: dict[str, Any] = {
        "task": preview.task.task_id,
        "campaign": preview.task.campaign,
        "execution_date": preview.task.execution_date,
        "planned": preview.planned,
        "decided": preview.decided,
        "reviews": preview.reviews,
        "unknown_zones": preview.unknown_zones,
        "problems": preview.problems,
        "forecast": None,
    }
    if forecast is not None:
        plan = forecast.plan
        made["forecast"] = {
            "due": plan.occurrence.due,
            "send_by": plan.occurrence.send_by,
            "people": plan.people,
            "messages": plan.messages,
            "cost": plan.cost,
            "currency": plan.currency,
            "committed": preview.committed,
            "states": plan.states,
            "standing": plan.standing if preview.planned else None,
            "skipped": plan.reasons,
            "sizes": forecast.sizes,
            "hours": [
                {"zone": zone, "hour": hour, "people": people}
                for (zone, hour), people in forecast.hours.items()
            ],
            "texts": {variant or "": text for variant, text in forecast.texts.items()},
            "longest": forecast.longest,
            "samples": forecast.samples,
        }
    return made


def show_preview(project: Project, preview: Preview, say: "Say", show_table: "ShowTable") -> None:
    """Print one task's preview."""
    task = preview.task
    stage = "planned" if preview.planned else "decided" if preview.decided else "not decided yet"
    say(f"Task {task.task_id} of campaign {task.campaign}, {task.execution_date}: {stage}")
    for one in preview.reviews:
        why = f": {one.reason}" if one.reason else ""
        say(f"{one.kind} {one.name!r}: {one.status.name.lower()}{why}")
    if not preview.decided and not preview.planned:
        say(f"run `usergrowth run --date {task.execution_date}` first; it sends nothing that waits")
    if preview.decided:
        _show_outcomes(preview.decided, show_table)
    for notice in preview.notices:
        say(f"warning: {notice}")
    if preview.unknown_zones:
        say(unknown_zones_sentence(preview.unknown_zones))
    if preview.forecast is not None:
        _show_forecast(preview, preview.forecast, project.settings.zone, say, show_table)
    say("")


def _show_outcomes(decided: dict[str, int], show_table: "ShowTable") -> None:
    total = sum(decided.values())
    lines = [(name, Count(rows), _share(rows, total)) for name, rows in decided.items()]
    show_table("Decision", ("outcome", "rows", "share"), [*lines, ("all", Count(total), None)])


def _show_forecast(
    preview: Preview, forecast: Forecast, zone: ZoneInfo, say: "Say", show_table: "ShowTable"
) -> None:
    plan = forecast.plan
    people = sum(plan.states.values())
    if plan.reasons:
        lines: list[tuple[Any, ...]] = [
            (reason, Count(count), _share(count, people)) for reason, count in plan.reasons.items()
        ]
        show_table("Skipped by the plan", ("reason", "people", "share"), lines)
    due, send_by = (
        shown_moment(moment, zone) for moment in (plan.occurrence.due, plan.occurrence.send_by)
    )
    verb = "were planned to get" if preview.planned else "get"
    say(
        f"{plan.people:,} of {people:,} people {verb} {plan.messages:,} messages for "
        f"{plan.cost:,.2f} {plan.currency}, from {due} to {send_by} ({zone.key})"
    )
    if preview.planned:
        say("Now: " + ", ".join(f"{count:,} {word}" for word, count in plan.standing.items()))
        if not {"waiting", "being sent", "in doubt"} & set(plan.standing):
            say("Nobody gets a text of it any more.")
    _show_budget(preview, forecast, say)
    show_table(
        "Sizes",
        ("messages a person", "people"),
        [(size, Count(count)) for size, count in forecast.sizes.items()],
    )
    show_table(
        "Hours",
        ("zone", "first local hour", "people"),
        [(zone, hour, Count(n)) for (zone, hour), n in forecast.hours.items()],
    )
    if forecast.plan.occurrence.variants:
        _show_texts(preview, forecast, show_table)
    if forecast.longest:
        long = forecast.longest
        say(f"Longest: {long.length} characters, {long.segments} messages: {long.text}")
    _show_samples(forecast.samples, show_table)


def _show_texts(preview: Preview, forecast: Forecast, show_table: "ShowTable") -> None:
    draw = variant_draw(preview.task)
    chances = draw.chances if draw else {}
    show_table(
        "Texts",
        ("variant", "share", "people", "messages", "cost", "characters at most", "text"),
        [
            (
                name,
                Share(chances[name]) if name in chances else None,
                Count(one.people),
                Count(one.messages),
                Money(one.cost),
                one.longest,
                one.content,
            )
            for name, one in forecast.texts.items()
        ],
    )


def _show_budget(preview: Preview, forecast: Forecast, say: "Say") -> None:
    spec, plan = preview.task.spec, forecast.plan
    if spec.selection.spending_limit is not None:
        say(f"Budget of the selection: {spec.selection.spending_limit:,.2f} {plan.currency}")
    if spec.schedule.max_cost is not None:
        others = float(preview.committed)
        left = spec.schedule.max_cost - others - plan.cost
        say(
            f"Budget of the schedule: {spec.schedule.max_cost:,.2f} {plan.currency}, of which "
            f"{others:,.2f} for other occurrences and {plan.cost:,.2f} for this one; "
            f"{max(left, 0):,.2f} left"
        )


def _show_samples(samples: Sequence[Sample], show_table: "ShowTable") -> None:
    if samples:
        several = any(one.variant is not None for one in samples)
        show_table(
            "Samples",
            (
                *("user", "address", "local time", "messages", "characters"),
                *(["variant"] if several else []),
                "text",
            ),
            [
                (
                    one.user_id,
                    one.address,
                    one.at,
                    one.segments,
                    one.length,
                    *([one.variant] if several else []),
                    one.text,
                )
                for one in samples
            ],
        )


def _share(part: int, whole: int) -> Share | None:
    return Share(part / whole) if whole else None
