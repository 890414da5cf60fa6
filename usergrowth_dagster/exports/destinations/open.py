"""The destination that an export names."""

from pathlib import Path

from usergrowth_dagster.exports.definition import Export
from usergrowth_dagster.exports.destinations.base import Destination
from usergrowth_dagster.exports.destinations.files import FilesDestination


def open_destination(export: Export, home: Path) -> Destination:
    """The destination of an export; nothing is connected yet.

    Args:
        export: the export.
        home: what relative paths start from.
    """
    return FilesDestination(export, home)
