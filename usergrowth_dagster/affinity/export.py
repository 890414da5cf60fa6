"""The third step of a job: the endpoints of each segment's users, as files that Pinpoint imports.

A file has the one column ``Id``. Its name is the expression and the moment, such as
``ITEMSgenresAction_20240501T080000123456.csv``; a name that is taken is never written again. The
manifest of the same name, ``….json``, is written last, so whoever sees it sees the whole file.
``train/….people.parquet`` has the user of each endpoint, so that a user can be erased; it is never
announced.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from usergrowth_dagster.affinity.csv_file import FileReport, read_header
from usergrowth_dagster.affinity.files import ENDPOINTS, forgotten_of, load_endpoints, unusable
from usergrowth_dagster.affinity.job import Segment
from usergrowth_dagster.affinity.segment import SEGMENTS, read_cuts
from usergrowth_dagster.affinity.train import (
    STEP,
    file_source,
    file_target,
    flush,
    read_training,
    sha256,
    temporary,
    write_parquet,
    write_text,
)
from usergrowth_dagster.documents import document
from usergrowth_dagster.quoting import identifier
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine, open_engine

WITH_IDS = "endpoints_with_ids.csv"
"""The endpoints with the ids that they got here, where their file has none."""


@dataclass(frozen=True)
class SegmentFile:
    """One written file.

    Attributes:
        expression: whose segment it is.
        file: its name in the output folder.
        manifest: name of its manifest.
        sha256: hash of the file.
        users: users of the segment.
        without_endpoint: users who have none that can be reached; they are not in the file.
        endpoints: rows of the file.
    """

    expression: str
    file: str
    manifest: str
    sha256: str
    users: int
    without_endpoint: int
    endpoints: int


@dataclass(frozen=True)
class SegmentExport:
    """What an export wrote.

    Attributes:
        files: in the job's order.
        report: what the file of endpoints holds.
        odd: sentences about what of it was not taken or is odd.
    """

    files: tuple[SegmentFile, ...]
    report: FileReport
    odd: tuple[str, ...]


def export_segments(
    folder: Path, segments: Sequence[Segment], output: Path, settings: Settings
) -> SegmentExport:
    """Write the endpoints of each segment.

    Args:
        folder: with ``endpoints.csv``.
        segments: the job's.
        output: where the segments are and the files go.
        settings: limits of memory and threads.

    Raises:
        UserError: the segments have not been cut, or the endpoints cannot be used.
    """
    known, numbers = read_training(output, segments), read_cuts(output, segments)
    source = output / STEP / SEGMENTS
    made_at = datetime.now(UTC)
    with open_engine(settings) as engine:
        report, own_ids = load_endpoints(engine, folder / ENDPOINTS, forgotten_of(settings))
        engine.run(
            "create table chosen as select s.segment, s.rank, s.user_id, e.id "
            f"from read_parquet({file_source(source)}) as s left join "
            "(select user_id, id from endpoints where fault is null) as e using (user_id)"
        )
        if own_ids:
            _write_with_ids(engine, folder / ENDPOINTS, output)
        files = tuple(
            _write(engine, number, segment, output, made_at, known, numbers[number], report)
            for number, segment in enumerate(segments)
        )
    return SegmentExport(files, report, tuple(unusable(report)))


def people_of(output: Path, file: str) -> Path:
    """The file with the user of each endpoint of an exported file, so that one can be erased."""
    return output / STEP / f"{Path(file).stem}.people.parquet"


def _write(
    engine: Engine,
    number: int,
    segment: Segment,
    output: Path,
    made_at: datetime,
    known: Mapping[str, Any],
    numbers: Mapping[str, Any],
    report: FileReport,
) -> SegmentFile:
    users, without, endpoints = engine.rows(
        "select count(distinct user_id), count(distinct user_id) filter (where id is null), "
        f"count(id) from chosen where segment = {number}"
    )[0]
    path = _new_file(
        engine,
        f'select id as "Id" from chosen where segment = {number} and id is not null '
        "order by rank, id",
        output,
        f"{segment.expression.name}_{made_at:%Y%m%dT%H%M%S%f}",
    )
    write_parquet(
        engine,
        f"select user_id, id from chosen where segment = {number} and id is not null "
        "order by rank, id",
        people_of(output, path.name),
    )
    manifest = path.with_suffix(".json")
    written = SegmentFile(
        segment.expression.text,
        path.name,
        manifest.name,
        sha256(path),
        users,
        without,
        endpoints,
    )
    content = {
        **vars(written),
        "made_at": made_at,
        "num_results": numbers["num_results"],
        "min_score": numbers["min_score"],
        "report": known["reports"][number],
        "files": [*known["files"], report],
        "inputs": known["sha256"],
    }
    write_text(manifest, document(content) + "\n")
    return written


def _new_file(engine: Engine, query: str, output: Path, name: str) -> Path:
    """Write a query's rows under a name that nothing has yet, whole or not at all."""
    first = output / f"{name}.csv"
    with temporary(first) as made:
        engine.run(
            f"copy ({query}) to {file_target(made)} (format csv, header true, use_tmp_file false)"
        )
        flush(made)
        path, again = first, 1
        while True:
            try:
                os.link(made, path)  # fails where the name is taken, unlike a rename
                return path
            except FileExistsError:
                again += 1
                path = output / f"{name}-{again}.csv"


def _write_with_ids(engine: Engine, path: Path, output: Path) -> None:
    """The file of endpoints with a column ``Id`` in front, for an import that makes them known."""
    from usergrowth_dagster.affinity.csv_file import load_csv

    names = [name for name in read_header(path)[0] if name]
    load_csv(engine, "_whole", path, {f"c{k}": name for k, name in enumerate(names)})
    columns = ", ".join(f"w.c{k} as {identifier(name)}" for k, name in enumerate(names))
    query = (
        f'select e.id as "Id", {columns} from _whole as w join endpoints as e using (line) '
        "where e.fault is null order by line"
    )
    with temporary(output / WITH_IDS) as made:
        engine.run(
            f"copy ({query}) to {file_target(made)} (format csv, header true, use_tmp_file false)"
        )
        flush(made)
        made.replace(output / WITH_IDS)
