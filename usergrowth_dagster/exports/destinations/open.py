"""The destination that an export names."""

from pathlib import Path

from usergrowth_dagster.exports.definition import Export
from usergrowth_dagster.exports.destinations.base import Destination
from usergrowth_dagster.exports.destinations.database import DatabaseDestination
from usergrowth_dagster.exports.destinations.files import FilesDestination
from usergrowth_dagster.exports.destinations.sftp import SftpDestination
from usergrowth_dagster.exports.destinations.webhook import WebhookDestination


def open_destination(export: Export, home: Path) -> Destination:
    """The destination of an export; nothing is connected yet.

    Args:
        export: the export.
        home: what relative paths start from.
    """
    if export.to.database is not None:
        return DatabaseDestination(export, home)
    if export.to.webhook is not None:
        return WebhookDestination(export, home)
    if export.to.sftp is not None:
        return SftpDestination(export, home)
    return FilesDestination(export, home)
