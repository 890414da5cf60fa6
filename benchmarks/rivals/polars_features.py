"""The features and the label of one date in plain polars, as a data engineer would write them."""

import json
import sys
import time
from datetime import date
from pathlib import Path

import polars as pl

WINDOWS = (1, 3, 7, 14, 30, 60, 90)
LOOKBACK, HISTORY, ACTIVE, CHURN, HORIZON = 90, 365, 28, 7, 28
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
age = pl.col("age")


def features(events: pl.LazyFrame, as_of: date) -> pl.LazyFrame:
    """One row for each user with an event in the history; 0, or null for means, where none."""
    history = events.with_columns(age=(pl.lit(as_of) - pl.col("ds")).dt.total_days()).filter(
        age.is_between(1, HISTORY)
    )
    recent = history.filter(age <= LOOKBACK)
    parts = [
        windows(recent, as_of),
        hours(recent),
        kinds(recent),
        history_kinds(history),
        amounts(recent),
        history_amounts(history),
        items(recent),
    ]
    found = totals(history)
    for part in parts:
        found = found.join(part, on="user_id", how="left")
    return found


def windows(recent: pl.LazyFrame, as_of: date) -> pl.LazyFrame:
    days = (
        recent.group_by("user_id", "age", "ds")
        .agg(events=pl.len().cast(pl.Float64))
        .sort("user_id", "age", descending=[False, True])
        .with_columns(gap=age.shift(1).over("user_id") - age, weekday=pl.col("ds").dt.weekday() - 1)
    )
    events, gap = pl.col("events"), pl.col("gap")

    def number(first: int, last: int) -> pl.Expr:
        return events.filter(age.is_between(first, last)).sum()

    def active(first: int, last: int) -> pl.Expr:
        return age.is_between(first, last).sum().cast(pl.Int64)

    found = days.group_by("user_id").agg(
        recency_days=age.min(),
        first_seen_days=age.max(),
        events_lookback=events.sum(),
        active_days_lookback=pl.len(),
        gap_mean_days=gap.mean(),
        gap_sd_days=gap.std(),
        gap_max_days=gap.max(),
        gap_mean_30d=gap.filter(age <= 30).mean(),
        gap_last_days=gap.last(),
        events_trend_7d=number(1, 7) - number(8, 14),
        events_trend_30d=number(1, 30) - number(31, 60),
        active_days_trend_14d=active(1, 14) - active(15, 28),
        active_days_trend_30d=active(1, 30) - active(31, 60),
        **{f"events_{width}d": number(1, width) for width in WINDOWS},
        **{f"active_days_{width}d": active(1, width) for width in WINDOWS if width > 1},
        **{
            f"weekday_share_{name}": (pl.col("weekday") == place).sum() / pl.len()
            for place, name in enumerate(WEEKDAYS)
        },
    )
    recency, mean, sd = pl.col("recency_days"), pl.col("gap_mean_days"), pl.col("gap_sd_days")
    return found.with_columns(
        recency_over_gap=recency / mean,
        recency_gap_z=pl.when(sd > 0).then((recency - mean) / sd),
        span_per_active_day=pl.col("first_seen_days") / pl.col("active_days_lookback"),
        events_per_active_day=pl.col("events_lookback") / pl.col("active_days_lookback"),
        as_of_weekday=pl.lit(as_of.weekday()),
    )


def totals(history: pl.LazyFrame) -> pl.LazyFrame:
    by_user = history.group_by("user_id").agg(
        history_events=pl.len().cast(pl.Float64),
        history_active_days=age.n_unique().cast(pl.Float64),
        first=age.max(),
    )
    scale = LOOKBACK / pl.col("first").max()
    return by_user.select(
        "user_id",
        history_events=pl.col("history_events") * scale,
        history_active_days=pl.col("history_active_days") * scale,
        history_span_share=pl.col("first") / pl.col("first").max(),
    )


def hours(recent: pl.LazyFrame) -> pl.LazyFrame:
    hour, events = pl.col("hour_of_day"), pl.col("events")
    counts = recent.group_by("user_id", "hour_of_day").agg(events=pl.len())
    return counts.group_by("user_id").agg(
        peak_hour=hour.sort_by(-events.cast(pl.Int64), hour).first(),
        hour_share_night=events.filter(hour < 6).sum() / events.sum(),
        hour_share_morning=events.filter(hour.is_between(6, 11)).sum() / events.sum(),
        hour_share_afternoon=events.filter(hour.is_between(12, 17)).sum() / events.sum(),
        hour_share_evening=events.filter(hour >= 18).sum() / events.sum(),
    )


def kinds(recent: pl.LazyFrame) -> pl.LazyFrame:
    by_kind = recent.group_by("user_id", "behavior").agg(
        kind_events_lookback=pl.len().cast(pl.Float64),
        kind_active_days=age.n_unique().cast(pl.Float64),
        kind_freshness=1 / age.min(),
        **{f"kind_events_{width}d": (age <= width).sum().cast(pl.Float64) for width in WINDOWS},
    )
    return _wide(by_kind, "behavior")


def history_kinds(history: pl.LazyFrame) -> pl.LazyFrame:
    by_kind = history.group_by("user_id", "behavior").agg(
        history_kinds=pl.len().cast(pl.Float64),
        history_kind_days=age.n_unique().cast(pl.Float64),
        history_kind_freshness=1 / age.min(),
        first=age.max(),
    )
    scale = LOOKBACK / pl.col("first").max()
    by_kind = by_kind.with_columns(history_kinds=pl.col("history_kinds") * scale).drop("first")
    return _wide(by_kind, "behavior")


def _wide(long: pl.LazyFrame, key: str) -> pl.LazyFrame:
    """One column for each value and key, such as ``kind_events_7d[buy]``; 0 where there is none."""
    frame = long.collect()
    values = [name for name in frame.columns if name not in ("user_id", key)]
    wide = frame.pivot(on=key, index="user_id", values=values).fill_null(0)
    names = {
        name: f"{value}[{name.removeprefix(f'{value}_')}]"
        for name in wide.columns
        for value in sorted(values, key=len)
        if name.startswith(f"{value}_")
    }
    return wide.rename(names).lazy()


def amounts(recent: pl.LazyFrame) -> pl.LazyFrame:
    pay = pl.col("pay")

    def total(first: int, last: int) -> pl.Expr:
        return pay.filter(age.is_between(first, last)).sum()

    return (
        recent.filter(pay.is_not_null())
        .group_by("user_id")
        .agg(
            **{f"amount_{width}d[pay]": total(1, width) for width in WINDOWS},
            **{
                "amount_trend_30d[pay]": total(1, 30) - total(31, 60),
                "amount_per_day[pay]": pay.sum() / age.n_unique(),
            },
        )
    )


def history_amounts(history: pl.LazyFrame) -> pl.LazyFrame:
    first = history.select(age.max()).collect().item()
    return (
        history.filter(pl.col("pay").is_not_null())
        .group_by("user_id")
        .agg(
            **{
                "history_amounts[pay]": pl.col("pay").sum() * LOOKBACK / first,
                "history_amount_days[pay]": age.n_unique(),
                "history_amount_freshness[pay]": 1 / age.min(),
            }
        )
    )


def items(recent: pl.LazyFrame) -> pl.LazyFrame:
    pairs = (
        recent.filter(pl.col("item_id").is_not_null())
        .group_by("user_id", "item_id")
        .agg(age=age.min(), events=pl.len())
    )
    return pairs.group_by("user_id").agg(
        top_item_share=pl.col("events").max() / pl.col("events").sum(),
        **{f"items_{width}d": (age <= width).sum() for width in WINDOWS},
    )


def label(events: pl.LazyFrame, as_of: date) -> pl.LazyFrame:
    """Who was active before a day, and when they came back."""
    days = events.with_columns(age=(pl.lit(as_of) - pl.col("ds")).dt.total_days())
    active = days.filter(age.is_between(1, ACTIVE)).select("user_id").unique()
    ahead = days.filter((age <= 0) & (age > -HORIZON))
    first = ahead.group_by("user_id").agg(days_to_next=(-age).min())
    return active.join(first, on="user_id", how="left").with_columns(
        churned=~(pl.col("days_to_next") < CHURN).fill_null(False)
    )


def main() -> None:
    """Read the events, compute, write; the arguments are the file, both dates and a folder."""
    path, as_of, labelled, out = sys.argv[1:]
    started = time.perf_counter()
    events = pl.scan_parquet(path)
    made = features(events, date.fromisoformat(as_of)).collect()
    labels = label(events, date.fromisoformat(labelled)).collect()
    made.write_parquet(Path(out) / "features.parquet")
    labels.write_parquet(Path(out) / "label.parquet")
    print(json.dumps({"rows": len(made), "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
