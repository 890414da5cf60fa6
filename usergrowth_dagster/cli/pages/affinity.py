"""The page of an affinity job."""

from usergrowth_dagster.affinity.run import JobRun
from usergrowth_dagster.cli.cells import Count
from usergrowth_dagster.cli.common import Page
from usergrowth_dagster.views.affinity import figure_rows


def show_run(page: Page, done: JobRun) -> None:
    """Print what became of a job: its figures, its sentences, its files."""
    rows = figure_rows(done.training.reports)
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
    for report in done.training.reports:
        page.say(f"{report.expression}: {report.sentence}.")
    page.say("")
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
            for one in done.export.files
        ],
    )
    page.say(f"The files are in {done.output}.")
    for cut in done.cuts:
        if cut.under_score:
            page.say(f"{cut.expression}: {cut.under_score:,} users are under the least score.")
        if not cut.users:
            page.say(f"{cut.expression}: no user is in the segment.")
    for sentence in (*done.training.odd, *done.export.odd):
        page.say(f"{sentence}.")
    if done.announced:
        page.say(f"Announced to {done.announced}.")
    page.document(done)
