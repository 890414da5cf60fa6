"""What a text of SQL holds: its statements, each a query of known tables and nothing else.

DuckDB's own parser makes the tree that is checked. A statement that is not a query is refused, and
so is a query that names a file, reads through a table function, or writes within a WITH. The
settings of the connection refuse the same once more; see :mod:`usergrowth_dagster.sql_shell.shell`.
"""

import difflib
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.sql_shell.records import SCHEMA

if TYPE_CHECKING:
    import duckdb

Node = dict[str, Any]
"""A node of DuckDB's serialized syntax tree."""

TABLE_FUNCTIONS = {
    "duckdb_functions",
    "duckdb_keywords",
    "duckdb_types",
    "generate_series",
    "json_each",
    "json_tree",
    "range",
    "repeat",
    "unnest",
}
"""Table functions that read neither files nor settings."""

_QUERIES = {"CTE_NODE", "RECURSIVE_CTE_NODE", "SELECT_NODE", "SET_OPERATION_NODE"}
_SOURCES = {
    "BASE_TABLE",
    "EMPTY",
    "EXPRESSION_LIST",
    "JOIN",
    "PIVOT",
    "SHOW_REF",
    "SUBQUERY",
    "TABLE_FUNCTION",
}
_SYSTEM = {"information_schema", "pg_catalog"}
_SHOW_TABLES = {'"tables"', "__show_tables_expanded"}
_ADVICE = re.compile(r"[.,;]?\s+(?=Please try installing|Try installing)")
_EXPLAIN = re.compile(r"\s*explain(\s+analyze)?\b(?!\s*\()", re.IGNORECASE)
_ONLY_QUERIES = "only queries run here (select, with, from, describe, summarize, explain)"


class SqlError(UserError):
    """A statement that fails, as one sentence with its place."""


@dataclass(frozen=True)
class Place:
    """Where a text begins in what the user gave: offset in characters, and the whole text."""

    text: str
    offset: int = 0

    def error(self, sentence: str, at: int | None = None) -> SqlError:
        """An error at a place.

        Args:
            sentence: what is wrong.
            at: bytes (UTF-8) after the beginning of this text; None: the place is not known.
        """
        if at is None:
            return SqlError(sentence, code="sql.invalid")
        before = self.text.encode()[len(self.text[: self.offset].encode()) :][: max(at, 0)]
        start = self.text[: self.offset] + before.decode(errors="ignore")
        line, column = start.count("\n") + 1, len(start) - (start.rfind("\n") + 1) + 1
        return SqlError(f"line {line}, column {column}: {sentence}", code="sql.invalid")


@dataclass(frozen=True)
class Statement:
    """One query.

    Attributes:
        sql: its text without the semicolon.
        place: where it begins.
        tables: tables of the home that it reads, as they are named there.
        records: tables of the control records that it reads.
        lists_tables: whether it asks for the list of tables, so that all have to be there.
        explains: whether it asks for the plan; such a statement cannot stand in a subquery.
    """

    sql: str
    place: Place
    tables: frozenset[str]
    records: frozenset[str]
    lists_tables: bool
    explains: bool


def is_complete(text: str) -> bool:
    """Whether a text ends with a semicolon that is in no string and no comment.

    Raises:
        SqlError: the text is not UTF-8.
    """
    return _last_token(text)[1] == b";"


def _last_token(text: str) -> tuple[int, bytes]:
    """Offset (in bytes) and first byte of the last token that is no comment; (0, b"") without one.

    Raises:
        SqlError: the text is not UTF-8.
    """
    import duckdb

    content = _utf8(text)
    places = [place for place, kind in duckdb.tokenize(text) if kind != duckdb.token_type.comment]
    return (places[-1], content[places[-1] :][:1]) if places else (0, b"")


def _utf8(text: str) -> bytes:
    """A text in UTF-8.

    Raises:
        SqlError: it came from bytes that are not UTF-8.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise SqlError("the query is not UTF-8 text", code="sql.invalid") from None


def _without_semicolon(sql: str) -> str:
    """A statement without the semicolons and comments that end it."""
    while (last := _last_token(sql))[1] == b";":
        sql = sql.encode()[: last[0]].decode()
    return sql


class Reader:
    """Reads statements.

    Args:
        connection: parses; nothing is run on it.
        tables: names of the tables of the home.
        records: names of the tables of control records.
    """

    def __init__(
        self,
        connection: "duckdb.DuckDBPyConnection",
        tables: Collection[str],
        records: Collection[str],
    ) -> None:
        self.connection = connection
        self._tables = {name.casefold(): name for name in tables}
        self._records = {name.casefold(): name for name in records}

    def statements(self, text: str) -> list[Statement]:
        """The statements of a text.

        Raises:
            SqlError: the text is not UTF-8, or a statement cannot be read or is not allowed.
        """
        import duckdb

        _utf8(text)
        try:
            parts = self.connection.extract_statements(text)
        except duckdb.Error as error:
            raise Place(text).error(*sentence_of(error)) from None
        statements, end = [], 0
        for part in parts:
            start = text.index(part.query, end)
            end = start + len(part.query)
            statements.append(self._statement(part, Place(text, start)))
        return statements

    def _statement(self, part: Any, place: Place) -> Statement:
        import duckdb

        sql = _without_semicolon(part.query)
        explains = part.type == duckdb.StatementType.EXPLAIN
        prefix = _EXPLAIN.match(sql) if explains else None
        if part.type != duckdb.StatementType.SELECT and prefix is None:
            raise place.error(_ONLY_QUERIES, 0)
        skipped = prefix.end() if prefix else 0
        query = literal(sql[skipped:])
        row = self.connection.execute(f"select json_serialize_sql({query})").fetchall()[0]
        tree = json.loads(row[0])
        if tree["error"]:
            raise place.error(_ONLY_QUERIES, 0)
        names = _Names(Place(place.text, place.offset + skipped), self._tables, self._records)
        names.check(tree["statements"])
        return Statement(
            sql,
            place,
            frozenset(names.read_tables),
            frozenset(names.read_records),
            names.lists_tables,
            explains,
        )


class _Names:
    """Checks the tree of a query, and collects the tables that it reads."""

    def __init__(self, place: Place, tables: dict[str, str], records: dict[str, str]) -> None:
        self.place = place
        self.read_tables: set[str] = set()
        self.read_records: set[str] = set()
        self.lists_tables = False
        self._tables, self._records = tables, records

    def check(self, tree: Any) -> None:
        """Check all nodes of a tree.

        Raises:
            SqlError: the query does more than read known tables.
        """
        subqueries = {name.casefold() for name in _subqueries(tree)}
        for node in _nodes(tree):
            kind = str(node["type"])
            if kind.endswith("_NODE") and kind not in _QUERIES:
                raise self.place.error(_ONLY_QUERIES, 0)
            if "sample" in node and kind not in _QUERIES | _SOURCES:
                raise self.place.error(_ONLY_QUERIES, _at(node))
            if kind == "TABLE_FUNCTION":
                self._check_function(node)
            elif kind == "BASE_TABLE":
                self._resolve(node, subqueries)
            elif kind == "SHOW_REF":
                self._show(node, subqueries)

    def _check_function(self, node: Node) -> None:
        function = node["function"]
        name = str(function.get("function_name", "")).casefold()
        if name not in TABLE_FUNCTIONS:
            raise self.place.error(
                f"the table function {name} is not allowed; queries read the tables of the home",
                _at(node) if _at(node) is not None else _at(function),
            )

    def _resolve(self, node: Node, subqueries: set[str]) -> None:
        catalog, schema, name = (
            str(node[key]).casefold() for key in ("catalog_name", "schema_name", "table_name")
        )
        if catalog in ("", "memory") and schema in ("", "main"):
            if name in self._tables:
                self.read_tables.add(self._tables[name])
                return
            if schema == "" and name in subqueries:
                return
        if catalog in ("", "memory") and schema == SCHEMA and name in self._records:
            self.read_records.add(self._records[name])
            return
        if catalog in ("", "memory", "system") and schema in _SYSTEM:
            self.lists_tables = True
            return
        shown = ".".join(part for part in (catalog, schema, str(node["table_name"])) if part)
        raise self.place.error(self._unknown(shown), _at(node))

    def _unknown(self, name: str) -> str:
        known = [*self._tables.values(), *(f"{SCHEMA}.{one}" for one in self._records.values())]
        close = difflib.get_close_matches(name, known, n=1)
        if not close and f"{SCHEMA}.{name.casefold()}" in known:
            close = [f"{SCHEMA}.{name.casefold()}"]
        hint = f"did you mean {close[0]}?" if close else ".tables lists them"
        return f"there is no table {name}; {hint}"

    def _show(self, node: Node, subqueries: set[str]) -> None:
        """Check SHOW: a list of tables, or the columns of one table."""
        if node["show_type"] == "SHOW_SPECIAL":
            if node["table_name"] not in _SHOW_TABLES:
                raise self.place.error(_ONLY_QUERIES, 0)
            self.lists_tables = True
        elif node["table_name"]:  # DESCRIBE has a query instead
            self._resolve(node, subqueries)


def _nodes(value: Any) -> Iterator[Node]:
    """Every node of a tree that is no expression: queries, and what stands after FROM."""
    if isinstance(value, dict):
        if isinstance(value.get("type"), str) and "class" not in value:
            yield value
        for part in value.values():
            yield from _nodes(part)
    elif isinstance(value, list):
        for part in value:
            yield from _nodes(part)


def _subqueries(value: Any) -> Iterator[str]:
    """Names that a WITH gives. One that could name a file is none: FROM would read the file."""
    if isinstance(value, dict):
        names = [str(entry["key"]) for entry in (value.get("cte_map") or {}).get("map", [])]
        names += [str(value["cte_name"])] if "cte_name" in value else []
        yield from (name for name in names if not set(name) & set("./\\:"))
        for part in value.values():
            yield from _subqueries(part)
    elif isinstance(value, list):
        for part in value:
            yield from _subqueries(part)


def _at(node: Node) -> int | None:
    """Where a node begins; DuckDB writes the greatest number where it does not know."""
    at = int(node.get("query_location", 2**64 - 1))
    return at if at < 2**63 else None


def sentence_of(error: Exception) -> tuple[str, int | None]:
    """DuckDB's message as one sentence, and its place in bytes where there is one."""
    text = str(error).split("Error: ", 1)[-1]
    try:
        details = json.loads(text)
        message = str(details["exception_message"])
    except (ValueError, KeyError, TypeError):
        details, message = {}, text
    message = _ADVICE.split(message, maxsplit=1)[0]  # settings are locked, nothing is installed
    first, *others = [line.strip().rstrip("!.") for line in message.splitlines() if line.strip()]
    if details.get("exception_type") == "Out of Memory":  # the others advise on locked settings
        others = ["the setting memory_limit gives queries more"]
    sentence = "; ".join([first, *(line[0].lower() + line[1:] for line in others)])
    position = str(details.get("position", ""))
    return sentence, int(position) if position.isdigit() else None
