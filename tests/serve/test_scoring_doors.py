"""The doors of the scoring service: the same scores through each, and requests that are refused."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chain_world import D, World, copy_home
from support.scoring_service import Service, running

from usergrowth_dagster.control.service_tokens import add_token, read_tokens, revoke_token
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.scoring import score
from usergrowth_dagster.serve.scoring.callers import Pace
from usergrowth_dagster.training.served import champion
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.relation import bind_days


@pytest.fixture(scope="module")
def service(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = copy_home(world.decided, tmp_path_factory.mktemp("scoring") / "home")
    with running(home, names=("churn", "winback"), pace=0) as started:
        yield started


@pytest.fixture(scope="module")
def batch(service: Service) -> dict[str, Any]:
    """Users, their rows as a caller would send them, and their scores by the batch path."""
    project = service.project
    ref = champion(project, "churn")
    assert ref is not None
    types = load_graph().types("user_features")
    with open_engine(project.settings) as engine:
        features = bind_days(engine, project.warehouse, "user_features", [D], types)
        scored = score(engine, ref, str(features)).to_pydict()
        read = engine.connection.sql(f"select * from {features} order by user_id")
        names = read.columns
        rows = [dict(zip(names, values, strict=True)) for values in read.fetchall()]
    right = dict(zip(scored["user_id"], scored["score"], strict=True))
    users = [row["user_id"] for row in rows]
    sent = json.loads(json.dumps(rows, default=str))
    scores = [right[user] for user in users]
    assert len(users) > 100 and np.ptp(scores) > 0.3
    return {"users": users, "rows": sent, "scores": scores}


def close(scores: Any, right: Any) -> None:
    np.testing.assert_allclose(np.array(scores, dtype=float), right, rtol=0, atol=1e-9)


def flat(service: Service, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Flat features of rows, as a caller of MLflow or of V2 has them."""
    from usergrowth_dagster.learning.artifacts import load
    from usergrowth_dagster.serve.scoring.row_features import RowReader

    ref = champion(service.project, "churn")
    assert ref is not None
    return RowReader(load(ref).spec).read(rows).frame()


def test_our_own_doors_and_that_of_eas_give_the_scores_of_the_batch(
    service: Service, batch: dict[str, Any]
) -> None:
    """Guards against a person whose score depends on who asks, and an answer without its version."""
    status, answer, headers = service.call("/api/predict/churn", batch["rows"])
    assert status == 200, answer
    close([row["p_1"] for row in answer], batch["scores"])
    assert all(row["p_0"] == 1 - row["p_1"] for row in answer)
    assert all(row["prediction"] == int(row["p_1"] >= 0.5) for row in answer)
    assert (headers["x-model-name"], headers["x-model-version"]) == ("churn", "1")
    assert headers["x-feature-date"] == str(D)
    status, answer, headers = service.call(
        "/v1/score/churn", {"rows": batch["rows"]}, **{"X-Request-Id": "abc-1"}
    )
    close([row["score"] for row in answer["results"]], batch["scores"])
    assert answer["request_id"] == headers["x-request-id"] == "abc-1"
    users = [*batch["users"], "nobody"]
    status, answer, _ = service.call("/v1/score/churn", {"user_ids": users})
    close([row["score"] for row in answer["results"][:-1]], batch["scores"])
    assert answer["results"][-1] == {"user_id": "nobody", "score": None, "status": "unknown_user"}
    assert {row["status"] for row in answer["results"][:-1]} == {"ok"}
    assert (answer["model"], answer["version"], answer["as_of"]) == ("churn", 1, str(D))


def test_features_that_are_old_are_said_to_be(
    service: Service, batch: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a score from days ago that looks like one of today."""
    for days, status in ((1, "ok"), (2, "stale")):
        monkeypatch.setattr(service.app, "today", lambda days=days: D + timedelta(days=days))
        asked = {"user_ids": [batch["users"][0], "nobody"]}
        _, answer, headers = service.call("/v1/score/churn", asked)
        assert [row["status"] for row in answer["results"]] == [status, "unknown_user"]
        assert answer["as_of"] == headers["x-feature-date"] == str(D)
    monkeypatch.setattr(service.app, "today", lambda: D - timedelta(days=400))
    status, answer, headers = service.call("/v1/score/churn", asked)
    assert status == 503 and "no features" in answer["error"]["message"] and headers["retry-after"]


def test_a_service_is_asked_at_its_pace(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against one caller who takes all, and a refusal that does not say when to come again."""
    clock = [0.0]
    monkeypatch.setattr(service.app, "pace", Pace(2, clock=lambda: clock[0]))

    def ask() -> tuple[int, str | None]:
        status, _, headers = service.call("/api/predict/churn", [{"recency_days": 3}])
        return status, headers["retry-after"]

    assert [ask() for _ in range(3)] == [(200, None), (200, None), (429, "1")]
    assert service.call("/api/predict/churn", [{}], "wrong")[0] == 401  # and takes nobody's place
    clock[0] += 0.5
    assert [ask() for _ in range(2)] == [(200, None), (429, "1")]


def test_mlflows_own_client_gets_the_scores_of_the_batch(
    service: Service, batch: dict[str, Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a door that MLflow's client cannot use."""
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    token = service.tokens["churn"]
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login usergrowth password {token}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    client = ScoringServerClient("127.0.0.1", service.port)
    client.wait_server_ready()
    frame = flat(service, batch["rows"])
    predictions = client.invoke(frame).get_predictions()
    close(predictions[1], batch["scores"])
    records = json.loads(frame.head(5).to_json(orient="records"))
    for form in ("dataframe_records", "instances"):
        status, answer, _ = service.call("/invocations", {form: records})
        assert status == 200, answer
        close([pair[1] for pair in answer["predictions"]], batch["scores"][:5])
    columns = {name: [row[name] for row in records] for name in records[0]}
    _, answer, _ = service.call("/invocations", {"inputs": columns})
    close([pair[1] for pair in answer["predictions"]], batch["scores"][:5])


@pytest.mark.parametrize("binary", [False, True])
def test_tritons_client_gets_the_scores_of_the_batch(
    service: Service, batch: dict[str, Any], binary: bool
) -> None:
    """Guards against tensors that a client of the protocol cannot send, or reads otherwise."""
    import tritonclient.http as triton

    headers = {"Authorization": f"Bearer {service.tokens['churn']}"}
    client = triton.InferenceServerClient(f"127.0.0.1:{service.port}")
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("churn", headers=headers)
    model = client.get_model_metadata("churn", "1", headers=headers)
    frame = flat(service, batch["rows"])
    assert [one["name"] for one in model["inputs"]] == list(frame.columns)
    inputs = []
    for one in model["inputs"]:
        texts = one["datatype"] == "BYTES"
        values = frame[one["name"]].to_numpy(dtype=object if texts else np.float64)
        shape = [len(frame), 1] if texts else [len(frame)]
        tensor = triton.InferInput(one["name"], shape, one["datatype"])
        inputs.append(tensor.set_data_from_numpy(values.reshape(shape), binary_data=binary))
    answer = client.infer("churn", inputs, request_id="r1", headers=headers)
    close(answer.as_numpy("score"), batch["scores"])
    assert answer.get_response()["id"] == "r1" and answer.get_response()["model_version"] == "1"
    assert answer.get_response()["parameters"]["feature_date"] == str(D)


def test_pairs_are_scored_for_an_item_as_the_task_was(service: Service) -> None:
    """Guards against a question of pairs that is answered without its item's features."""
    from chain_world import rows

    home = service.project.settings.home
    known = rows(
        home, "scores", "task_id = 'comeback' and score is not null", "user_id, item_id, score"
    )
    item = known[0][1]
    right = {user: value for user, own, value in known if own == item}
    asked = {"user_ids": [*right], "item_id": item}
    status, answer, _ = service.call("/v1/score/winback", asked, "winback")
    assert status == 200, answer
    close([row["score"] for row in answer["results"]], [*right.values()])
    status, answer, _ = service.call("/v1/score/winback", {"user_ids": [*right]}, "winback")
    assert status == 400 and "name item_id, too" in answer["error"]["message"]


REFUSED = [
    ("/api/predict/churn", b"{", 400, "the body must be JSON"),
    ("/api/predict/churn", "3", 400, "an array of objects"),
    ("/api/predict/churn", [3], 400, "row 1 must be an object"),
    ("/api/predict/churn", [{"recency_days": "soon"}], 400, "recency_days must be a number"),
    ("/api/predict/churn", [{"recncy": 3}], 400, "recncy: no feature of the model"),
    ("/api/predict/churn", [{}] * 1001, 413, "at most 1,000 rows, and has 1,001"),
    ("/api/predict/churn", b" " * (5 << 20), 413, "at most 4,194,304 bytes"),
    ("/invocations", [{}], 400, "exactly one of dataframe_split"),
    ("/invocations", {"instances": [], "inputs": []}, 400, "exactly one of dataframe_split"),
    ("/invocations", {"instances": [{}]}, 400, "row 1 lacks"),
    (
        "/invocations",
        {"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}},
        400,
        "row 1 must have 1",
    ),
    ("/v1/score/churn", {"rows": [], "user_ids": []}, 400, "with rows, or with user_ids"),
    ("/v1/score/churn", {"user_ids": [7]}, 400, "every id must be a text"),
    (
        "/v2/models/churn/infer",
        {"inputs": [{"name": "a", "shape": [2, 2]}]},
        400,
        "input a: its shape",
    ),
    (
        "/v2/models/churn/infer",
        {"inputs": [{"name": "a", "shape": [2], "data": [1]}]},
        400,
        "its shape says 2",
    ),
    (
        "/v2/models/churn/infer",
        {"inputs": [], "outputs": [{"name": "b"}]},
        400,
        "one output, score",
    ),
    ("/v2/models/churn/versions/9/infer", {}, 404, "version 1 of churn answers"),
    ("/api/predict/winback", [{}], 401, "the token is none"),
    ("/nowhere", {}, 404, "no such address"),
]


@pytest.mark.parametrize(("path", "document", "status", "words"), REFUSED)
def test_what_cannot_be_answered_is_refused_in_a_sentence(
    service: Service, path: str, document: Any, status: int, words: str
) -> None:
    """Guards against a wrong request that is answered with scores, or with a traceback."""
    got, answer, headers = service.call(path, document)
    assert got == status and words in json.dumps(answer), answer
    assert headers["x-request-id"] and "x-model-version" not in headers


def test_only_mlflows_door_asks_for_the_type_of_json(service: Service) -> None:
    """Guards against callers of EAS, who name no type, and are shut out."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert service.call("/api/predict/churn", [{"recency_days": 3}], **form)[0] == 200
    status, answer, _ = service.call("/invocations", {"instances": []}, **form)
    assert status == 415 and answer["error_code"] == "BAD_REQUEST"


def test_a_token_is_changed_without_a_gap(service: Service) -> None:
    """Guards against a rotation that shuts callers out, and a revoked token that still opens."""
    store, row = service.project.store, [{"recency_days": 3}]
    first = service.tokens["churn"]
    second = add_token(store, "churn", "next", "test")
    with pytest.raises(UserError, match="service churn has 2 tokens; revoke one first"):
        add_token(store, "churn", "third", "test")
    assert first not in repr(read_tokens(store)) and second not in repr(read_tokens(store))
    assert service.call("/api/predict/churn", row, second)[0] == 401
    service.watch.look()
    for header in (first, second, f"Bearer {second}"):
        assert service.call("/api/predict/churn", row, header)[0] == 200
    revoke_token(store, "churn", "next", "test")
    service.watch.look()
    assert service.call("/api/predict/churn", row, second)[0] == 401
    assert service.call("/api/predict/churn", row, None)[0] == 401
    assert service.call("/api/predict/churn", row, first)[0] == 200
    assert (
        service.figure("usergrowth_scoring_requests_total", service="other", door="eas", code="401")
        >= 2
    )
