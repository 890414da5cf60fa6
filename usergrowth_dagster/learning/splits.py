"""Train, calibration and test slices by time, each after the labels of the one before are closed.

The splitter follows the idea of a time split with a gap (as in RecTools' ``TimeRangeSplitter`` and
scikit-lego's ``TimeGapSplit``): a slice keeps only snapshots S with ``S + horizon <=`` the first
day of the next slice, so no label of a slice overlaps a day that the next slice predicts from.

Touches of one experiment may all lie within one label horizon, where no cut leaves a gap. Then the
slices hold different users instead, drawn by a hash of the user: what such a training shows is how
it does on other people, not on later days.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.quoting import literal

CALIBRATE_SHARE, TEST_SHARE = 0.15, 0.25
NEWEST_SHARE = 0.25  # of the train slice, in which a feature must still be there
MIN_CALIBRATE = 200  # positives and negatives that a derived calibration slice must hold
MIN_CLASS = {"train": 30, "calibrate": 10, "test": 10}
TEST_ONE_IN = 4  # of the users, where slices hold different users
BY_USER = (
    "all touches are of days that one label looks across, so the test slice holds other users and "
    "not later days: nothing shows that the ranking holds later"
)

Counts = Mapping[date, tuple[int, int]]


@dataclass(frozen=True)
class TimeSplit:
    """Snapshot days of each slice, in order; days in the gaps belong to none.

    ``calibrate`` is empty when it would be too thin: then calibration is cross-fitted, on forward
    folds of the train slice.
    """

    train: tuple[date, ...]
    calibrate: tuple[date, ...]
    test: tuple[date, ...]

    def as_dict(self) -> dict[str, dict[str, object]]:
        """First and last day and number of days of each slice that is not empty, for records."""
        slices = {"train": self.train, "calibrate": self.calibrate, "test": self.test}
        return {
            name: {"first": days[0].isoformat(), "last": days[-1].isoformat(), "days": len(days)}
            for name, days in slices.items()
            if days
        }


def split_rows(counts: Counts, config: TrainingConfig, *, both: bool = True) -> TimeSplit:
    """Split training rows by time, or by user where touches are too close together for that.

    Arguments, result and errors are those of :func:`split_by_time`. By user, train and test have
    the same days (:func:`is_by_user`), and :func:`user_scopes` has the rows of each.
    """
    days = sorted(day for day, (rows, _) in counts.items() if rows > 0)
    asked = config.test_from is not None or config.calibrate_from is not None
    if not config.problem.by_touch or asked or not days:
        return split_by_time(counts, config, both=both)
    if days[-1] - days[0] >= timedelta(days=config.horizon_days):
        return split_by_time(counts, config, both=both)
    return TimeSplit(tuple(days), (), tuple(days))


def is_by_user(split: TimeSplit) -> bool:
    """Whether the slices hold other users of the same days, and not later days."""
    return split.train == split.test


def user_scopes(scope: str, split: TimeSplit, seed: int) -> dict[str, str]:
    """The SQL condition of each slice's rows, beside its days."""
    if not is_by_user(split):
        return dict.fromkeys(("train", "calibrate", "test"), scope)
    draw = f"md5_number_lower(concat({literal(f'split {seed} ')}, user_id)) % {TEST_ONE_IN}"
    return {"train": f"{scope} and {draw} <> 0", "test": f"{scope} and {draw} = 0"}


def split_by_time(counts: Counts, config: TrainingConfig, *, both: bool = True) -> TimeSplit:
    """Split the snapshot days that hold rows into train, calibrate and test.

    Args:
        counts: rows and positive rows of each snapshot day.
        config: gives the label horizon and, when set, the first days of the later slices.
        both: whether rows of both classes are needed, rather than positive ones alone.

    Returns:
        The slices. Derived cuts give about 60 / 15 / 25 % of the rows; a derived calibration slice
        is left empty when it would hold fewer than 200 rows of either class.

    Raises:
        UserError: the train or test slice, or a calibration slice asked for, would be empty or
            have too few positive or negative labels.

    Examples:
        >>> days = {date(2024, 1, 1) + timedelta(days=7 * i): (2000, 500) for i in range(20)}
        >>> split = split_by_time(days, TrainingConfig(algorithm="churn"))
        >>> len(split.train), len(split.calibrate), len(split.test)
        (12, 3, 5)
    """
    days = sorted(day for day, (rows, _) in counts.items() if rows > 0)
    if len(days) < 3:
        raise UserError(
            f"training.start_date: only {len(days)} days hold training rows with closed labels, at "
            f"least 3 are needed; {config.problem.more_days()}",
            code="training.insufficient",
        )
    horizon = timedelta(days=config.horizon_days)
    test_from = config.test_from or _cut(counts, days, 1 - TEST_SHARE)
    fit = [day for day in days if day + horizon <= test_from]
    calibrate_from = config.calibrate_from
    if calibrate_from is None and len(fit) > 1:
        share = 1 - CALIBRATE_SHARE / (1 - TEST_SHARE)
        candidate = _cut(counts, fit, share)
        late = [day for day in fit if day >= candidate]
        if min(_needed(counts, late, both).values()) >= MIN_CALIBRATE:
            calibrate_from = candidate
    train_end = calibrate_from or test_from
    split = TimeSplit(
        train=tuple(day for day in fit if day + horizon <= train_end),
        calibrate=tuple(day for day in fit if calibrate_from and day >= calibrate_from),
        test=tuple(day for day in days if day >= test_from),
    )
    if calibrate_from is not None and config.calibrate_from is None and not split.train:
        split = TimeSplit(train=tuple(fit), calibrate=(), test=split.test)
    _check(split, counts, config, both)
    return split


def _cut(counts: Counts, days: Sequence[date], share: float) -> date:
    """The first day with at least ``share`` of the rows before it; never the first day."""
    total = sum(counts[day][0] for day in days)
    before = 0
    for day in days:
        if before > 0 and before >= share * total - 1e-9:
            return day
        before += counts[day][0]
    return days[-1]


def _needed(counts: Counts, days: Sequence[date], both: bool) -> dict[str, int]:
    """Rows of some days by the classes that a training needs, the positive one first."""
    rows = sum(counts[day][0] for day in days)
    positives = sum(counts[day][1] for day in days)
    return {"positive": positives} | ({"negative": rows - positives} if both else {})


def _check(split: TimeSplit, counts: Counts, config: TrainingConfig, both: bool) -> None:
    slices = {"train": split.train, "test": split.test}
    if config.calibrate_from is not None:
        slices["calibrate"] = split.calibrate
    for name, days in slices.items():
        if not days:
            raise UserError(
                f"training.{'test_from' if name != 'calibrate' else 'calibrate_from'}: the {name} "
                f"slice is empty (rows from {min(counts)} to {max(counts)}, labels close after "
                f"{config.horizon_days} days); widen the training window or move the slices apart",
                code="training.insufficient",
            )
        rows = sum(counts[day][0] for day in days)
        require_classes(name, rows, _needed(counts, days, both), config)


def require_classes(
    name: str, rows: int, classes: Mapping[str, int], config: TrainingConfig
) -> None:
    """Refuse a slice that holds too few rows of a class.

    Args:
        name: of the slice.
        rows: that it holds.
        classes: how many of them are of each class that is needed.
        config: the job.

    Raises:
        UserError: they are too few; names the class, the slice and what to change.
    """
    kind = min(classes, key=lambda one: classes[one])
    if classes[kind] < MIN_CLASS[name]:
        raise UserError(
            f"training: too few {kind} labels in the {name} slice ({classes[kind]} of "
            f"{rows} rows, at least {MIN_CLASS[name]} needed); widen the "
            "training window, or choose a label that is less one-sided "
            f"({', '.join(type(config.problem).model_fields)})",
            code="training.insufficient",
        )


def newest_days(days: Sequence[date], counts: Counts) -> tuple[date, ...]:
    """The last days of a slice that hold a quarter of its rows."""
    ordered = sorted(days)
    wanted = NEWEST_SHARE * sum(counts[day][0] for day in ordered)
    held = 0
    for place in range(len(ordered) - 1, -1, -1):
        held += counts[ordered[place]][0]
        if held >= wanted:
            return tuple(ordered[place:])
    return tuple(ordered)


def forward_folds(
    days: Sequence[date], horizon_days: int, folds: int = 4
) -> list[tuple[tuple[date, ...], tuple[date, ...]]]:
    """Forward-chained folds: fit on the past, predict the next block, with the label gap.

    Args:
        days: the days to fold, any order.
        horizon_days: days until a label is closed.
        folds: blocks predicted; the first block of days is only ever fitted on.

    Returns:
        Pairs (fit days, predicted days), oldest first; folds without fit days are left out.
    """
    ordered = sorted(set(days))
    bounds = [round(i * len(ordered) / (folds + 1)) for i in range(folds + 2)]
    pairs = []
    for low, high in pairwise(bounds[1:]):
        block = tuple(ordered[low:high])
        if not block:
            continue
        fit = tuple(d for d in ordered if d + timedelta(days=horizon_days) <= block[0])
        if fit:
            pairs.append((fit, block))
    return pairs
