"""Take a person out of what the sources have written: landing files, and rows that were pulled.

Files and tables of others are left alone. Their rows of forgotten persons are not written again:
they are left out where days land, and taken out of the parts that a pull has added.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from usergrowth_dagster.data.contracts import CONTRACTS
from usergrowth_dagster.data.forgotten import Forgotten, is_forgotten_sql
from usergrowth_dagster.data.storage import Storage, file_literal
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.sources.databases.parts import LIST, Part, Parts
from usergrowth_dagster.sources.databases.pull import FOLDER, Pull, alone, parts_of
from usergrowth_dagster.sources.definition import FILE_NAME, Source, read_sources
from usergrowth_dagster.sources.rows import row_sql
from usergrowth_dagster.warehouse.engine import Engine, open_engine

PREFIX = "source-"
"""What the names of landing files begin with that a source has written."""

_PART = "usergrowth_part"

Condition = Callable[[str], str]
"""Makes the condition that the user of an expression is one of those who go."""


@dataclass(frozen=True)
class ErasedRows:
    """What was taken out.

    Attributes:
        landed: rows of landing files.
        pulled: rows of parts.
        failures: what a person has to do yet.
    """

    landed: int = 0
    pulled: int = 0
    failures: tuple[str, ...] = ()


def erase_from_sources(
    settings: Settings, landing: Storage, user_id: str, *, dry_run: bool = False
) -> ErasedRows:
    """Write what the sources have written again without a user.

    Args:
        settings: of the home.
        landing: root of the landing files.
        user_id: the user.
        dry_run: count only.

    Raises:
        UserError: sources.yml cannot be read; it says where a user stands in what was pulled.
    """
    landed = sum(
        _erase_from_file(landing, entry.path, user_id, dry_run=dry_run)
        for table, contract in CONTRACTS.items()
        if "user_id" in contract.names
        for entry in landing.files(table, deep=True)
        if entry.name.startswith(PREFIX)
    )
    file, pulled = settings.home / FILE_NAME, 0
    sources = read_sources(file) if file.exists() else ()
    known = {source.name: source for source in sources if source.database is not None}
    failures = []
    for folder in sorted((settings.home / FOLDER).glob("*/")):
        if (source := known.get(folder.name)) is None:
            failures.append(
                f"{folder} holds rows that were pulled for a source that {FILE_NAME} does not have "
                "any more; remove the folder"
            )
        elif "user_id" in source.contract.names:
            with alone(settings.home, source.name):
                pulled += erase_from_parts(
                    settings, source, lambda user: f"{user} = {literal(user_id)}", dry_run=dry_run
                )
    return ErasedRows(landed, pulled, tuple(failures))


def without_forgotten(
    settings: Settings, source: Source, pull: Pull, forgotten: Forgotten, before: Collection[str]
) -> Pull:
    """A pull whose new parts hold no row of a forgotten person; the caller holds the source's lock.

    Args:
        settings: of the home.
        source: whose table was pulled.
        pull: what it did.
        forgotten: the persons.
        before: names of the parts that were there before; they hold none.
    """
    new = {file.name.rsplit("/", 1)[-1] for file in pull.files} - set(before)
    erased = erase_from_parts(settings, source, is_forgotten_sql, forgotten=forgotten, only=new)
    if not erased:
        return pull
    assert source.database is not None
    parts = parts_of(settings.home, source.name, source.database)
    return replace(pull, files=parts.files(), rows_held=parts.rows)


def erase_from_parts(
    settings: Settings,
    source: Source,
    condition: Condition,
    *,
    forgotten: Forgotten | None = None,
    only: Collection[str] | None = None,
    dry_run: bool = False,
) -> int:
    """Write the parts of a source again without some users' rows; returns how many they had.

    The caller holds the source's lock.

    Args:
        settings: of the home.
        source: whose table was pulled.
        condition: which users go.
        forgotten: the persons that the condition is about.
        only: names of the parts to look at; default: all.
        dry_run: count only.
    """
    assert source.database is not None
    parts = parts_of(settings.home, source.name, source.database)
    if not parts.is_known:
        if not dry_run:  # parts of another table, of which none counts any more
            _remove_all(parts.folder)
        return 0
    looked_at = [part for part in parts.parts if only is None or part.file in only]
    if not looked_at:
        return 0
    with open_engine(settings) as engine:
        if forgotten is not None:
            forgotten.bind(engine.connection)
        relation = _relation(parts)
        columns = engine.describe(f"select * exclude ({_PART}) from {relation}")
        user = row_sql(engine, source, columns, settings.zone).columns["user_id"]
        goes = f"coalesce({condition(user)}, false)"
        counted = {
            Path(name).name: int(rows)
            for name, rows in engine.rows(
                f"select {_PART}, count(*) from {relation} where {goes} group by {_PART}"
            )
        }
        hit = [part for part in looked_at if counted.get(part.file)]
        if not dry_run and hit:
            anew = {part.file: _rewritten(engine, parts, part, relation, goes) for part in hit}
            parts.replace([anew.get(part.file, part) for part in parts.parts])
            parts.sweep()
    return sum(counted[part.file] for part in hit)


def _relation(parts: Parts) -> str:
    listed = ", ".join(file_literal(path) for path in parts.paths())
    return f"read_parquet([{listed}], union_by_name = true, filename = {literal(_PART)})"


def _rewritten(engine: Engine, parts: Parts, part: Part, relation: str, goes: str) -> Part:
    """A part without the rows that go, in a new file."""
    file, path = parts.new_file(), str(parts.path(part))
    engine.run(
        f"copy (select * exclude ({_PART}) from {relation} where {_PART} = {literal(path)} "
        f"and not {goes}) to {literal(str(file))} (format parquet, compression zstd)"
    )
    ((rows,),) = engine.rows(f"select count(*) from read_parquet({file_literal(str(file))})")
    return Part(file.name, int(rows))


def _remove_all(folder: Path) -> None:
    (folder / LIST).unlink(missing_ok=True)
    for file in folder.glob("*.parquet"):
        file.unlink()


def _erase_from_file(landing: Storage, path: str, user_id: str, *, dry_run: bool) -> int:
    """Write a landing file of a source again without a user; returns the rows that go."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with landing.open(path) as handle:
        file = pq.ParquetFile(handle)
        users = file.read(columns=["user_id"]).column("user_id")
        rows = int(pc.sum(pc.equal(users, user_id)).as_py() or 0)
        if not rows or dry_run:
            return rows
        left = file.read()
    left = left.filter(pc.fill_null(pc.not_equal(left.column("user_id"), user_id), True))
    landing.write_atomic(path, lambda out: pq.write_table(left, out, compression="zstd"))
    return rows
