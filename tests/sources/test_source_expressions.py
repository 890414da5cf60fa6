"""Expressions of sources.yml: what is taken, and what is refused with its reason."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.sources.expressions import Expressions
from usergrowth_dagster.warehouse.engine import open_engine

COLUMNS = {
    "a": "VARCHAR",
    "Unit Price": "VARCHAR",
    "n": "BIGINT",
    "properties": "STRUCT(page STRUCT(url VARCHAR), worth DOUBLE)",
    "tags": "VARCHAR[]",
}


@pytest.fixture
def expressions(settings: Settings) -> Iterator[Expressions]:
    with open_engine(settings) as engine:
        yield Expressions(engine, COLUMNS)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a", "12"),
        ("A || '!'", "12!"),
        ("a * 2", 24.0),
        ("a * (1 - n)", -24.0),
        ('"Unit Price"', None),
        ("coalesce(\"unit price\", 'none')", "none"),
        ("properties.page.url", "/x"),
        ("properties.worth > 1", True),
        ("case when a > 5 then 'many' end", "many"),
        ("a in (12, 13) and n between 2 and 4", True),
        ("tags[1]", "t"),
        ("list_transform(tags, lambda tag: upper(tag))", ["T"]),
        ("cast(a as date)", UserError),
        ("strptime('2024-03-01', '%Y-%m-%d')::date::varchar", "2024-03-01"),
        ("a -- n", "12"),
    ],
)
def test_an_expression_gives_a_value_of_the_row(
    expressions: Expressions, text: str, value: object
) -> None:
    """Guards against texts that are not read as numbers, and names that depend on their case."""
    row = (
        "select '12' as a, null as \"Unit Price\", 3::bigint as n, "
        "{'page': {'url': '/x'}, 'worth': 2.0} as properties, ['t'] as tags"
    )
    sql = expressions.sql(text, "source s: where")
    if value is UserError:
        assert expressions.kind(sql) == "DATE"
    else:
        assert expressions.engine.value(f"select {sql} from ({row})") == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(select 1)", "it may not hold a query"),
        ("exists (select 1 from 'x.csv')", "it may not hold a query"),
        ("a from read_csv('/etc/passwd')", "it is not one expression"),
        ("a; drop table x", "it is not one expression"),
        ("a, n", "it is not one expression"),
        ("a union select 1", "it is not one expression"),
        ("a where true", "it is not one expression"),
        ("a limit 1", "it is not one expression"),
        ("distinct a", "it is not one expression"),
        ("", "it is not one expression"),
        ("'", "it is not one expression"),
        ("*", "not \\*"),
        ("columns('.*')", "not \\*"),
        ("sum(n)", "sum is of many rows"),
        ("count(*)", "of many rows"),
        ("row_number() over ()", "without windows"),
        ("unnest(tags)", "unnest is no function of a row's values"),
        ("?", "parameter"),
        ("$name", "parameter"),
        ("b", "the source has no column 'b'"),
        ("propertys.page", "did you mean 'properties'"),
        ("current_date", "no column 'current_date'"),
        ("read_text('/etc/passwd')", "read_text is no function"),
        ("glob('*')", "glob is no function"),
        ("query('select 1')", "query is no function"),
        ("current_setting('temp_directory')", "reads a setting"),
        ("getvariable('x')", "reads a setting"),
        ("now()", "another value each time"),
        ("random()", "another value each time"),
        ("gen_random_uuid()", "another value each time"),
        ("nextval('s')", "another value each time"),
        ("error('x')", "another value each time"),
        ("pg_sleep(5)", "pg_sleep is no function"),
        ("sleep_ms(5)", "another value each time"),
        ("write_log('x')", "another value each time"),
        ("getenv('HOME')", "there is no function getenv"),
        ("loweer(a)", "did you mean lower"),
        ("lower(n, n)", "lower"),
        ("properties.nothing", "nothing"),
    ],
)
def test_what_reads_more_than_the_row_is_refused(
    expressions: Expressions, text: str, reason: str
) -> None:
    """Guards against a file that reads other files, settings or rows through an expression."""
    with pytest.raises(UserError, match=reason) as refused:
        expressions.sql(text, "source s: where")
    assert str(refused.value).startswith("source s: where: ")
    assert refused.value.code == "source.invalid"
    assert "\n" not in str(refused.value)


@given(text=st.text(max_size=30) | st.text(st.sampled_from("an()',;*\"$ []{}-+.=x1"), max_size=14))
def test_any_text_is_taken_or_refused_in_a_sentence(text: str) -> None:
    """Guards against a traceback, and against a text that leaves the place it is put into."""
    with open_engine(Settings()) as engine:
        expressions = Expressions(engine, COLUMNS)
        try:
            sql = expressions.sql(text, "source s: where")
        except UserError as refused:
            assert refused.code == "source.invalid"
        else:
            rows = engine.rows(f"select {sql} as it from ({expressions._no_rows}) as rows_of")
            assert rows == []
