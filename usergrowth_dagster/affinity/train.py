"""The first step of a job: every user's score for every expression, kept as files.

``<output>/train/scores.parquet`` has segment (its place in the job), rank, user_id and score of
all users; ``<output>/train/report.json`` says how good they are and what they were made from, and
has a name of the training that later steps refer to.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.affinity.csv_file import FileReport
from usergrowth_dagster.affinity.files import (
    INTERACTIONS,
    ITEMS,
    forgotten_of,
    load_folder,
    unusable,
)
from usergrowth_dagster.affinity.job import Segment
from usergrowth_dagster.affinity.log import items_of, read_log
from usergrowth_dagster.affinity.model import Report, Scores, Trainer
from usergrowth_dagster.data.storage import file_literal
from usergrowth_dagster.documents import document
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine, open_engine

if TYPE_CHECKING:
    from usergrowth_dagster.affinity.log import Bools

STEP = "train"
SCORES = "scores.parquet"
REPORT = "report.json"


@dataclass(frozen=True)
class Training:
    """What a training made.

    Attributes:
        reports: by expression, in the job's order.
        files: what each file held.
        odd: sentences about what of them was not taken or is odd.
        users: users with a score.
    """

    reports: tuple[Report, ...]
    files: tuple[FileReport, ...]
    odd: tuple[str, ...]
    users: int


def train(folder: Path, segments: Sequence[Segment], output: Path, settings: Settings) -> Training:
    """Score the users of a folder for every segment of a job.

    Args:
        folder: with ``interactions.csv`` and ``items.csv``.
        segments: the job's.
        output: where the files of the step go.
        settings: limits of memory and threads, and the seed.

    Raises:
        UserError: a file cannot be used, or an expression names no item.
    """
    with open_engine(settings) as engine:
        held = load_folder(engine, folder, endpoints=False, forgotten=forgotten_of(settings))
        used = [name for one in segments for name in one.expression.fields]
        groups = [items_of(engine, held.fields, s.expression, s.place) for s in segments]
        trainer = Trainer(read_log(engine, held.fields, used), seed=settings.seed)
        reports = tuple(_score(engine, trainer, segments, groups))
        odd = tuple(sentence for report in held.reports for sentence in unusable(report))
        training = Training(reports, held.reports, odd, engine.value("select count(*) from people"))
        _keep(engine, output / STEP, training, segments, folder)
    return training


def _score(
    engine: Engine, trainer: Trainer, segments: Sequence[Segment], groups: "Sequence[Bools]"
) -> list[Report]:
    engine.run("create table scores (segment integer, rank integer, user_id varchar, score double)")
    reports = []
    for number, (segment, group) in enumerate(zip(segments, groups, strict=True)):
        if not group.any():
            raise UserError(
                f"{segment.place}: {segment.expression.text!r}: nobody has interacted with any of "
                "its items, so nothing can be learned",
                code="affinity.invalid",
            )
        scores, report = trainer.train(segment.expression.text, group, segment.num_results)
        _insert(engine, number, scores)
        reports.append(report)
    return reports


def _insert(engine: Engine, number: int, scores: Scores) -> None:
    import numpy as np
    import pyarrow as pa

    table = pa.table(
        {"rank": np.arange(1, len(scores.user) + 1), "u": scores.user, "score": scores.score}
    )
    engine.connection.register("_scored", table)
    engine.run(
        f"insert into scores select {number}, s.rank, p.user_id, s.score "
        "from _scored as s join people as p using (u)"
    )
    engine.connection.unregister("_scored")


def _keep(
    engine: Engine, folder: Path, training: Training, segments: Sequence[Segment], data: Path
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT).unlink(missing_ok=True)  # so that no report stands beside other scores
    write_parquet(engine, "select * from scores order by segment, rank", folder / SCORES)
    write_text(
        folder / REPORT,
        document(
            {
                "trained": uuid.uuid4().hex,
                "expressions": [segment.expression.text for segment in segments],
                "users": training.users,
                "reports": training.reports,
                "files": training.files,
                "odd": training.odd,
                "sha256": {name: sha256(data / name) for name in (INTERACTIONS, ITEMS)},
            }
        )
        + "\n",
    )


def read_training(output: Path, segments: Sequence[Segment]) -> Mapping[str, Any]:
    """The report of an earlier step, as it was written.

    Raises:
        UserError: there is none, or it is one of other expressions.
    """
    path = output / STEP / REPORT
    try:
        known: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        raise UserError(
            f"{path} is missing or unreadable; train first", code="affinity.bad_file"
        ) from None
    if known.get("expressions") != [segment.expression.text for segment in segments]:
        raise UserError(
            f"{path} is of other expressions than the job has; train again",
            code="affinity.bad_file",
        )
    return known


def sha256(path: Path) -> str:
    """Hash of a file's content, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_parquet(engine: Engine, query: str, path: Path) -> None:
    """Write a query's rows so that a reader sees the old file or the whole new one."""
    with temporary(path) as made:
        engine.run(f"copy ({query}) to {file_target(made)} (format parquet, use_tmp_file false)")
        made.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old one or the whole new one."""
    with temporary(path) as made:
        made.write_text(text, "utf-8")
        flush(made)
        made.replace(path)


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """A new file beside a path, its owner's alone; it is gone at the end unless it was moved."""
    made = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    os.close(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield made
    finally:
        made.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Bring a file's content to the disk."""
    with path.open("rb+") as handle:
        os.fsync(handle.fileno())


def file_target(path: Path) -> str:
    """SQL of a path that is written."""
    return literal(str(path))


def file_source(path: Path) -> str:
    """SQL of a path that is read."""
    return file_literal(str(path))
