"""Expressions over items and the files of jobs."""

from pathlib import Path

import pytest

from usergrowth_dagster.affinity.expression import parse_expression
from usergrowth_dagster.affinity.files import load_folder
from usergrowth_dagster.affinity.job import read_job
from usergrowth_dagster.affinity.log import items_of
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import open_engine

EXPRESSIONS = {
    'ITEMS.genres = "Action"': "ab",
    "items.GENRES = 'Drama'": "bc",
    'ITEMS.genres = "Action" AND ITEMS.genres = "Drama"': "b",
    'ITEMS.genres IN ("Action", "War")': "abd",
    'NOT ITEMS.genres IN ("Action", "War")': "ce",
    'ITEMS.genres NOT IN ("Action")': "cde",
    'ITEMS.genres != "Drama" AND ITEMS.year > 1990': "ad",
    'ITEMS.genres = "War" OR ITEMS.genres = "Drama" AND ITEMS.year < 1990': "cd",
    '(ITEMS.genres = "War" or ITEMS.genres = "Drama") and ITEMS.year >= 1995': "bd",
    'ITEMS.title = "it\'s {0}"': "a",
}


def test_expressions_take_their_items(tmp_path: Path) -> None:
    """Guards against OR before AND, a value of a list that is overseen, and a NULL that matches."""
    (tmp_path / "items.csv").write_text(
        "TITLE,ITEM_ID,YEAR,GENRES\nit's {0},a,2000,Action\nb,b,1995,Drama | Action\n"
        "c,c,1980,Drama\nd,d,2001,War\ne,e,,\n"
    )
    (tmp_path / "interactions.csv").write_text(
        "USER_ID,ITEM_ID,TIMESTAMP\n"
        + "".join(f"1,{item},{n + 1}\n" for n, item in enumerate("abcde"))
    )
    with open_engine(load_settings(tmp_path / "home")) as engine:
        fields = load_folder(engine, tmp_path, endpoints=False).fields
        for text, items in EXPRESSIONS.items():
            taken = items_of(engine, fields, parse_expression(text, "job"), "job")
            assert (
                "".join(name for name, one in zip("abcde", taken, strict=True) if one) == items
            ), text
        with pytest.raises(UserError, match="did you mean 'Action'"):
            items_of(engine, fields, parse_expression('ITEMS.genres = "action"', "job"), "job")
        with pytest.raises(
            UserError, match="has no column genre; it has ITEM_ID, TITLE, YEAR, GENRES"
        ):
            items_of(engine, fields, parse_expression('ITEMS.genre = "Action"', "job"), "job")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("ITEMS.genres = Action", "character 16 .* a value in quotes is expected"),
        ('USERS.age = "3"', "character 1 .* a field is expected"),
        ('ITEMS.genres "Action"', "character 14 .* =, !=, <"),
        ('ITEMS.genres IN ("a" "b")', "character 22 .* a comma or a closing"),
        ('(ITEMS.genres = "a"', r"character 20 .* a closing \) is expected"),
        ('ITEMS.genres = "a" ITEMS.x = "b"', "character 20 .* AND, OR or the end is expected"),
        ('ITEMS.year > "a"', "character 14 .* a number is expected"),
        ("ITEMS.genres = “Action”", "character 16 .* '“' is not understood; texts need quotes"),
    ],
)
def test_an_expression_names_the_place_of_its_fault(text: str, sentence: str) -> None:
    """Guards against a sentence that leaves a person to search the line."""
    with pytest.raises(UserError, match=sentence) as error:
        parse_expression(text, "job_config.json")
    assert error.value.code == "affinity.invalid"


def test_a_job_may_be_one_object_a_list_or_lines(tmp_path: Path) -> None:
    """Guards against segments of a job that are left out without a word."""
    path = tmp_path / "job_config.json"
    one, two = (f'{{"itemAttributes": "ITEMS.g = \\"{value}\\""}}' for value in "ab")
    for content in (
        f"[{one}, {two}]",
        f"{one}\n\n{two}\n",
        one[:-1].replace('": "', '": ["') + ', "ITEMS.g = \\"b\\""]}',
    ):
        path.write_text(content)
        assert [s.expression.text for s in read_job(path)] == ['ITEMS.g = "a"', 'ITEMS.g = "b"'], (
            content
        )
    path.write_text(one[:-1] + ', "numResults": 7, "minScore": 0.5}')
    (segment,) = read_job(path)
    assert (segment.num_results, segment.min_score, segment.expression.name) == (7, 0.5, "ITEMSga")
    assert read_job(path, top=9)[0].num_results == 9


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "line 1, column 2: not valid JSON"),
        ('{"itemAttributes": "ITEMS.g = \\"a\\""}\n{', "line 2, column 2: not valid JSON"),
        ("", "it holds no segment"),
        ('{"itemAttribute": "x"}', "itemAttribute: unknown key; did you mean 'itemAttributes'"),
        ('{"itemAttributes": 5}', "itemAttributes: an expression .* is required, not 5"),
        ('{"itemAttributes": "ITEMS.g = \\"a\\"", "numResults": 0}', "numResults: a whole number"),
        (
            '{"itemAttributes": "ITEMS.g = \\"a\\"", "minScore": 2}',
            "minScore: a number from 0 to 1",
        ),
        (
            '{"itemAttributes": ["ITEMS.g = \\"a\\"", "ITEMS.g = \\"a\\""]}',
            "appears twice; keep one",
        ),
    ],
)
def test_a_job_file_names_its_fault(tmp_path: Path, content: str, sentence: str) -> None:
    """Guards against a key that is misspelled and ignored, and a traceback."""
    path = tmp_path / "job_config.json"
    path.write_text(content)
    with pytest.raises(UserError, match=sentence):
        read_job(path)
