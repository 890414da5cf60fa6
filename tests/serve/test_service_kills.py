"""Services under load that are killed, started again, and asked to end."""

import http.client
import json
import os
import time
from collections import Counter
from datetime import timedelta
from functools import cache
from pathlib import Path

import pyarrow.parquet as pq
from chain_world import World, copy_home
from support.identity_desk import DAY, IdentityDesk
from support.rta_service import write
from support.scoring_service import add_shifted
from support.service_process import Load, ServiceProcess

from usergrowth_dagster.acquisition.adapters.tencent_pb2 import Request, Response
from usergrowth_dagster.acquisition.build import snapshot_folder
from usergrowth_dagster.acquisition.devices import Device, hashed
from usergrowth_dagster.acquisition.landing import TABLE, land_log, log_folder, log_key
from usergrowth_dagster.acquisition.log import device_hash
from usergrowth_dagster.acquisition.snapshot import Known
from usergrowth_dagster.control.service_tokens import add_token
from usergrowth_dagster.learning.artifacts import load as load_model
from usergrowth_dagster.learning.store import ModelRef
from usergrowth_dagster.project import Project
from usergrowth_dagster.serve.scoring.row_scores import RowScorer
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.training.served import champion

POLICY = """
salt: s
ids: {oaid: oaid}
strategies:
  - {name: lapsed, device: known, active: false}
  - {name: new, device: unknown}
"""
NUMBERS = 20_000
"""Devices of which a snapshot may know something; each request is of another one."""
ROW = {"recency_days": 5, "user_type": None}


@cache
def device(number: int) -> Device:
    return Device("oaid", hashed("oaid", str(number)))


def write_devices(folder: Path, active: int) -> None:
    """Know half of the devices; those whose number leaves ``active`` (0 or 1) by 4 are active."""
    known = {device(n): Known(n % 4 == active, None) for n in range(NUMBERS) if n % 4 < 2}
    write(folder, known, DAY)


def right(number: int, active: int) -> tuple[str, ...]:
    """The strategies of a device by such a snapshot."""
    if number >= NUMBERS or number % 4 >= 2:
        return ("new",)
    return () if number % 4 == active else ("lapsed",)


def ask_rta(connection: http.client.HTTPConnection, number: int) -> tuple[str, ...]:
    """The strategies that a service answers with."""
    sent = Request(
        id=str(number), device=Request.Device(oaid_md5sum=device(number).md5)
    ).SerializeToString()
    status = 408
    while status == 408:  # a machine so busy that a second passes between head and body
        connection.request("POST", "/rta/tencent", sent)
        answer = connection.getresponse()
        status, content = answer.status, answer.read()
    assert status == 200, (status, content)
    said = Response.FromString(content)
    assert said.request_id == str(number)
    assert said.code == (0 if said.out_target_id else 1)
    return tuple(said.out_target_id)


def test_a_killed_rta_service_answers_rightly_again_and_logs_nothing_twice(tmp_path: Path) -> None:
    """Guards against old facts after a restart, half files, decisions lost at an end or landed twice."""
    desk = IdentityDesk(tmp_path / "home")
    (desk.home / "acquisition.yml").write_text(POLICY)
    folder, log = snapshot_folder(desk.project), log_folder(desk.project)
    write_devices(folder, active=0)
    options = ("--log-every", "0.1", "--every", "0.1", "--budget-ms", "60000")
    service = ServiceProcess(desk.home, "/health", "serve-rta", *options)
    with service.running():
        with Load(service.port, ask_rta) as load:
            load.more(100)
            write_devices(folder, active=1)
            load.until(lambda: any(one.number % 4 == 0 and one.answer for one in load.answers))
            swapped = time.monotonic()
            for _ in range(2):
                files = len(whole(log))
                load.until(lambda files=files: len(whole(log)) > files)  # type: ignore[misc]
                service.kill()
                load.more(100)
        service.ask_to_end()
        assert service.exit_code() == 0, service.text()
    assert not load.wrong and len(load.broken) >= 2
    assert not load.failed_while_up(service.gone)
    for one in load.answers:
        allowed = {right(one.number, 1)} | (
            {right(one.number, 0)} if one.began < swapped else set()
        )
        assert one.answer in allowed, one
    assert_logged_once(desk, load, since=service.gone[-1][1])


def whole(log: Path) -> list[Path]:
    """Files of the log that land."""
    return [*log.glob("ds=*/[!.]*.parquet")]


def assert_logged_once(desk: IdentityDesk, load: Load, since: float) -> None:
    """The log has every decision of the last start, none twice, and lands without half files."""
    log, after = log_folder(desk.project), DAY + timedelta(days=2)
    left, written = (whole(log)[0].with_name(f".{age}.parquet") for age in ("left", "now"))
    for path in (left, written):
        path.write_bytes(whole(log)[0].read_bytes()[:100])
    os.utime(left, (0, 0))
    rows = sum(pq.read_metadata(path).num_rows for path in whole(log))
    assert sum(land_log(desk.project, after).values()) == rows
    assert land_log(desk.project, after) == {} and written.exists() and not left.exists()
    key = log_key(desk.project)
    asked = len(load.answers) + len(load.broken)
    numbers = {device_hash(key, device(n)): n for n in range(asked)}
    logged = {numbers[row["device"]]: row for row in desk.rows(TABLE, None)}
    assert len(logged) == rows
    for one in load.answers:
        if row := logged.get(one.number):
            assert (row["accepted"], row["strategies"]) == (bool(one.answer), ",".join(one.answer))
        else:
            assert one.began < since, one


def scores_of(*refs: ModelRef) -> dict[str, float]:
    """What versions say of the row."""
    scorers = {str(ref.version): RowScorer(load_model(ref)) for ref in refs}
    return {
        version: float(scorer.score(scorer.reader.read([ROW], extra=True, partial=True))[0])
        for version, scorer in scorers.items()
    }


def test_a_killed_scoring_service_answers_again_and_a_signal_ends_it(
    world: World, tmp_path: Path
) -> None:
    """Guards against a wrong score after a kill, and a restart that cuts requests off or never ends."""
    home = copy_home(world.decided, tmp_path / "home")
    project = Project(load_settings(home))
    token = add_token(project.store, "churn", "test", "test")
    old = champion(project, "churn")
    assert old is not None
    refs = [old]
    headers = {"Authorization": token, "Content-Type": "application/json"}

    def ask(connection: http.client.HTTPConnection, number: int) -> tuple[int, str | None, float]:
        body = json.dumps([ROW])
        connection.request("POST", "/api/predict/churn?extra=ignore", body, headers)
        answer = connection.getresponse()
        said = json.loads(answer.read())
        score = said[0]["p_1"] if answer.status == 200 else 0.0
        return answer.status, answer.headers["x-model-version"], score

    service = ServiceProcess(home, "/ping", "serve-models", "--service", "churn")
    with service.running():
        with Load(service.port, ask) as load:
            load.more(50)
            service.kill(lambda: refs.append(add_shifted(project, old, 0.7)))
            load.more(50)
        finish_what_has_begun(service, token)
    assert not load.wrong and load.broken and not load.failed_while_up(service.gone)
    scores, ((killed, ready),) = scores_of(*refs), service.gone
    for one in load.answers:
        status, version, score = one.answer
        if status == 200:
            assert version == ("1" if one.began < killed else "2"), one
            assert abs(score - scores[version]) < 1e-9, one
        else:  # it listens before a version is loaded
            assert status == 503 and killed < one.began < ready, one
    assert Counter(one.answer[0] for one in load.answers)[200] >= 100
    assert "Traceback" not in service.text() and token not in service.text()
    project.store.close()


def finish_what_has_begun(service: ServiceProcess, token: str) -> None:
    """Ask a service to end in the middle of a request: it is answered, and then it ends."""
    body = json.dumps([ROW]).encode()
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    connection.putrequest("POST", "/api/predict/churn?extra=ignore")
    for name, value in (("Authorization", token), ("Content-Length", str(len(body)))):
        connection.putheader(name, value)
    connection.endheaders(body[:5])
    time.sleep(0.3)
    service.ask_to_end()
    time.sleep(0.5)
    connection.send(body[5:])
    answer = connection.getresponse()
    assert answer.status == 200 and json.loads(answer.read())[0]["p_1"] > 0
    assert service.exit_code() == 0, service.text()
