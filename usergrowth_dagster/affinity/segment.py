"""The second step of a job: the users of each segment, cut from their scores."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usergrowth_dagster.affinity.job import Segment
from usergrowth_dagster.affinity.train import (
    SCORES,
    STEP,
    file_source,
    read_training,
    write_parquet,
    write_text,
)
from usergrowth_dagster.documents import document
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import open_engine

SEGMENTS = "segments.parquet"
CUTS = "cuts.json"


@dataclass(frozen=True)
class Cut:
    """The users of a segment.

    Attributes:
        expression: its text.
        scored: users with a score.
        users: users who are in it.
        under_score: users among the first n whose score is under the least one.
        least_score: score of the last user; None without users.
    """

    expression: str
    scored: int
    users: int
    under_score: int
    least_score: float | None


def read_cuts(output: Path, segments: Sequence[Segment]) -> Sequence[Mapping[str, Any]]:
    """``num_results`` and ``min_score`` by which each segment was cut, in the order of the job.

    Raises:
        UserError: the segments have not been cut since that training.
    """
    known = read_training(output, segments)
    try:
        cuts = json.loads((output / STEP / CUTS).read_text("utf-8"))
    except (OSError, ValueError):
        raise UserError(
            f"{output / STEP / CUTS} is missing or unreadable; cut the segments first",
            code="affinity.bad_file",
        ) from None
    if cuts["trained"] != known.get("trained"):
        raise UserError(
            f"the segments in {output} were cut from an earlier training; cut them again",
            code="affinity.bad_file",
        )
    numbers: Sequence[Mapping[str, Any]] = cuts["segments"]
    return numbers


def cut_segments(segments: Sequence[Segment], output: Path, settings: Settings) -> tuple[Cut, ...]:
    """Take the first ``num_results`` users of each segment whose score is high enough.

    ``<output>/train/segments.parquet`` has segment, rank, user_id and score of those taken, and
    ``<output>/train/cuts.json`` says from which training they were cut, and by which numbers.

    Raises:
        UserError: the job has not been trained.
    """
    known = read_training(output, segments)
    (output / STEP / CUTS).unlink(missing_ok=True)  # so that it stands beside no other segments
    source = file_source(output / STEP / SCORES)
    rules = ", ".join(
        f"({number}, {one.num_results}, {one.min_score!r})" for number, one in enumerate(segments)
    )
    with open_engine(settings) as engine:
        engine.run(
            f"create table rules as select * from (values {rules}) as r(segment, most, least)"
        )
        query = (
            f"select s.* from read_parquet({source}) as s join rules using (segment) "
            "where s.rank <= most and s.score >= least order by segment, rank"
        )
        counts = engine.rows(
            f"""
            select segment, count(*), count_if(rank <= most and score >= least),
                count_if(rank <= most and score < least),
                min(score) filter (where rank <= most and score >= least)
            from read_parquet({source}) join rules using (segment) group by segment order by 1
            """
        )
        write_parquet(engine, query, output / STEP / SEGMENTS)
    kept = [{"num_results": one.num_results, "min_score": one.min_score} for one in segments]
    cuts = document({"trained": known.get("trained"), "segments": kept})
    write_text(output / STEP / CUTS, cuts + "\n")
    return tuple(
        Cut(segments[number].expression.text, scored, users, under, least)
        for number, scored, users, under, least in counts
    )
