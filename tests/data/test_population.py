"""Uploaded populations: who may be contacted, and whose phone must never leak."""

import os
import re
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from usergrowth_dagster.data.contracts import CONTRACTS
from usergrowth_dagster.data.population import complete_uploads, population_uploads
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.texts.content import reason
from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.population import LandedPopulation, land_population
from usergrowth_dagster.warehouse.tables import Warehouse

D = date(2017, 11, 1)
PHONE = "+9991234567890"
LAX: dict[str, Any] = {"max_reject_share": 1.0}


def put(root: Path, name: str, content: str | bytes, task: str = "spring") -> None:
    """Write a file of an upload."""
    folder = root / "population" / task
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def land(
    settings: Settings, root: Path, warehouse: Warehouse, task: str = "spring"
) -> LandedPopulation:
    return land_population(settings, Storage(str(root)), warehouse, task, D)


def read(settings: Settings, warehouse: Warehouse, name: str) -> list[tuple[Any, ...]]:
    """All rows of a table."""
    types = {
        "population": CONTRACTS["population"].raw_types(),
        "quarantine": {
            "table_name": "VARCHAR",
            "line": "BIGINT",
            "column_name": "VARCHAR",
            "rule": "VARCHAR",
            "raw_row": "VARCHAR",
        },
    }[name]
    files = [path for paths in warehouse.files(name).values() for path in paths]
    with open_engine(settings) as engine:
        engine.bind_files("t", files, types)
        return engine.rows(
            f"select * from t order by {'task_id, row' if name == 'population' else 'table_name, line'}"
        )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty landing root."""
    return tmp_path / "landing"


def test_rows_keep_their_place_and_their_variables(
    settings: Settings, warehouse: Warehouse, root: Path
) -> None:
    """A variable in the wrong row would text one customer another's name."""
    settings = settings.model_copy(update=LAX)
    put(
        root,
        "b.csv",
        f'\ufeffuser_id,item_id,phone,name,it\'s\r\nu1,i1,{PHONE},"Li, Lei",x\r\nu1,i1,\\N,\\N,\r\n\\N,i1,{PHONE},z,z\r\nu4,i1,,w,\\N\r\n',
    )
    pq.write_table(
        pa.table(
            {
                "user_id": [5],
                "item_id": ["i2"],
                "phone": pa.array([9991234567890]),
                "city": ["上海"],
            }
        ),
        root / "population/spring/c.parquet",
    )
    put(root, "a.csv", "user_id,item_id,phone\nu0,i0,not a phone\n")
    put(root, "_SUCCESS", "")
    landed = land(settings, root, warehouse)
    assert landed == LandedPopulation(6, 5, 1, (), 1, False)
    assert read(settings, warehouse, "population") == [
        (D, "spring", 1, "u0", "i0", "not a phone", {}),
        (D, "spring", 2, "u1", "i1", PHONE, {"name": "Li, Lei", "it's": "x"}),
        (D, "spring", 3, "u1", "i1", None, {"it's": ""}),
        (D, "spring", 5, "u4", "i1", None, {"name": "w"}),
        (D, "spring", 6, "5", "i2", "9991234567890", {"city": "上海"}),
    ]
    assert read(settings, warehouse, "quarantine") == [
        ("population.spring", 4, "user_id", "not_null", r"\N,i*,+*************,z,z")
    ]


def test_an_upload_lands_once_a_date_and_tasks_keep_apart(
    settings: Settings, warehouse: Warehouse, root: Path
) -> None:
    """Two campaigns on one date must not take each other's rows or rejects away."""
    settings = settings.model_copy(update=LAX)
    put(root, "a.csv", "user_id,item_id,phone\nu0,i0,\\N\nbad\n", "one")
    put(root, "a.csv", "user_id,item_id,phone\nu1,i0,\\N\nbad\nbad\n", "two")
    first = [land(settings, root, warehouse, task) for task in ("one", "two")]
    again = [land(settings, root, warehouse, task) for task in ("one", "two")]
    assert [(r.rows_in, r.accepted, r.quarantined, r.unchanged) for r in first] == [
        (2, 1, 1, False),
        (3, 1, 2, False),
    ]
    assert [(r.rows_in, r.accepted, r.quarantined, r.unchanged) for r in again] == [
        (2, 1, 1, True),
        (3, 1, 2, True),
    ]
    put(root, "a.csv", "user_id,item_id,phone\nu2,i0,\\N\n", "one")
    assert not land(settings, root, warehouse, "one").unchanged
    assert [row[1:4] for row in read(settings, warehouse, "population")] == [
        ("one", 1, "u2"),
        ("two", 1, "u1"),
    ]
    assert [row[0] for row in read(settings, warehouse, "quarantine")] == ["population.two"] * 2


def test_a_word_for_no_value_is_a_missing_variable(
    settings: Settings, warehouse: Warehouse, root: Path
) -> None:
    """``Dear nan`` was texted; a name such as Nan or O'Brien stays a name."""
    words = ["nan", "None", "NULL", "undefined", "#N/A", " null ", "Nan", "O'Brien", "Null", ""]
    body = "".join(f"u{n},i0,,{word}\n" for n, word in enumerate(words))
    put(root, "a.csv", f"user_id,item_id,phone,name\n{body}")
    landed = land(settings, root, warehouse)
    assert len(landed.warnings) == 1 and "column name says" in landed.warnings[0]
    content = "Dear ${name}, reply STOP"
    names = [row[6].get("name") for row in read(settings, warehouse, "population")]
    reasons = [reason(content, {"name": name}) for name in names]
    assert reasons == ["missing_variable"] * 6 + [None] * 3 + ["missing_variable"]
    kept = settings.model_copy(update={"missing_values": ()})
    assert not land(kept, root, warehouse).unchanged  # another setting reads the files again
    assert read(settings, warehouse, "population")[0][6] == {"name": "nan"}


def test_too_many_rejects_keep_the_earlier_upload(
    settings: Settings, warehouse: Warehouse, root: Path
) -> None:
    """A truncated re-upload must not replace the list that was approved."""
    put(root, "a.csv", f"user_id,item_id,phone\nu0,i0,{PHONE}\n")
    land(settings, root, warehouse)
    put(root, "a.csv", f"user_id,item_id,phone\n{PHONE}\n")
    with pytest.raises(
        UserError, match=r"population/spring: 1 of 1 rows break .*rule field_count .*a\.csv:2;"
    ) as error:
        land(settings, root, warehouse)
    assert "123" not in str(error.value)
    assert [row[3] for row in read(settings, warehouse, "population")] == ["u0"]
    assert [row[4] for row in read(settings, warehouse, "quarantine")] == ["+*************"]


FAULTS = [
    ("a.csv", f"u1,i1,{PHONE}\n", "line 1, column 1: expected 'user_id', found 'u*'"),
    ("a.csv", f"user_id,item_id,{PHONE}\n", "column 3: expected 'phone', found '+*************'"),
    (
        "a.csv",
        f"user_id,item_id,phone,{PHONE},{PHONE}\n",
        "column 5: expected a new name, found '+*************' again",
    ),
    ("a.csv", "user_id,item_id,phone,\n", "column 4: expected a name, found ''"),
    ("a.csv", "user_id,item_id\n", "column 3: expected 'phone', found the end of the header"),
    ("a.xlsx", f"{PHONE}", "a.xlsx: landing files end in .csv, .csv.gz, .csv.zst or .parquet"),
    ("a.parquet", f"{PHONE}", "the Parquet file is cut short or damaged"),
    ("_SUCCESS", "", "population/spring: holds no CSV or Parquet file"),
]


@pytest.mark.parametrize(("name", "content", "sentence"), FAULTS)
def test_a_wrong_upload_is_a_sentence_without_a_phone(
    settings: Settings, warehouse: Warehouse, root: Path, name: str, content: str, sentence: str
) -> None:
    """A list without a header has a phone where a column name should be: it must not be logged."""
    put(root, name, content)
    with pytest.raises(UserError) as error:
        land(settings, root, warehouse)
    assert sentence in str(error.value) and "1234" not in str(error.value)
    with pytest.raises(UserError, match="a task's name is 1 to 64"):
        land(settings, root, warehouse, "a/../b")


def test_more_variables_than_the_vendor_takes_are_a_warning(
    settings: Settings, warehouse: Warehouse, root: Path
) -> None:
    """The vendor fails late, after the review: say it at the upload, on every look."""
    names = [f"v{n}" for n in range(11)]
    put(
        root,
        "a.csv",
        ",".join(["user_id", "item_id", "phone", *names]) + "\nu,i,\\N" + ",x" * 11 + "\n",
    )
    for unchanged in (False, True):
        landed = land(settings, root, warehouse)
        assert landed.unchanged is unchanged
        assert landed.warnings == (
            "population/spring: 11 variables; more than 10 may fail at the vendor",
        )
    assert len(read(settings, warehouse, "population")[0][-1]) == 11


@hypothesis_settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "\\N", "x", '"', "\xa0"]),
            st.binary(max_size=4),
            st.permutations([0, 1, 2]),
            st.sampled_from("０1"),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["\n", "\r", "\0\n"]),
)
def test_no_phone_ever_reaches_the_quarantine(
    tmp_path: Path, rows: list[tuple[str, bytes, list[int], str]], end: str
) -> None:
    """However a row is broken (columns swapped, bytes damaged), the quarantine has no digit of it."""
    import uuid

    home = tmp_path / uuid.uuid4().hex
    settings = load_settings(home, max_reject_share=1.0)
    warehouse = Warehouse(Storage(settings.storage_root))
    body = b""
    for text, junk, order, digit in rows:
        cells = [text, text, "+999" + digit * 10]
        body += ",".join(cells[place] for place in order).encode() + junk + end.encode()
    put(home, "a.csv", b"user_id,item_id,phone\n" + body)
    landed = land(settings, home, warehouse)
    assert landed.rows_in == landed.accepted + landed.quarantined
    rejects = read(settings, warehouse, "quarantine") if landed.quarantined else []
    assert len(rejects) == landed.quarantined
    assert not any(re.search(r"\d", row[4]) for row in rejects)


def test_an_upload_is_taken_when_it_is_complete(root: Path) -> None:
    """Half an upload would text half the audience and call it done."""
    storage = Storage(str(root))
    assert population_uploads(storage) == {}
    put(root, "a.csv", "user_id,item_id,phone\n", "growing")
    put(root, "a.csv", "user_id,item_id,phone\n", "marked")
    put(root, "_SUCCESS", "", "marked")
    put(root, "_tmp", "", "begun")
    put(root, "a.csv", "", "_hidden")
    seen = population_uploads(storage)
    assert sorted(seen) == ["growing", "marked"] and seen["growing"].size == 22
    assert list(complete_uploads(seen, {})) == ["marked"]
    marks = {task: upload.fingerprint for task, upload in seen.items()}
    assert sorted(complete_uploads(seen, marks)) == ["growing", "marked"]
    put(root, "b.csv", "user_id,item_id,phone\n", "growing")
    grown = population_uploads(storage)
    assert list(complete_uploads(grown, marks)) == ["marked"]
    os.utime(root / "population/growing/b.csv", (1, 1))
    assert population_uploads(storage)["growing"].fingerprint != grown["growing"].fingerprint
    (root / "population/marked/_SUCCESS").unlink()
    assert population_uploads(storage)["marked"].fingerprint == marks["marked"]
