"""The pages of what a chain of runs, a rehearsal and a training came to."""

from typing import TYPE_CHECKING

from usergrowth_dagster.cli.cells import Count
from usergrowth_dagster.cli.common import Page
from usergrowth_dagster.runs.reports import ChainReport, Rows, RunReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usergrowth_dagster.explain.rehearse import Rehearsed


def show_chain(report: ChainReport, page: Page) -> list[str]:
    """Show what a chain of runs did; the sentences of what failed."""
    if report.repeated:
        page.say(
            f"Nothing has changed since the run of {report.repeated}, which changed nothing; it "
            "is not made again. What it found:\n"
        )
    lines = _written(report.ingest)
    failures = [*report.failures, *report.ingest.failures]
    warnings = [*report.warnings, *report.ingest.warnings]
    if report.decide:
        lines += _written(report.decide)
        failures += report.decide.failures
        warnings += report.decide.warnings
        withdrawn = report.decide.metadata.get("population", {}).get("withdrawn")
        warnings += [str(withdrawn)] if withdrawn else []
    if lines:
        page.table("Tables", ("table", "rows written"), lines)
    else:
        page.say("No table had anything new to take in.")
    for name in ("population", "scores", "decisions", "selection_output", "send_batches"):
        table = report.decide.metadata.get(name, {}).get("by_task") if report.decide else None
        if table:
            page.say("")
            page.table(name, table.header, table.lines)
    sent = report.decide.metadata.get("dispatched_messages", {}) if report.decide else {}
    table = ", ".join(f"{k} {v}" for k, v in sent.items() if v and not k.startswith("dagster/"))
    if report.rehearsed is not None:
        show_rehearsal(report.rehearsed, page)
    elif report.decide:
        page.say(f"\ndispatched now: {table or 'nothing was due'}")
    if report.measure:
        failures += report.measure.failures
        warnings += report.measure.warnings
        if table := report.measure.metadata.get("effects", {}).get("by_task"):
            page.say("")
            page.table("effects", table.header, table.lines)
    for warning in warnings:
        page.say(f"warning: {warning}")
    return failures


def show_rehearsal(rehearsed: "Sequence[Rehearsed]", page: Page) -> None:
    """Show what the tasks of a date would have sent."""
    page.say("\nRehearsal: nobody was texted, and nothing of it is in the ledger.")
    words = {"accepted": "would be texted"}
    for one in rehearsed:
        plan = one.plan
        counts = [
            (words.get(state, state), "", Count(people))
            for state, people in plan.states.items()
            if state != "skipped"
        ]
        counts += [("skipped", reason, Count(people)) for reason, people in plan.reasons.items()]
        page.table(f"Task {one.task.task_id}", ("would become", "reason", "people"), counts)
        page.say(
            f"{plan.people:,} people would get {plan.messages:,} messages for "
            f"{plan.cost:,.2f} {plan.currency}"
        )
        if one.file is not None:
            page.say(f"texts, with the real numbers: {one.file}")


def show_training(report: RunReport, page: Page) -> list[str]:
    """Show what a training came to; the sentences of what failed."""
    for name, metadata in report.metadata.items():
        shown = {
            key: value
            for key, value in metadata.items()
            if key.rsplit(": ", 1)[-1] in ("model", "gain", "skipped", "evaluation")
        }
        if shown:
            page.say(f"\n{name}")
        for key, value in shown.items():
            if isinstance(value, Rows):
                page.table(f"{name}: {key}", value.header, value.lines)
            else:
                page.say(str(value))
    return report.failures


def _written(report: RunReport) -> list[tuple[str, Count]]:
    """The steps that wrote rows, and how many; not those that found all up to date."""
    rows_by_step = {
        name: one.get("rows_written", one.get("dagster/row_count"))
        for name, one in report.metadata.items()
    }
    return [(name, Count(rows)) for name, rows in rows_by_step.items() if rows]
