"""The models in Spark SQL, so that they can run on a cluster."""

from usergrowth_dagster.warehouse.meaning import expanded

KNOWN_IN_SPARK = {"map_entries", "map_values"}
"""Functions that sqlglot does not know and that Spark has under the same name and meaning."""


def to_spark(sql: str) -> str:
    """Translate a model, with its macros expanded.

    Raises:
        ValueError: it is not one SQL statement, or uses a function that Spark does not have.
        sqlglot.errors.UnsupportedError: it uses syntax that has no counterpart.
    """
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import ErrorLevel

    def known_in_spark(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Anonymous) and node.name.lower() == "as_map":
            entries = node.expressions[0].sql("duckdb")
            return sqlglot.parse_one(f"map_from_entries({entries})", dialect="duckdb")
        if isinstance(node, exp.Anonymous) and node.name.lower() == "list_sum":
            values = node.expressions[0].sql("duckdb")
            return sqlglot.parse_one(
                f"aggregate({to_spark_expression(values)}, 0D, (total, n) -> total + n)",
                dialect="spark",
            )
        return node

    tree = expanded(sql).transform(known_in_spark)
    unknown = {node.name.lower() for node in tree.find_all(exp.Anonymous)} - KNOWN_IN_SPARK
    if unknown:
        raise ValueError(f"no such function in Spark: {', '.join(sorted(unknown))}")
    return tree.sql("spark", pretty=True, unsupported_level=ErrorLevel.RAISE)


def to_spark_expression(sql: str) -> str:
    """Translate one DuckDB expression."""
    import sqlglot

    return sqlglot.parse_one(sql, dialect="duckdb").sql("spark")
