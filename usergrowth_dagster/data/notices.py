"""What is odd about landed files and yet taken: each is counted, and noticed in a sentence."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

from usergrowth_dagster.data.contracts import NULL_TEXT, Contract, Reading
from usergrowth_dagster.data.header import Header
from usergrowth_dagster.data.lines import shown
from usergrowth_dagster.data.storage import StoredFile
from usergrowth_dagster.quoting import literals

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

_COUNTED = "rows?|records?|lines?|entries|results?|items?|users?|行|条|笔|个|项|记录"
_TOTAL = "total|number of|count|fetched|exported|共|共计|总共|总计|合计|总数|导出"
FOOTER = (
    r"(?i)[-=_#\s]+|"
    rf"[^\pL\pN*]*(({_TOTAL})[\s:：=]*)*[0-9*][0-9*.,]*\s*({_COUNTED})\b?[^,0-9]{{0,40}}|"
    rf"[^\pL\pN*]*({_TOTAL})(\s*({_COUNTED}))*[\s:：=,]*[0-9*][0-9*.,]*[^\pL\pN*]*"
)
"""The last line of an export that counts its rows, or the rule above it; digits may be masked."""

HTML_CODE = "&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|amp|lt|gt|quot|apos|nbsp);"
"""Pattern of an HTML code: a text is no HTML, so it would be read as it stands."""

_FOOTER_LINES = 3
_ACCEPTED = "_accepted"
_SPELLINGS = 5  # words that a notice names


def unread_columns(files: Sequence[StoredFile], headers: Sequence[Header]) -> list[str]:
    """A sentence for each set of columns that files have beyond their contract."""
    by_columns: dict[tuple[str, ...], list[str]] = {}
    for file, header in zip(files, headers, strict=True):
        if header.unread:
            by_columns.setdefault(header.unread, []).append(file.path)
    return [
        f"{paths[0]}{f' and {len(paths) - 1} more files' if len(paths) > 1 else ''}: columns that "
        f"are not read: {', '.join(shown(name) for name in names)}"
        for names, paths in by_columns.items()
    ]


def drop_footers(
    connection: "DuckDBPyConnection",
    parsed: str,
    contract: Contract,
    files: Sequence[str],
    ends: Mapping[int, int],
) -> Iterator[tuple[date, str]]:
    """Take the last lines of files out that only count the rows above them.

    Args:
        connection: holds the table ``parsed`` of the loader.
        parsed: its name.
        contract: the contract of its rows.
        files: paths by number.
        ends: by file, the last line of those rows that the table does not hold.

    Yields:
        Day and sentence of each line that was taken out.
    """
    code = [rule.code for _, rule in contract.rejections].index("field_count") + 1
    last = f"select file, max(line) from {parsed} group by file"
    for _ in range(_FOOTER_LINES):
        footers = connection.execute(
            f"select rowid, day, file, line, raw from {parsed} where reject = {code} "
            f"and regexp_full_match(raw, '{FOOTER}') and (file, line) in ({last})"
        ).fetchall()
        lines = [row for row in footers if row[3] > ends.get(row[2], 0)]
        for row, day, file, line, raw in lines:
            connection.execute(f"delete from {parsed} where rowid = ?", [row]).fetchall()
            yield day, f"{files[file]}:{line}: the last line {shown(raw)} counts rows and is none"
        if not lines:
            return


class MissingWords:
    """Counts the words in accepted rows that say that there is no value.

    Args:
        connection: holds the rows.
        contract: the contract of the rows.
        reading: the words.
    """

    def __init__(
        self, connection: "DuckDBPyConnection", contract: Contract, reading: Reading
    ) -> None:
        self._connection = connection
        self._contract, self._reading = contract, reading
        self._times: dict[tuple[date, str], dict[str, int]] = {}

    def add(self, other: "MissingWords") -> None:
        """Add what another one counted."""
        for key, spelt in other._times.items():
            for word, times in spelt.items():
                self._add(key, word, times)

    def _add(self, key: tuple[date, str], word: str, times: int) -> None:
        spelt = self._times.setdefault(key, {})
        spelt[word] = spelt.get(word, 0) + times

    def look(self, accepted: "pa.Table") -> None:
        """Count in the rows of a table, as far as there may be such words in it.

        Nearly no table has any, and DuckDB takes five times as long to see that.
        """
        import pyarrow.compute as pc

        for name in self._columns:
            bare = pc.utf8_trim_whitespace(accepted.column(name))
            if pc.any(pc.is_in(bare, value_set=self._values)).as_py():
                self._connection.register(_ACCEPTED, accepted)
                self.count(_ACCEPTED)
                self._connection.unregister(_ACCEPTED)
                return

    @cached_property
    def _values(self) -> "pa.Array":
        """The words; not by ``pa.array``, which would import pandas."""
        sql = f"select unnest([{literals(self._reading.missing)}]::varchar[]) as word"
        return self._connection.sql(sql).to_arrow_table().column("word").combine_chunks()

    @cached_property
    def _columns(self) -> list[str]:
        """Columns of texts in which a word may be meant to say that there is no value."""
        return [
            column.name
            for column in self._contract.columns
            if column.kind == "VARCHAR" and column.check in ("text", "id")
        ]

    def count(self, accepted: str) -> None:
        """Count in the rows of a relation with a column ``day`` and those of the contract."""
        words = literals(self._reading.missing)
        if not words:
            return
        longest = max(len(word.encode()) for word in self._reading.missing)
        parts = [
            f"select day, '{name}' as name, trim({name}) as word from {accepted} "
            f"where {_may_be_short(name, longest)} and trim({name}) in ({words})"
            for name in self._columns
        ]
        if self._contract.table == "population":
            parts.append(
                "select day, entry.key as name, trim(entry.value) as word from (select day, "
                f"unnest(map_entries(variables)) as entry from {accepted}) "
                f"where trim(entry.value) in ({words})"
            )
        for day, name, word, times in self._connection.execute(
            f"select day, name, word, count(*) from ({' union all '.join(parts)}) group by all"
        ).fetchall():
            self._add((day, name), word, times)

    def sentences(self) -> Iterator[tuple[date, str]]:
        """Day and sentence for each column with such words."""
        for (day, name), spelt in sorted(self._times.items()):
            more = ", …" if len(spelt) > _SPELLINGS else ""
            yield (
                day,
                f"column {name} says {', '.join(sorted(spelt)[:_SPELLINGS])}{more} "
                f"{sum(spelt.values()):,} times; no value is written {NULL_TEXT}",
            )


def _may_be_short(text: str, size: int) -> str:
    """SQL of what is true of each text of at most ``size`` bytes between spaces of any kind.

    It costs less than taking the spaces off: all of them but one are outside of ASCII.
    """
    return (
        f"(strlen({text}) <= {size} or contains({text}, ' ') or strlen({text}) <> length({text}))"
    )


def html_codes(
    connection: "DuckDBPyConnection", relation: str, day: str = "day"
) -> Iterator[tuple[date, str]]:
    """Day and sentence for each template variable with HTML codes in its values.

    Args:
        connection: holds ``relation``.
        relation: what stands in FROM; it has a column ``variables``.
        day: the SQL expression of a row's day.
    """
    for ds, name, times, example in connection.execute(
        f"select day, entry.key as name, count(*), min(regexp_extract(entry.value, '{HTML_CODE}')) "
        f"from (select {day} as day, unnest(map_entries(variables)) as entry from {relation}) "
        f"where regexp_matches(entry.value, '{HTML_CODE}') group by day, name order by day, name"
    ).fetchall():
        yield (
            ds,
            f"column {name} has HTML codes such as {example} in {times:,} values, which a text "
            "shows as they are; write the characters themselves",
        )


def variables_sql(reading: Reading) -> str:
    """SQL of a population's template variables, without those that say that there is no value."""
    words = literals(reading.missing)
    if not words:
        return "variables"
    return (
        "map_from_entries(list_filter(map_entries(variables), "
        f"lambda e: trim(e.value) not in ({words})))"
    )
