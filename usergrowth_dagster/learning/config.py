"""What a training job learns: the question, its label, snapshots and slices.

Time, for an execution date D (every day is a business day, ``date``):

* A label of snapshot S is closed from the morning of ``S + horizon`` on; the horizon is the
  question's, see :mod:`usergrowth_dagster.learning.problems`.
* Training at D uses only snapshots with ``S + horizon <= D``.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.problems import problem_called
from usergrowth_dagster.learning.problems.base import Days, Problem

DEFAULT_WINDOW_DAYS = 365
A_MONDAY = date(1970, 1, 5)  # rolling windows count their steps from here, so that dates share days


class TrainingConfig(BaseModel):
    """Settings of one training job; frozen, unknown keys refused.

    It is read and written flat: the settings of the question stand beside the others.

    Attributes:
        algorithm: name of the question.
        problem: the question with its settings.
        start_date: first snapshot or touch day; None = by ``window_days``.
        end_date: last snapshot or touch day; None = as late as the labels allow.
        window_days: rolling window before the execution date, instead of a start date; days.
        every_days: days between snapshots, counted from the start date, else from a Monday.
        calibrate_from: first day of the calibration slice; None = derived.
        test_from: first day of the test slice; None = derived.
        require_review: a person approves each version that passes the gates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    algorithm: str
    problem: Problem
    start_date: date | None = None
    end_date: date | None = None
    window_days: Annotated[int, Field(ge=7, le=3660)] | None = None
    every_days: Days = 7
    calibrate_from: date | None = None
    test_from: date | None = None
    require_review: bool = False

    @model_validator(mode="before")
    @classmethod
    def _with_problem(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "problem" in values or "algorithm" not in values:
            return values
        asked = problem_called(str(values["algorithm"]))
        own = {key: value for key, value in values.items() if key in cls.model_fields}
        settings = {
            key: value
            for key, value in values.items()
            if key not in own and key not in asked.earlier.keys() - asked.model_fields.keys()
        }
        return {**own, "problem": asked.model_validate(settings)}

    @model_serializer(mode="wrap")
    def _flat(self, own: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        kept: dict[str, Any] = own(self)
        del kept["problem"]
        return {**kept, **self.problem.record("json" if info.mode == "json" else "python")}

    @model_validator(mode="after")
    def _ordered(self) -> "TrainingConfig":
        if self.start_date and self.window_days:
            raise ValueError("give start_date or window_days, not both")
        named = [
            ("start_date", self.start_date),
            ("calibrate_from", self.calibrate_from),
            ("test_from", self.test_from),
            ("end_date", self.end_date),
        ]
        given = [(name, day) for name, day in named if day is not None]
        for (before, first), (after, second) in pairwise(given):
            if first > second:
                raise ValueError(f"{before} {first} is after {after} {second}")
        if self.calibrate_from and not self.test_from:
            raise ValueError("calibrate_from needs test_from")
        return self

    @property
    def horizon_days(self) -> int:
        """Days from a snapshot until its label is closed."""
        return self.problem.horizon_days

    @property
    def step_days(self) -> int:
        """Days from one snapshot to the next; a day of touches may be any."""
        return 1 if self.problem.by_touch else self.every_days

    def config_hash(self) -> str:
        """Twelve hex digits that change exactly when the label or its rows do.

        Models of the same hash answer the same question, so they can stand in for one another;
        training dates, slices and review do not enter.
        """
        text = json.dumps(self.problem.label_settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def label_sql(self) -> str:
        """The SQL expression of the label over the training relation's label columns."""
        return self.problem.label_sql()

    def rows_sql(self) -> str:
        """The boolean SQL expression that keeps this job's rows of the training relation."""
        return self.problem.rows_sql()


@dataclass(frozen=True)
class Snapshots:
    """The days a job trains on at an execution date.

    Attributes:
        days: snapshot days in order; of touches, every day that may hold some.
        warnings: sentences for the job's history.
    """

    days: tuple[date, ...]
    warnings: tuple[str, ...] = ()


def snapshots(
    config: TrainingConfig, execution_date: date, first_day: date | None = None
) -> Snapshots:
    """The snapshot days S a job needs at an execution date: only ``S + horizon <= D``.

    Args:
        config: the job.
        execution_date: D.
        first_day: earliest day that may be a snapshot, for example the first landed day.

    Raises:
        UserError: the window holds no day with a closed label.
    """
    closed = execution_date - timedelta(days=config.horizon_days)
    last = min(config.end_date or closed, closed)
    warnings = []
    if config.end_date is not None and config.end_date > closed:
        warnings.append(
            f"end_date {config.end_date} was moved to {closed}: labels of later days are not "
            f"closed on the execution date {execution_date} (they look {config.horizon_days} days "
            "ahead)"
        )
    step = config.step_days
    start = config.start_date
    if start is None:
        start = execution_date - timedelta(days=config.window_days or DEFAULT_WINDOW_DAYS)
        start += timedelta(days=-(start - A_MONDAY).days % step)
    if first_day is not None and first_day > start:
        start += timedelta(days=-(-(first_day - start).days // step) * step)
    if start > last:
        raise UserError(
            _nothing_closed(config, start, last, execution_date), code="training.insufficient"
        )
    count = (last - start).days // step + 1
    return Snapshots(tuple(start + timedelta(days=step * i) for i in range(count)), tuple(warnings))


def _nothing_closed(config: TrainingConfig, start: date, last: date, day: date) -> str:
    """Why no snapshot of a job is usable, and what to change."""
    words = config.problem.words
    what, shorter = words.first, words.shorter
    if config.end_date is not None and last == config.end_date:
        return (
            f"training.end_date: {what} is of {start}, after the end_date {last}; move end_date "
            "later, or land earlier days"
        )
    return (
        f"training.start_date: {what} is of {start}, and on the execution date {day} labels are "
        f"closed up to {last} only (they look {config.horizon_days} days ahead); move start_date "
        f"earlier, land earlier days, choose a shorter {shorter}, or wait until "
        f"{start + (day - last)}"
    )


def last_label_day(config: TrainingConfig, days: Sequence[date]) -> date:
    """The last day that any label of these snapshots looks at."""
    return max(days) + timedelta(days=config.horizon_days - 1)
