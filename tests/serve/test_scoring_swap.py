"""The scoring service while versions change."""

import http.client
import json
import threading
from collections.abc import Iterator

import pytest
from chain_world import World, copy_home
from support.patience import until
from support.scoring_service import Service, add_shifted, running

from usergrowth_dagster.learning.artifacts import load
from usergrowth_dagster.learning.store import ModelRef
from usergrowth_dagster.serve.scoring.row_scores import RowScorer
from usergrowth_dagster.training.reviews import review_version, roll_back
from usergrowth_dagster.training.served import champion

ROW = {"recency_days": 5, "user_type": None}


@pytest.fixture(scope="module")
def service(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = copy_home(world.decided, tmp_path_factory.mktemp("swap") / "home")
    with running(home, names=("churn",), pace=0, shadow=1.0) as started:
        yield started


def now(service: Service) -> ModelRef:
    """The champion of churn."""
    ref = champion(service.project, "churn")
    assert ref is not None
    return ref


def score_of(ref: ModelRef) -> float:
    """What a version says of the row."""
    scorer = RowScorer(load(ref))
    return float(scorer.score(scorer.reader.read([ROW], extra=True, partial=True))[0])


class Callers:
    """Threads that ask without a pause, each on a connection of its own."""

    def __init__(self, service: Service, threads: int = 3) -> None:
        self.answers: list[tuple[int, str | None, float | None]] = []
        self._service, self._ended = service, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._service.port, timeout=60)
        sent = {"Authorization": self._service.tokens["churn"], "Content-Type": "application/json"}
        while not self._ended.is_set():
            connection.request("POST", "/api/predict/churn?extra=ignore", json.dumps([ROW]), sent)
            answer = connection.getresponse()
            body, version = json.loads(answer.read()), answer.headers["x-model-version"]
            score = body[0]["p_1"] if answer.status == 200 else None
            self.answers.append((answer.status, version, score))

    def wait_for(self, version: str) -> None:
        """Until a version has answered."""
        until(
            lambda: any(answer[1] == version for answer in self.answers[-20:]),
            lambda: f"version {version}; {self.answers[-3:]}",
        )


def test_a_version_takes_anothers_place_without_a_failed_request(service: Service) -> None:
    """Guards against a swap that drops requests, or answers with one version's name and another's score."""
    old = now(service)
    with Callers(service) as callers:
        callers.wait_for("1")
        new = add_shifted(service.project, old, 0.7)
        service.watch.look()
        callers.wait_for("2")
        roll_back(service.project, "churn", 2, actor="test", why="to see it")
        service.watch.look()
        callers.wait_for("1")
    assert {status for status, _, _ in callers.answers} == {200}
    right = {"1": score_of(old), "2": score_of(new)}
    assert abs(right["1"] - right["2"]) > 0.01
    wrong = [a for a in callers.answers if abs((a[2] or 0) - right[str(a[1])]) > 1e-9]
    assert not wrong and {version for _, version, _ in callers.answers} == {"1", "2"}
    assert service.figure("usergrowth_scoring_model_version", service="churn", part="champion") == 1


def test_a_challenger_answers_in_the_shadow_alone(service: Service) -> None:
    """Guards against a version that waits for review and reaches a caller, or is never compared."""
    old = now(service)
    new = add_shifted(service.project, old, 0.4, status="waiting_review")
    service.watch.look()
    status, answer, headers = service.call("/api/predict/churn?extra=ignore", [ROW] * 3)
    assert status == 200 and headers["x-model-version"] == str(old.version)
    assert abs(answer[0]["p_1"] - score_of(old)) < 1e-9
    name = "usergrowth_scoring_shadow_difference"
    until(lambda: service.figure(f"{name}_count", service="churn") >= 3, every=0.05)
    assert service.figure(f"{name}_count", service="churn") == 3
    apart = abs(score_of(new) - score_of(old))
    assert service.figure(f"{name}_sum", service="churn") == pytest.approx(3 * apart)


def test_a_version_whose_files_were_altered_does_not_answer(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Guards against a swap to files that nobody approved, and an old version that is approved no more."""
    old = now(service)
    monkeypatch.setattr("support.scoring_service.folder_digest", lambda _folder: "0" * 64)
    new = add_shifted(service.project, old, 0.9)
    assert now(service).version == new.version
    service.watch.look()
    assert "its files are not those that were registered" in caplog.text
    _, _, headers = service.call("/api/predict/churn?extra=ignore", [ROW])
    assert headers["x-model-version"] == str(old.version)
    reject = {"approve": False, "actor": "test", "why": "to see it"}
    review_version(service.project, "churn", old.version, **reject)
    service.watch.look()
    status, answer, _ = service.call("/api/predict/churn?extra=ignore", [ROW])
    assert status == 503 and answer["message"] == "no version of churn is loaded"
