"""A home that was moved or copied: MLflow's database names its files by absolute paths.

MLflow has no call that changes them, so they are changed in its tables.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from usergrowth_dagster.settings.places import local_path, sqlite_file

_NAMED = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def follow_move(tracking_uri: str, home: Path, experiments: Iterable[tuple[str, str]]) -> bool:
    """Let the home's own MLflow database name the files that lie beside it.

    Otherwise the models of a copied home would go into the original.

    Args:
        tracking_uri: of MLflow.
        home: the home folder, absolute.
        experiments: name and artifact location of experiments, as the database has them.

    Returns:
        Whether something was changed.
    """
    own = home / "mlflow"
    database = sqlite_file(tracking_uri)
    if database is None or database.parent != own:
        return False
    moved = list(_moved(own / "artifacts", experiments))
    if not moved:
        return False
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        for table, column in _present(connection):
            for old, new in moved:
                connection.execute(
                    f"update {table} set {column} = ? || substr({column}, ?) "
                    f"where {column} = ? or substr({column}, 1, ?) = ?",
                    (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
                )
    return True


def _moved(artifacts: Path, experiments: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Old and new location of the experiments that keep their files beside the database."""
    for _, location in experiments:
        old = local_path(location) if location.startswith("file:") else None
        # Only what we placed ourselves; a person's own folder stays where it is.
        if old is None or old.parent == artifacts or old.parts[-3:-1] != artifacts.parts[-2:]:
            continue
        here = artifacts / old.name
        if not (old.is_dir() and here.is_dir() and old.samefile(here)):  # one home, two names
            yield location, here.as_uri()


def _present(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    return [
        (table, column)
        for table, column in _NAMED
        if column in {row[1] for row in connection.execute(f"pragma table_info({table})")}
    ]
