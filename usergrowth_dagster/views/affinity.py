"""An affinity job as people look at it: what its files hold, how good its orders are, its files."""

from dataclasses import dataclass
from pathlib import Path

from usergrowth_dagster.affinity.csv_file import FileReport
from usergrowth_dagster.affinity.files import ENDPOINTS, forgotten_of, load_folder, unusable
from usergrowth_dagster.affinity.job import FILE_NAME, read_job
from usergrowth_dagster.affinity.log import items_of
from usergrowth_dagster.affinity.model import Report
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import open_engine


@dataclass(frozen=True)
class SegmentLook:
    """One segment of a job before it is trained.

    Attributes:
        expression: its text.
        items: items of interactions that it takes.
        num_results: users at most.
        min_score: least score of a user.
    """

    expression: str
    items: int
    num_results: int
    min_score: float


@dataclass(frozen=True)
class JobLook:
    """What a job would read.

    Attributes:
        files: what each file holds.
        odd: sentences about what of them is not taken or is odd.
        segments: what the job asks for.
    """

    files: tuple[FileReport, ...]
    odd: tuple[str, ...]
    segments: tuple[SegmentLook, ...]


@dataclass(frozen=True)
class FigureRow:
    """One order of users for one expression, with its figures and their intervals as texts."""

    expression: str
    order: str
    scores: bool
    n: int
    precision: str
    recall: str
    auc: str
    average_precision: str


def look_at_job(folder: Path, settings: Settings, job: Path | None = None) -> JobLook:
    """Read the files of a job and find the items of its expressions; nothing is trained.

    Raises:
        UserError: a file or an expression cannot be used.
    """
    segments = read_job(job or folder / FILE_NAME)
    with open_engine(settings) as engine:
        there = (folder / ENDPOINTS).exists()
        held = load_folder(engine, folder, endpoints=there, forgotten=forgotten_of(settings))
        looks = tuple(
            SegmentLook(
                one.expression.text,
                int(items_of(engine, held.fields, one.expression, one.place).sum()),
                one.num_results,
                one.min_score,
            )
            for one in segments
        )
    odd = tuple(sentence for report in held.reports for sentence in unusable(report))
    return JobLook(held.reports, odd, looks)


def figure_rows(reports: tuple[Report, ...]) -> tuple[FigureRow, ...]:
    """The figures of every order in the test period."""
    return tuple(
        FigureRow(
            report.expression,
            one.order,
            one.order == report.shipped,
            report.n,
            one.precision.shown,
            one.recall.shown,
            one.auc.shown,
            one.average_precision.shown,
        )
        for report in reports
        for one in report.figures
    )
