"""Pieces of sqlglot's tree: constant templates, and values that never become part of a text."""

from collections.abc import Iterable
from datetime import date
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlglot import exp


@cache
def _parsed(template: str) -> "exp.Expr":
    from sqlglot import parse_one

    return parse_one(template, dialect="duckdb")


def tree(template: str, **parts: "exp.Expr") -> "exp.Expr":
    """The tree of a constant template, each ``:name`` replaced by a tree; keywords are no names.

    >>> from sqlglot import exp
    >>> tree("a = :x", x=exp.convert("it's")).sql("duckdb")
    "a = 'it''s'"
    """
    from sqlglot import exp

    return exp.replace_placeholders(_parsed(template), **parts)


def text(value: str) -> "exp.Expr":
    """A text."""
    from sqlglot import exp

    return exp.Literal.string(value)


def number(value: float) -> "exp.Expr":
    """A number: a whole one as it is, another as DOUBLE to the last bit."""
    from sqlglot import exp

    if isinstance(value, int):
        return exp.convert(value)
    return exp.cast(exp.Literal.string(repr(value)), "double")


def day(value: date) -> "exp.Expr":
    """A day."""
    from sqlglot import exp

    return exp.cast(exp.Literal.string(value.isoformat()), "date")


def column(name: str, table: str | None = None) -> "exp.Expr":
    """A column, its name quoted."""
    from sqlglot import exp

    return exp.column(exp.to_identifier(name, quoted=True), table=table)


def named(value: "exp.Expr", name: str) -> "exp.Expr":
    """A column of a SELECT under a name."""
    from sqlglot import exp

    return exp.alias_(value, name, quoted=True)


def every(conditions: Iterable["exp.Expr"]) -> "exp.Expr":
    """Conditions that all hold."""
    from sqlglot import exp

    return exp.and_(*conditions)


def some(conditions: Iterable["exp.Expr"]) -> "exp.Expr":
    """Conditions of which one holds."""
    from sqlglot import exp

    return exp.or_(*conditions)


def one_of(value: "exp.Expr", options: Iterable["exp.Expr"]) -> "exp.Expr":
    """Whether a value is one of some."""
    from sqlglot import exp

    return exp.In(this=value, expressions=list(options))


def member_of(value: "exp.Expr", relation: str, where: "exp.Expr | None" = None) -> "exp.Expr":
    """Whether a value is among the ``user_id`` of a relation, or of its rows of a condition."""
    from sqlglot import exp

    users = exp.select("user_id").from_(exp.to_identifier(relation, quoted=True))
    if where is not None:
        users = users.where(where)
    return exp.In(this=value, query=users.subquery())
