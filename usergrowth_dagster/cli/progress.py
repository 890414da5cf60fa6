"""Progress bars of runs, on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class StageBars:
    """One bar a stage; a stage without a known size turns until the next one begins."""

    def __init__(self, progress: "Progress") -> None:
        self.progress = progress
        self.bars: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show how far a stage is."""
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
