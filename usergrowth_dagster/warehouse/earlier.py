"""Earlier versions of the models that make the same rows, so that an earlier home is kept.

A version is a hash of what a SELECT means, so a faster SELECT of the same rows is another version.
Before that it was a hash of the text of a model's files, and the fingerprint of a day included
every run setting. A day with a fingerprint of an earlier version is up to date while the model
makes the rows that it made then.
"""

from collections.abc import Mapping

SAME_ROWS: Mapping[str, tuple[str, ...]] = {
    "item_category": ("723b6ac0181a", "246e308ed2be"),
    "stg_behavior": ("9be725e9d768", "f153e68c2372"),
    "stg_item": ("861fd75c6ab0", "eb0d6596f98f"),
    "stg_operation": ("c8253b32a2a8", "a7960acb89af"),
    "stg_user": ("43b59e712c29", "05da0219ed4f"),
    "user_day": ("9b616d69f2ee", "a6d2caf4d1d7"),
    "user_features": ("549f0f0a597d", "7dcb50dab855"),
    "user_item_features": ("9efb2dd3e8e3", "64afb4574acb", "f17fb94c13c3"),
}
"""By table, its present version, and earlier ones that made the same rows by the same settings.

Whoever writes a SELECT anew and keeps every row puts its version at the front, here and in
:data:`TEXT_VERSIONS`. Whoever changes what a model makes deletes its lines.
"""

TEXT_VERSIONS: Mapping[str, tuple[str, str]] = {
    "churn_label": ("a7b305c1e0aa", "37041e792646"),
    "churn_summary": ("686f408adcbb", "61320666062e"),
    "churn_training": ("cfcb6edefd32", "9ffd20d9ec8e"),
    "daily_activity": ("54fd6fc69121", "7bb954833a08"),
    "item_category": ("723b6ac0181a", "525a0acb10db"),
    "stg_behavior": ("9be725e9d768", "f6b66ae5c7f0"),
    "stg_item": ("861fd75c6ab0", "cb81574e0814"),
    "stg_operation": ("c8253b32a2a8", "9b61a4d3643c"),
    "stg_user": ("43b59e712c29", "f2dc04dc0ecc"),
    "uplift_training": ("a39396c6c08e", "5f1d23209bac"),
    "user_day": ("9b616d69f2ee", "f55c6d3c89be"),
    "user_features": ("549f0f0a597d", "4877f44008e0"),
    "user_item_day": ("6d8f91b22f15", "33677ac0c543"),
    "user_item_features": ("9efb2dd3e8e3", "d96f9c1f3b22"),
    "winback_label": ("ef20a2e1da09", "bbeb59a3bb80"),
    "winback_training": ("ea1fc9f07a4c", "0a94f8569315"),
}
"""By table, its present version and the hash of its text at that time.

Whoever changes what a model makes deletes its line: days with the old fingerprint are built again.
"""


def earlier_versions(table: str, version: str) -> tuple[str, ...]:
    """The versions that made the rows which a version makes, newest first."""
    now, *before = SAME_ROWS.get(table, ("",))
    return tuple(before) if now == version else ()


def rows_version(table: str, version: str) -> str:
    """The oldest version that made the rows which a version makes: a name of the rows."""
    return (version, *earlier_versions(table, version))[-1]


def text_version(table: str, version: str) -> str | None:
    """The hash of the text that meant what a version means; None when no such text is known."""
    now, before = TEXT_VERSIONS.get(table, ("", ""))
    return before if now == version else None
