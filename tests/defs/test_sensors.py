"""From an uploaded folder to batches without a hand; runs that follow runs; runs that fail."""

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from chain_world import (
    D,
    World,
    approve,
    cli,
    copy_home,
    day,
    ledger,
    outbox,
    output,
    rows,
    succeeded,
    write_campaign,
    write_people,
)

from usergrowth_dagster.defs.build import build_definitions
from usergrowth_dagster.defs.jobs import DAILY
from usergrowth_dagster.defs.resources import ProjectResource
from usergrowth_dagster.homes.home import open_home
from usergrowth_dagster.runs.execute import execute


class Ticks:
    """The upload sensor of a home, ticking by hand."""

    def __init__(self, home: Path, cursor: str | None = None) -> None:
        definitions = build_definitions(str(home))
        self.sensor = definitions.get_repository_def().get_sensor_def("population_uploads")
        self.repository = definitions.get_repository_def()
        self.project = ProjectResource(home=str(home))
        self.cursor = cursor
        self.skipped = ""

    def tick(self) -> list[dg.RunRequest]:
        """One tick; the requests for runs."""
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(
                instance=instance,
                cursor=self.cursor,
                repository_def=self.repository,
                resources={"project": self.project},
            )
            result = self.sensor.evaluate_tick(context)
        self.cursor = result.cursor
        self.skipped = result.skip_message or ""
        return list(result.run_requests or [])


@pytest.fixture
def home(world: World, tmp_path: Path, here: None) -> Path:
    """A home where the world's own uploads have been handled."""
    home = copy_home(world.decided, tmp_path / "home")
    shutil.rmtree(home / "landing" / "population" / "comeback")
    return home


def test_from_upload_to_batches(home: Path) -> None:
    """A new folder is not seen, is seen half-written, or leads to the wrong date or twice."""
    path = write_campaign(
        home,
        "new",
        population="population/new-*",
        execution_date="on upload",
        contact="{cap_messages: 99}",  # the same people get several texts on this day
    )
    succeeded(cli(home, "apply", "-f", str(path)))
    approve(home, "new")
    ticks = Ticks(home)
    ticks.tick(), ticks.tick()  # the world's own upload
    folder = write_people(home, "new-one", done=False)
    assert ticks.tick() == []  # may still be written
    people = folder / "population.csv"
    people.write_text(people.read_text().replace("u00000005,", "u00000006,"), encoding="utf-8")
    assert ticks.tick() == []  # it was
    requests = ticks.tick()
    assert [request.partition_key for request in requests] == [str(D)]
    assert requests[0].tags["usergrowth/uploads"] == "new-one"
    assert ticks.tick() == []
    marked = write_people(home, "new-two")
    requests = ticks.tick()
    assert len(requests) == 1 and str(requests[0].run_key).startswith("new-two:")
    assert requests[0].job_name in (None, "decide") and marked.exists()

    open_home(home)
    sent = len(outbox(home))
    report = execute("decide", partition=requests[0].partition_key, tags=requests[0].tags)
    assert report.failures == []
    for task in ("new-one", "new-two"):
        decided = rows(home, "decisions", f"task_id = '{task}'", "outcome")
        assert len(decided) == 60
        selected = sum(row[0] == "selected" for row in decided)
        assert selected == len(output(home, task).splitlines()) > 0
        assert len([row for row in ledger(home) if row[0] == task]) == selected
        sent += selected
    assert len(outbox(home)) == sent
    assert ticks.tick() == []


def test_uploads_nobody_wants_and_bad_ones(home: Path) -> None:
    """One bad folder stops all others, or an early upload is forgotten for ever."""
    ticks = Ticks(home)
    ticks.tick(), ticks.tick()
    write_people(home, "orphan")
    write_people(home, "bad name!")
    write_people(home, "wide")
    (home / "landing" / "population" / "stray.csv").write_text("x", encoding="utf-8")
    (home / "landing" / "population" / "hollow").mkdir()
    one = write_campaign(home, "wide", execution_date="on upload")
    two = write_campaign(home, "wide2", population="population/wide*", execution_date="on upload")
    files = ("-f", str(one), "-f", str(two))
    succeeded(cli(home, "apply", *files))
    write_people(home, "zebra")
    three = write_campaign(home, "zebra", execution_date="on upload")
    succeeded(cli(home, "apply", "-f", str(three)))
    requests = ticks.tick()
    assert [request.tags["usergrowth/uploads"] for request in requests] == ["zebra"]
    assert ticks.tick() == []
    for words in (
        "population/orphan: no campaign has this population",
        "bad name!",
        "wide, wide2 all have this population",
    ):
        assert words in ticks.skipped, (words, ticks.skipped)
    late = write_campaign(home, "orphan", execution_date=str(day(1)))
    succeeded(cli(home, "apply", "-f", str(late)))
    requests = ticks.tick()
    assert [(r.partition_key, r.tags["usergrowth/uploads"]) for r in requests] == [
        (str(day(1)), "orphan")
    ]
    assert ticks.tick() == []


def test_changed_uploads_and_the_cursor(home: Path) -> None:
    """A changed upload is never decided, an old one again and again, or a cursor breaks it all."""
    ticks = Ticks(home)
    ticks.tick(), ticks.tick()
    write_people(home, "spring")
    succeeded(cli(home, "apply", "-f", str(write_campaign(home, "spring"))))
    first = ticks.tick()
    assert len(first) == 1 and ticks.tick() == []
    lines = (home / "landing/population/spring/population.csv").read_text().splitlines()
    write_people(home, "spring", lines[:31])
    second = ticks.tick()
    assert len(second) == 1 and second[0].run_key != first[0].run_key
    # a lost or broken cursor asks again under the same key, so that nothing runs twice
    for cursor in (None, "", "{", "null", "[]", '{"handled": 3, "seen": null}', "\x00"):
        again = Ticks(home, cursor)
        keys = [str(request.run_key) for request in again.tick()]
        assert any(str(second[0].run_key) in key for key in keys), (cursor, keys)
        assert json.loads(again.cursor or "")["handled"]
    shutil.rmtree(home / "landing" / "population" / "spring")
    assert ticks.tick() == []
    write_people(home, "spring", lines[:41])
    assert len(ticks.tick()) == 1


def test_a_broken_upload_beside_a_good_one(home: Path) -> None:
    """The run that the sensor asks for fails for all when one upload breaks the contract."""
    write_people(home, "good")
    write_people(home, "broken", ["user_id,item_id,phone", "u1"])
    for name in ("good", "broken"):
        succeeded(cli(home, "apply", "-f", str(write_campaign(home, name))))
    approve(home, "good", "broken")
    requests = Ticks(home).tick()
    assert [request.partition_key for request in requests] == [str(D)]
    assert set(requests[0].tags["usergrowth/uploads"].split(",")) == {"good", "broken"}
    open_home(home)
    report = execute("decide", partition=str(D))
    assert len(report.failures) == 1 and "task broken: population/broken" in report.failures[0]
    assert output(home, "good")


def run_of(instance: dg.DagsterInstance, job: str, **tags: str) -> dg.DagsterRun:
    """A real record of a run of a job."""
    return instance.create_run_for_job(  # type: ignore[no-any-return]
        build_definitions().resolve_job_def(job), tags=tags
    )


def test_decide_follows_the_mornings_ingest(home: Path) -> None:
    """The date is decided after any ingest, or not after the morning's."""
    open_home(home)
    repository = build_definitions(str(home)).get_repository_def()
    sensor = repository.get_sensor_def("decide_after_ingest")
    with dg.DagsterInstance.ephemeral() as instance:
        for tags, wanted in (({DAILY: str(D)}, [str(D)]), ({}, [])):
            run = run_of(instance, "ingest", **tags)
            context = dg.build_run_status_sensor_context(
                sensor_name="decide_after_ingest",
                dagster_instance=instance,
                dagster_run=run,
                dagster_event=instance.report_engine_event("done", run),
            )
            request = sensor(context)
            if wanted:
                assert isinstance(request, dg.RunRequest)
                assert (request.partition_key, request.job_name) == (str(D), "decide")
                assert request.run_key == f"decide:{D}"
            else:
                assert isinstance(request, dg.SkipReason)


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[Any]]]:
    """A real HTTP server, and the JSON bodies that it was sent."""
    bodies: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            bodies.append(json.loads(self.rfile.read(length)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return None

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", bodies
    server.shutdown()
    server.server_close()


def test_failures_reach_the_webhook(
    world: World,
    tmp_path: Path,
    here: None,
    webhook: tuple[str, list[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A failed night that nobody hears of, or a message without the reason."""
    from usergrowth_dagster.errors import UserError

    url, bodies = webhook
    home = tmp_path / "home"
    succeeded(cli(home, "init", "--home", str(home), "--start-date", "2017-04-01"))
    broken = home / "landing/user/ds=20170503/x.csv"
    broken.parent.mkdir(parents=True)
    broken.write_text("wrong\n", encoding="utf-8")
    monkeypatch.setenv("USERGROWTH_FAILURE_WEBHOOK", url)
    open_home(home)
    with pytest.raises(UserError, match=r"user/ds=20170503/x\.csv"):
        execute("ingest", partition=str(day(1)))
    sensor = build_definitions(str(home)).get_repository_def().get_sensor_def("tell_of_failures")
    with dg.DagsterInstance.get() as instance:
        run = instance.get_runs()[0]
        failure = next(
            record.event_log_entry.dagster_event
            for record in instance.get_records_for_run(run.run_id).records
            if record.event_log_entry.dagster_event
            and record.event_log_entry.dagster_event.is_failure
            and not record.event_log_entry.dagster_event.is_step_event
        )
        context = dg.build_run_status_sensor_context(
            "tell_of_failures", failure, instance, run
        ).for_run_failure()
        assert sensor(context) is None
        monkeypatch.delenv("USERGROWTH_FAILURE_WEBHOOK")
        assert isinstance(sensor(context), dg.SkipReason)
    assert len(bodies) == 1
    assert (bodies[0]["event"], bodies[0]["job"]) == ("run_failed", "ingest")
    assert bodies[0]["partition"] == str(day(1)) and bodies[0]["run_id"] == run.run_id
    assert "user/ds=20170503/x.csv" in bodies[0]["steps"]["raw_user"]
