"""Names and texts come back from every engine as they were, whatever is in them."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from database_fixtures import postgres_server
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import usergrowth_dagster
from usergrowth_dagster import quoting
from usergrowth_dagster.quoting import identifier, literal, literals

__all__ = ["postgres_server"]

# Lone surrogates are no UTF-8, and NUL ends a statement in SQLite and is no text in PostgreSQL.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
HARD = st.text(st.sampled_from("'\"\\;-$%{}?:[]*\n\t`é中"), max_size=12)
NAMES = (TEXTS | HARD).filter(lambda name: 0 < len(name.encode()) < 64)  # PostgreSQL cuts at 63
EACH = hypothesis_settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Engine:
    """Runs one statement: the names of its columns and its rows."""

    def __init__(self, connection: object) -> None:
        self.connection = connection

    def run(self, sql: str) -> None:
        self.connection.cursor().execute(sql)  # type: ignore[attr-defined]

    def ask(self, sql: str) -> tuple[list[str], list[tuple[object, ...]]]:
        cursor = self.connection.cursor()  # type: ignore[attr-defined]
        cursor.execute(sql)
        return [column[0] for column in cursor.description], cursor.fetchall()


@pytest.fixture(params=["duckdb", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "duckdb":
        connection: object = duckdb.connect()
    elif request.param == "sqlite":
        connection = sqlite3.connect(":memory:")
    else:
        folder = request.getfixturevalue("postgres_server")
        import psycopg

        connection = psycopg.connect(f"host={folder} user=test dbname=postgres", autocommit=True)
    yield Engine(connection)
    connection.close()  # type: ignore[attr-defined]


@EACH
@given(text=TEXTS | HARD)
def test_a_text_comes_back_as_it_was(engine: Engine, text: str) -> None:
    """Guards against a text that ends its own literal, and against escapes that an engine reads."""
    assert engine.ask(f"select {literal(text)}")[1] == [(text,)]


@EACH
@given(name=NAMES)
@example(name="TRUE")
@example(name="null")
def test_a_name_is_the_name_of_its_column(engine: Engine, name: str) -> None:
    """Guards against a name that ends its own quotes, or is folded to lower case.

    The column is one of a table: SQLite gives a column of a subquery that is called true or false
    another name.
    """
    engine.run("drop table if exists named")
    engine.run(f"create table named ({identifier(name)} integer)")
    engine.run("insert into named values (1)")
    assert engine.ask(f"select {identifier(name)} from named") == ([name], [(1,)])


@EACH
@given(texts=st.lists(TEXTS | HARD, min_size=1, max_size=5), other=TEXTS | HARD)
def test_a_list_holds_its_texts_and_no_other(engine: Engine, texts: list[str], other: str) -> None:
    """Guards against a comma within a text that makes two of it."""
    for text in {*texts, other}:
        (row,) = engine.ask(
            f"select case when {literal(text)} in ({literals(texts)}) then 'in' else 'out' end"
        )[1]
        assert row == ("in" if text in texts else "out",)


def test_no_text_is_null(engine: Engine) -> None:
    """Guards against the word None as a value."""
    assert engine.ask(f"select {literal(None)}")[1] == [(None,)]
    assert literals(["a", None]) == "'a', null"


_DOUBLES = re.compile(r"""replace\(\s*("'"|'"'),\s*("\'\'"|'""')\s*\)""")


def copies_of_the_rules(source: str) -> int:
    """How often Python code doubles a quote by itself."""
    return len(_DOUBLES.findall(source))


def test_no_other_module_doubles_quotes() -> None:
    """Guards against a copy of the rules that forgets one of them.

    Fields of CSV files double theirs as well: in output.csv, and where a user's rows are sought in
    the files of touches.
    """
    root = Path(usergrowth_dagster.__file__).parent
    copies = {
        path.name: number
        for path in root.rglob("*.py")
        if path.name != "quoting.py" and (number := copies_of_the_rules(path.read_text("utf-8")))
    }
    assert copies == {"output.py": 1, "touches.py": 1}


def test_the_count_of_copies_sees_them() -> None:
    """Guards against a count that finds nothing."""
    rules = Path(quoting.__file__).read_text("utf-8")
    assert copies_of_the_rules(rules) == 2
