"""Files in the form of Personalize: every row is taken or has a line and a reason."""

from pathlib import Path

import pytest

from usergrowth_dagster.affinity.files import load_endpoints, load_folder
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import open_engine

ITEMS = "item_id,Title,Genres\n1,a,Action|Drama\n2,b,\\N\n2,c,Drama\n,d,Drama\n"


def reports(folder: Path, interactions: str | bytes, items: str = ITEMS) -> dict[str, object]:
    """The reports by file, and the events, of a folder with these files."""
    content = interactions.encode() if isinstance(interactions, str) else interactions
    (folder / "interactions.csv").write_bytes(content)
    (folder / "items.csv").write_text(items)
    with open_engine(load_settings(folder / "home")) as engine:
        held = load_folder(engine, folder, endpoints=False)
        events = engine.rows(
            "select user_id, item_id, t from events join people using (u) join things using (i) "
            "order by all"
        )
        return {report.file: report for report in held.reports} | {"events": events}


def test_a_row_that_is_not_taken_has_a_line_and_a_reason(tmp_path: Path) -> None:
    """Guards against rows that vanish, lines that are off, and numbers of people in a message."""
    lines = [
        "user_id,ITEM_ID,EVENT_TYPE,TIMESTAMP,more",
        "1,1,Watch,100,x",
        "1,1,Watch",
        "1,1,Watch,100,x,y",
        "",
        '"2,5","1","Wa""tch",1600000000123,x',
        ",1,Watch,100,x",
        "9,\\N,Watch,100,x",
        "9,1,Watch,+9991234567890123456,x",
        "9,1,Watch,soon,x",
        "1,1,Watch,100,other",
        "1,7,Watch,200,x\r",
        "9,1,Watch,-5,x",
    ]
    got = reports(tmp_path, "\ufeff" + "\n".join(lines))
    report = got["interactions.csv"]
    assert (report.rows, report.taken) == (12, 3)  # type: ignore[attr-defined]
    faults = {one.reason: (one.rows, one.example) for one in report.faults}  # type: ignore[attr-defined]
    assert faults == {
        "blank line": (1, "line 5"),
        "USER_ID is empty": (1, "line 7"),
        "ITEM_ID is empty": (1, "line 8"),
        "TIMESTAMP is not between 1970 and 2100 in unix seconds": (
            2,
            "line 9: '+999**************56'",
        ),
        "TIMESTAMP is no number": (1, "line 10: 'soon'"),
        "the same row again": (1, "line 11"),
        "3 values where the header has 5": (1, "line 3"),
        "6 values where the header has 5": (1, "line 4"),
    }
    assert report.notes == (  # type: ignore[attr-defined]
        "columns ignored: more",
        "1 timestamps are read as milliseconds",
    )
    assert got["events"] == [("1", "1", 100.0), ("1", "7", 200.0), ("2,5", "1", 1600000000.123)]
    items = got["items.csv"]
    assert (items.rows, items.taken) == (4, 2)  # type: ignore[attr-defined]
    assert {one.reason for one in items.faults} == {  # type: ignore[attr-defined]
        "ITEM_ID is empty",
        "ITEM_ID appeared before",
    }
    assert items.notes[0].startswith("1 items of 1 interactions are missing here")  # type: ignore[attr-defined]


def test_bytes_of_another_encoding_stop_no_file(tmp_path: Path) -> None:
    """Guards against one bad byte that takes a million good rows with it, and against lost rows."""
    rows = b"USER_ID;ITEM_ID;TIMESTAMP\nM\xfcller;1;100\nb;1;200\n"
    got = reports(tmp_path, rows)
    assert got["events"] == [("M\ufffdller", "1", 100.0), ("b", "1", 200.0)]


@pytest.mark.parametrize(
    ("interactions", "sentence"),
    [
        ("USER_ID,ITEM_ID\n1,1\n", r"interactions\.csv: line 1 has no column TIMESTAMP"),
        ("USER_ID,user_id,ITEM_ID,TIMESTAMP\n", r"line 1: the column 'user_id' appears twice"),
        ("", r"line 1 is empty; a header"),
        ("USER_ID,ITEM_ID,TIMESTAMP\n", r"no row can be taken: there is none"),
        ("USER_ID,ITEM_ID,TIMESTAMP\n1,1,x\n", r"1 TIMESTAMP is no number \(line 2: 'x'\)"),
        ('USER_ID,ITEM_ID,TIMESTAMP\n1,1,9\n1,"1,9\n1,1,9\n', r"line 3 opens a quote that is not"),
        (b"USER_ID,ITEM_ID,T\xff\n", r"line 1 is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_sentence(
    tmp_path: Path, interactions: str | bytes, sentence: str
) -> None:
    """Guards against a traceback, and a file of which a part is read in silence."""
    with pytest.raises(UserError, match=sentence) as error:
        reports(tmp_path, interactions)
    assert error.value.code == "affinity.bad_file"


def test_endpoints_that_refuse_are_no_endpoints(tmp_path: Path) -> None:
    """Guards against a message to one who opted out, an endpoint twice, and an id that is lost."""
    path = tmp_path / "endpoints.csv"
    path.write_text(
        "Id,User.UserId,OptOut,EndpointStatus\na,1,NONE,ACTIVE\nb,1,all,\nc,2,,INACTIVE\n"
        "a,1,NONE,ACTIVE\nd,,,\n,3,,\nf,4,NONE,\nf,4,ALL,\n"
    )
    with open_engine(load_settings(tmp_path / "home")) as engine:
        report, own_ids = load_endpoints(engine, path)
        assert engine.rows("select user_id, id from endpoints where fault is null") == [("1", "a")]
        assert not own_ids and report.taken == 1
        assert {one.reason for one in report.faults} == {
            "OptOut is ALL",
            "EndpointStatus is INACTIVE",
            "the endpoint appeared before",
            "User.UserId is empty",
            "no Id",
        }
        path.write_text("User.UserId,Attributes.x\n1,2\n")
        with pytest.raises(UserError, match="neither Id nor both ChannelType and Address"):
            load_endpoints(engine, path)
