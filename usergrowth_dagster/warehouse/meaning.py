"""The meaning of a SELECT: what its version is a hash of.

A comment, white space, the case of keywords, a moved file and a macro in the place of its body
change no result, so they change no version. Nothing is rebuilt or trained again because of them.
"""

from functools import cache
from typing import TYPE_CHECKING

from usergrowth_dagster.warehouse.macros import expand, project_macros

if TYPE_CHECKING:
    from sqlglot import exp


@cache
def sql_meaning(sql: str) -> str:
    """A SELECT in the one form of its syntax tree, with macros expanded; equal for equal trees.

    Raises:
        ValueError: the text is not one SQL statement.
    """
    return expanded(sql).sql("duckdb", comments=False, normalize=True, normalize_functions="lower")


def columns_read(sql: str, table: str, columns: tuple[str, ...]) -> frozenset[str]:
    """Those of a table's columns that a SELECT reads; all of them where it takes a ``*``.

    A column that is named without its table counts, since it may be the table's.

    Raises:
        ValueError: the text is not one SQL statement.
    """
    from sqlglot import exp
    from sqlglot.optimizer.scope import traverse_scope

    names: set[str] = set()
    for scope in traverse_scope(expanded(sql)):
        aliases = {node.alias_or_name for node in scope.tables if node.name == table}
        if aliases and scope.expression.is_star:
            return frozenset(columns)
        if aliases:
            nodes = scope.expression.find_all(exp.Column)
            names |= {node.name for node in nodes if node.table in {*aliases, ""}}
    return frozenset(names.intersection(columns))


@cache
def expanded(sql: str) -> "exp.Expr":
    """The syntax tree of a statement, with the project's macros expanded; not to be changed.

    Raises:
        ValueError: the text is not one SQL statement.
    """
    import sqlglot
    from sqlglot.errors import SqlglotError

    try:
        tree = sqlglot.parse_one(sql, dialect="duckdb")
    except SqlglotError as error:
        raise ValueError(str(error)) from error
    return expand(tree, project_macros())
