"""Jobs from their files to the announcement: endpoints, unique names, and the vendor's example."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.affinity_world import simulate, write_world
from support.page_receiver import receiving
from typer.testing import CliRunner

from usergrowth_dagster.affinity import announce as announcing
from usergrowth_dagster.affinity import export
from usergrowth_dagster.affinity.job import read_job
from usergrowth_dagster.affinity.run import JobRun, open_job, run_job
from usergrowth_dagster.affinity.segment import cut_segments
from usergrowth_dagster.affinity.train import sha256
from usergrowth_dagster.cli import app
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings, load_settings

BINGEWATCH = Path(__file__).parents[3] / "shared" / "data" / "bingewatch"
JOB = '{"itemAttributes": ["ITEMS.genres = \\"Action\\"", "ITEMS.genres IN (\\"War\\", \\"Drama\\")"], "numResults": 60}'


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small world with endpoints, and a job of two segments."""
    return write_world(tmp_path_factory.mktemp("world"), simulate(400, 80, 5000), JOB)


@pytest.fixture(scope="module")
def done(folder: Path, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> JobRun:
    return run_job(open_job(folder, settings, output=tmp_path_factory.mktemp("out")))


def ids_of(path: Path) -> list[str]:
    """The ids of a file, whose one column must be ``Id``."""
    with path.open(newline="") as handle:
        header, *rows = csv.reader(handle)
    assert header == ["Id"]
    return [row[0] for row in rows]


def test_a_file_has_every_endpoint_of_its_users_and_no_other(done: JobRun, folder: Path) -> None:
    """Guards against a user who gets one endpoint of two, and one without any who is not counted."""
    import duckdb

    scores = duckdb.read_parquet(str(done.output / "train" / "scores.parquet"))
    for number, file in enumerate(done.export.files):
        users = duckdb.sql(
            f"select user_id from scores where segment = {number} and rank <= 60 order by rank"
        ).fetchall()
        expected = [
            f"e{user}-{n}"
            for (user,) in users
            if int(user) % 10
            for n in range(2 if int(user) % 5 == 0 else 1)
        ]
        assert ids_of(done.output / file.file) == expected
        without = sum(int(user) % 10 == 0 for (user,) in users)
        assert (file.users, file.without_endpoint) == (60, without) and without > 0
        assert file.endpoints == len(expected)
        manifest = json.loads((done.output / file.manifest).read_text())
        assert manifest["sha256"] == sha256(done.output / file.file)
        assert manifest["report"]["expression"] == file.expression
        assert {one["file"] for one in manifest["files"]} == {
            *("interactions.csv", "items.csv", "users.csv", "endpoints.csv"),
        }
        assert "@" not in json.dumps(manifest)
    assert done.export.files[0].file.startswith("ITEMSgenresAction_2")
    assert scores.filter("score < 0 or score > 1").fetchall() == []


def test_two_files_never_share_a_name(
    done: JobRun, folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a second run in one moment that writes over the first, and files left half."""
    from datetime import UTC, datetime

    class Still(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Still":
            return cls(2024, 5, 1, 8, tzinfo=UTC)

    monkeypatch.setattr(export, "datetime", Still)
    segments = read_job(folder / "job_config.json")
    made = [export.export_segments(folder, segments, done.output, settings) for _ in range(3)]
    names = [file.file for one in made for file in one.files]
    assert len(set(names)) == 6 and all((done.output / name).exists() for name in names)
    assert names[0] == "ITEMSgenresAction_20240501T080000000000.csv"
    assert names[2] == "ITEMSgenresAction_20240501T080000000000-2.csv"
    assert not [path for path in done.output.rglob("*") if path.name.endswith(".tmp")]


def test_a_least_score_cuts_and_steps_need_each_other(
    done: JobRun, folder: Path, settings: Settings, tmp_path: Path
) -> None:
    """Guards against a cut that is ignored, and segments that are cut from another job's scores."""
    path = folder / "job_config.json"
    least = done.cuts[0].least_score
    assert least is not None
    (first, _) = read_job(path, top=400, min_score=least)
    both = (first, read_job(path)[1])
    cut = cut_segments(both, done.output, settings)
    assert cut[0].users == 60 and cut[0].users + cut[0].under_score == cut[0].scored == 382
    cut_segments(read_job(path), done.output, settings)
    with pytest.raises(UserError, match="is missing or unreadable; train first"):
        cut_segments(both, tmp_path, settings)
    with pytest.raises(UserError, match="is of other expressions"):
        cut_segments(both[:1], done.output, settings)


def test_steps_one_by_one_make_what_a_run_makes(done: JobRun, folder: Path, tmp_path: Path) -> None:
    """Steps that differ from the chain, a cut of an earlier training, numbers that are forgotten."""
    output = tmp_path / "out"

    def step(name: str, *options: str) -> Any:
        arguments = ["affinity", name, str(folder), "--output", str(output), "--json", *options]
        ran = CliRunner().invoke(app, arguments)
        if isinstance(ran.exception, UserError):
            return str(ran.exception)
        assert ran.exit_code == 0, ran.output
        return json.loads(ran.stdout)

    assert "train first" in step("segment")
    trained = step("train")
    assert trained["users"] == done.training.users
    assert "cut the segments first" in step("export")
    assert [one["users"] for one in step("segment", "--top", "7")["cuts"]] == [7, 7]
    few = step("export")["export"]["files"]
    assert [one["users"] for one in few] == [7, 7]
    assert json.loads((output / few[0]["manifest"]).read_text())["num_results"] == 7
    step("train")
    assert "cut from an earlier training" in step("export")
    step("segment")
    made = step("export")["export"]["files"]
    for mine, theirs in zip(made, done.export.files, strict=True):
        assert ids_of(output / mine["file"]) == ids_of(done.output / theirs.file)


def test_an_announcement_reaches_a_real_server_once(
    folder: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a lost announcement, one that is taken twice, and addresses inside it."""
    monkeypatch.setattr(announcing, "FIRST_WAIT", 0.01)
    with receiving() as receiver:
        receiver.answer = lambda number, _page: (503, "busy") if number < 3 else (200, {})
        done = run_job(open_job(folder, settings, output=tmp_path / "out"), receiver.url)
        assert done.failure == "" and done.announced == f"http://127.0.0.1:{receiver.port}/…"
        assert len(receiver.requests) == 3 and len({key for key, _ in receiver.requests}) == 1
        (body,) = receiver.pages.values()
        assert body["event"] == "affinity_segments_exported" and body["job"] == folder.name
        assert [one["file"] for one in body["segments"]] == [f.file for f in done.export.files]
        assert body["segments"][0]["endpoints"] == done.export.files[0].endpoints
        assert "@" not in json.dumps(body)
        receiver.answer = lambda *_: (400, "no")
        refused = run_job(open_job(folder, settings, output=tmp_path / "out"), receiver.url)
        assert "refuses the announcement with 400; the files are written" in refused.failure
        assert "secret-path" not in refused.failure and refused.announced == ""
    gone = run_job(open_job(folder, settings, output=tmp_path / "out"), receiver.url)
    assert "did not take the announcement in 4 attempts" in gone.failure
    with pytest.raises(UserError, match="is no URL that begins with http"):
        run_job(open_job(folder, settings, output=tmp_path / "none"), "ftp://x")
    assert not (tmp_path / "none").exists()


def test_the_vendors_example_runs_as_one_command(tmp_path: Path) -> None:
    """Guards against a demo that needs more than its four files, and praise for learned noise."""
    if not BINGEWATCH.exists():
        pytest.skip("the vendor's example files are not on this machine")
    arguments = ["affinity", "run", str(BINGEWATCH), "--output", str(tmp_path / "out")]
    ran = CliRunner().invoke(app, [*arguments, "--json"])
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    (report,) = found["training"]["reports"]
    assert report["shipped"] != "model" and "not enough to learn" in report["sentence"]
    assert [file["taken"] for file in found["training"]["files"]] == [1500, 100, 100]
    (written,) = found["export"]["files"]
    ids = ids_of(tmp_path / "out" / written["file"])
    assert len(ids) == len(set(ids)) == written["endpoints"] > 40
    with (tmp_path / "out" / "endpoints_with_ids.csv").open(newline="") as handle:
        users = {row["Id"]: row["User.UserId"] for row in csv.DictReader(handle)}
    assert set(ids) <= users.keys() and len({users[one] for one in ids}) == len(ids)
    assert (tmp_path / "out" / "endpoints_with_ids.csv").stat().st_mode & 0o077 == 0
    shown = CliRunner().invoke(app, arguments)
    assert "recent share" in shown.stdout and "not enough to learn" in shown.stdout
    assert "@" not in shown.stdout + ran.stdout
    checked = CliRunner().invoke(app, ["affinity", "check", str(BINGEWATCH), "--json"])
    assert json.loads(checked.stdout)["segments"][0]["items"] == 12


def test_a_mistake_is_a_sentence_of_the_command(folder: Path, tmp_path: Path) -> None:
    """Guards against a traceback for a file that is not there, and an export without endpoints."""
    shutil.copytree(folder, tmp_path / "job")
    (tmp_path / "job" / "endpoints.csv").unlink()
    output = tmp_path / "out"
    ran = CliRunner().invoke(
        app, ["affinity", "run", str(tmp_path / "job"), "--output", str(output)]
    )
    assert isinstance(ran.exception, UserError)
    assert "endpoints.csv: cannot be read: No such file" in str(ran.exception)
    assert not output.exists()
