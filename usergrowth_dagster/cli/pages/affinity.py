"""The page of an affinity job: of each step, and of all of them."""

from collections.abc import Sequence
from pathlib import Path

from usergrowth_dagster.affinity.export import SegmentExport
from usergrowth_dagster.affinity.run import JobRun
from usergrowth_dagster.affinity.segment import Cut
from usergrowth_dagster.affinity.train import Training
from usergrowth_dagster.cli.cells import Count
from usergrowth_dagster.cli.common import Page
from usergrowth_dagster.views.affinity import figure_rows


def show_run(page: Page, done: JobRun) -> None:
    """Print what became of a job: its figures, its sentences, its files."""
    _show_figures(page, done.training)
    _show_files(page, done.export)
    page.say(f"The files are in {done.output}.")
    _show_odd_cuts(page, done.cuts)
    for sentence in (*done.training.odd, *done.export.odd):
        page.say(f"{sentence}.")
    if done.announced:
        page.say(f"Announced to {done.announced}.")
    page.document(done)


def show_training(page: Page, training: Training) -> None:
    """Print how good the orders of users are, and what of the files was not taken."""
    _show_figures(page, training)
    for sentence in training.odd:
        page.say(f"{sentence}.")


def show_cuts(page: Page, cuts: Sequence[Cut]) -> None:
    """Print the users of each segment."""
    page.section(
        "segments",
        ("expression", "scored", "users", "under the least score", "least score"),
        [
            (
                *(one.expression, Count(one.scored), Count(one.users), Count(one.under_score)),
                None if one.least_score is None else round(one.least_score, 6),
            )
            for one in cuts
        ],
    )
    _show_odd_cuts(page, cuts)


def show_export(page: Page, output: Path, done: SegmentExport, announced: str) -> None:
    """Print the files of an export."""
    _show_files(page, done)
    page.say(f"The files are in {output}.")
    for sentence in done.odd:
        page.say(f"{sentence}.")
    if announced:
        page.say(f"Announced to {announced}.")


def _show_figures(page: Page, training: Training) -> None:
    rows = figure_rows(training.reports)
    if rows:
        page.section(
            "test period, 95 % intervals",
            (
                *("expression", "order", "scores", "n", "precision at n", "recall at n", "AUC"),
                "average precision",
            ),
            [
                (
                    *(one.expression, one.order, one.scores, Count(one.n), one.precision),
                    *(one.recall, one.auc, one.average_precision),
                )
                for one in rows
            ],
        )
    for report in training.reports:
        page.say(f"{report.expression}: {report.sentence}.")
    page.say("")


def _show_files(page: Page, done: SegmentExport) -> None:
    page.section(
        "segments",
        ("expression", "users", "no endpoint", "endpoints", "file"),
        [
            (
                one.expression,
                Count(one.users),
                Count(one.without_endpoint),
                Count(one.endpoints),
                one.file,
            )
            for one in done.files
        ],
    )


def _show_odd_cuts(page: Page, cuts: Sequence[Cut]) -> None:
    for cut in cuts:
        if cut.under_score:
            page.say(f"{cut.expression}: {cut.under_score:,} users are under the least score.")
        if not cut.users:
            page.say(f"{cut.expression}: no user is in the segment.")
