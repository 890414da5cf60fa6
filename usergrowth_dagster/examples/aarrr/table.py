"""The table by stage: a line a question, with its figure beside what needs no model."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from usergrowth_dagster.examples.screen import Screen
from usergrowth_dagster.learning.card import interval, markdown
from usergrowth_dagster.stages import STAGES, Stage

FILES = ("aarrr.json", "aarrr.md")
"""Names of the files below the folder ``demo`` of the home."""

_HEADER = ("stage", "question", "data", "measure", "figure", "without a model")


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval.

    Attributes:
        order: what ranks the users (or the items), such as LightGBM or recency alone.
        value, low, high: in units of the measure; no interval where there are too few users.
    """

    order: str
    value: float
    low: float | None
    high: float | None

    @property
    def shown(self) -> str:
        """The figure as text: ``0.512 [0.480, 0.544] (LightGBM)``."""
        return (
            f"{interval({'value': self.value, 'low': self.low, 'high': self.high})} ({self.order})"
        )


@dataclass(frozen=True)
class Line:
    """A question and how well it is answered.

    Attributes:
        stage: to which it belongs.
        question: its name, and what it asks.
        data: what it was measured on.
        measure: what the figures are, such as AUC.
        figure: of what the product ships; None where nothing could be measured.
        naive: of the best rule that needs no model; None where there is none.
        note: one sentence: why nothing was measured, or what keeps the version from scoring.
    """

    stage: Stage
    question: str
    data: str
    measure: str = ""
    figure: Figure | None = None
    naive: Figure | None = None
    note: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """The line as it is printed."""
        figure = self.figure.shown if self.figure else "not measured"
        parts = (figure, self.note) if self.note else (figure,)
        naive = self.naive.shown if self.naive else ""
        return (self.stage, self.question, self.data, self.measure, ": ".join(parts), naive)


def in_order(lines: Iterable[Line]) -> list[Line]:
    """Lines by stage, in the order in which a user goes through them."""
    return sorted(lines, key=lambda line: STAGES.index(line.stage))


def as_markdown(lines: Sequence[Line]) -> str:
    """The table as Markdown."""
    return markdown(_HEADER, [line.cells for line in lines]) + "\n"


def write_table(folder: Path, lines: Sequence[Line]) -> tuple[Path, Path]:
    """Write the table as JSON and as Markdown; returns the files in this order."""
    folder.mkdir(parents=True, exist_ok=True)
    data, page = (folder / name for name in FILES)
    text = json.dumps([asdict(line) for line in lines], indent=2, ensure_ascii=False)
    data.write_text(text + "\n", encoding="utf-8")
    page.write_text(as_markdown(lines), encoding="utf-8")
    return data, page


def show_table(lines: Sequence[Line], screen: Screen) -> None:
    """Print the table."""
    screen.say("")
    screen.table("Every stage, with 95 % intervals", _HEADER, [line.cells for line in lines])
