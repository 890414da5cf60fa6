"""Recommendations under load: a service that is killed, started again, swapped, and asked to end."""

import http.client
import json
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import duckdb
from support.ring_of_items import DAY, USERS, make_ring
from support.service_process import Load, ServiceProcess

from usergrowth_dagster.control.service_tokens import add_token
from usergrowth_dagster.data.row_log import logged_files
from usergrowth_dagster.project import Project
from usergrowth_dagster.recommend.answer_log import log_folders
from usergrowth_dagster.recommend.nightly import recommend_day
from usergrowth_dagster.recommend.saved import Saved, load_saved, save

COUNT = 5


class Shown(NamedTuple):
    """What the service answered."""

    status: int
    version: str
    items: tuple[str, ...]
    request_id: str
    fallback: bool


def user_of(number: int) -> str:
    """Whom a request is about."""
    return f"u{number % USERS}"


def right(saved: Saved, user: str) -> tuple[str, ...]:
    """The items that a user should see."""
    return tuple(one.item_id for one in saved.recommender.recommend(user, COUNT))


def test_a_killed_service_recommends_again_and_logs_nothing_twice(tmp_path: Path) -> None:
    """Guards against another date's or user's items after a restart, requests that a swap cuts off,
    answers that are lost at an end, and rows that a kill leaves torn or twice."""
    home = make_ring(tmp_path / "home", days=(DAY,))
    project = Project.open(home)
    token = add_token(project.store, "recommend", "test", "test")
    old = load_saved(home / "recommend" / f"{DAY}.npz")
    other = replaced(project, old)

    def ask(connection: http.client.HTTPConnection, number: int) -> Shown:
        body = json.dumps({"user_id": user_of(number), "n": COUNT})
        connection.request("POST", "/v1/recommend", body, {"Authorization": token})
        answer = connection.getresponse()
        said = json.loads(answer.read())
        if answer.status != 200:
            return Shown(answer.status, "", (), "", fallback=False)
        items = tuple(item["item_id"] for item in said["items"])
        return Shown(200, said["model_version"], items, said["request_id"], said["fallback"])

    options = ("--service", "recommend", "--budget-ms", "60000", "--every", "0.2")
    service = ServiceProcess(home, "/v2/health/ready", "serve-models", *options)
    with service.running():
        with Load(service.port, ask) as load:
            load.more(100)
            service.kill(lambda: save(home, other))
            load.more(100)
            save(home, old)
            load.until(lambda: load.answers[-1].answer.version == old.version)
            load.more(50)
        service.ask_to_end()
        assert service.exit_code() == 0, service.text()
    assert not load.wrong and load.broken and not load.failed_while_up(service.gone)
    lists = {
        saved.version: {f"u{n}": right(saved, f"u{n}") for n in range(USERS)}
        for saved in (old, other)
    }
    assert lists[old.version] != lists[other.version]
    ((killed, ready),) = service.gone
    answers = [one for one in load.answers if one.answer.status == 200]
    for one in load.answers:
        if one.answer.status != 200:  # it listens before the recommendations are loaded
            assert one.answer.status == 503 and killed < one.began < ready, one
    for one in answers:
        assert one.answer.items == lists[one.answer.version][user_of(one.number)], one
        assert not one.answer.fallback, one
        assert one.answer.version == old.version or one.began > killed, one
    assert {one.answer.version for one in answers} == {old.version, other.version}
    assert "Traceback" not in service.text() and token not in service.text()

    logged = logged_items(project)
    shown = {one.answer.request_id: one.answer.items for one in answers}
    assert len(shown) == len(answers)
    assert all(logged[one] == shown[one] for one in logged.keys() & shown.keys())
    since = {one.answer.request_id for one in answers if one.began > ready}
    assert len(since) > 100 and since <= logged.keys()
    project.store.close()


def replaced(project: Project, saved: Saved) -> Saved:
    """Other recommendations of the same date: made from what was known a day earlier."""
    day = DAY - timedelta(days=1)
    recommend_day(project, day)
    path = project.settings.home / "recommend" / f"{day}.npz"
    before = load_saved(path)
    path.unlink()
    return type(saved)(saved.day, "anew", saved.trial, before.recommender)


def logged_items(project: Project) -> dict[str, tuple[str, ...]]:
    """The items of each answer in the log; fails where a place of one is there twice."""
    days = logged_files(log_folders(project)[0])
    files = [str(file) for files in days.values() for file in files]
    rows = duckdb.sql(
        "select request_id, list(item_id order by place), count(distinct place) = count(*) "
        f"from read_parquet({files}) group by all"
    ).fetchall()
    assert all(once for *_, once in rows)
    return {request: tuple(items) for request, items, _ in rows}
