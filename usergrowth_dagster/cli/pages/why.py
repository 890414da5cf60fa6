"""The page of why a person got a message, or did not."""

from typing import Any

from usergrowth_dagster.cli.common import Page
from usergrowth_dagster.ranks import UPLIFT
from usergrowth_dagster.views.why import TaskStoryView, WhyView

_COLUMNS = (
    *("row", "item_id", "outcome", "score", UPLIFT, "rank", "arm", "propensity", "holdout"),
    *("stratum", "variant", "variant_propensity", "messages", "cost", "net_value"),
)
_WORDS = {"propensity": "chance of the arm", "variant_propensity": "chance of the variant"}


def show_why(view: WhyView, page: Page) -> None:
    """Print a person's story; no address is shown unmasked."""
    page.say(f"{view.sentence}.")
    for task in view.tasks:
        page.say("")
        page.say(f"{task.execution_date} {task.task} (campaign {task.campaign}): {task.sentence}")
        _show_task(task, page)
    if view.elsewhere:
        page.say("")
        page.say(f"Not in the population of {view.elsewhere} more tasks.")
    if view.suppressions:
        page.say("")
        page.table(
            "suppressions",
            ("since", "by", "of", "channel", "signature", "source", "lifted"),
            [
                (one.since, one.by, one.of, one.channel, one.scope, one.source, one.lifted)
                for one in view.suppressions
            ],
        )
    page.say("")
    page.say(view.now)


def _show_task(task: TaskStoryView, page: Page) -> None:
    if task.decisions:
        _show_decisions(task, page)
        page.say("")
        steps = [(step.question, step.answer, step.detail) for step in task.steps]
        page.table("", ("asked", "answer", ""), steps)
        page.say("")
        _show_features(task, page)
    if task.messages:
        page.say("")
        header = ("occurrence", "channel", "address", "state", "reason", "code", "gateway")
        times = ("due", "not before", "sent", "final")
        lines = [
            (
                *(one.occurrence, one.channel, one.address, one.state, one.reason),
                *(one.code, one.gateway),
                *(one.due, one.not_before, one.sent, one.final),
                "; ".join(one.receipts),
            )
            for one in task.messages
        ]
        page.table("", (*header, *times, "receipts"), lines)
    if task.decisions:
        page.say("")
        page.say(f"Since then: {task.since_then}.")


def _show_decisions(task: TaskStoryView, page: Page) -> None:
    """The decision's rows; columns without any value are left out."""
    names = [name for name in _COLUMNS if any(row[name] is not None for row in task.decisions)]
    page.table(
        "",
        tuple(_WORDS.get(name, name.replace("_", " ")) for name in names),
        [tuple(_short(row[name]) for name in names) for row in task.decisions],
    )


def _show_features(task: TaskStoryView, page: Page) -> None:
    if not task.features:
        page.say(f"What moved the score: {task.features_note}.")
        return
    page.table(
        "",
        ("what moved the score", "here", "usual", "odds"),
        [
            (one.meaning, _known(one.value), _known(one.usual), f"x {one.odds:.2f}")
            for one in task.features
        ],
    )


def _known(value: Any) -> str:
    """A feature's value in three digits; whole numbers in full."""
    if value is None:
        return "unknown"
    if isinstance(value, float):
        return f"{value:,.0f}" if value == round(value) else f"{value:,.3g}"
    return str(value)


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
