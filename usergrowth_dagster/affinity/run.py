"""A job and its steps: train, cut the segments, export and announce them; one by one, or all."""

from dataclasses import dataclass
from pathlib import Path

from usergrowth_dagster.affinity.announce import announce, shown_url
from usergrowth_dagster.affinity.csv_file import read_header
from usergrowth_dagster.affinity.export import SegmentExport, export_segments
from usergrowth_dagster.affinity.files import ENDPOINTS
from usergrowth_dagster.affinity.job import FILE_NAME, Segment, read_job
from usergrowth_dagster.affinity.landed import results_folder
from usergrowth_dagster.affinity.segment import Cut, cut_segments
from usergrowth_dagster.affinity.train import Training, train
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings


@dataclass(frozen=True)
class AffinityJob:
    """A job with its folders, as its steps take it.

    Attributes:
        name: that of its folder.
        folder: with interactions, items and endpoints.
        output: where the results of all steps go.
        segments: what it asks for.
        settings: limits of memory and threads, and the seed.
    """

    name: str
    folder: Path
    output: Path
    segments: tuple[Segment, ...]
    settings: Settings


@dataclass(frozen=True)
class Exported:
    """What became of an export.

    Attributes:
        export: the files.
        announced: where it was announced, without secrets; empty where it was not.
        failure: why it could not be announced; empty otherwise.
    """

    export: SegmentExport
    announced: str
    failure: str


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


def open_job(
    folder: Path,
    settings: Settings,
    *,
    output: Path | None = None,
    job: Path | None = None,
    top: int | None = None,
    min_score: float | None = None,
) -> AffinityJob:
    """The job of a folder.

    Args:
        folder: with interactions, items, endpoints and, where ``job`` is None, the job's file.
        settings: limits of memory and threads, and the seed.
        output: where results go; None: a folder of the home.
        job: the job's file.
        top: users of a segment at most, instead of what the file says.
        min_score: least score of a user, instead of what the file says.

    Raises:
        UserError: the job's file cannot be read, or breaks a rule.
    """
    segments = read_job(job or folder / FILE_NAME, top=top, min_score=min_score)
    name = folder.absolute().name
    return AffinityJob(name, folder, output or results_folder(settings, name), segments, settings)


def train_job(job: AffinityJob) -> Training:
    """The first step; errors as in :func:`train`."""
    job.output.mkdir(parents=True, exist_ok=True)
    return train(job.folder, job.segments, job.output, job.settings)


def segment_job(job: AffinityJob) -> tuple[Cut, ...]:
    """The second step; errors as in :func:`cut_segments`."""
    return cut_segments(job.segments, job.output, job.settings)


def export_job(job: AffinityJob, webhook: str | None = None) -> Exported:
    """The third step: the files, and their announcement to a webhook where one is given.

    Raises:
        UserError: the URL is none, the segments have not been cut, or the endpoints cannot be
            used; nothing is exported then.
    """
    shown = shown_url(webhook) if webhook else ""
    made = export_segments(job.folder, job.segments, job.output, job.settings)
    if not webhook:
        return Exported(made, "", "")
    try:
        announce(webhook, job.name, job.output, made.files)
    except UserError as error:
        return Exported(made, "", str(error))
    return Exported(made, shown, "")


def run_job(job: AffinityJob, webhook: str | None = None) -> JobRun:
    """Run a job from its files to its announcement.

    Args:
        job: the job.
        webhook: URL that gets the announcement.

    Raises:
        UserError: a file, an expression or the URL cannot be used; nothing is exported then.
    """
    if webhook:
        shown_url(webhook)
    read_header(job.folder / ENDPOINTS)  # a file that is not there is known before the training
    training = train_job(job)
    cuts = segment_job(job)
    done = export_job(job, webhook)
    return JobRun(job.name, job.output, training, cuts, done.export, done.announced, done.failure)
