"""A whole job: train, cut the segments, export them, announce them."""

from dataclasses import dataclass
from pathlib import Path

from usergrowth_dagster.affinity.announce import announce, shown_url
from usergrowth_dagster.affinity.csv_file import read_header
from usergrowth_dagster.affinity.export import SegmentExport, export_segments
from usergrowth_dagster.affinity.files import ENDPOINTS
from usergrowth_dagster.affinity.job import FILE_NAME, read_job
from usergrowth_dagster.affinity.segment import Cut, cut_segments
from usergrowth_dagster.affinity.train import Training, train
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings


@dataclass(frozen=True)
class JobRun:
    """What became of a job.

    Attributes:
        name: of the job: that of its folder.
        output: where the files are.
        training: scores and how good they are.
        cuts: the users of each segment.
        export: the files.
        announced: where it was announced, without secrets; empty where it was not.
        failure: why it could not be announced; empty otherwise.
    """

    name: str
    output: Path
    training: Training
    cuts: tuple[Cut, ...]
    export: SegmentExport
    announced: str
    failure: str


def run_job(
    folder: Path,
    output: Path,
    settings: Settings,
    *,
    job: Path | None = None,
    top: int | None = None,
    min_score: float | None = None,
    webhook: str | None = None,
) -> JobRun:
    """Run a job from its files to its announcement.

    Args:
        folder: with interactions, items, endpoints and, where ``job`` is None, the job's file.
        output: made when it is missing.
        settings: limits of memory and threads, and the seed.
        job: the job's file.
        top: users of a segment at most, instead of what the file says.
        min_score: least score of a user, instead of what the file says.
        webhook: URL that gets the announcement.

    Raises:
        UserError: a file, an expression or the URL cannot be used; nothing is exported then.
    """
    shown = shown_url(webhook) if webhook else ""
    segments = read_job(job or folder / FILE_NAME, top=top, min_score=min_score)
    read_header(folder / ENDPOINTS)  # a file that is not there is known before the training
    output.mkdir(parents=True, exist_ok=True)
    training = train(folder, segments, output, settings)
    cuts = cut_segments(segments, output, settings)
    exported = export_segments(folder, segments, output, settings)
    name, failure = folder.absolute().name, ""
    if webhook:
        try:
            announce(webhook, name, output, exported.files)
        except UserError as error:
            shown, failure = "", str(error)
    return JobRun(name, output, training, cuts, exported, shown, failure)
