"""The features and the label of one date in plain pandas, as a data scientist would write them."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

WINDOWS = (1, 3, 7, 14, 30, 60, 90)
LOOKBACK, HISTORY, ACTIVE, CHURN, HORIZON = 90, 365, 28, 7, 28
MONDAY = pd.Timestamp("1970-01-05")


def features(events: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """One row for each user with an event in the history; 0, or NaN for means, where none."""
    events = events.assign(age=(as_of - events["ds"]).dt.days)
    history = events[(events["age"] >= 1) & (events["age"] <= HISTORY)]
    recent = history[history["age"] <= LOOKBACK]
    parts = [
        windows(recent),
        totals(history),
        hours(recent),
        kinds(recent),
        history_kinds(history),
        amounts(recent),
        history_amounts(history),
        items(recent),
    ]
    found = pd.concat(parts, axis=1)
    found["as_of_weekday"] = (as_of - MONDAY).days % 7
    found.index.name = "user_id"
    return found


def windows(recent: pd.DataFrame) -> pd.DataFrame:
    days = recent.groupby(["user_id", "age"]).size().rename("events").reset_index()
    days = days.sort_values(["user_id", "age"], ascending=[True, False])
    days["gap"] = -days.groupby("user_id")["age"].diff()
    by_user = days.groupby("user_id")
    found = pd.DataFrame(
        {
            "recency_days": by_user["age"].min(),
            "first_seen_days": by_user["age"].max(),
            "events_lookback": by_user["events"].sum(),
            "active_days_lookback": by_user.size(),
            "gap_mean_days": by_user["gap"].mean(),
            "gap_sd_days": by_user["gap"].std(),
            "gap_max_days": by_user["gap"].max(),
            "gap_last_days": by_user["gap"].last(),
        }
    )

    def within(first: int, last: int) -> tuple[pd.Series, pd.Series]:
        some = days[(days["age"] >= first) & (days["age"] <= last)].groupby("user_id")["events"]
        events, active = some.sum(), some.size()
        return events.reindex(found.index).fillna(0), active.reindex(found.index).fillna(0)

    for width in WINDOWS:
        found[f"events_{width}d"], found[f"active_days_{width}d"] = within(1, width)
    before_7, _ = within(8, 14)
    before_30, active_before_30 = within(31, 60)
    _, active_before_14 = within(15, 28)
    found["events_trend_7d"] = found["events_7d"] - before_7
    found["events_trend_30d"] = found["events_30d"] - before_30
    found["active_days_trend_14d"] = found["active_days_14d"] - active_before_14
    found["active_days_trend_30d"] = found["active_days_30d"] - active_before_30
    found["gap_mean_30d"] = days[days["age"] <= 30].groupby("user_id")["gap"].mean()
    found["recency_over_gap"] = found["recency_days"] / found["gap_mean_days"]
    found["recency_gap_z"] = (found["recency_days"] - found["gap_mean_days"]) / found[
        "gap_sd_days"
    ].replace(0, np.nan)
    found["span_per_active_day"] = found["first_seen_days"] / found["active_days_lookback"]
    found["events_per_active_day"] = found["events_lookback"] / found["active_days_lookback"]
    # the weekday of a day is that of its date
    weekday = recent.drop_duplicates(["user_id", "age"])
    weekday = (weekday["ds"] - MONDAY).dt.days % 7
    shares = pd.crosstab(recent.loc[weekday.index, "user_id"], weekday)
    shares = shares.reindex(columns=range(7), fill_value=0).div(
        found["active_days_lookback"], axis=0
    )
    shares.columns = [
        f"weekday_share_{day}" for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    ]
    return found.drop(columns="active_days_1d").join(shares)


def totals(history: pd.DataFrame) -> pd.DataFrame:
    scale = LOOKBACK / history["age"].max()
    by_user = history.groupby("user_id")
    return pd.DataFrame(
        {
            "history_events": by_user.size() * scale,
            "history_active_days": by_user["age"].nunique() * scale,
            "history_span_share": by_user["age"].max() / history["age"].max(),
        }
    )


def hours(recent: pd.DataFrame) -> pd.DataFrame:
    counts = recent.groupby(["user_id", "hour_of_day"]).size().unstack(fill_value=0)
    counts = counts.reindex(columns=range(24), fill_value=0)
    total = counts.sum(axis=1)
    return pd.DataFrame(
        {
            "peak_hour": counts.idxmax(axis=1),
            "hour_share_night": counts.loc[:, :5].sum(axis=1) / total,
            "hour_share_morning": counts.loc[:, 6:11].sum(axis=1) / total,
            "hour_share_afternoon": counts.loc[:, 12:17].sum(axis=1) / total,
            "hour_share_evening": counts.loc[:, 18:].sum(axis=1) / total,
        }
    )


def kinds(recent: pd.DataFrame) -> pd.DataFrame:
    by_kind = recent.groupby(["user_id", "behavior"])
    wide = {
        "kind_events_lookback": by_kind.size(),
        "kind_active_days": by_kind["age"].nunique(),
        "kind_freshness": 1 / by_kind["age"].min(),
    }
    for width in WINDOWS:
        some = recent[recent["age"] <= width].groupby(["user_id", "behavior"])
        wide[f"kind_events_{width}d"] = some.size()
    return _wide(wide)


def history_kinds(history: pd.DataFrame) -> pd.DataFrame:
    by_kind = history.groupby(["user_id", "behavior"])
    return _wide(
        {
            "history_kinds": by_kind.size() * LOOKBACK / history["age"].max(),
            "history_kind_days": by_kind["age"].nunique(),
            "history_kind_freshness": 1 / by_kind["age"].min(),
        }
    )


def _wide(columns: dict[str, pd.Series]) -> pd.DataFrame:
    parts = []
    for name, values in columns.items():
        wide = values.unstack(fill_value=0)
        wide.columns = [f"{name}[{kind}]" for kind in wide.columns]
        parts.append(wide)
    return pd.concat(parts, axis=1).fillna(0)


def amounts(recent: pd.DataFrame) -> pd.DataFrame:
    paid = recent[recent["pay"].notna()]
    found = pd.DataFrame(index=pd.Index(paid["user_id"].unique(), name="user_id"))
    for width in WINDOWS:
        found[f"amount_{width}d[pay]"] = paid[paid["age"] <= width].groupby("user_id")["pay"].sum()
    found = found.fillna(0)
    before = paid[paid["age"].between(31, 60)].groupby("user_id")["pay"].sum()
    found["amount_trend_30d[pay]"] = found["amount_30d[pay]"] - before.reindex(found.index).fillna(
        0
    )
    by_user = paid.groupby("user_id")
    found["amount_per_day[pay]"] = by_user["pay"].sum() / by_user["age"].nunique()
    return found


def history_amounts(history: pd.DataFrame) -> pd.DataFrame:
    by_user = history[history["pay"].notna()].groupby("user_id")
    return pd.DataFrame(
        {
            "history_amounts[pay]": by_user["pay"].sum() * LOOKBACK / history["age"].max(),
            "history_amount_days[pay]": by_user["age"].nunique(),
            "history_amount_freshness[pay]": 1 / by_user["age"].min(),
        }
    )


def items(recent: pd.DataFrame) -> pd.DataFrame:
    named = recent[recent["item_id"].notna()]
    pairs = named.groupby(["user_id", "item_id"])["age"].agg(["min", "size"]).reset_index()
    by_user = pairs.groupby("user_id")
    found = pd.DataFrame({"top_item_share": by_user["size"].max() / by_user["size"].sum()})
    for width in WINDOWS:
        met = pairs[pairs["min"] <= width].groupby("user_id").size()
        found[f"items_{width}d"] = met.reindex(found.index).fillna(0)
    return found


def label(events: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Who was active before a day, and when they came back."""
    age = (as_of - events["ds"]).dt.days
    active = events.loc[age.between(1, ACTIVE), "user_id"].unique()
    ahead = events[(age <= 0) & (age > -HORIZON)]
    first = (ahead.groupby("user_id")["ds"].min() - as_of).dt.days
    found = pd.DataFrame({"days_to_next": first.reindex(active)})
    found["churned"] = ~(found["days_to_next"] < CHURN)
    found.index.name = "user_id"
    return found


def main() -> None:
    """Read the events, compute, write; the arguments are the file, both dates and a folder."""
    path, as_of, labelled, out = sys.argv[1:]
    started = time.perf_counter()
    events = pd.read_parquet(path)
    events["ds"] = pd.to_datetime(events["ds"])
    made = features(events, pd.Timestamp(as_of))
    labels = label(events, pd.Timestamp(labelled))
    made.to_parquet(Path(out) / "features.parquet")
    labels.to_parquet(Path(out) / "label.parquet")
    print(json.dumps({"rows": len(made), "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
