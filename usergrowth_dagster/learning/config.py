"""What a training job learns: algorithm, label, snapshots and slices.

Time, for an execution date D (every day is a business day, ``date``):

* A label of snapshot S is closed from the morning of ``S + horizon`` on, where ``horizon`` is
  ``churn_days`` for churn (label days ``[S, S + churn_days - 1]``) and ``return_days + 1`` for
  win-back (label days ``[S + 1, S + return_days]``, and S itself with ``same_day``).
* Training at D uses only snapshots with ``S + horizon <= D``.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from usergrowth_dagster.errors import UserError

Algorithm = Literal["churn", "winback", "uplift"]
Days = Annotated[int, Field(ge=1, le=90)]
DEFAULT_WINDOW_DAYS = 365
A_MONDAY = date(1970, 1, 5)  # rolling windows count their steps from here, so that dates share days


class TrainingConfig(BaseModel):
    """Settings of one training job; frozen, unknown keys refused.

    Attributes:
        algorithm: ``churn`` (who is about to go silent), ``winback`` (who returns when texted) or
            ``uplift`` (whom a text makes return; both arms are learned from).
        churn_days: churned = no behavior in ``[S, S + churn_days - 1]``; days.
        op_target: the kind of touch learned from; None = every kind.
        return_days: returned = a behavior in ``[d + 1, d + return_days]``; days.
        return_behaviors: the behavior kinds that count as a return; empty = any.
        return_on_item: only behaviors on the touched item count as a return.
        same_day: a behavior on d itself counts as a return too.
        start_date: first snapshot (churn) or touch day (win-back); None = by ``window_days``.
        end_date: last snapshot or touch day; None = as late as the labels allow.
        window_days: rolling window before the execution date, instead of a start date; days.
        every_days: days between churn snapshots, counted from the start date, else from a Monday.
        calibrate_from: first day of the calibration slice; None = derived.
        test_from: first day of the test slice; None = derived.
        require_review: a person approves each version that passes the gates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    algorithm: Algorithm
    churn_days: Days = 7
    op_target: str | None = None
    return_days: Days = 28
    return_behaviors: tuple[str, ...] = ()
    return_on_item: bool = False
    same_day: bool = False
    start_date: date | None = None
    end_date: date | None = None
    window_days: Annotated[int, Field(ge=7, le=3660)] | None = None
    every_days: Days = 7
    calibrate_from: date | None = None
    test_from: date | None = None
    require_review: bool = False

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
        return self.churn_days if self.algorithm == "churn" else self.return_days + 1

    @property
    def label_settings(self) -> dict[str, object]:
        """The settings that define the label and the rows it is asked of."""
        if self.algorithm == "churn":
            return {"algorithm": "churn", "churn_days": self.churn_days}
        settings: dict[str, object] = {
            "algorithm": self.algorithm,
            "op_target": self.op_target,
            "return_behaviors": sorted(set(self.return_behaviors)),
            "return_days": self.return_days,
            "return_on_item": self.return_on_item,
        }
        # named only where it holds, so that the hash of every other label stays what it was
        return settings | ({"same_day": True} if self.same_day else {})

    def config_hash(self) -> str:
        """Twelve hex digits that change exactly when the label or its rows do.

        Models of the same hash answer the same question, so they can stand in for one another;
        training dates, slices and review do not enter.
        """
        text = json.dumps(self.label_settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def label_sql(self) -> str:
        """The boolean SQL expression of the label over the training relation's label columns."""
        if self.algorithm == "churn":
            return f"(days_to_next is null or days_to_next >= {self.churn_days})"
        on_item = "_on_item" if self.return_on_item else ""
        returns, kinds = f"days_to_return{on_item}", sorted(set(self.return_behaviors))
        if kinds:
            within = " or ".join(f"{returns}[{quote_text(k)}] <= {self.return_days}" for k in kinds)
            later = f"coalesce({within}, false)"
        else:
            first = f"coalesce(list_min(map_values({returns})), {self.return_days + 1})"
            later = f"{first} <= {self.return_days}"
        if not self.same_day:
            return later
        seen = f"coalesce(same_day{on_item}, [])"
        wanted = f"[{', '.join(map(quote_text, kinds))}]"
        return f"({later} or {f'list_has_any({seen}, {wanted})' if kinds else f'len({seen}) > 0'})"

    def rows_sql(self) -> str:
        """The boolean SQL expression that keeps this job's rows of the training relation.

        An effect is learned from rows that could have been in either arm; of people held out, from
        those that would have had this kind of touch.
        """
        if self.algorithm == "uplift":
            return f"propensity > 0 and propensity < 1 and {self.kind_sql()}"
        return self.kind_sql()

    def kind_sql(self) -> str:
        """The boolean SQL expression that keeps the rows of this job's kind of touch."""
        if self.algorithm == "churn" or self.op_target is None:
            return "true"
        kind = quote_text(self.op_target)
        if self.algorithm == "uplift":
            return f"case when treated then target else coalesce(channel, {kind}) end = {kind}"
        return f"target = {kind}"


def quote_text(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True)
class Snapshots:
    """The days a job trains on at an execution date.

    Attributes:
        days: snapshot days in order; for win-back every day that may hold touches.
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
    step = config.every_days if config.algorithm == "churn" else 1
    start = config.start_date
    if start is None:
        start = execution_date - timedelta(days=config.window_days or DEFAULT_WINDOW_DAYS)
        start += timedelta(days=-(start - A_MONDAY).days % step)
    if first_day is not None and first_day > start:
        start += timedelta(days=-(-(first_day - start).days // step) * step)
    if start > last:
        raise UserError(_nothing_closed(config, start, last, execution_date))
    count = (last - start).days // step + 1
    return Snapshots(tuple(start + timedelta(days=step * i) for i in range(count)), tuple(warnings))


def _nothing_closed(config: TrainingConfig, start: date, last: date, day: date) -> str:
    """Why no snapshot of a job is usable, and what to change."""
    shorter = "churn_days" if config.algorithm == "churn" else "return_days"
    what = "the first snapshot" if config.algorithm == "churn" else "the first touch that counts"
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
