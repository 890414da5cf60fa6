"""Phone numbers in SQL are what they are in Python."""

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usergrowth_dagster.addresses.numbers import Problem, parse
from usergrowth_dagster.addresses.sql import (
    add_number_function,
    number_or_problem_sql,
    number_sql,
)

uploaded = st.one_of(
    st.sampled_from(["", " ", "+", "n/a", "+9990000000001", "13855550111", "(212) 555-0105"]),
    st.tuples(
        st.sampled_from(["", "+", "00", "+ "]),
        st.sampled_from(["", "1", "86", "44", "49", "999"]),
        st.from_regex(r"[0-9]{6,11}", fullmatch=True),
    ).map("".join),
)


def read(
    texts: list[str | None], country: str | None, *, fictional: bool = True
) -> list[tuple[str | None, str | None]]:
    """The key, and the key or the reason, of each text."""
    with duckdb.connect(config={"threads": 1}) as connection:
        add_number_function(connection, country, fictional=fictional)
        connection.execute("create table t (place bigint, text varchar)")
        connection.executemany("insert into t values (?, ?)", list(enumerate(texts)))
        keys = f"{number_sql('text')}, {number_or_problem_sql('text')}"
        return connection.execute(f"select {keys} from t order by place").fetchall()


@given(
    st.lists(uploaded, min_size=1, max_size=30),
    st.sampled_from([None, "CN", "US"]),
    st.booleans(),
)
def test_sql_reads_a_number_as_python_does(
    texts: list[str], country: str | None, fictional: bool
) -> None:
    """A number that a decision keys by other digits than the ledger, so that no refusal meets it."""
    expected: list[tuple[str | None, str | None]] = []
    for text in texts:
        number = parse(text, country, fictional=fictional)
        if not text.strip():
            expected.append((None, None))
        elif isinstance(number, Problem):
            expected.append((None, str(number)))
        else:
            expected.append((number, number))
    assert read(texts, country, fictional=fictional) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [("+13855550111", "+8613855550111"), ("+447700900108", "+9997700900108")],
)
def test_the_key_of_a_number_has_its_country(one: str, other: str) -> None:
    """People of two countries whose national digits agree, who share a key, a cap and a refusal."""
    assert read([one, other, None], "CN") == [(one, one), (other, other), (None, None)]
