"""Every file below the landing root that nothing reads."""

from collections.abc import Collection, Iterator

from usergrowth_dagster.data.contracts import DAILY_TABLES
from usergrowth_dagster.data.landing import landing_folders, unread_landing
from usergrowth_dagster.data.lines import data_files
from usergrowth_dagster.data.population import FOLDER, task_folder
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError


def stray_files(landing: Storage, outputs: Collection[str]) -> list[str]:
    """A sentence for each thing that nothing reads, also in folders of the right names.

    Hidden names and those that begin with an underscore are left out on purpose.

    Args:
        landing: the landing root.
        outputs: folders below it that the product writes to.
    """
    sentences = unread_landing(landing, {output.split("/")[0] for output in outputs})
    return sentences + [
        sentence for folder in _folders(landing) for sentence in _in_folder(landing, folder)
    ]


def _folders(landing: Storage) -> Iterator[str]:
    """The folders whose files are landed."""
    for table in DAILY_TABLES:
        yield from landing_folders(landing, table).days.values()
    for name in landing.folders(FOLDER):
        if not name.startswith(("_", ".")):
            yield f"{FOLDER}/{name}"


def _in_folder(landing: Storage, folder: str) -> list[str]:
    try:
        if folder.startswith(f"{FOLDER}/"):
            task_folder(folder.partition("/")[2])
        files = data_files(landing, folder)
    except UserError as error:
        return [str(error)]
    hidden = not files and landing.files(folder, deep=True)
    return [f"{folder}: holds no landing file, only names with an underscore"] if hidden else []
