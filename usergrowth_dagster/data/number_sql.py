"""Phone numbers in DuckDB, read by :mod:`usergrowth_dagster.data.phone_numbers`."""

from typing import TYPE_CHECKING, Any

from usergrowth_dagster.data.phone_numbers import parse

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
