"""Segments of a source: every row is a member or has a reason, and no value is shown in clear."""

import gzip
import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.s3_server import running_s3
from support.segment_world import D, people, phone, write_population
from typer.testing import CliRunner

from usergrowth_dagster.cli import app
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.people.forget import forget
from usergrowth_dagster.project import Project
from usergrowth_dagster.segments.definition import parse_segment
from usergrowth_dagster.segments.files import segment_named
from usergrowth_dagster.segments.groups.checks import GroupCheck, begin, write_check
from usergrowth_dagster.segments.groups.numbers import ONE_ID
from usergrowth_dagster.segments.people import bind_people
from usergrowth_dagster.segments.refresh import Refreshed, refresh
from usergrowth_dagster.views.segments import check_segments, segment_check
from usergrowth_dagster.warehouse.engine import open_engine


@pytest.fixture
def desk(world: Project) -> Project:
    """The world, whose users u00 to u19 have an uploaded number."""
    numbers = [(f"u{place:02d}", phone(place), None) for place in range(20)]
    write_population(world, [*numbers, ("uploaded_only", phone(77), None)])
    return world


def write(project: Project, name: str, text: str) -> Path:
    path = project.settings.home / "segments" / f"{name}.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def put(project: Project, name: str, content: str | bytes) -> None:
    path = project.settings.home / "segments" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def found(project: Project, source: str, day: date = D) -> tuple[list[str], GroupCheck]:
    """The people of a source, and the check of its rows."""
    write(project, "group", f"source: {source}\n")
    named = segment_named(project.settings.home, "group")
    with open_engine(project.settings) as engine:
        made = bind_people(engine, project, named, day)
        assert made.check is not None
        rows = engine.rows(f"select user_id from {made.members} order by user_id")
        check = made.check
        assert check.rows == check.members + sum(check.reasons.values())
        return [user for (user,) in rows], check


def refreshed(project: Project, name: str, day: date = D, **more: Any) -> Refreshed:
    named = segment_named(project.settings.home, name)
    return refresh(project, named, day, actor="ann@desk", **more)


def call(project: Project, *arguments: str, code: int = 0) -> str:
    home = ["--home", str(project.settings.home)]
    done = CliRunner().invoke(app, ["segment", *arguments, *home])
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


# --- the five sources ---------------------------------------------------------------------------


def test_a_text_of_numbers(desk: Project) -> None:
    """Guards against a separator that is not seen, a number twice, and a spelling that is lost."""
    text = f"{phone(1)}, +999 000-0000 002;{phone(3)}，{phone(1)}\\n\\n{phone(60)}"
    users, check = found(desk, f'{{text: "{text}"}}')
    assert users == ["u01", "u02", "u03"]
    assert dict(check.reasons) == {"duplicate": 1, "no_user": 1} and check.with_number == 3
    assert [(one.line, one.rule, one.value) for one in check.errors] == [
        (3, "no_user", "+999********60")
    ]


@pytest.mark.parametrize(
    ("name", "content", "keys"),
    [
        ("a.txt", f"{phone(1)}\r\n{phone(2)}\r\n".encode(), ""),
        ("b.txt", f"\ufeff{phone(1)}\n\n  {phone(2)}".encode(), ""),
        ("c.txt", f"＋{phone(1)[1:]}\n{phone(2)}".encode("gbk"), ", encoding: gbk"),
        ("d.txt", f"{phone(1)}\n{phone(2)}\n".encode("utf-16"), ", encoding: utf-16"),
    ],
)
def test_a_text_file(desk: Project, name: str, content: bytes, keys: str) -> None:
    """Guards against a first line that is taken for a header, an encoding, and other line ends."""
    put(desk, name, content)
    users, check = found(desk, f"{{text_file: {name}{keys}}}")
    assert users == ["u01", "u02"] and check.rows == 2


def test_a_csv_with_a_named_column(desk: Project) -> None:
    """Guards against a column by its place, a broken row without its line, and a value in clear."""
    rows = [f'"Li, Wei",{phone(4)},x', "no number,12345,x", "short", f"twice,{phone(4)},x", ",,"]
    rows += [f"{place},{phone(place)},x" for place in (5, 6)]
    body = "\n".join(["name,手机 号码,city", *rows]) + "\n"
    put(desk, "vips.csv", body)
    put(desk, "vips.csv.gz", gzip.compress(body.encode()))
    for name in ("vips.csv", "vips.csv.gz"):
        users, check = found(desk, f"{{csv: {name}, column: 手机 号码, max_error_share: 0.5}}")
        assert users == ["u04", "u05", "u06"]
        assert dict(check.reasons) == {"bad_phone": 1, "duplicate": 1, "field_count": 1}
        assert [(one.line, one.column, one.rule, one.value) for one in check.errors] == [
            (3, "手机 号码", "bad_phone", "*****"),
            (4, "手机 号码", "field_count", ""),
        ]


def test_a_list_in_an_object_store(desk: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a URL that is taken for a path, and a store that cannot be reached."""
    pytest.importorskip("moto")
    import fsspec

    with running_s3(monkeypatch, "lists"):
        store = fsspec.filesystem("s3")
        store.pipe("lists/spring/vips.csv", f"phone\n{phone(1)}\n{phone(2)}\n".encode())
        store.pipe("lists/vips.txt", f"{phone(3)}\n".encode())
        users, _ = found(desk, "{csv: 's3://lists/spring/vips.csv', column: phone}")
        assert users == ["u01", "u02"]
        assert found(desk, "{text_file: 's3://lists/vips.txt'}")[0] == ["u03"]
        for gone in ("s3://lists/nothing.txt", "s3://nowhere/vips.txt"):
            with pytest.raises(UserError, match="is not there or cannot be read"):
                found(desk, f"{{text_file: '{gone}'}}")


def test_user_ids_get_numbers_by_the_join(desk: Project) -> None:
    """Guards against ids that are read as numbers, and people without a number uncounted."""
    put(desk, "ids.csv", "id\nu01\nu02\nu30\nu30\nstranger\nuploaded_only\n")
    users, check = found(desk, "{csv: ids.csv, column: id, phone_numbers: false}")
    assert users == ["u01", "u02", "u30", "uploaded_only"]
    assert dict(check.reasons) == {"duplicate": 1, "unknown_user": 1}
    assert (check.members, check.with_number) == (4, 3)
    assert [one.value for one in check.errors] == ["********"]


def test_a_table_with_a_filter(desk: Project) -> None:
    """Guards against rows of other dates, a filter that sees too much, and a date not built."""
    users, check = found(desk, "{table: user_features, filter: age >= 50 and events_7d > 1}")
    expected = [
        one.user
        for one in people()
        if (one.features["age"] or 0) >= 50 and (one.features["events_7d"] or 0) > 1
    ]
    assert users == expected and check.with_number == sum(int(u[1:]) < 20 for u in users)
    first = D - timedelta(days=10)
    users, _ = found(desk, "{table: user_day, filter: \"kinds['buy'] > 0\", within_days: 10}")
    assert users == [
        one.user
        for one in people()
        if any(e.kind == "buy" and first <= e.ds < D for e in one.events)
    ]
    for keys, said in (
        ("table: user_featurs", "source.table: there is no table 'user_featurs'"),
        ("table: raw_user", "source.table: there is no table 'raw_user'"),
        ("table: population, filter: phone = 'x'", "source.filter: .* has no column 'phone'"),
        ("table: user_features, filter: random() < 0.5", "source.filter: .* another value each"),
        ("table: user_features, filter: ds < current_date", "source.filter: "),
        ("table: user_features, filter: 1 = 1; drop table x", "source.filter: "),
        ("table: user_features, filter: age in (select 1)", "source.filter: .* may not hold"),
        ("table: user_features, filter: age + 1", "source.filter: must be true or false"),
    ):
        with pytest.raises(UserError, match=said):
            found(desk, f"{{{keys}}}")
    with pytest.raises(UserError, match="user_features has nothing for 2024-03-10"):
        found(desk, "{table: user_features}", date(2024, 3, 10))


def test_an_algorithm(desk: Project) -> None:
    """Guards against scores from the wrong end, of another question, or of a later date."""
    assert found(desk, "{algorithm: churn, top: 3}")[0] == ["u47", "u48", "u49"]
    assert found(desk, "{algorithm: churn, above: 0.45}")[0] == ["u45", "u46", "u47", "u48", "u49"]
    with pytest.raises(UserError, match=r"group\.yml: source\.algorithm: no scores of 'winback'"):
        found(desk, "{algorithm: winback, top: 3}")


# --- the user of a number -----------------------------------------------------------------------


def test_the_user_of_a_number(desk: Project) -> None:
    """Guards against an old number, a later upload, and a number of two users given to both."""
    yesterday, tomorrow = D - timedelta(days=1), D + timedelta(days=1)
    write_population(desk, [("u05", phone(90), None), ("u31", phone(6), None)], yesterday)
    write_population(desk, [("u32", phone(91), None)], tomorrow)
    users, check = found(desk, f'{{text: "{phone(90)}, {phone(6)}, {phone(91)}"}}')
    assert users == ["u06"]  # u05 has a newer number, u31 the older upload, u32 a later one
    assert dict(check.reasons) == {"no_user": 2}


def test_numbers_by_identity(desk: Project) -> None:
    """Guards against a hash that no number meets, and a number that identity gives no user."""
    vault = open_vault(desk.settings.home, None)
    ids = [(phone(91), "u40"), (phone(92), None), (phone(1), "u41")]
    rows = [
        {"ds": D, "one_id": "x", "id_value": vault.digest(n)[1:].hex(), "user_id": user}
        for n, user in ids
    ]
    layout = pa.schema([("ds", pa.date32()), *((n, pa.string()) for n in list(rows[0])[1:])])
    desk.warehouse.replace(ONE_ID, pa.Table.from_pylist(rows, layout), days=[D])
    users, check = found(desk, f'{{text: "{phone(91)}, {phone(92)}, {phone(1)}"}}')
    assert users == ["u01", "u40"] and check.with_number == 1


# --- states, errors, and secrecy ----------------------------------------------------------------


def test_a_failed_check_makes_no_snapshot(desk: Project) -> None:
    """Guards against a snapshot of a broken list, a failure that nobody sees, and numbers shown."""
    path = write(desk, "vips", "refresh: on_upload\nsource: {csv: vips.csv, column: phone}\n")
    bad = [f"12{place:03d}" for place in range(120)]
    put(desk, "vips.csv", "\n".join(["phone", phone(1), *bad]) + "\n")
    with pytest.raises(UserError, match="120 of 121 rows are wrong, more than") as error:
        refreshed(desk, "vips")
    assert error.value.code == "segment.check_failed"
    assert str(error.value).startswith(f"{path}: source.csv: the check failed: ")
    check = segment_check(desk, "vips")
    assert (check.state, len(check.errors), check.reasons["bad_phone"]) == ("failed", 100, 120)
    shown = call(desk, "show", "vips") + call(desk, "errors", "vips") + call(desk, "list")
    assert "FAILED on 2024-03-04" in shown and "STALE" in shown and "12000" not in shown
    put(desk, "vips.csv", f"phone\n{phone(1)}\n{phone(60)}\n")
    assert refreshed(desk, "vips").state == "new"
    assert refreshed(desk, "vips").state == "not_due"
    shown = call(desk, "show", "vips", "--json") + call(desk, "errors", "vips", "--json")
    shown += call(desk, "history", "vips") + call(desk, "size", "vips", "--date", str(D))
    assert "passed" in shown and "+999********60" in shown
    for number in (phone(1), phone(60)):
        assert number not in shown and number[1:] not in shown
        for table in ("segment_checks", "segment_snapshots", "segment_members"):
            for file in Path(desk.warehouse.uri(table)).rglob("*"):
                assert not file.is_file() or number[1:].encode() not in file.read_bytes()
    put(desk, "vips.csv", f"phone\n{phone(60)}\n")
    with pytest.raises(UserError, match="none of its 1 rows is a person who is known"):
        refreshed(desk, "vips")


def test_a_check_that_was_killed_stays_in_sight(desk: Project) -> None:
    """Guards against a killed check that looks like the one that passed before it."""
    write(desk, "vips", f'source: {{text: "{phone(1)}"}}\n')
    refreshed(desk, "vips")
    named = segment_named(desk.settings.home, "vips")
    write_check(desk.warehouse, begin(named, D + timedelta(days=1)))
    assert "CHECKING on 2024-03-05" in call(desk, "show", "vips")


def test_a_changed_text_is_due(desk: Project) -> None:
    """Guards against a number that was changed where its mask does not show it."""
    write(desk, "vips", 'source: {text: "u01, u02", phone_numbers: false}\n')
    first = refreshed(desk, "vips")
    assert refreshed(desk, "vips").state == "not_due"
    write(desk, "vips", 'source: {text: "u01, u03", phone_numbers: false}\n')
    second = refreshed(desk, "vips")
    assert second.state == "new" and first.snapshot is not None and second.snapshot is not None
    assert second.snapshot.version == first.snapshot.version
    assert "u01" not in second.snapshot.definition


def test_nothing_is_kept_of_a_forgotten_person(desk: Project) -> None:
    """Guards against a list that brings back a forgotten person, or keeps the end of the number."""
    write(desk, "vips", f'refresh: daily\nsource: {{text: "{phone(1)}, {phone(2)}"}}\n')
    refreshed(desk, "vips")
    forget(desk, "u01", actor="ann@desk")
    users, check = found(desk, f'{{text: "{phone(1)}, {phone(2)}"}}')
    assert users == ["u02"] and [one.value for one in check.errors] == [""]


def test_commands_that_run_nothing(desk: Project) -> None:
    """Guards against a mistake that shows itself only when the segment is refreshed."""
    write(desk, "gone", "source: {csv: nothing.csv, column: phone}\n")
    write(desk, "named", "source: {csv: vips.csv, column: phnoe}\n")
    write(desk, "tabled", "source: {table: user_features, filter: agee > 3}\n")
    write(desk, "fine", "source: {algorithm: churn, top: 3}\n")
    put(desk, "vips.csv", f"phone,{phone(3)}\n{phone(1)},x\n")
    checked = check_segments(desk, None, D)
    assert [(one.segment, one.form) for one in checked.looks] == [("fine", "algorithm")]
    assert [text.split(": ", 2)[2][:40] for text in checked.failures] == [
        "nothing.csv is not there or cannot be re",
        "vips.csv has no column 'phnoe' in its fi",
        "'agee > 3': user_features has no column ",
    ]
    assert phone(3)[1:] not in " ".join(checked.failures)
    write(desk, "tree", "where: {rfm: {r: [1]}}\n")
    for name, said in (("tree", "has no source"), ("fine", "its source has no check")):
        with pytest.raises(UserError, match=said):
            segment_check(desk, name)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{}", "source: give one of text, text_file, csv, table, algorithm; it has 0"),
        ("{text: a, csv: b, column: c}", "source: give one of"),
        ("{csv: a.csv}", "source.column: required, but missing"),
        ("{csv: ../a.csv, column: c}", "source.csv: must be a path below"),
        ("{text_file: a, encoding: klingon}", "source.encoding: there is no encoding 'klingon'"),
        ("{table: a, column: c}", "source.column: is a key of csv, not of table"),
        ("{table: a, phone_numbers: true}", "source.phone_numbers: is a key of text and"),
        ("{algorithm: churn}", "source: give top or above, one of them"),
        ("{text: 9990000000001}", "source.text: must be a text; write the values in quotes"),
        ("{text: ' , '}", "source.text: has 0 values"),
        (f"{{text: '{', '.join([phone(1)] * 101)}'}}", "source.text: has 101 values"),
    ],
)
def test_a_mistake_in_a_source(source: str, said: str) -> None:
    """Guards against a source that means two things, and a number in an error."""
    with pytest.raises(UserError) as error:
        parse_segment(f"source: {source}", "vips.yml")
    assert f"vips.yml: {said}" in str(error.value) and "999" not in str(error.value)


def test_json_of_a_group(desk: Project) -> None:
    """Guards against a check that scripts cannot read."""
    write(desk, "vips", f'source: {{text: "{phone(1)}, {phone(60)}"}}\n')
    call(desk, "refresh", "vips", "--date", str(D))
    made = json.loads(call(desk, "errors", "vips", "--json"))
    assert (made["state"], made["rows"], made["members"]) == ("passed", 2, 1)
    assert made["errors"] == [
        {"column": "number", "line": 1, "rule": "no_user", "value": "+999********60"}
    ]
