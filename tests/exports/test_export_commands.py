"""The commands about exports: what they print, how they fail, and what they never show."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.export_desk import DAY, ExportDesk, Person, phone
from typer.testing import CliRunner

from usergrowth_dagster.cli import app
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.exports.definition import parse_exports


def call(desk: ExportDesk, *arguments: str) -> str:
    """What a command prints that does what it should."""
    done = CliRunner().invoke(app, ["exports", *arguments, "--home", str(desk.home)])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def test_the_commands_in_a_row(desk: ExportDesk) -> None:
    """Guards against a command that hides what went out, or prints what must not be seen."""
    desk.decide([Person("u1", phone=phone(1)), Person("u2", phone=phone(2))])
    keys = "audience: all\ncolumns: [user_id, phone]\ncontains_addresses: true\nto: {files: out}"
    desk.export(keys)
    (look,) = json.loads(call(desk, "check", "--json"))["exports"]
    assert (look["rows"], look["date"]) == (2, "2024-03-04")
    assert not list((desk.home / "out").rglob("part-*"))
    (listed,) = json.loads(call(desk, "list", "--json"))["exports"]
    assert listed["state"] is None and listed["what"] == "every audience"
    said = call(desk, "run")
    assert said.startswith("export people: 2 of 2 rows of 2024-03-04 went to ")
    assert "nothing new" in call(desk, "run", "people", "--date", "2024-03-04")
    (ran,) = json.loads(call(desk, "run", "--again", "--json"))["exports"]
    assert ran["state"] == "sent" and ran["columns"] == {"user_id": "VARCHAR", "phone": "VARCHAR"}
    (listed,) = json.loads(call(desk, "list", "--json"))["exports"]
    assert (listed["state"], listed["rows"], listed["refused"]) == ("done", 2, 0)
    assert call(desk, "errors", "people") == "refused rows: none\n"
    assert json.loads(call(desk, "expire", "--json"))["removed"] == []
    seen = said + repr(ran) + repr(look) + repr(listed)
    assert "999000" not in seen
    manifests = [path.read_text() for path in (desk.home / "out").rglob("*.json")]
    assert len(manifests) == 3 and not any("999000" in one for one in manifests)


def test_one_export_that_fails_does_not_keep_the_others_back(desk: ExportDesk) -> None:
    """Guards against a list that is missing since another destination is full."""
    desk.decide(["u1"])
    (desk.home / "full").write_text("")
    (desk.home / "exports.yml").write_text(
        "exports:\n"
        "  - {name: bad, audience: all, to: {files: full}}\n"
        "  - {name: good, audience: all, to: {files: out}}\n"
    )
    done = CliRunner().invoke(app, ["exports", "run", "--json", "--home", str(desk.home)])
    assert done.exit_code == 2
    made = json.loads(done.stdout)
    assert [one["export"] for one in made["exports"]] == ["good"]
    assert made["failures"][0].startswith("export bad: to.files: ")


def test_an_export_without_a_file_or_name(desk: ExportDesk) -> None:
    """Guards against a traceback where a person has mistyped a name."""
    done = CliRunner().invoke(app, ["exports", "run", "--home", str(desk.home)])
    assert isinstance(done.exception, UserError) and "exports.yml: cannot be read" in str(
        done.exception
    )
    desk.export("audience: all\nto: {files: out}")
    done = CliRunner().invoke(app, ["exports", "run", "nobody", "--home", str(desk.home)])
    assert str(done.exception) == "exports.yml has no export 'nobody'; it has people"


WRONG: list[tuple[str, Any]] = [
    ("to: {files: out}", "exports.0: give audience or scores, one of them"),
    ("audience: all\nscores: all\nto: {files: out}", "exports.0: give audience or scores"),
    ("audience: all", "exports.0.to: required, but missing"),
    ("audience: all\nto: {}", "exports.0.to: give one destination of files"),
    ("audience: {tsk: x}\nto: {files: out}", "exports.0.audience.tsk: unknown key; did you mean 'task'?"),
    ("audience: {task: x, campaign: y}\nto: {files: out}", "exports.0.audience: give campaign or task"),
    ("audience: all\ncolumns: [user]\nto: {files: out}", "exports.0.columns: there is no column 'user'; "),
    ("audience: all\ncolumns: [score, score]\nto: {files: out}", "exports.0.columns: the column 'score' stands twice"),
    ("audience: all\ncolumns: [phone]\nto: {files: out}", "exports.0.contains_addresses: must be true"),
    ("scores: all\ncolumns: [rank]\nto: {files: out}", "exports.0.columns: there is no column 'rank'"),
    ("audience: all\nrows: all\ncolumns: [user_id]\nto: {files: out}", "exports.0.columns: rows: all needs arm or outcome"),
    ("audience: all\nfor_spreadsheets: true\nto: {files: out}", "exports.0.for_spreadsheets: is of CSV files"),
    ("audience: all\nexpires_after_days: 0\nto: {files: out}", "exports.0.expires_after_days: should be greater than"),
    ("audience: all\nto: {files: 's3:///x'}", "exports.0.to.files: names no bucket"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "sentence"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_key_is_one_sentence(keys: str, sentence: str) -> None:
    """Guards against a wrong place, a key taken for another, and mistakes that nobody made."""
    lines = "\n".join(f"    {line}" for line in keys.splitlines())
    with pytest.raises(UserError) as refused:
        parse_exports(f"exports:\n  - name: people\n{lines}\n", "exports.yml")
    assert str(refused.value).startswith(f"exports.yml: {sentence}"), str(refused.value)
    assert "more)" not in str(refused.value)
    assert refused.value.code == "export.invalid"


def test_mistakes_are_counted() -> None:
    """Guards against a count of mistakes that leaves some out, or has an empty list for none."""
    bad = "{name: a, audience: all, to: {}}"
    with pytest.raises(UserError, match=r"one destination of .* \(and 1 more\)$"):
        parse_exports(f"exports: [{bad}, {bad}]", "exports.yml")
    with pytest.raises(UserError, match=r"exports: tuple should have at least 1 item"):
        parse_exports("exports: []", "exports.yml")


def test_two_exports_of_one_name(tmp_path: Path) -> None:
    """Guards against two exports that take each other's runs for their own."""
    one = "{name: a, audience: all, to: {files: out}}"
    with pytest.raises(UserError, match="two exports have the name 'a'"):
        parse_exports(f"exports: [{one}, {one}]", "exports.yml")


def test_the_default_date_of_a_task_is_its_own(desk: ExportDesk) -> None:
    """Guards against an export of a task of last week that finds nothing today."""
    desk.decide(["u1"], "care", DAY.replace(day=1))
    desk.export("audience: {task: care}\nto: {files: out}")
    assert "1 of 1 rows of 2024-03-01" in call(desk, "run")


def test_a_campaign_that_there_is_not(desk: ExportDesk) -> None:
    """Guards against an audience that is empty every day, since its campaign is mistyped."""
    desk.decide(["u1"])
    desk.export("audience: {campaign: car}\nto: {files: out}")
    for command in ("check", "run"):
        done = CliRunner().invoke(app, ["exports", command, "--json", "--home", str(desk.home)])
        assert done.exit_code == 2
        (sentence,) = json.loads(done.stdout)["failures"]
        assert "there is no campaign 'car'; there are care" in sentence
