"""The file of a group: where it lies, and a keyed hash of its content."""

import hashlib
import hmac
import posixpath

from usergrowth_dagster.data.storage import Storage, StoredFile, is_of_store
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.project import Project
from usergrowth_dagster.segments.files import FOLDER
from usergrowth_dagster.segments.groups.source import Source

_PURPOSE = b"segment sources"


def stored_file(project: Project, source: Source) -> tuple[Storage, StoredFile]:
    """The file of a source, and the storage that has it.

    Raises:
        UserError: it is not there, or its store cannot be reached.
    """
    assert source.file is not None
    if "://" in source.file:
        root, name = posixpath.split(source.file)
        storage, path = Storage(root), name
    else:
        storage, path = Storage(str(project.settings.home)), f"{FOLDER}/{source.file}"
    try:
        files = storage.files(posixpath.dirname(path))
    except Exception as error:
        if not isinstance(error, OSError | ValueError | ImportError) and not is_of_store(error):
            raise
        files = []
    for file in files:
        if file.path == path:
            return storage, file
    where = "" if "://" in source.file else f"; put the file into {project.settings.home / FOLDER}"
    raise UserError(
        f"source.{source.kind}: {source.file} is not there or cannot be read{where}",
        code="segment.not_ready",
    )


def content_mark(project: Project, source: Source) -> dict[str, str]:
    """The name of a list and a keyed hash of its content; empty of a table or an algorithm.

    A plain hash of a few numbers could be undone by trying all numbers. The hash of a file that
    cannot be read is empty.
    """
    if not source.is_list:
        return {}
    if source.file is None:
        content = hashlib.sha256("\n".join(source.values).encode()).hexdigest()
    else:
        try:
            storage, file = stored_file(project, source)
        except UserError:
            return {f"source:{source.file}": ""}
        content = storage.sha256(file.path)
    key = open_vault(project.settings.home, project.settings.default_country).key_for(_PURPOSE)
    mark = hmac.digest(key, content.encode(), "sha256").hex()[:32] if content else ""
    return {f"source:{source.file or 'text'}": mark}
