"""The second step of a job: the users of each segment, cut from their scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from usergrowth_dagster.affinity.job import Segment
from usergrowth_dagster.affinity.train import (
    SCORES,
    STEP,
    file_source,
    read_training,
    write_parquet,
)
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import open_engine

SEGMENTS = "segments.parquet"


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


def cut_segments(segments: Sequence[Segment], output: Path, settings: Settings) -> tuple[Cut, ...]:
    """Take the first ``num_results`` users of each segment whose score is high enough.

    ``<output>/train/segments.parquet`` has segment, rank, user_id and score of those taken.

    Raises:
        UserError: the job has not been trained.
    """
    read_training(output, segments)
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
    return tuple(
        Cut(segments[number].expression.text, scored, users, under, least)
        for number, scored, users, under, least in counts
    )
