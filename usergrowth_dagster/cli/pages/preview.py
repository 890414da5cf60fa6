"""The page of what a campaign would send, and its JSON document."""

from typing import Any
from zoneinfo import ZoneInfo

from usergrowth_dagster.cli.cells import Count, Money, Share
from usergrowth_dagster.cli.common import Page
from usergrowth_dagster.control.wall_clock import shown_moment
from usergrowth_dagster.views.preview import ForecastView, PreviewView


def preview_document(view: PreviewView) -> dict[str, Any]:
    """A task's preview as JSON; addresses are masked as in the samples."""
    forecast = view.forecast
    made: dict[str, Any] = {
        "task": view.task,
        "campaign": view.campaign,
        "execution_date": view.execution_date,
        "planned": view.planned,
        "decided": view.decided,
        "reviews": view.reviews,
        "unknown_zones": view.unknown_zones,
        "problems": view.problems,
        "forecast": None,
    }
    if forecast is not None:
        made["forecast"] = {
            "due": forecast.due,
            "send_by": forecast.send_by,
            "people": forecast.people,
            "messages": forecast.messages,
            "cost": forecast.cost,
            "currency": forecast.currency,
            "committed": forecast.committed,
            "states": forecast.states,
            "standing": forecast.standing if view.planned else None,
            "skipped": forecast.skipped,
            "sizes": forecast.sizes,
            "hours": forecast.hours,
            "texts": {
                text.variant or "": {
                    "template_code": text.template_code,
                    "content": text.content,
                    "people": text.people,
                    "messages": text.messages,
                    "cost": text.cost,
                    "longest": text.longest,
                    "channel": text.channel,
                }
                for text in forecast.texts
            },
            "longest": forecast.longest,
            "samples": forecast.samples,
        }
    return made


def show_preview(view: PreviewView, page: Page) -> None:
    """Print one task's preview."""
    stage = "planned" if view.planned else "decided" if view.decided else "not decided yet"
    page.say(f"Task {view.task} of campaign {view.campaign}, {view.execution_date}: {stage}")
    for one in view.reviews:
        why = f": {one.reason}" if one.reason else ""
        page.say(f"{one.kind} {one.name!r}: {one.status.name.lower()}{why}")
    if not view.decided and not view.planned:
        page.say(
            f"run `usergrowth run --date {view.execution_date}` first; it sends nothing that waits"
        )
    if view.decided:
        _show_outcomes(view.decided, page)
    for notice in view.notices:
        page.say(f"warning: {notice}")
    if view.unknown_zones:
        page.say(view.unknown_zones_sentence)
    if view.forecast is not None:
        _show_forecast(view.forecast, ZoneInfo(view.zone), page, planned=view.planned)
    page.say("")


def _show_outcomes(decided: dict[str, int], page: Page) -> None:
    total = sum(decided.values())
    lines = [(name, Count(rows), _share(rows, total)) for name, rows in decided.items()]
    page.table("Decision", ("outcome", "rows", "share"), [*lines, ("all", Count(total), None)])


def _show_forecast(forecast: ForecastView, zone: ZoneInfo, page: Page, *, planned: bool) -> None:
    people = forecast.considered
    if forecast.skipped:
        lines: list[tuple[Any, ...]] = [
            (reason, Count(count), _share(count, people))
            for reason, count in forecast.skipped.items()
        ]
        page.table("Skipped by the plan", ("reason", "people", "share"), lines)
    due, send_by = (shown_moment(moment, zone) for moment in (forecast.due, forecast.send_by))
    verb = "were planned to get" if planned else "get"
    page.say(
        f"{forecast.people:,} of {people:,} people {verb} {forecast.messages:,} messages for "
        f"{forecast.cost:,.2f} {forecast.currency}, from {due} to {send_by} ({zone.key})"
    )
    if planned:
        standing = ", ".join(f"{count:,} {word}" for word, count in forecast.standing.items())
        page.say(f"Now: {standing}")
        if not {"waiting", "being sent", "in doubt"} & set(forecast.standing):
            page.say("Nobody gets a text of it any more.")
    _show_budget(forecast, page)
    page.table(
        "Sizes",
        ("messages a person", "people"),
        [(size, Count(count)) for size, count in forecast.sizes.items()],
    )
    page.table(
        "Hours",
        ("zone", "first local hour", "people"),
        [(one.zone, one.hour, Count(one.people)) for one in forecast.hours],
    )
    if forecast.several_texts:
        _show_texts(forecast, page)
    if forecast.longest:
        long = forecast.longest
        page.say(f"Longest: {long.length} characters, {long.segments} messages: {long.text}")
    _show_samples(forecast, page)


def _show_texts(forecast: ForecastView, page: Page) -> None:
    page.table(
        "Texts",
        (
            *("variant", "channel", "share", "people", "messages", "cost"),
            *("characters at most", "text"),
        ),
        [
            (
                one.variant,
                one.channel,
                None if one.share is None else Share(one.share),
                Count(one.people),
                Count(one.messages),
                Money(one.cost),
                one.longest,
                one.content,
            )
            for one in forecast.texts
        ],
    )


def _show_budget(forecast: ForecastView, page: Page) -> None:
    currency = forecast.currency
    if forecast.selection_limit is not None:
        page.say(f"Budget of the selection: {forecast.selection_limit:,.2f} {currency}")
    if forecast.schedule_limit is not None:
        left = forecast.schedule_limit - forecast.committed - forecast.cost
        page.say(
            f"Budget of the schedule: {forecast.schedule_limit:,.2f} {currency}, of which "
            f"{forecast.committed:,.2f} for other occurrences and {forecast.cost:,.2f} for this "
            f"one; {max(left, 0):,.2f} left"
        )


def _show_samples(forecast: ForecastView, page: Page) -> None:
    samples = forecast.samples
    if not samples:
        return
    header = ["user", "address", "local time", "messages", "characters"]
    lines: list[list[Any]] = [
        [one.user_id, one.address, one.at, one.segments, one.length] for one in samples
    ]
    if any(one.variant is not None for one in samples):
        header.append("variant")
        for line, one in zip(lines, samples, strict=True):
            line.append(one.variant)
    header.append("text")
    for line, one in zip(lines, samples, strict=True):
        line.append(one.text)
    page.table("Samples", header, lines)


def _share(part: int, whole: int) -> Share | None:
    return Share(part / whole) if whole else None
