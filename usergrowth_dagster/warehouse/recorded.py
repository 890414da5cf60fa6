"""The tables as a decision read them: the data files on its record, whatever came later."""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.warehouse.tables import Commit, Warehouse


class RecordedWarehouse(Warehouse):
    """Tables that hold the given data files and no others; they can be read, not written.

    Args:
        storage: where the tables live.
        paths: the data files, by their paths below the storage root.
        versions: what :meth:`version` says of each table.
    """

    def __init__(self, storage: Storage, paths: Iterable[str], versions: Mapping[str, int]) -> None:
        super().__init__(storage)
        self._versions = dict(versions)
        self._paths = sorted(paths)

    def exists(self, table: str) -> bool:
        """Whether a file of the table is on record."""
        return table in self.tables()

    def tables(self) -> list[str]:
        """Names of the tables with files on record."""
        return sorted({path.split("/")[1] for path in self._paths})

    def version(self, table: str) -> int | None:
        """The version that was the newest then."""
        return self._versions.get(table)

    def files(
        self,
        table: str,
        *,
        first: date | None = None,
        last: date | None = None,
        version: int | None = None,
    ) -> dict[date, list[str]]:
        """The files on record by day; there is one version only."""
        by_day: dict[date, list[str]] = {}
        for path in self._paths:
            parts = path.split("/")
            day = date.fromisoformat(next(p for p in parts if p.startswith("ds="))[3:])
            inside = (first is None or day >= first) and (last is None or day <= last)
            if parts[1] == table and inside:
                by_day.setdefault(day, []).append(self.storage.uri(path))
        return dict(sorted(by_day.items()))

    def pinned(self, table: str) -> tuple[int | None, dict[date, list[str]]]:
        """The version of then, and the files on record."""
        return self.version(table), self.files(table)

    def fingerprints(
        self,
        table: str,
        scope: Mapping[str, str] | None = None,
        *,
        first: date | None = None,
        last: date | None = None,
    ) -> dict[date, str]:
        """None: what was written is not asked for."""
        return {}

    def notes(
        self,
        table: str,
        scope: Mapping[str, str] | None = None,
        *,
        first: date | None = None,
        last: date | None = None,
    ) -> dict[date, dict[str, Any]]:
        """None: what was noted is not asked for."""
        return {}

    def replace(self, table: str, *_data: Any, **_how: Any) -> Commit:
        """Refused."""
        raise TypeError(f"{table}: recorded tables cannot be written")

    def rewrite(self, *_data: Any, **_how: Any) -> Commit:
        """Refused."""
        raise TypeError("recorded tables cannot be written")
