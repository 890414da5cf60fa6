"""Months of a per-day view, kept in one sorted file each, beside the tables.

A day of facts is one small file in the order in which it was written. Features read a year of them,
for each date again. A view that is marked ``monthly`` computes each day from that day alone; its
rows of a closed month are kept in one Parquet file, sorted by person. Such a file is several times
as fast to read and to group as the days that it is made of.

A file is named after the data files that it was made from, whose names are unique to their content.
So it is either right or not found: a day that is landed again gives its month another name, and
what is here can be deleted at any time. The newest month is read from its days.
"""

import contextlib
import hashlib
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path

from usergrowth_dagster.data.storage import Storage, file_literal
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.models import ModelGraph

FOLDER = "months"
OLD_SECONDS = 3600.0
"""A file that another replaces is deleted when it is older; a query may be open on a young one."""
Files = Mapping[date, Sequence[str]]
"""Data files of a table by day."""


class Months:
    """The kept months of a storage root.

    Args:
        storage: where they lie; an object store keeps none, and all is read from days.
        graph: the models.
    """

    def __init__(self, storage: Storage, graph: ModelGraph) -> None:
        self.storage = storage
        self.graph = graph

    def bind(self, engine: Engine, view: str, days: Iterable[date], landed: Files) -> None:
        """Make a monthly view over some days.

        Args:
            engine: gets the view, and one over the days that are not read from a month.
            view: its name.
            days: the days that it shows, all of them landed.
            landed: data files of all landed days of the table that it reads.
        """
        wanted = set(days)
        newest = max(landed, default=date.min)
        kept, open_days = [], []
        for month, of_month in _by_month(landed).items():
            some = [day for day in of_month if day in wanted]
            closed = month < (newest.year, newest.month) and len(of_month) > 1
            path = self._month(engine, view, of_month, landed) if some and closed else None
            if path is None:
                open_days += some
            else:
                kept.append((path, some if len(some) < len(of_month) else []))
        table = self.graph.monthly_table(view)
        files = [name for day in open_days for name in landed[day]]
        # named after the view: another view of the table may show other days
        engine.bind_files(f"_{view}_open", files, self.graph.types(table))
        parts = [self._sql(view, f"_{view}_open"), *(_select(path, some) for path, some in kept)]
        engine.run(f"create or replace view {view} as " + "\nunion all by name\n".join(parts))

    def _sql(self, view: str, source: str) -> str:
        """The view's SELECT, reading its table under another name."""
        sql, table = self.graph.models[view].sql, self.graph.monthly_table(view)
        return f"select * from ({reading(sql, table, source)})"

    def _month(self, engine: Engine, view: str, days: Sequence[date], landed: Files) -> str | None:
        """The month's file, made when it is not there; None where none can be kept."""
        import duckdb

        if not self.storage.is_local:
            return None
        names = "\n".join(name.rsplit("/", 1)[-1] for day in days for name in landed[day])
        made_from = f"{self.graph.models[view].own_version}\n{names}"
        digest = hashlib.sha256(made_from.encode()).hexdigest()[:16]
        folder = Path(self.storage.uri(f"{FOLDER}/{view}"))
        path = folder / f"{days[0]:%Y-%m}-{digest}.parquet"
        if path.exists():
            return str(path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._write(engine, view, [name for day in days for name in landed[day]], path)
        except (OSError, duckdb.IOException):  # a home that cannot be written to is read as it is
            return None
        _remove_old(folder, f"{days[0]:%Y-%m}-*.parquet", path)
        return str(path)

    def _write(self, engine: Engine, view: str, files: Sequence[str], path: Path) -> None:
        table = self.graph.monthly_table(view)
        engine.bind_files(f"_{view}_month", files, self.graph.types(table))
        grain = self.graph.models[view].grain
        order = ", ".join(map(identifier, (*grain[1:], grain[0])))
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            engine.run(
                f"copy ({self._sql(view, f'_{view}_month')} order by {order}) "
                f"to {literal(str(temporary))} (format parquet, compression zstd)"
            )
            temporary.chmod(0o600)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def reading(sql: str, table: str, source: str) -> str:
    """A SELECT that reads a table under another name."""
    import sqlglot
    from sqlglot import exp

    tree = sqlglot.parse_one(sql, dialect="duckdb")
    for node in tree.find_all(exp.Table):
        if node.name == table:
            node.this.set("this", source)
    return tree.sql("duckdb")


def forget_months(storage: Storage) -> None:
    """Delete all that is kept; it is made again from the tables when it is read next."""
    storage.remove(FOLDER)


def _remove_old(folder: Path, pattern: str, newest: Path) -> None:
    """Delete what a month was before; another process may be reading what is young."""
    for other in folder.glob(pattern):
        with contextlib.suppress(FileNotFoundError):
            if other != newest and time.time() - other.stat().st_mtime > OLD_SECONDS:
                other.unlink()


def _by_month(landed: Files) -> dict[tuple[int, int], list[date]]:
    by_month: dict[tuple[int, int], list[date]] = {}
    for day in sorted(landed):
        by_month.setdefault((day.year, day.month), []).append(day)
    return by_month


def _select(path: str, days: Sequence[date]) -> str:
    """The rows of a month, of some of its days only where they are given."""
    rows = f"select * from read_parquet({file_literal(path)}, hive_partitioning=false)"
    if not days:
        return rows
    listed = ", ".join(f"date '{day.isoformat()}'" for day in days)
    return f"{rows} where ds in ({listed})"
