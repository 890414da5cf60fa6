"""Which days a job trains on, and what its label is."""

from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from learning_frames import make_winback
from pydantic import ValidationError

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.config import TrainingConfig, last_label_day, snapshots
from usergrowth_dagster.learning.origin import MadeFrom
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import open_engine

days = st.dates(date(2020, 1, 1), date(2026, 12, 31))


@given(
    execution_date=days,
    algorithm=st.sampled_from(["churn", "winback"]),
    horizon=st.integers(1, 90),
    every=st.integers(1, 14),
    window=st.integers(100, 400),
    lead=st.integers(0, 50),
)
def test_no_snapshot_has_a_label_open_at_the_execution_date(
    execution_date, algorithm, horizon, every, window, lead
):
    """Guards against training on a label that looks at the execution date or beyond."""
    config = TrainingConfig(
        algorithm=algorithm,
        churn_days=horizon,
        return_days=horizon,
        every_days=every,
        window_days=window,
    )
    first = execution_date - timedelta(days=window - lead)
    try:
        snapshot_days = snapshots(config, execution_date, first)
    except UserError:
        return
    assert last_label_day(config, snapshot_days.days) < execution_date
    assert snapshot_days.days[0] >= first
    step = every if algorithm == "churn" else 1
    assert {(b - a).days for a, b in pairwise(snapshot_days.days)} <= {step}
    whole = set(snapshots(config, execution_date).days)
    assert set(snapshot_days.days) <= whole, (
        "the first landed day must not shift the grid of snapshots"
    )


def test_weekly_snapshots_without_a_start_fall_on_the_same_mondays_at_every_date():
    """Guards against a rolling window that needs other snapshot days every day it runs."""
    config = TrainingConfig(algorithm="churn", window_days=60)
    for offset in range(10):
        snapshot_days = snapshots(config, date(2024, 5, 1) + timedelta(days=offset))
        assert {day.weekday() for day in snapshot_days.days} == {0}


def test_a_window_past_the_execution_date_is_clamped_and_says_so():
    """Guards against the vendor's own example (end date after the execution date) failing."""
    config = TrainingConfig(
        algorithm="churn", start_date=date(2024, 1, 1), end_date=date(2024, 6, 30)
    )
    snapshot_days = snapshots(config, date(2024, 3, 1))
    assert snapshot_days.days[-1] == date(2024, 2, 19)
    assert len(snapshot_days.warnings) == 1 and "2024-02-23" in snapshot_days.warnings[0]
    with pytest.raises(UserError, match="labels are closed up to"):
        snapshots(config, date(2024, 1, 5))


def test_the_hash_changes_with_the_label_only():
    """Guards against a model standing in for one of another label, or being retired by a date."""
    base = TrainingConfig(algorithm="winback", return_behaviors=("a", "b"))
    same = TrainingConfig(
        algorithm="winback",
        return_behaviors=("b", "a"),
        start_date=date(2024, 1, 1),
        require_review=True,
        churn_days=3,
    )
    assert base.config_hash() == same.config_hash()
    others = [
        TrainingConfig(algorithm="winback", return_behaviors=("a",)),
        TrainingConfig(algorithm="winback", return_behaviors=("a", "b"), return_days=7),
        TrainingConfig(algorithm="winback", return_behaviors=("a", "b"), op_target="sms"),
        TrainingConfig(algorithm="winback", return_behaviors=("a", "b"), return_on_item=True),
        TrainingConfig(algorithm="winback", return_behaviors=("a", "b"), same_day=True),
        TrainingConfig(algorithm="churn"),
        TrainingConfig(algorithm="churn", churn_days=14),
    ]
    assert len({c.config_hash() for c in [base, *others]}) == 8


@pytest.mark.parametrize(
    ("config", "known", "fingerprint"),
    [
        ({"algorithm": "churn"}, "19d92914008e", "fe5ea1d28d54e1a752a27e10"),
        ({"algorithm": "churn", "churn_days": 14}, "a896ba2c6d95", "ec12f4ac81ec54df9963d664"),
        ({"algorithm": "winback"}, "460b5bd24eb5", "2638e1486b7e76bfddc79e73"),
        (
            {
                "algorithm": "winback",
                "op_target": "sms",
                "return_days": 14,
                "return_behaviors": ("redeem",),
                "return_on_item": True,
            },
            "77be0fe57c37",
            "6c2528a07e26145938b7741d",
        ),
        (
            {"algorithm": "winback", "return_behaviors": ("b", "a"), "same_day": True},
            "394800c49614",
            "587268e38f9c8ac363fd86e9",
        ),
        ({"algorithm": "uplift"}, "0da7b05e2a2a", "1705bd093317c617bb5ec5ee"),
        (
            {
                "algorithm": "uplift",
                "op_target": "sms",
                "return_days": 5,
                "return_behaviors": ("buy",),
                "same_day": True,
            },
            "c2a8de7460e8",
            "68772b6b8a338c77edd11729",
        ),
    ],
)
def test_the_hash_of_a_label_stays_what_it_was(settings, config, known, fingerprint):
    """Guards against an upgrade after which no registered model answers its campaign any more.

    The fingerprint also covers the record of the configuration and the bounds of the gates: when
    it changes, each model of an earlier home is trained once more.
    """
    assert TrainingConfig(**config).config_hash() == known
    made_from = MadeFrom(data_mark="data", code_version="code")
    job = (TrainingConfig(**config), date(2024, 5, 1), settings)
    assert made_from.fingerprint(*job) == fingerprint


def test_contradicting_dates_are_refused():
    """Guards against a job whose test slice lies before its calibration slice."""
    with pytest.raises(ValidationError, match="calibrate_from"):
        TrainingConfig(
            algorithm="churn", calibrate_from=date(2024, 5, 1), test_from=date(2024, 4, 1)
        )
    with pytest.raises(ValidationError, match="not both"):
        TrainingConfig(algorithm="churn", start_date=date(2024, 1, 1), window_days=90)


returns = st.none() | st.dictionaries(
    st.sampled_from(["buy", "it's", "redeem"]), st.integers(1, 40), max_size=3
)
seen = st.none() | st.lists(st.sampled_from(["buy", "it's", "redeem"]), unique=True)


@given(
    rows=st.lists(
        st.tuples(st.none() | st.integers(0, 28), returns, seen), min_size=1, max_size=20
    ),
    horizon=st.integers(1, 28),
    kinds=st.sets(st.sampled_from(["buy", "it's", "redeem"])),
    on_item=st.booleans(),
)
def test_sql_labels_equal_a_plain_reference(tmp_path_factory, rows, horizon, kinds, on_item):
    """Guards against NULLs, empty maps and quotes in behavior names turning a label around."""
    churn = TrainingConfig(algorithm="churn", churn_days=horizon)
    same = TrainingConfig(
        algorithm="winback",
        return_days=horizon,
        return_behaviors=tuple(kinds),
        return_on_item=on_item,
        same_day=True,
    )
    back = TrainingConfig(**same.model_dump() | {"same_day": False})
    suffix = "_on_item" if on_item else ""
    with open_engine(load_settings(tmp_path_factory.getbasetemp())) as engine:
        engine.run(
            "create table t (i integer, days_to_next integer, "
            f"days_to_return{suffix} map(varchar, integer), same_day{suffix} varchar[])"
        )
        for i, (next_day, next_row, today) in enumerate(rows):
            keys = None if next_row is None else list(next_row)
            engine.run(
                "insert into t values (?, ?, case when ? then null else map(?::varchar[], ?::integer[]) end, ?)",
                [i, next_day, next_row is None, keys or [], list((next_row or {}).values()), today],
            )
        labels = ", ".join(config.label_sql() for config in (churn, back, same))
        got = engine.rows(f"select {labels} from t order by i")
    for (next_day, next_row, today), (churned, returned, or_today) in zip(rows, got, strict=True):
        assert churned == (next_day is None or next_day >= horizon)
        wanted = [d for k, d in (next_row or {}).items() if not kinds or k in kinds]
        assert returned == any(d <= horizon for d in wanted)
        came_today = any(not kinds or kind in kinds for kind in today or [])
        assert or_today == (returned or came_today)


@pytest.mark.parametrize(
    ("job", "day", "dates"),
    [
        (
            {"algorithm": "winback", "return_days": 28, "start_date": date(2024, 3, 10)},
            date(2024, 4, 1),
            "the first touch that counts is of 2024-03-10, and on the execution date 2024-04-01 "
            "labels are closed up to 2024-03-03 only",
        ),
        (
            {"algorithm": "churn", "start_date": date(2024, 3, 30)},
            date(2024, 4, 1),
            "labels are closed up to 2024-03-25 only",
        ),
        (
            {"algorithm": "winback", "window_days": 7, "end_date": date(2024, 3, 1)},
            date(2024, 4, 30),
            "after the end_date 2024-03-01; move end_date later",
        ),
    ],
)
def test_a_window_without_closed_labels_is_described_in_the_order_of_time(job, day, dates):
    """Guards against "no day between" a later and an earlier day, and advice that cannot help."""
    with pytest.raises(UserError) as error:
        snapshots(TrainingConfig(**job), day)
    said = str(error.value)
    assert dates in said and "no day between" not in said and "\n" not in said


def test_the_advice_on_when_labels_close_is_right():
    """Guards against a date to wait for on which there is still nothing to learn from."""
    job = TrainingConfig(algorithm="winback", return_days=28, start_date=date(2024, 3, 10))
    with pytest.raises(UserError) as error:
        snapshots(job, date(2024, 4, 1))
    advised = date.fromisoformat(str(error.value).rsplit(" ", 1)[1])
    assert snapshots(job, advised).days == (date(2024, 3, 10),)
    with pytest.raises(UserError):
        snapshots(job, advised - timedelta(days=1))


def test_the_advice_of_a_job_that_learns_from_touches_speaks_of_touches(engine, settings):
    """Guards against "land the days before and after them" where no touch was landed."""
    from usergrowth_dagster.learning.dataset import job_rows
    from usergrowth_dagster.learning.splits import split_by_time

    make_winback(engine)
    job = TrainingConfig(algorithm="winback", op_target="email", return_behaviors=("buy",))
    with pytest.raises(UserError, match=r"land the touches .* 28 days after them; its op_target"):
        job_rows(engine, "winback_training", job, date(2024, 9, 1), settings)
    counts = {date(2024, 1, 1): (100, 50)}
    with pytest.raises(UserError, match=r"touches of more campaign days"):
        split_by_time(counts, job)
    with pytest.raises(UserError, match=r"every_days"):
        split_by_time(counts, TrainingConfig(algorithm="churn"))
