"""The snapshot that answers: looked for again and again, and swapped when another is named."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from usergrowth_dagster.acquisition.snapshot import Snapshot, current_name
from usergrowth_dagster.errors import UserError

LOG = logging.getLogger("usergrowth.rta")


class Answering:
    """The snapshot of a folder that answers now.

    A new one is opened and checked beside the old one, which answers until then; one that is
    damaged is passed over with a line in the log. The old one's memory is given back when the last
    request that reads it has ended.

    Args:
        folder: of the snapshots.
        changed: called with each snapshot once it answers.
    """

    def __init__(
        self, folder: Path, changed: Callable[[Snapshot], None] = lambda _snapshot: None
    ) -> None:
        self._folder, self._changed = folder, changed
        self._snapshot: Snapshot | None = None
        self._refused: tuple[str, int, int] | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self) -> Snapshot | None:
        """The snapshot; None: there is none yet."""
        return self._snapshot

    def look(self) -> None:
        """Open the snapshot that the folder names, unless it answers already."""
        name = current_name(self._folder)
        answers = self._snapshot.name if self._snapshot is not None else None
        if name is None or name == answers or _stamp(self._folder, name) == self._refused:
            return
        try:
            snapshot = Snapshot(self._folder / name)
        except UserError as error:
            self._refused = _stamp(self._folder, name)
            LOG.error("%s; %s goes on answering", error, answers or "nothing")
            return
        self._snapshot, self._refused = snapshot, None
        self._changed(snapshot)
        LOG.info("%s answers: %d ids", name, sum(snapshot.rows.values()))

    def watch(self, every: float) -> None:
        """Look in a thread until :meth:`close`, every so many seconds."""

        def run() -> None:
            while not self._ended.wait(every):
                self.look()

        self._thread = threading.Thread(target=run, name="snapshots", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=30)


def _stamp(folder: Path, name: str) -> tuple[str, int, int]:
    """What changes when a file is written again under its name."""
    try:
        status = (folder / name).stat()
    except OSError:
        return name, 0, 0
    return name, status.st_mtime_ns, status.st_size
