"""A command that found nothing to do says so, and why; what was asked for by name is an error."""

import json
import os
import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from chain_world import campaign
from typer.testing import CliRunner

from usergrowth_dagster.cli import app
from usergrowth_dagster.control.tasks import all_tasks
from usergrowth_dagster.data.landing import unread_landing
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.explain.nothing import no_task
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.intake.uploads import register_uploads, withdraw_deleted
from usergrowth_dagster.project import Project
from usergrowth_dagster.runs.chain import backfill
from usergrowth_dagster.settings import load_settings

HEADER = "user_id,behavior,item_id,kvs_num,kvs_str"
ROW = "u1,login,\\N,hh14:1,\\N"
DAY = "2024-01-09"


@dataclass
class Answer:
    """What a command printed, errors and warnings last, and its exit code."""

    code: int
    text: str


def ask(home: Path, *arguments: str) -> Answer:
    """A command in this process, ended as the real one ends."""
    done = CliRunner().invoke(app, [*arguments, "--home", str(home)])
    text = done.stdout + done.stderr
    if isinstance(done.exception, UserError):
        return Answer(2, f"{text}error: {done.exception}")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Answer(done.exit_code, text)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which nothing has happened."""
    home = tmp_path_factory.mktemp("empty") / "home"
    kept = dict(os.environ)
    make_home(home, {"start_date": "2024-01-01", "today": "2024-01-20"})
    os.environ.clear()
    os.environ.update(kept)
    return home


@pytest.fixture
def home(empty: Path, tmp_path: Path, here: None) -> Path:
    shutil.rmtree(empty / "dagster", ignore_errors=True)
    return Path(shutil.copytree(empty, tmp_path / "home"))


def land(home: Path, *folders: str) -> None:
    for folder in folders:
        place = home / "landing" / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / "a.csv").write_text(f"{HEADER}\n{ROW}\n", encoding="utf-8")


def apply(home: Path, name: str, **changes: str) -> Answer:
    path = home / f"{name}.yaml"
    path.write_text(campaign(name, **changes), encoding="utf-8")
    return ask(home, "apply", "-f", str(path))


@pytest.mark.parametrize(
    ("command", "code", "sentences"),
    [
        (
            f"run --date {DAY}",
            2,
            [
                "nothing has landed from 2024-01-01 to 2024-01-08",
                f"error: nothing was decided: {DAY} has no task, since there is no campaign yet",
            ],
        ),
        ("run", 0, ["nothing has landed from 2024-01-12", "warning: nothing was decided"]),
        (f"run --date {DAY} --rehearse", 2, ["error: nothing was decided"]),
        (f"backfill --from {DAY} --to {DAY}", 2, ["error: nothing has landed"]),
        (
            f"train --date {DAY}",
            2,
            ["error: nothing was trained as of", "churn_model: no campaign"],
        ),
        ("dispatch --once", 0, ["Nothing is due"]),
        ("delivery", 0, ["Deliveries: none", "Messages: none"]),
        ("status", 0, ["Tables: none", "Models: none", "Tasks: none"]),
        ("reviews", 0, ["Reviews: none"]),
        ("models list", 0, ["no version is registered"]),
        ("suppress count", 0, ["none"]),
        ("audit", 0, ["no entries"]),
        ("reconcile", 0, ["In doubt: none"]),
        ("report --all", 2, ["no task has been decided yet"]),
        ("preview spring", 2, ["campaign 'spring' has no task yet"]),
        ("redecide spring --why x", 2, ["no task is called 'spring'"]),
        ("why u1", 2, ["u1"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_in_a_home_where_nothing_has_happened(
    home: Path, command: str, code: int, sentences: list[str]
) -> None:
    """A command prints an empty table, or nothing, and ends as if it had done what was asked."""
    answer = ask(home, *command.split())
    assert answer.code == code, answer.text
    for sentence in sentences:
        assert sentence in answer.text, answer.text


STRAYS = [
    (["behaviour/ds=20240109"], "behaviour/: nothing reads this folder; did you mean behavior/"),
    (["Behavior/ds=20240109"], "Behavior/: nothing reads this folder; did you mean behavior/"),
    (["behaviors/ds=20240109"], "did you mean behavior/?"),
    (["users/ds=20240109"], "did you mean user/?"),
    (["populations/spring"], "did you mean population/?"),
    (["xyz/ds=20240109"], "xyz/: nothing reads this folder; tables are user, item"),
    ([""], "a.csv: nothing reads a file here; move it into <table>/ds=yyyymmdd/"),
    (["behavior"], "behavior/a.csv: landing files lie in a folder ds=yyyymmdd; move it"),
    (["population"], "population/a.csv: nothing reads a file here"),
    (["behavior/2024-01-09"], "behavior/2024-01-09: a day's folder is named ds=yyyymmdd"),
    (["behavior/ds=20240132"], "behavior/ds=20240132: must be a day such as"),
    (["behavior/ds=2024-1-9"], "behavior/ds=2024-1-9: a day's folder is named ds=yyyymmdd"),
    (["behavior/ds=00010101"], "behavior/ds=00010101: must be a day from 1970-01-01"),
    (
        ["behavior/ds=20240109", "behavior/ds=2024-01-09"],
        "behavior/ds=2024-01-09 and behavior/ds=20240109 are both 2024-01-09; put its files",
    ),
    (["behavior/ds=20240109", "item/ds=2024-01-09", "mine/x", "_old", "population/x"], None),
]


@pytest.mark.parametrize(("folders", "sentence"), STRAYS, ids=["+".join(one) for one, _ in STRAYS])
def test_files_that_nothing_reads(home: Path, folders: list[str], sentence: str | None) -> None:
    """Files lie in a misspelt or misplaced folder, and nothing names them."""
    land(home, *folders)
    (home / "landing" / "behavior" / "_notes.txt").touch()
    sentences = unread_landing(Storage(str(home / "landing")), ["mine"])
    assert len(sentences) == (sentence is not None), sentences
    assert sentence is None or sentence in sentences[0]


def test_landing_days_of_both_forms(home: Path) -> None:
    """A range with nothing in it is landed without a word; a day written with dashes is lost.

    What is up to date is counted with its rows, and two folders of one day are refused.
    """
    command = ("backfill", "--from", DAY, "--to", DAY, "--only-ingest")
    land(home, "behaviour/ds=20240109")
    answer = ask(home, *command)
    assert answer.code == 2
    assert "warning: behaviour/: nothing reads this folder; did you mean behavior/" in answer.text
    assert "error: nothing has landed from 2024-01-08 to 2024-01-09" in answer.text
    land(home, "behavior/ds=2024-01-09")
    answer = ask(home, *command)
    assert answer.code == 0 and "nothing has landed" not in answer.text
    assert "raw_behavior" in answer.text and "user_day" in answer.text
    again = backfill(load_settings(home), day := date.fromisoformat(DAY), day, only_ingest=True)
    assert again.failures == []
    for table in ("raw_behavior", "stg_behavior", "user_day"):
        assert again.ingest.rows[table] == 1  # its rows, of which none were written now
        assert again.ingest.metadata[table]["rows_written"] == 0
    land(home, "behavior/ds=20240109")
    answer = ask(home, *command)
    assert answer.code == 2 and "are both 2024-01-09" in answer.text
    assert "Traceback" not in answer.text


def test_a_date_without_a_task_names_those_that_have_one(home: Path) -> None:
    """A person runs another date than the campaign's, and nothing says which date it has."""
    apply(home, "spring", execution_date="2024-01-12")
    apply(home, "later", execution_date="on upload", population="population/later-*")
    project = Project(load_settings(home))
    sentence = no_task(project, date.fromisoformat(DAY)) or ""
    assert f"{DAY} has no task; campaigns and their dates are" in sentence
    assert "spring: 2024-01-12" in sentence
    assert "later: none, it waits for an upload population/later-*" in sentence
    assert no_task(project, date(2024, 1, 12)) is None
    project.store.close()


def test_a_glob_with_a_fixed_date_is_a_task_for_each_folder(home: Path) -> None:
    """A campaign with a population of several folders and a fixed date never runs, in silence."""

    def tasks() -> dict[str, str]:
        project = Project(load_settings(home))
        dates = {one.task_id: str(one.execution_date) for one in all_tasks(project.store)}
        project.store.close()
        return dates

    glob = {"population": "population/x-*", "execution_date": "2024-01-12"}
    answer = apply(home, "spring", **glob)
    assert "no folder matches population/x-* yet; each that does becomes a task" in answer.text
    land(home, "population/x-1", "population/x-2", "population/y-1")
    assert "created task 'x-1'; created task 'x-2'" in apply(home, "spring", **glob).text
    assert tasks() == {"x-1": "2024-01-12", "x-2": "2024-01-12"}
    land(home, "population/x-3")  # after the campaign was applied
    project = Project(load_settings(home))
    arrived = register_uploads(project, project.settings.current_date())
    assert arrived.registered == []
    assert arrived.notes == [
        "population/y-1: no campaign has this population; apply one that names it"
    ]
    assert register_uploads(project, date(2024, 1, 12)).registered == ["x-3"]
    moved = apply(home, "spring", **{**glob, "execution_date": "2024-01-15"})
    assert "changed task 'x-1': its date is 2024-01-15 now" in moved.text
    assert set(tasks().values()) == {"2024-01-15"} and len(tasks()) == 3


def test_a_date_that_no_run_can_decide(home: Path) -> None:
    """A campaign of a date before the first partition is taken and never runs."""
    answer = apply(home, "spring", execution_date="2023-12-31")
    assert answer.code == 2
    assert "execution_date: 2023-12-31 is before the first execution date 2024-01-01" in answer.text
    answer = apply(home, "spring", execution_date="2024-01-09")
    assert answer.code == 0 and "every text will expire at once" in answer.text


def test_a_deleted_upload_does_not_fail_its_date_for_ever(home: Path) -> None:
    """A task whose upload is gone fails every later run of its date, whatever the others do."""
    apply(home, "spring", execution_date="on upload", population="population/x-*")
    apply(home, "fixed", execution_date=DAY)
    land(home, "population/x-1", "population/x-2")
    project, day = Project(load_settings(home)), date.fromisoformat(DAY)
    assert register_uploads(project, day).registered == ["x-1", "x-2"]
    assert withdraw_deleted(project, day) == []  # the fixed one still waits for its own
    (home / "landing" / "population").rename(home / "away")
    assert withdraw_deleted(project, day) == []  # a store that is away deletes nothing
    (home / "away").rename(home / "landing" / "population")
    shutil.rmtree(home / "landing" / "population" / "x-1")
    (sentence,) = withdraw_deleted(project, day)
    assert "task x-1: withdrawn, since population/x-1 was deleted" in sentence
    assert [one.task_id for one in all_tasks(project.store)] == ["fixed", "x-2"]
    assert withdraw_deleted(project, day) == []
    land(home, "population/x-1")
    assert register_uploads(project, day).registered == ["x-1"]
    project.store.close()


def test_a_run_of_one_task_that_fails_ends_with_its_code(home: Path) -> None:
    """A script that runs a date learns only that the run failed, not what its task failed with."""
    land(home, *(f"behavior/ds=2024010{day}" for day in range(1, 9)))
    apply(home, "spring", execution_date=DAY)
    done = CliRunner().invoke(app, ["run", "--date", DAY, "--home", str(home)])
    assert isinstance(done.exception, UserError), done.exception
    assert done.exception.code == "population.invalid"
    assert "task spring: population/spring: holds no CSV" in str(done.exception)
    status = json.loads(ask(home, "status", "--json").text)
    (failed,) = status["failed_tasks"]
    assert (failed["task"], failed["code"]) == ("spring", done.exception.code)
    assert f"task spring: {failed['reason']}" == str(done.exception)
