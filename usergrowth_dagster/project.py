"""One opened home folder: settings, landing files, tables, and the control store."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from usergrowth_dagster.data.object_store import open_storage, open_tables, refusal_of
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.warehouse.tables import Warehouse

if TYPE_CHECKING:
    from usergrowth_dagster.control.store import ControlStore

CONTENTS = "contents.txt"
"""File of a home that keeps what the content of landing files was found to be."""

REPORTS = "reports"
"""Folder of a home with the reports of tasks and periods."""

STATES = "tables.db"
"""File of a home that keeps the state of each table, derived from the tables' logs."""

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, the steps done, and the steps in all."""


def silent(_stage: str, _done: int, _total: int) -> None:
    """A progress that says nothing."""


@dataclass
class Project:
    """Everything that a step of the chain works on.

    Args:
        settings: the home's settings.
        progress: called with how far long steps are.
        run_id: the Dagster run that works, kept with the models it makes.
    """

    settings: Settings
    progress: Progress = field(default=silent)
    run_id: str | None = None

    @classmethod
    def open(cls, home: Path | str | None = None, progress: Progress = silent) -> "Project":
        """The project of a home folder."""
        return cls(load_settings(home), progress)

    @contextmanager
    def alone(self, task_id: str) -> Iterator[None]:
        """Keep the other runs of this home off a task until the end; waits for them first.

        The system frees the lock of a process that ends, however it ends.
        """
        folder = self.settings.home / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{task_id}.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def report_paths(self, name: str) -> tuple[Path, Path]:
        """Where the page and the JSON of a report are.

        Args:
            name: of a task, or of a period.
        """
        folder = self.settings.home / REPORTS
        return folder / f"{name}.html", folder / f"{name}.json"

    @cached_property
    def landing(self) -> Storage:
        """Root of the landing files."""
        return open_storage(
            self.settings, self.settings.landing_root, memory=self.settings.home / CONTENTS
        )

    @cached_property
    def state(self) -> Storage:
        """Root of the product's own files."""
        return open_tables(self.settings)

    @cached_property
    def warehouse(self) -> Warehouse:
        """The Delta tables."""
        return Warehouse(self.state, self.settings.home / STATES, lock=self._commit_lock)

    def _commit_lock(self, table: str) -> AbstractContextManager[None]:
        """Held around a commit where the object store lets two writers both have one version."""
        if self.state.condition == "kept":
            return nullcontext()
        if self.state.condition == "refused":
            raise refusal_of(self.state.uri())
        return self.store.hold(f"commit {self.state.uri(table)}")

    @cached_property
    def store(self) -> "ControlStore":
        """The control store and ledger, migrated."""
        from usergrowth_dagster.control.store import open_store

        self.settings.home.mkdir(parents=True, exist_ok=True)
        return open_store(self.settings)
