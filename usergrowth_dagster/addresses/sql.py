"""Addresses in DuckDB: numbers are read by :mod:`~.numbers`, e-mail addresses by one pattern."""

from typing import TYPE_CHECKING, Any

from usergrowth_dagster.addresses.emails import BAD_EMAIL, BLANKS, PATTERN
from usergrowth_dagster.addresses.numbers import parse
from usergrowth_dagster.quoting import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_FUNCTION = "read_number"


def add_number_function(
    connection: "DuckDBPyConnection", country: str | None, *, fictional: bool
) -> None:
    """Give a connection the function that the expressions of this module call.

    Args:
        connection: the connection.
        country: ISO code of the country of numbers without one.
        fictional: whether the numbers of the example worlds count.
    """
    from duckdb.func import PythonUDFType

    def read(texts: Any) -> Any:  # DuckDB evaluates what stands here
        import pyarrow as pa

        numbers = {
            text: str(parse(text, country, fictional=fictional)) if text.strip() else ""
            for text in set(texts.to_pylist())
        }
        return pa.array([numbers[text] for text in texts.to_pylist()], pa.string())

    connection.create_function(_FUNCTION, read, ["VARCHAR"], "VARCHAR", type=PythonUDFType.ARROW)


def number_sql(column: str) -> str:
    """DuckDB expression: the number in E.164; NULL when the text is blank or no number.

    Args:
        column: SQL expression of the number as uploaded.
    """
    return f"nullif(regexp_extract({_FUNCTION}({column}), '^\\+.*$'), '')"


def number_or_problem_sql(column: str) -> str:
    """DuckDB expression: the number in E.164, or the reason code; NULL when the text is blank."""
    return f"nullif({_FUNCTION}({column}), '')"


def email_sql(column: str) -> str:
    """DuckDB expression: an e-mail address in lower case; NULL when it is blank or cannot be one.

    Args:
        column: SQL expression of the address as uploaded.
    """
    address = _trimmed(column)
    return f"case when regexp_full_match({address}, {literal(PATTERN)}) then lower({address}) end"


def email_or_problem_sql(column: str) -> str:
    """DuckDB expression: the address in lower case, or the reason code; NULL when it is blank."""
    return (
        f"case when {_trimmed(column)} is null then null "
        f"else coalesce({email_sql(column)}, {literal(BAD_EMAIL)}) end"
    )


def _trimmed(column: str) -> str:
    return f"nullif(trim({column}, {literal(BLANKS)}), '')"
