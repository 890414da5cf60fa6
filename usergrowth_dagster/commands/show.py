"""Progress and results on a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.commands.chain import ChainReport
from usergrowth_dagster.commands.execute import RunReport

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Say = Callable[[str], None]
ShowTable = Callable[[str, tuple[str, ...], list[tuple[Any, ...]]], None]


class StageBars:
    """One bar a stage; a stage without a known size turns until the next one begins."""

    def __init__(self, progress: "Progress") -> None:
        self.progress = progress
        self.bars: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Tell how far a stage is."""
        if stage not in self.bars:
            self.bars[stage] = self.progress.add_task(stage, total=total or None)
        self.progress.update(
            self.bars[stage], completed=done if total else 1, total=total if total else 1
        )


@contextmanager
def chain_progress() -> Iterator[None]:
    """Show the progress of runs executed meanwhile."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    from usergrowth_dagster.defs.resources import listen

    with (
        Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        ) as progress,
        listen(StageBars(progress)),
    ):
        yield


def show_chain(report: ChainReport, say: Say, show_table: ShowTable) -> list[str]:
    """Show what a chain of runs did; the sentences of what failed."""
    lines = [(name, _rows(found)) for name, found in report.ingest.metadata.items()]
    failures = list(report.ingest.failures)
    warnings = list(report.ingest.warnings)
    if report.decide:
        lines += [(name, _rows(found)) for name, found in report.decide.metadata.items()]
        failures += report.decide.failures
        warnings += report.decide.warnings
    show_table("Tables", ("table", "rows written"), lines)
    for name in ("population", "scores", "decisions", "selection_output", "send_batches"):
        told = report.decide.metadata.get(name, {}).get("by_task") if report.decide else None
        if told:
            say(f"\n{name}\n{told}")
    sent = report.decide.metadata.get("dispatched_messages", {}) if report.decide else {}
    told = ", ".join(f"{k} {v}" for k, v in sent.items() if v and not k.startswith("dagster/"))
    if report.decide:
        say(f"\ndispatched now: {told or 'nothing was due'}")
    if report.measure:
        failures += report.measure.failures
        warnings += report.measure.warnings
        if told := report.measure.metadata.get("effects", {}).get("by_task"):
            say(f"\neffects\n{told}")
    for warning in warnings:
        say(f"warning: {warning}")
    return failures


def show_training(report: RunReport, say: Say) -> list[str]:
    """Show what a training came to; the sentences of what failed."""
    for name, found in report.metadata.items():
        told = [
            str(found[key])
            for key in found
            if key.rsplit(": ", 1)[-1] in ("model", "gain", "skipped", "evaluation")
        ]
        if told:
            say(f"\n{name}\n" + "\n".join(told))
    return report.failures


def _rows(metadata: dict[str, Any]) -> str:
    return f"{int(metadata.get('dagster/row_count') or 0):,}"
