"""Lists within records: every element is a row, and a record without any is counted."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.sources.definition import parse_sources
from usergrowth_dagster.sources.land import SourceLanding, land_source

DAY = date(2024, 3, 1)
AT = "2024-03-01 08:30:00"
BASKETS = """
name: baskets
fills: behavior
from: baskets.jsonl
each: {line: lines}
day: {time: at}
columns: {user_id: who, behavior: "'buy'", item_id: line.sku}
num: {quantity: line.quantity}
"""


class Desk:
    """A home beside the files of one source."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = load_settings(
            folder / "home", today=date(2024, 3, 20), timezone="UTC", memory_limit="1GB"
        )

    def write(self, *records: Any, name: str = "baskets.jsonl") -> None:
        lines = [json.dumps(record) for record in records]
        (self.folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")

    def land(self, text: str = BASKETS) -> SourceLanding:
        entry = "\n".join(f"    {line}" for line in text.strip().splitlines())
        (source,) = parse_sources(f"sources:\n  -\n{entry}\n", "sources.yml")
        landing, state = Storage(self.settings.landing_root), Storage(self.settings.storage_root)
        return land_source(self.settings, landing, state, source, self.folder)

    def rows(self) -> list[tuple[str, str | None, str]]:
        """User, item and numbers of the landed rows."""
        (path,) = Path(self.settings.landing_root).rglob("source-*.parquet")
        table = pq.read_table(path, partitioning=None)
        columns = (table.column(name).to_pylist() for name in ("user_id", "item_id", "kvs_num"))
        return sorted(zip(*columns, strict=True), key=str)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def basket(who: str, *lines: tuple[str, int]) -> dict[str, Any]:
    listed = [{"sku": sku, "quantity": quantity} for sku, quantity in lines]
    return {"who": who, "at": AT, "lines": listed}


def test_every_element_is_a_row(desk: Desk) -> None:
    """Guards against elements that get another record's user, and empty lists that vanish."""
    desk.write(
        basket("ann", ("a", 1), ("b", 2)),
        basket("bob", ("a", 3), ("a", 3)),
        basket("eve"),
        {"who": "kim", "at": AT},
        {"who": "leo", "at": AT, "lines": None},
    )
    landing = desk.land()
    assert desk.rows() == [
        ("ann", "a", "hh08:1 quantity:1.0"),
        ("ann", "b", "hh08:1 quantity:2.0"),
        ("bob", "a", "hh08:1 quantity:3.0"),
        ("bob", "a", "hh08:1 quantity:3.0"),
    ]
    assert (landing.rows, landing.empty, landing.duplicates) == (4, 3, 0)
    assert "3 records have an empty list (each) and give no row" in landing.notes()
    assert desk.land().landed == () and desk.land().empty == 3
    desk.write(basket("ann", ("a", 1), ("b", 2)), basket("eve", ("c", 1)))
    changed = desk.land()
    assert (changed.landed, changed.empty) == ((DAY,), 0)
    assert [row[0] for row in desk.rows()] == ["ann", "ann", "eve"]


@given(
    st.lists(
        st.lists(st.tuples(st.text("abc", min_size=1, max_size=2), st.integers(0, 9)), max_size=4),
        min_size=1,
        max_size=6,
    ).filter(lambda baskets: any(baskets))
)
@hypothesis_settings(max_examples=15)
def test_rows_are_the_elements(
    tmp_path_factory: pytest.TempPathFactory, baskets: list[list[tuple[str, int]]]
) -> None:
    """Guards against an element that is lost or doubled, wherever the empty lists are."""
    desk = Desk(tmp_path_factory.mktemp("elements"))
    desk.write(*(basket(f"u{who}", *lines) for who, lines in enumerate(baskets)))
    landing = desk.land()
    assert desk.rows() == sorted(
        (
            (f"u{who}", sku, f"hh08:1 quantity:{quantity}.0")
            for who, lines in enumerate(baskets)
            for sku, quantity in lines
        ),
        key=str,
    )
    assert landing.empty == sum(not lines for lines in baskets)


def test_lists_within_lists(desk: Desk) -> None:
    """Guards against an inner list that is read from another element of the outer one."""
    day = {"at": AT, "carts": [basket("ann", ("a", 1)), basket("bob"), basket("eve", ("b", 2))]}
    desk.write(day, {"at": AT, "carts": []}, {"at": AT, "carts": [basket("kim", ("c", 3))]})
    landing = desk.land(
        BASKETS.replace("{line: lines}", "{cart: carts, line: cart.lines}").replace(
            "user_id: who", "user_id: cart.who"
        )
    )
    assert [row[:2] for row in desk.rows()] == [("ann", "a"), ("eve", "b"), ("kim", "c")]
    assert landing.empty == 2


def test_lists_of_json(desk: Desk) -> None:
    """Guards against a value of JSON that is no list, and stops the file."""
    desk.write(
        basket("ann", ("a", 1)),
        {"who": "bob", "at": AT, "lines": {"sku": "x"}},
        {"who": "eve", "at": AT, "lines": "[]"},
        [1, 2],
    )
    landing = desk.land(
        BASKETS.replace("line.sku", "line ->> 'sku'").replace(
            "line.quantity", "line ->> 'quantity'"
        )
        + "read: {texts: [who, at], nested: [lines]}\n"
    )
    assert desk.rows() == [("ann", "a", "hh08:1 quantity:1.0")]
    assert (landing.empty, landing.unreadable) == (2, 1)


def test_a_list_that_an_expression_makes(desk: Desk) -> None:
    """Guards against lists of columns alone."""
    desk.write({"who": "ann", "at": AT, "skus": "a, b,c"}, {"who": "bob", "at": AT, "skus": None})
    text = BASKETS.replace("{line: lines}", "{line: \"string_split(skus, ',')\"}")
    desk.land(text.replace("line.sku", "trim(line)").replace("line.quantity", "length(line)"))
    assert [row[:2] for row in desk.rows()] == [("ann", "a"), ("ann", "b"), ("ann", "c")]


@pytest.mark.parametrize("kind", ["parquet", "delta"])
def test_lists_of_tables(desk: Desk, kind: str) -> None:
    """Guards against lists of JSON files alone."""
    records = [basket("ann", ("a", 1), ("b", 2)), basket("bob")]
    table = pa.Table.from_pylist(records)
    if kind == "parquet":
        pq.write_table(table, desk.folder / "baskets.parquet")
        origin = "baskets.parquet"
    else:
        write_deltalake(str(desk.folder / "baskets"), table)
        origin = "{delta: baskets}"
    landing = desk.land(BASKETS.replace("baskets.jsonl", origin))
    assert [row[:2] for row in desk.rows()] == [("ann", "a"), ("ann", "b")]
    assert landing.empty == 1


@pytest.mark.parametrize(
    ("each", "sentence"),
    [
        ("{line: who}", "each.line: 'who' is a VARCHAR, not a list"),
        ("{line: liens}", "each.line: 'liens': the source has no column 'liens'; did you mean"),
        ("{who: lines}", "each.who: there is a column 'who' already"),
        ("{order: lines}", "each.order: order is a word of SQL"),
        ("{a: lines, a_: a.lines}", "each.a_: 'a.lines'"),
        ("{line: 'lines, at'}", "each.line: 'lines, at': it is not one expression"),
        ("{line: \"(select [content] from read_text('/etc/passwd'))\"}", "it may not hold a query"),
        ("{line: unnest(lines)}", "unnest"),
        ("{line: list(lines)}", "list is of many rows, and an expression is of one"),
        ("{A-b: lines}", "each.A-b"),
        ("lines", "each: "),
    ],
)
def test_what_is_no_list_is_refused(desk: Desk, each: str, sentence: str) -> None:
    """Guards against an expression that reads a file, or one that fails without saying where."""
    desk.write(basket("ann", ("a", 1)))
    with pytest.raises(UserError) as error:
        desk.land(BASKETS.replace("{line: lines}", each))
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_of_a_database_it_is_refused() -> None:
    """Guards against a person who cannot be forgotten in rows that were pulled with their lists."""
    text = BASKETS.replace("from: baskets.jsonl", "database: {url: postgresql://h/d, table: t}")
    entry = "\n".join(f"    {line}" for line in text.strip().splitlines())
    with pytest.raises(UserError, match="unnest the list in a query"):
        parse_sources(f"sources:\n  -\n{entry}\n", "sources.yml")


def test_sources_without_lists_are_what_they_were() -> None:
    """Guards against days of every source that are written again after an upgrade."""
    entry = "\n".join(
        f"    {line}" for line in BASKETS.strip().splitlines() if not line.startswith("each")
    )
    (source,) = parse_sources(f"sources:\n  -\n{entry}\n", "sources.yml")
    assert "each" not in source.model_dump(mode="json", by_alias=True)
