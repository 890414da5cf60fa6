"""A leaf's comparison with a column as one BOOLEAN of sqlglot's tree that is never NULL."""

from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Literal

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.segments.leaves import (
    NEGATIVE,
    OF_LISTS,
    OF_TEXTS,
    WITHOUT_VALUE,
    Comparison,
    Value,
)
from usergrowth_dagster.segments.trees import day, every, number, one_of, text, tree

if TYPE_CHECKING:
    from sqlglot import exp

Kind = Literal["flag", "number", "text", "texts", "day"]

_WHOLE = {"BIGINT", "INTEGER", "SMALLINT", "TINYINT", "HUGEINT", "UBIGINT", "UINTEGER"}
_KINDS: dict[str, Kind] = {
    "BOOLEAN": "flag",
    "VARCHAR": "text",
    "VARCHAR[]": "texts",
    "DATE": "day",
    **dict.fromkeys(_WHOLE | {"DOUBLE", "FLOAT"}, "number"),
}
_WORDS: dict[Kind, str] = {
    "flag": "true or false",
    "number": "a number",
    "text": "a text",
    "texts": "a text",
    "day": "a day such as 2024-01-31",
}
_ORDERED = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def kind_of(duckdb_type: str) -> Kind | None:
    """What a column holds; None: nothing that is compared."""
    return "number" if duckdb_type.startswith("DECIMAL") else _KINDS.get(duckdb_type)


def compare(
    leaf: Comparison, value: "exp.Expr", kind: Kind, place: str, *, missing: bool
) -> "exp.Expr":
    """The condition of a leaf.

    Args:
        leaf: the comparison.
        value: the column.
        kind: what it holds.
        place: file and key path, for the error.
        missing: whether a NULL matches what says what the value is not.

    Raises:
        UserError: the value or the comparison does not fit the column.
    """
    from sqlglot import exp

    if leaf.cmp in WITHOUT_VALUE:
        is_null = exp.Is(this=value, expression=exp.Null())
        return is_null if leaf.cmp == "unset" else exp.not_(is_null)
    _check_cmp(leaf, kind, place)
    items = [_literal(one, kind, place) for one in leaf.values]
    found = _condition(leaf.cmp, value, items)
    matches = exp.true() if missing and leaf.cmp in NEGATIVE else exp.false()
    return exp.Coalesce(this=found, expressions=[matches])


def _condition(cmp: str, value: "exp.Expr", items: list["exp.Expr"]) -> "exp.Expr":
    from sqlglot import exp

    def listed(function: str) -> exp.Expr:
        return tree(f"{function}(:v, :items)", v=value, items=exp.Array(expressions=items))

    made: dict[str, Callable[[], exp.Expr]] = {
        "eq": lambda: exp.EQ(this=value, expression=items[0]),
        "ne": lambda: exp.NEQ(this=value, expression=items[0]),
        "in": lambda: one_of(value, items),
        "nin": lambda: exp.not_(one_of(value, items)),
        "between": lambda: every(
            [exp.GTE(this=value, expression=items[0]), exp.LTE(this=value, expression=items[1])]
        ),
        "contains": lambda: tree("contains(:v, :part)", v=value, part=items[0]),
        "starts": lambda: tree("starts_with(:v, :part)", v=value, part=items[0]),
        "any": lambda: listed("list_has_any"),
        "all": lambda: listed("list_has_all"),
        "none": lambda: exp.not_(listed("list_has_any")),
        **{
            name: lambda sign=sign: tree(f":v {sign} :x", v=value, x=items[0])  # type: ignore[misc]
            for name, sign in _ORDERED.items()
        },
    }
    return made[cmp]()


def _check_cmp(leaf: Comparison, kind: Kind, place: str) -> None:
    if (kind == "texts") != (leaf.cmp in OF_LISTS):
        fits = ", ".join((*OF_LISTS, *WITHOUT_VALUE))
        raise _error(
            f"{place}.cmp",
            f"{leaf.cmp} does not fit; a tag with several values has {fits}"
            if kind == "texts"
            else f"{leaf.cmp} is of tags with several values; this one has one",
        )
    if leaf.cmp in OF_TEXTS and kind != "text":
        raise _error(f"{place}.cmp", f"{leaf.cmp} is of texts; the value is {_WORDS[kind]}")
    if kind == "flag" and leaf.cmp not in ("eq", "ne"):
        raise _error(f"{place}.cmp", f"{leaf.cmp} does not fit true and false; use eq or ne")


def _literal(value: Value, kind: Kind, place: str) -> "exp.Expr":
    from sqlglot import exp

    if kind == "flag" and isinstance(value, bool):
        return exp.convert(value)
    if kind == "number" and isinstance(value, int | float) and not isinstance(value, bool):
        return number(value)
    if kind in ("text", "texts") and isinstance(value, str):
        return text(value)
    if kind == "day":
        if isinstance(value, str):
            try:
                value = date.fromisoformat(value)
            except ValueError:
                value = False
        if isinstance(value, date):
            return day(value)
    raise _error(f"{place}.value", f"must be {_WORDS[kind]}, as the column is")


def _error(place: str, sentence: str) -> UserError:
    return UserError(f"{place}: {sentence}", code="segment.invalid")
