"""Expressions that a person writes in a file: one DuckDB expression over known columns, no more.

DuckDB's own parser makes the tree that is checked, and the SQL that runs is written from that tree,
so no text of a file reaches the engine. An expression may hold the columns of one relation (a
source, or a table), literals, operators, CASE, casts, and functions of a row that give the same
value whenever they are asked. It may not read files or settings, sum over rows, or hold a query.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from usergrowth_dagster.error_codes import ErrorCode
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.warehouse.engine import Engine

Node = dict[str, Any]
"""A node of DuckDB's serialized syntax tree."""

_CLASSES = {
    "BETWEEN",
    "CASE",
    "CAST",
    "COLLATE",
    "COLUMN_REF",
    "COMPARISON",
    "CONJUNCTION",
    "CONSTANT",
    "FUNCTION",
    "LAMBDA",
    "OPERATOR",
    "TYPE",
}
_REFUSED = {
    "PARAMETER": "it may not hold a parameter",
    "STAR": "it names one column at a time, not *",
    "SUBQUERY": "it may not hold a query",
    "WINDOW": "it is of one row, without windows",
}
_LISTED = 40  # columns that an error names at most
_MACROS = {"date_add", "days_in_month", "fdiv", "fmod", "if", "nullif", "split_part"}
_MACROS_OF_LISTS = ("array_", "list_")
_MEMBERSHIP = {"COMPARE_IN", "COMPARE_NOT_IN"}
_NUMBERS = {"INTEGER", "NUMERIC"}
_TEXTS = {"VARCHAR", "JSON"}
_NUMBER_OPERATORS = {"+", "-", "*", "/", "//", "%", "**"}


class Expressions:
    """Checks the expressions over one relation and writes their SQL.

    Args:
        engine: parses, and knows the functions.
        columns: DuckDB type of each column of the relation.
        relation: what has the columns, for the error.
        code: of the error.
    """

    def __init__(
        self,
        engine: Engine,
        columns: Mapping[str, str],
        *,
        relation: str = "the source",
        code: ErrorCode = "source.invalid",
    ) -> None:
        self.engine = engine
        self.columns = columns
        self.relation, self.code = relation, code
        self._by_folded = {name.casefold(): name for name in columns}
        self._not_numbers: dict[str, str] = {}

    def sql(self, text: str, place: str, *, number: bool = False) -> str:
        """The SQL of an expression.

        Args:
            text: the expression.
            place: file and key path, for the error.
            number: whether the value is to be a number.

        A text that is the name of a column is that column, whatever is in the name; within an
        expression such a name stands in double quotes.

        A column of text is read as a number between arithmetic operators and in a comparison with a
        number, and so is the value of an expression that is to be a number. A text that is none
        gives NULL.

        Raises:
            UserError: it is not one expression over the relation's columns; says why.
        """
        column = self._by_folded.get(text.strip().casefold())
        try:
            statement = self._parsed(identifier(column) if column else text)
            (tree,) = statement["statements"][0]["node"]["select_list"]
            self._check(tree, frozenset())
            columns: set[str] = set()
            tree = self._with_numbers(tree, columns, wanted=number)
            statement["statements"][0]["node"]["select_list"] = [tree]
            written = self.engine.value(
                f"select json_deserialize_sql({literal(json.dumps(statement))})"
            )
            sql = str(written).removeprefix("SELECT ")
            kind = self._bind(sql)
            tests = [_no_number(identifier(name)) for name in sorted(columns)]
            if number and kind in _TEXTS:
                value = f"({sql})" if kind == "VARCHAR" else f"(({sql}) ->> '$')"
                tests.append(_no_number(value))
                sql = f"try_cast({value} as double)"
            self._not_numbers[sql] = " or ".join(tests)
        except _RefusedError as refused:
            shown = text if len(text) <= 60 else f"{text[:57]}…"
            raise UserError(f"{place}: {shown!r}: {refused}", code=self.code) from None
        return sql

    def not_a_number(self, sql: str) -> str:
        """The condition that a text which a checked expression reads as a number is none."""
        return self._not_numbers.get(sql, "")

    def kind(self, sql: str) -> str:
        """The DuckDB type of a checked expression."""
        return self.engine.describe(f"select {sql} as value from ({self._no_rows})")["value"]

    @cached_property
    def _no_rows(self) -> str:
        body = ", ".join(
            f"cast(null as {kind}) as {identifier(name)}" for name, kind in self.columns.items()
        )
        return f"select {body} where false"

    def _bind(self, sql: str) -> str:
        import duckdb

        try:
            return self.kind(sql)
        except duckdb.Error as error:
            raise _RefusedError(str(error).split("\n")[0].split("Error: ", 1)[-1]) from None

    def _parsed(self, text: str) -> Node:
        """The tree of ``select <text>``, if that is one expression and nothing else."""
        found: Node = self._serialized(f"select {text}")
        if found["error"]:
            if text.strip('"').isidentifier():  # a word of SQL, and no column
                self._resolve({"column_names": [text]}, frozenset())
            raise _RefusedError(f"it is not one expression: {found['error_message']}")
        plain = self._serialized("select 1")
        nodes = [statement["node"] for statement in found["statements"]]
        rest = [_without_places(node) for node in nodes]
        if rest != [_without_places(plain["statements"][0]["node"])]:
            raise _RefusedError("it is not one expression")
        if len(nodes[0]["select_list"]) != 1:
            raise _RefusedError("it is not one expression; no comma separates several")
        return found

    def _serialized(self, sql: str) -> Node:
        node: Node = json.loads(self.engine.value(f"select json_serialize_sql({literal(sql)})"))
        return node

    def _check(self, node: Node, parameters: frozenset[str]) -> None:
        """Refuse what an expression may not hold; write columns as the source spells them."""
        kind = node["class"]
        if kind not in _CLASSES:
            raise _RefusedError(_REFUSED.get(kind, f"it may not hold {kind.lower()}"))
        if kind == "COLUMN_REF":
            self._resolve(node, parameters)
        elif kind == "FUNCTION":
            self._check_function(node)
        elif kind == "LAMBDA":
            parameters |= {_name(one) for one in _parts(node["lhs"]) if _name(one)}
        for part in _parts(node, itself=False):
            self._check(part, parameters)

    def _resolve(self, node: Node, parameters: frozenset[str]) -> None:
        first, *fields = node["column_names"]
        name = self._by_folded.get(first.casefold())
        if name is not None:
            node["column_names"] = [name, *fields]
        elif first not in parameters:
            close = difflib.get_close_matches(first, self.columns, n=1)
            names = list(self.columns)
            listed = ", ".join(names[:_LISTED]) + (" …" if len(names) > _LISTED else "")
            hint = f"did you mean {close[0]!r}?" if close else f"it has {listed}"
            raise _RefusedError(f"{self.relation} has no column {first!r}; {hint}")

    def _check_function(self, node: Node) -> None:
        name = str(node["function_name"]).lower()
        kinds = self._functions.get(name)
        if kinds is None:
            close = difflib.get_close_matches(name, self._functions, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise _RefusedError(f"there is no function {name}{hint}")
        macro = name in _MACROS or name.startswith(_MACROS_OF_LISTS)
        if "scalar" not in kinds and not ("macro" in kinds and macro):
            of_many = "aggregate" in kinds or "window" in kinds
            raise _RefusedError(
                f"{name} is of many rows, and an expression is of one"
                if of_many
                else f"{name} is no function of a row's values"
            )
        if kinds & {"VOLATILE", "CONSISTENT_WITHIN_QUERY"}:
            raise _RefusedError(f"{name} gives another value each time, or reads a setting")

    @cached_property
    def _functions(self) -> dict[str, set[str]]:
        """Function name to its types and stabilities."""
        known: dict[str, set[str]] = {}
        for name, kind, stability in self.engine.rows(
            "select distinct lower(function_name), function_type, stability from duckdb_functions()"
        ):
            known.setdefault(name, set()).update({kind, stability})
        return known

    def _with_numbers(self, node: Any, columns: set[str], *, wanted: bool) -> Any:
        """The tree with columns of text as numbers, where a number is wanted.

        The names of these columns are added to ``columns``.
        """
        if isinstance(node, list):
            return [self._with_numbers(part, columns, wanted=wanted) for part in node]
        if not isinstance(node, dict):
            return node
        if node.get("class") == "COLUMN_REF":
            (name, *fields) = node["column_names"]
            is_text = not fields and self.columns.get(name) == "VARCHAR"
            if not (wanted and is_text):
                return node
            columns.add(name)
            return self._as_double(name)
        if "class" in node:
            wanted = _wants_numbers(node)
        return {
            key: self._with_numbers(value, columns, wanted=wanted) for key, value in node.items()
        }

    def _as_double(self, name: str) -> Node:
        cast = self._serialized(f"select try_cast({identifier(name)} as double)")
        node: Node = cast["statements"][0]["node"]["select_list"][0]
        return node


def _no_number(value: str) -> str:
    """The condition that a text is there and is no number."""
    return f"({value} is not null and try_cast({value} as double) is null)"


class _RefusedError(Exception):
    """Why an expression is not taken."""


def _parts(node: Any, *, itself: bool = True) -> Iterator[Node]:
    """The nodes directly below a value of the tree; the value itself, if it is a node."""
    if isinstance(node, dict):
        if itself and "class" in node:
            yield node
            return
        for value in node.values():
            yield from _parts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _parts(value)


def _wants_numbers(node: Node) -> bool:
    """Whether the parts of a node are numbers: those of arithmetic, and what a number meets."""
    if node["class"] == "FUNCTION":
        return bool(node["function_name"] in _NUMBER_OPERATORS)
    is_comparison = node["class"] in {"COMPARISON", "BETWEEN"} or node["type"] in _MEMBERSHIP
    return is_comparison and any(
        part["class"] == "CONSTANT" and part.get("literal", {}).get("kind") in _NUMBERS
        for part in _parts(node, itself=False)
    )


def _name(node: Node) -> str:
    names = node.get("column_names") or [""]
    return str(names[0])


def _without_places(node: Node) -> Node:
    """A select without its expressions, and without their places in the text."""
    kept = {key: value for key, value in node.items() if key != "select_list"}
    if isinstance(kept.get("from_table"), dict):
        kept["from_table"] = {
            key: value
            for key, value in kept["from_table"].items()
            if not key.startswith("query_location")
        }
    return kept
