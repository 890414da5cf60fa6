"""The models in Spark SQL, so that they can run on a cluster.

sqlglot knows most of both dialects. Where it writes what Spark refuses or reads in another way, a
rewrite below changes the syntax tree first, so that both engines give the same rows. All rewrites
are here; each is right for any SELECT, not for one model. What has no counterpart is refused.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from usergrowth_dagster.warehouse.meaning import expanded

if TYPE_CHECKING:
    from sqlglot import exp

Node = TypeVar("Node", bound="exp.Expr")

KNOWN_IN_SPARK = {"map_entries", "map_values"}
"""Functions that sqlglot does not know and that Spark has under the same name and meaning."""

Tables = Mapping[str, Collection[str]]
"""Column names of each table that a SELECT reads."""


def to_spark(sql: str, tables: Tables) -> str:
    """Translate a model, with its macros expanded.

    Args:
        sql: one SELECT in DuckDB's dialect.
        tables: the columns of what it reads, for ``t.* exclude (...)``.

    Raises:
        ValueError: it is not one SELECT, or uses what Spark does not have.
        sqlglot.errors.UnsupportedError: it uses syntax that has no counterpart.
    """
    from sqlglot import exp
    from sqlglot.errors import ErrorLevel

    tree = expanded(sql).copy()
    if not isinstance(tree, exp.Query):
        raise ValueError(f"not a SELECT: {sql[:80]}")
    _refuse_strangers(tree)
    for rewrite in REWRITES:
        rewrite(tree)
    name_starred_columns(tree, tables)
    unknown = {node.name.lower() for node in tree.find_all(exp.Anonymous)} - KNOWN_IN_SPARK
    if unknown:
        raise ValueError(f"no such function in Spark: {', '.join(sorted(unknown))}")
    return tree.sql("spark", pretty=True, comments=False, unsupported_level=ErrorLevel.RAISE)


def spark_type(kind: str) -> str:
    """A DuckDB type in Spark SQL."""
    from sqlglot import exp

    return exp.DataType.build(kind, dialect="duckdb").sql("spark")


def quoted(name: str) -> str:
    """A name as Spark SQL quotes it."""
    return "`" + name.replace("`", "``") + "`"


def _refuse_strangers(tree: "exp.Expr") -> None:
    """Refuse what sqlglot would write in Spark SQL with another meaning."""
    from sqlglot import exp

    for node in tree.find_all(exp.ArrayAgg):
        if isinstance(node.this, exp.Order | exp.Distinct):
            raise ValueError(f"no counterpart in Spark: {node.sql('duckdb')}; sort its list")
    for select in tree.find_all(exp.Select):
        if sum(isinstance(one.unalias(), exp.Explode) for one in select.expressions) > 1:
            raise ValueError(
                "two unnest in one SELECT go in step in DuckDB alone; give each a SELECT of its own"
            )


def map_entries_as_maps(tree: "exp.Expr") -> None:
    """``as_map``, a macro of our engine, is ``map_from_entries`` in both dialects."""
    from sqlglot import exp

    for node in _calls(tree, "as_map"):
        node.replace(exp.MapFromEntries(this=node.expressions[0]))


def fold_lists(tree: "exp.Expr") -> None:
    """``list_sum`` is a fold in Spark. It leaves NULL out, and the sum of no values is NULL."""
    for node in _calls(tree, "list_sum"):
        kept = _spark("filter(:numbers, n -> n is not null)", numbers=node.expressions[0])
        fold = "aggregate(:kept, cast(0 as double), (total, n) -> total + n)"
        node.replace(_spark(f"case when size(:kept) > 0 then {fold} end", kept=kept))


def split_at_patterns(tree: "exp.Expr") -> None:
    """``string_split`` takes a text, Spark's ``split`` a pattern, and not all engines can quote."""
    from sqlglot import exp

    for node in _nodes(tree, exp.Split):
        separator = node.expression
        if not separator.is_string or not separator.name or set(separator.name) & {"^", "\\"}:
            raise ValueError(f"no counterpart in Spark: {node.sql('duckdb')}")
        pattern = "".join(c if c.isalnum() or c == " " else f"[{c}]" for c in separator.name)
        node.replace(exp.RegexpSplit(this=node.this, expression=exp.Literal.string(pattern)))


def list_all_rows(tree: "exp.Expr") -> None:
    """``list`` keeps NULL, and is NULL when it has no row; Spark drops NULL and gives ``[]``.

    Each value travels in a struct, which is not NULL. The field of the struct has a number: an
    engine may name a column of lists by the fields alone, and a SELECT may have several.
    """
    from sqlglot import exp

    for number, node in enumerate(_nodes(tree, exp.ArrayAgg)):
        condition = _condition(node)
        where = "filter (where :condition)" if condition else ""
        listed = f"collect_list(struct(:value as item_{number})) {where}"
        values = f"transform({listed}, entry -> entry.item_{number})"
        select = node.find_ancestor(exp.Select)
        if where or select is None or not select.args.get("group"):
            values = f"case when count(*) {where} > 0 then {values} end"
        _whole(node).replace(_spark(values, value=node.this, condition=condition))


def leave_nulls_out_of_max_by(tree: "exp.Expr") -> None:
    """``max_by`` and ``min_by`` skip rows whose value is NULL; Spark returns that NULL."""
    from sqlglot import exp

    for node in [*_nodes(tree, exp.ArgMax), *_nodes(tree, exp.ArgMin)]:
        known = exp.not_(exp.Is(this=node.this.copy(), expression=exp.null()))
        condition = _condition(node)
        where = exp.Where(this=exp.and_(condition, known) if condition else known)
        _whole(node).replace(exp.Filter(this=node.copy(), expression=where))


def count_in_doubles(tree: "exp.Expr") -> None:
    """``1.0 / n`` is a DOUBLE in DuckDB; in Spark it is a DECIMAL that keeps few digits."""
    from sqlglot import exp

    for node in _nodes(tree, exp.Literal):
        if not node.is_string and not node.is_int:
            node.replace(exp.cast(node.copy(), "double"))


REWRITES: tuple[Callable[["exp.Expr"], None], ...] = (
    map_entries_as_maps,
    fold_lists,
    split_at_patterns,
    list_all_rows,
    leave_nulls_out_of_max_by,
    count_in_doubles,
)
"""What is changed in a tree, in this order; :func:`name_starred_columns` follows."""


def name_starred_columns(tree: "exp.Expr", tables: Tables) -> None:
    """``t.* exclude (...)`` becomes the names of the columns: not all engines know EXCEPT there.

    Raises:
        ValueError: it is not of one table whose columns are known.
    """
    from sqlglot import exp

    own = {cte.alias for cte in tree.find_all(exp.CTE)}
    known = {table: columns for table, columns in tables.items() if table not in own}
    for select in _nodes(tree, exp.Select):
        named = [name for one in select.expressions for name in _named(select, one, known)]
        select.set("expressions", named)


def _named(select: "exp.Select", column: "exp.Expr", tables: Tables) -> "list[exp.Expr]":
    """One output of a SELECT, or the columns that a star with ``exclude`` stands for."""
    from sqlglot import exp

    star = column.this if isinstance(column, exp.Column) else column
    if not isinstance(star, exp.Star) or not star.args.get("except_"):
        return [column]
    alias = column.text("table")
    known = next(
        (tables.get(one.name) for one in _sources(select) if one.alias_or_name == alias), None
    )
    if known is None:
        raise ValueError(f"no counterpart in Spark: {column.sql('duckdb')}; name the columns")
    left_out = {one.name for one in star.args["except_"]}
    return [exp.column(name, alias) for name in known if name not in left_out]


def _sources(select: "exp.Select") -> "Iterator[exp.Table]":
    """The tables of a SELECT's own FROM and JOIN."""
    from sqlglot import exp

    parts = [select.args.get("from_"), *select.args.get("joins", ())]
    yield from (part.this for part in parts if part and isinstance(part.this, exp.Table))


def _calls(tree: "exp.Expr", name: str) -> "list[exp.Expr]":
    """The calls of a function that sqlglot does not know."""
    from sqlglot import exp

    return [node for node in _nodes(tree, exp.Anonymous) if node.name.lower() == name]


def _nodes(tree: "exp.Expr", kind: type[Node]) -> list[Node]:
    """All nodes of a kind, inner ones before those around them, so that each can be replaced."""
    return list(tree.find_all(kind))[::-1]


def _whole(aggregate: "exp.Expr") -> "exp.Expr":
    """An aggregate with its filter, if it has one."""
    from sqlglot import exp

    return aggregate.parent if isinstance(aggregate.parent, exp.Filter) else aggregate


def _condition(aggregate: "exp.Expr") -> "exp.Expr | None":
    whole = _whole(aggregate)
    return whole.expression.this if whole is not aggregate else None


def _spark(sql: str, **values: "exp.Expr | None") -> "exp.Expr":
    """An expression in Spark SQL, with values in the place of ``:name``."""
    import sqlglot
    from sqlglot import exp

    def fill(node: exp.Expr) -> exp.Expr:
        value = values.get(node.name) if isinstance(node, exp.Placeholder) else None
        return value.copy() if value is not None else node

    return sqlglot.parse_one(sql, dialect="spark").transform(fill)
