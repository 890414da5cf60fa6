"""Recommendations over HTTP: doors, swaps, fallbacks, and the log that the report reads."""

import json
import shutil
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from support.patience import until
from support.ring_of_items import DAY, USERS, make_ring
from support.scoring_service import Service, running
from typer.testing import CliRunner

from usergrowth_dagster.cli import app
from usergrowth_dagster.data.row_log import logged_files
from usergrowth_dagster.people.forget import forget
from usergrowth_dagster.project import Project
from usergrowth_dagster.recommend.answer_log import log_folders
from usergrowth_dagster.recommend.clicks import rate_of
from usergrowth_dagster.recommend.nightly import recommend_day
from usergrowth_dagster.recommend.saved import load_saved, newest_saved, save

TRIAL = "trial: {name: t1, order: fused, percent: 40}\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose clock stands on the date, with recommendations and a trial."""
    return make_ring(tmp_path_factory.mktemp("service") / "home", TRIAL, days=(DAY,))


@pytest.fixture(scope="module")
def service(home: Path) -> Iterator[Service]:
    with running(home, names=("recommend",), pace=0, deadline=60.0) as started:
        yield started


def ask(service: Service, **wanted: Any) -> dict[str, Any]:
    """The answer of the product's own door."""
    status, answer, headers = service.call("/v1/recommend", wanted, "recommend")
    assert status == 200, answer
    assert headers["x-model-name"] == "recommend"
    assert (headers["x-model-version"], headers["x-feature-date"]) == (
        answer["model_version"],
        f"{answer['model_version'][:4]}-{answer['model_version'][4:6]}-{answer['model_version'][6:8]}",
    )
    return dict(answer)


def ids(answer: dict[str, Any]) -> list[str]:
    """The items of an answer."""
    return [item["item_id"] for item in answer["items"]]


def test_the_door_answers_as_the_saved_recommender(service: Service, home: Path) -> None:
    """Guards against another user's list, a bucket that changes, and items that may not be shown."""
    saved = load_saved(home / "recommend" / f"{DAY}.npz")
    made, buckets = saved.recommender, {}
    for number in range(40):
        user = f"u{number}"
        answer = ask(service, user_id=user, n=5, scene="home", explain=True)
        buckets[user] = answer["exp_bucket"]
        right = made.recommend(user, 5, order="fused" if answer["exp_bucket"] == "trial" else None)
        assert ids(answer) == [item.item_id for item in right] and not answer["fallback"]
        assert [one["recall"] for one in answer["items"]] == [list(one.routes) for one in right]
        assert answer["items"][0]["places"] == dict(right[0].places)
    assert {*buckets.values()} == {"main", "trial"}
    assert ask(service, user_id="u3")["exp_bucket"] == buckets["u3"]
    first = ids(ask(service, user_id="u3", n=3))
    without = ask(service, user_id="u3", n=3, exclude=first[:1])
    assert first[0] not in ids(without) and len(without["items"]) == 3
    stranger = ask(service, n=4)
    assert stranger["exp_bucket"] == "" and ids(stranger) == [
        item.item_id for item in made.recommend("", 4)
    ]
    # a session alone: what follows the item that a stranger has just taken
    since = ask(service, user_id="new", n=3, context={"recent": ["i10"]})
    assert "i11" in ids(since) and "i10" not in ids(since)


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"user_id": 3}, "user_id: Input should be a valid string"),
        ({"n": 0}, "n: Input should be greater than or equal to 1"),
        ({"user": "u1"}, "user: Extra inputs are not permitted"),
        ({"context": {"mood": 1}}, "context.mood: Extra inputs are not permitted"),
        ({"scene": "a b"}, "scene: String should match pattern"),
        ([], "the body: Input should be a valid dictionary"),
    ],
)
def test_a_wrong_request_is_a_sentence(service: Service, wanted: Any, sentence: str) -> None:
    """Guards against a traceback, and a key that is passed over in silence."""
    status, answer, _ = service.call("/v1/recommend", wanted, "recommend")
    assert status == 400 and sentence in answer["error"]["message"]
    assert service.call("/v1/recommend", {}, "wrong")[0] == 401
    assert service.call("/v1/recommend", {}, None)[0] == 401


def client(service: Service, name: str, key: str) -> Any:
    """Amazon's own client, pointed at the service."""
    return boto3.client(
        name,
        region_name="eu-central-1",
        endpoint_url=f"http://127.0.0.1:{service.port}",
        aws_access_key_id=key,
        aws_secret_access_key="-",
        config=Config(retries={"max_attempts": 0}),
    )


ARN = "arn:aws:personalize:eu-central-1:000000000000:campaign/any"


def test_amazons_own_clients_are_answered(service: Service, home: Path) -> None:
    """Guards against a shape that the SDK cannot read, and a filter that is passed over."""
    runtime = client(service, "personalize-runtime", service.tokens["recommend"])
    own = ids(ask(service, user_id="u5", n=6))
    answer = runtime.get_recommendations(campaignArn=ARN, userId="u5", numResults=6)
    assert [one["itemId"] for one in answer["itemList"]] == own
    scores = [one["score"] for one in answer["itemList"]]
    assert scores == sorted(scores)[::-1]
    near = runtime.get_recommendations(campaignArn=ARN, itemId="i10", numResults=3)
    assert "i11" in [one["itemId"] for one in near["itemList"]]
    given = [own[4], "unknown", own[0], own[2], own[0]]
    ranked = runtime.get_personalized_ranking(campaignArn=ARN, userId="u5", inputList=given)
    listed = [one["itemId"] for one in ranked["personalizedRanking"]]
    assert listed[:3] == [own[0], own[2], own[4]] and listed[3:] == ["unknown"]
    assert "score" not in ranked["personalizedRanking"][3]
    with pytest.raises(runtime.exceptions.InvalidInputException, match="no filters"):
        runtime.get_recommendations(campaignArn=ARN, userId="u5", filterArn=ARN)
    with pytest.raises(runtime.exceptions.InvalidInputException, match="must be named"):
        runtime.get_recommendations(campaignArn=ARN)
    with pytest.raises(ClientError, match="UnrecognizedClientException"):
        client(service, "personalize-runtime", "wrong").get_recommendations(campaignArn=ARN)
    events = client(service, "personalize-events", service.tokens["recommend"])
    listed_events = [
        {
            "eventType": "click",
            "sentAt": 1.0,
            "itemId": own[0],
            "recommendationId": answer["recommendationId"],
        },
        {"eventType": "search", "sentAt": 2.0},
    ]
    events.put_events(trackingId="t", sessionId="s", userId="u5", eventList=listed_events)
    service.app.recommending.log.write()  # type: ignore[union-attr]
    rows = _rows(home, 1, "request_id, item_id, event")
    assert (answer["recommendationId"], own[0], "click") in rows


def _rows(home: Path, which: int, columns: str) -> list[tuple[Any, ...]]:
    """Rows of the log of answers (0) or clicks (1)."""
    import duckdb

    project = Project.open(home)
    files = [str(f) for day in logged_files(log_folders(project)[which]).values() for f in day]
    return duckdb.connect().execute(f"select {columns} from read_parquet({files})").fetchall()


def test_the_report_counts_clicks_by_bucket_and_route(service: Service, home: Path) -> None:
    """Guards against a click that counts twice or elsewhere, and an id of a user in the log."""
    shown, clicked = 0, {"main": 0, "trial": 0}
    for number in range(60):
        answer = ask(service, user_id=f"u{number}", n=4, scene="report")
        shown += len(answer["items"])
        if number % 3 == 0:
            click = {"request_id": answer["request_id"], "item_id": ids(answer)[0], "event": "take"}
            for _ in range(2):  # a second time is no second click
                assert service.call("/v1/recommend/clicks", click, "recommend")[0] == 200
            stranger = {**click, "item_id": "i99"}  # was not shown
            service.call("/v1/recommend/clicks", stranger, "recommend")
            service.call("/v1/recommend/clicks", {**click, "event": "view"}, "recommend")
            clicked[answer["exp_bucket"]] += 1
    service.app.recommending.log.write()  # type: ignore[union-attr]
    done = json.loads(_report(home))
    rates = {(one["by"], one["name"]): one for one in done["rates"]}
    scene = rates["scene", "report"]
    assert (scene["people"], scene["shown"], scene["clicked"]) == (60, shown, 20)
    assert scene["rate"]["low"] < 20 / shown < scene["rate"]["high"]
    assert {name: rates["bucket", name]["clicked"] for name in clicked} == clicked
    assert {("route", "i2i"), ("route", "next"), ("route", "popular")} <= rates.keys()
    assert done["difference"]["low"] < done["difference"]["value"] < done["difference"]["high"]
    persons = {row[0] for row in _rows(home, 0, "person")}
    assert len(persons) > 50 and not persons & {f"u{n}" for n in range(USERS)}
    text = b"".join(path.read_bytes() for path in (home / "recommend" / "log").rglob("*.parquet"))
    assert b"u59" not in text


def _report(home: Path) -> str:
    days = ["--from", str(DAY), "--to", str(DAY + timedelta(days=1))]
    options = [*days, "--event", "take", "--home", str(home), "--json"]
    done = CliRunner().invoke(app, ["recommend", "report", *options])
    assert done.exit_code == 0, done.output
    return str(done.output)


def test_intervals_cover_the_rate_where_users_differ() -> None:
    """Guards against an interval of items that count as independent, which is far too narrow."""
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(300):
        shown = random.integers(1, 30, size=80)
        own = random.beta(0.4, 3.6, size=80)
        figure = rate_of(shown, random.binomial(shown, own))
        assert figure.low is not None and figure.high is not None
        covered += figure.low <= 0.1 <= figure.high
    assert covered / 300 > 0.89
    assert rate_of(np.array([9]), np.array([3])).low is None
    none = rate_of(np.full(50, 4), np.zeros(50))
    assert none.low == 0 and none.high is not None and 0.02 < none.high < 0.2


def test_a_new_date_answers_without_a_failed_request(service: Service, home: Path) -> None:
    """Guards against a swap that drops requests, a date of the future, and a damaged file."""
    old = load_saved(home / "recommend" / f"{DAY}.npz")
    earlier = recommend_day(Project.open(home), DAY - timedelta(days=1))
    assert not earlier.unchanged
    answers, ended = [], threading.Event()

    def call() -> None:
        while not ended.is_set():
            status, answer, _ = service.call("/v1/recommend", {"user_id": "u1"}, "recommend")
            answers.append((status, answer.get("model_version")))

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    recommending = service.app.recommending
    assert recommending is not None
    files = home / "recommend"
    changed = old.__class__(old.day, "anew", old.trial, old.recommender)
    save(home, changed)
    service.watch.look()
    until(lambda: answers and answers[-1][1] == "20240301-anew")
    shutil.copy(files / f"{DAY}.npz", files / f"{DAY + timedelta(days=1)}.npz")  # waits for its day
    service.watch.look()
    (files / f"{DAY}.npz").write_bytes(b"PK damaged")
    service.watch.look()
    count = len(answers)
    until(lambda: len(answers) > count + 5)
    assert answers[-1][1] == "20240301-anew"
    save(home, old)
    service.watch.look()
    until(lambda: answers[-1][1] == old.version)
    ended.set()
    for thread in threads:
        thread.join()
    assert {status for status, _ in answers} == {200}
    assert {version for _, version in answers} == {old.version, "20240301-anew"}
    assert service.figure("usergrowth_scoring_model_version", service="recommend", part="champion")
    (files / f"{DAY + timedelta(days=1)}.npz").unlink()
    assert newest_saved(home, DAY) == files / f"{DAY}.npz"


def test_a_late_or_failed_order_falls_back(
    service: Service, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a caller who waits for a ranker, and a fallback with what the user has."""
    recommending = service.app.recommending
    assert recommending is not None
    made = recommending.held().saved.recommender
    taken = made.taken("u7")
    monkeypatch.setattr(recommending, "deadline", 0.0)
    late = ask(service, user_id="u7", n=8, exclude=["i20"])
    assert late["fallback"] and len(late["items"]) == 8
    assert not {*taken, "i20"} & {*ids(late)}
    right = made.recommend("", 8, exclude={*taken, "i20"})
    assert ids(late) == [one.item_id for one in right]
    assert service.figure("usergrowth_recommend_fallbacks_total", reason="late") >= 1
    monkeypatch.setattr(recommending, "deadline", 60.0)
    held = recommending.held()
    monkeypatch.setattr(type(held), "order", lambda _self, _bucket: "no such route")
    failed = ask(service, user_id="u7", n=5, explain=True)
    assert failed["fallback"] and failed["order"] == "fused"
    assert ids(failed) == [one.item_id for one in made.recommend("u7", 5, order="fused")]
    assert service.figure("usergrowth_recommend_fallbacks_total", reason="failed") == 1


def test_a_forgotten_user_is_in_no_file(service: Service, home: Path) -> None:
    """Guards against a saved history that still answers to the id of a user who was forgotten."""
    before = ids(ask(service, user_id="u11", n=5))
    report = forget(Project.open(home), "u11", actor="test")
    assert report.recommenders >= 1
    for path in (home / "recommend").glob("*.npz"):
        assert "u11" not in load_saved(path).recommender.user_ids
    service.watch.look()
    after = ids(ask(service, user_id="u11", n=5))
    assert after == ids(ask(service, n=5)) != before
    assert forget(Project.open(home), "u11", actor="test").recommenders == 0
