"""What reports of effects say: the sentence, the main figures, and where the page is."""

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from usergrowth_dagster.effects.report.clicks import click_note, click_tables
from usergrowth_dagster.effects.report.figures import figure_rows
from usergrowth_dagster.effects.report.page import render_json
from usergrowth_dagster.measure.report import Report


@dataclass(frozen=True)
class FigureView:
    """A figure in words, with its interval or a remark."""

    name: str
    value: str
    remark: str


@dataclass(frozen=True)
class EffectView:
    """What the texts of a task brought back.

    Attributes:
        task: the task; None where all campaigns of a period are reported together.
        campaign: its campaign, or words for all of them.
        execution_date: of the task, or the first of the period.
        sentence: what came out.
        figures: the main ones.
        arms: the way of each arm's people to a click, header first; empty: no text has a link.
        pairs: texts compared by their clicks, header first; empty: there are no two.
        note: what a click says.
        page: the file with the whole report.
        content: what the report says, as its JSON file has it.
    """

    task: str | None
    campaign: str
    execution_date: date
    sentence: str
    figures: tuple[FigureView, ...]
    arms: tuple[tuple[str, ...], ...]
    pairs: tuple[tuple[str, ...], ...]
    note: str
    page: Path
    content: dict[str, Any]


def view_report(report: Report) -> EffectView:
    """A written report as what people look at."""
    effect = report.effect
    return EffectView(
        effect.task_id if effect.funnel.steps else None,
        effect.campaign,
        effect.execution_date,
        effect.sentence,
        tuple(FigureView(*row) for row in figure_rows(effect)),
        *click_tables(effect),
        click_note(effect),
        report.page,
        json.loads(render_json(effect, report.basis)),
    )
