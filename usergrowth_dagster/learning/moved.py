"""A home that was moved: MLflow's database names the folders of its files by absolute paths.

MLflow has no call that changes them, so they are changed in its tables.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

_NAMED = (("experiments", "artifact_location"), ("runs", "artifact_uri"))


def follow_move(tracking_uri: str, home: Path, experiments: Iterable[tuple[str, str]]) -> bool:
    """Let the home's own MLflow database name the files where they lie now.

    Nothing is done while the old folder is there: the database is then a copy, or shared.

    Args:
        tracking_uri: of MLflow.
        home: the home folder, absolute.
        experiments: name and artifact location of experiments, as the database has them.

    Returns:
        Whether something was changed.
    """
    own = home / "mlflow"
    database = Path(tracking_uri.removeprefix("sqlite:///"))
    if not tracking_uri.startswith("sqlite:///") or database.parent != own:
        return False
    moved = [
        (location, (own / "artifacts" / name).as_uri())
        for name, location in experiments
        if location.startswith("file:")
        and _is_lost(location)
        and (own / "artifacts" / name).is_dir()
    ]
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        for old, new in moved:
            for table, column in _NAMED:
                connection.execute(
                    f"update {table} set {column} = ? || substr({column}, ?) "
                    f"where {column} = ? or substr({column}, 1, ?) = ?",
                    (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
                )
    return True


def _is_lost(location: str) -> bool:
    """Whether a location is a folder of this machine that is not there."""
    return location.startswith("file:") and not Path(unquote(urlsplit(location).path)).exists()
