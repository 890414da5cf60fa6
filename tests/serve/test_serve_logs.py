"""The log of real processes that text people and hear from them: structured, and about nobody."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from serving import SECRET, TOKEN, Server
from support.dispatch_child import D
from support.figures import scraped, unused_port
from support.patience import PATIENCE
from support.phones import phone
from support.sending import CONTENT, SIGNATURE, crowd, outbox, plan, ready

SIZE = 40
REPLY = "拒收这条"


def lines(text: str) -> list[dict[str, Any]]:
    """The objects of a log; each line must be one."""
    return [json.loads(line) for line in text.splitlines()]


def watched(server: Server) -> tuple[str, dict[str, float]]:
    """What a dispatcher logs until all is sent, and what its figures say then."""
    port, log = unused_port(), server.home.parent / "dispatch.log"
    options = ["--watch", "--interval", "0.2", "--log-format", "json", "--metrics-port", str(port)]
    command = [sys.executable, "-m", "usergrowth_dagster", "dispatch", *options]
    environment = {**server.environment, "USERGROWTH_TODAY": D.isoformat()}
    seen: dict[str, float] = {}
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
        try:
            end = time.monotonic() + PATIENCE
            while seen.get("accepted") != SIZE:
                assert time.monotonic() < end and process.poll() is None, log.read_text()
                time.sleep(0.1)
                try:
                    figures = scraped(port)
                except OSError:
                    continue
                name = "usergrowth_dispatched_messages_total"
                seen = {labels[0]: v for (one, labels), v in figures.items() if one == name}
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)
    return log.read_text(), seen


def test_no_line_of_a_log_is_about_a_person(tmp_path: Path, monkeypatch: Any) -> None:
    """Guards against numbers, texts, keys and tokens in what a collector of logs keeps for long."""
    url = f"sqlite:///{tmp_path / 'control.db'}"
    server = Server(tmp_path / "home", url, "--log-format", "json")
    monkeypatch.setenv("USERGROWTH_SECRET_KEY", SECRET)
    store, settings = ready(tmp_path / "home", url)
    plan(store, settings, crowd(SIZE))
    store.close()
    log, counts = watched(server)
    sent = outbox(settings)
    assert len(sent) == SIZE and counts["accepted"] == SIZE and counts["in_doubt"] == 0
    server.start()
    body = [{"phone_number": phone(1), "content": REPLY, "sequence_id": "1"}, {"content": REPLY}]
    assert server.call("POST", f"/file/{TOKEN}/up", json.dumps(body).encode())[0] == 200
    assert server.call("POST", f"/file/{phone(2)}/up", json.dumps(body).encode())[0] == 403
    assert server.call("POST", f"/file/{TOKEN}/dlr", f"[{phone(3)}".encode())[0] == 400
    assert server.get(f"/{phone(4)}")[0] == 404
    assert server.stop() in (0, -15)

    dispatched, received = lines(log), lines(server.log.read_text())
    about = [one for one in dispatched if one["message"] == f"{SIZE} messages handled"]
    assert {(one["schedule"], one["task_id"]) for one in about} == {
        ("december send", "december-2017")
    }
    listening = f"listening on http://127.0.0.1:{server.port}"
    assert [one["message"] for one in received].count(listening) == 1
    assert any("/file/up 200" in one["message"] for one in received)
    everything = log + server.log.read_text()
    texts = [CONTENT.split("，")[1][:5], SIGNATURE, "客1", REPLY, "新年好"]
    for secret in (SECRET, TOKEN, *texts, *(phone(n)[1:] for n in range(SIZE)), "9990000"):
        assert secret not in everything, secret
    for one in [*dispatched, *received]:
        assert {"time", "level", "logger", "message"} <= set(one)
