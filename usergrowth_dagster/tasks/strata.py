"""What a stratified control group is balanced by: bands of activity and tenure, or an attribute."""

from collections.abc import Sequence

from usergrowth_dagster.tasks.people import attribute_sql

ACTIVITY = ((7, "1-7 days"), (28, "8-28 days"), (90, "29-90 days"))
"""Days since the last event, up to and with the first figure; else over 90 days, or none known."""
TENURE = ((29, "0-29 days"), (89, "30-89 days"), (364, "90-364 days"))
"""Days since registration; else a year and more, or not known."""
BANDED = ("activity", "tenure", "user_type")
"""Strata of the features as of the date; any other one is a column or an attribute."""


def stratum_sql(strata: Sequence[str], features: str = "f") -> str:
    """DuckDB expression (VARCHAR, never NULL) such as ``activity=8-28 days; city=Lyon``.

    ``activity``, ``tenure`` and ``user_type`` are of the features as of the date; any other name is
    a column of the population, else an attribute of the user.

    Args:
        strata: their names, at least one.
        features: alias of ``user_features``.
    """
    known = {
        "activity": _banded(f"{features}.recency_days", ACTIVITY, "over 90 days", "never seen"),
        "tenure": _banded(f"{features}.tenure_days", TENURE, "365 days and more", "unknown"),
        "user_type": f"coalesce(nullif(trim({features}.user_type), ''), 'unknown')",
    }
    other = {name: f"coalesce({attribute_sql(name)}, 'unknown')" for name in strata}
    parts = [f"'{name}=' || {(other | known)[name]}" for name in strata]
    return " || '; ' || ".join(parts)


def _banded(column: str, bands: Sequence[tuple[int, str]], beyond: str, unknown: str) -> str:
    cases = " ".join(f"when {column} <= {last} then '{name}'" for last, name in bands)
    return f"(case {cases} when {column} is null then '{unknown}' else '{beyond}' end)"
