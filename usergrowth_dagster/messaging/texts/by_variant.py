"""SQL over people of several texts: each row's expression is that of its own text."""

from collections.abc import Callable, Mapping

from usergrowth_dagster.messaging.texts.billing import Billing
from usergrowth_dagster.messaging.texts.content import params_sql, reason_sql, segments_sql
from usergrowth_dagster.quoting import literal


def by_variant_sql(
    contents: Mapping[str, str], of: Callable[[str], str], variant: str = "variant"
) -> str:
    """A DuckDB expression by the text of each row; NULL where the text is none of these.

    Args:
        contents: the templates by name; of a single one no name is asked for.
        of: the expression of one template, all of one type.
        variant: the SQL expression of a row's name of text.
    """
    if len(contents) == 1:
        return of(next(iter(contents.values())))
    cases = " ".join(f"when {literal(name)} then {of(one)}" for name, one in contents.items())
    return f"case {variant} {cases} end"


def message_columns_by_variant_sql(
    contents: Mapping[str, str],
    signature: str | None = None,
    billing: Billing = Billing.MAINLAND,
    column: str = "variables",
    variant: str = "variant",
) -> str:
    """The select list ``params, segments, reason`` of people of several texts.

    As :func:`usergrowth_dagster.messaging.texts.content.message_columns_sql`, whose equal it is for
    a single text.
    """
    columns: dict[str, Callable[[str], str]] = {
        "params": lambda one: params_sql(one, column),
        "segments": lambda one: segments_sql(one, signature, billing, column),
        "reason": lambda one: reason_sql(one, signature, billing, column),
    }
    return ", ".join(
        f"{by_variant_sql(contents, of, variant)} as {name}" for name, of in columns.items()
    )
