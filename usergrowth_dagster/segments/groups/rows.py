"""The rows of a list as a table of an engine: text, text file or CSV, each row with its line."""

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.addresses.emails import BLANKS
from usergrowth_dagster.addresses.shown import hide_numbers
from usergrowth_dagster.addresses.sql import number_or_problem_sql
from usergrowth_dagster.data.contracts import Column, Contract, Reading
from usergrowth_dagster.data.encodings import advice
from usergrowth_dagster.data.lines import Block, read_header, read_lines, shown
from usergrowth_dagster.data.loader import PARSED, Loader
from usergrowth_dagster.data.storage import Storage, StoredFile
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.segments.groups.files import stored_file
from usergrowth_dagster.segments.groups.source import SEPARATORS, Source
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = "group_rows"
"""Table of :func:`bind_rows`: ``line``, ``value`` (trimmed; NULL where the row is broken) and
``rule`` (the rule that the row breaks; NULL of a good one). A line of a text has many values."""

_SEPARATOR = f"[{SEPARATORS}]"
_UNREAD = "columns that are not read"
_COLUMN = "group_value"
_ANY_DAY = date(1970, 1, 1)


def bind_rows(engine: Engine, project: Project, source: Source) -> tuple[str, ...]:
    """Make the table :data:`ROWS` of a list.

    Returns:
        Sentences about what is no row, such as blank lines.

    Raises:
        UserError: the file is missing, unreadable or not in its encoding, or lacks the column.
    """
    if source.csv is not None:
        return _bind_csv(engine, project, source)
    if source.text is not None:
        _bind_lines(engine, _of_text(source.text))
        return ()
    storage, file = stored_file(project, source)
    encoding = source.encoding or project.settings.encoding
    _bind_lines(engine, _of_file(storage, file, encoding))
    return ()


def check_rows(project: Project, source: Source) -> None:
    """See that the file of a list is there and has the column; no row is read.

    Raises:
        UserError: it is not.
    """
    if source.file is not None:
        storage, file = stored_file(project, source)
        if source.csv is not None:
            _check_column(source, storage, file, source.encoding or project.settings.encoding)


def _of_text(text: str) -> Iterator["pa.Table"]:
    import pyarrow as pa

    lines = text.splitlines()
    yield pa.table({
        "line": pa.array(range(1, len(lines) + 1), pa.int64()),
        "text": pa.array(lines, pa.string()),
    })  # fmt: skip


def _of_file(storage: Storage, file: StoredFile, encoding: str) -> Iterator["pa.Table"]:
    import numpy as np
    import pyarrow as pa

    for block in read_lines(storage, file, encoding):
        (lines,) = block.columns
        if not block.text:
            raise _not_text(file, block)
        numbers = np.arange(block.first_line, block.first_line + len(lines), dtype=np.int64)
        yield pa.table({"line": pa.Array.from_buffers(
            pa.int64(), len(lines), [None, pa.py_buffer(numbers)]
        ), "text": lines})  # fmt: skip


def _not_text(file: StoredFile, block: Block) -> UserError:
    for place, line in enumerate(block.columns[0].to_pylist()):
        try:
            line.decode()
        except UnicodeDecodeError:
            return UserError(
                f"source.text_file: {file.name}: line {block.first_line + place} is not UTF-8 "
                f"text: {_own_advice(advice(line))}",
                code="segment.invalid",
            )
    raise AssertionError("a block that is no text has a line that is none")


def _own_advice(sentence: str) -> str:
    """The advice on an encoding; the key is the source's here, and no setting."""
    return sentence.replace("set encoding = ", "write encoding: ")


def _bind_lines(engine: Engine, tables: Iterator["pa.Table"]) -> None:
    engine.run(f"create or replace temp table {ROWS} (line bigint, value varchar, rule varchar)")
    for table in tables:
        engine.connection.register("_group_lines", table)
        engine.run(
            f"""
            insert into {ROWS}
            select line, value, case when contains(value, chr(0)) then 'nul' end
            from (
                select line, {_trimmed("part")} as value
                from (
                    select line, unnest(regexp_split_to_array(text, {literal(_SEPARATOR)})) as part
                    from _group_lines
                )
            ) where value <> ''
            """
        )
        engine.connection.unregister("_group_lines")


def _check_column(source: Source, storage: Storage, file: StoredFile, encoding: str) -> None:
    column = source.column or ""
    names = read_header(storage, file, encoding)
    if names.count(column) == 1:
        return
    if column in names:
        problem = f"has the column {column!r} twice"
    else:
        listed = ", ".join(shown(name, digits=False) for name in names[:20])
        problem = f"has no column {column!r} in its first line; it has {listed}"
    raise UserError(f"source.column: {source.csv} {problem}", code="segment.invalid")


def _bind_csv(engine: Engine, project: Project, source: Source) -> tuple[str, ...]:
    storage, file = stored_file(project, source)
    reading = Reading.of(project.settings)
    if source.encoding is not None:
        reading = Reading(source.encoding, reading.missing)
    _check_column(source, storage, file, reading.encoding)
    column = Column(_COLUMN, "VARCHAR", False, "a value of a group", "id")
    contract = Contract("group", (column,), (), "one member")
    assert source.column is not None
    loader = Loader(
        engine.connection, storage, contract, reading=reading, called={source.column: _COLUMN}
    )
    loader.load(_ANY_DAY, [file])
    loader.finish()
    engine.run(
        f"""
        create or replace temp table {ROWS} as
        select line, {_trimmed(_COLUMN)} as value,
            case when {_trimmed(_COLUMN)} = '' then 'empty' end as rule
        from {PARSED} where reject = 0
        union all select line, null, rule from ({loader.rejects_sql("group")})
        """
    )
    engine.run(f"drop table {PARSED}")
    notices = loader.notices[_ANY_DAY]
    return tuple(hide_numbers(one) for one in notices if _UNREAD not in one)


def _trimmed(value: str) -> str:
    return f"trim({value}, {literal(BLANKS)})"


def read_numbers(engine: Engine) -> None:
    """Give :data:`ROWS` a column ``number``: in E.164; a value that is none gets its rule."""
    engine.run(
        f"""
        create or replace temp table {ROWS} as
        select line, value, coalesce(rule, case when read not like '+%' then read end) as rule,
            case when read like '+%' then read end as number
        from (
            select *, case when rule is null then {number_or_problem_sql("value")} end as read
            from {ROWS}
        )
        """
    )


def broken(engine: Engine, most: int) -> list[tuple[Any, ...]]:
    """Line, value and rule of the first broken rows, by line."""
    return engine.rows(
        f"select line, value, rule from {ROWS} where rule is not null order by line, value "
        f"limit {most}"
    )
