"""Every provider's addresses, and what is answered to requests that are wrong."""

import json
import logging
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from app_desk import ROOT, client, home, store
from fastapi.testclient import TestClient
from sqlalchemy import text
from support.ledger_rows import messages, occurrence, rows, set_state, states
from support.phones import phone

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import MessageState as S
from usergrowth_dagster.control.store import ControlStore, open_store
from usergrowth_dagster.messaging.gateways.aliyun import signed_out_id
from usergrowth_dagster.messaging.gateways.protocol import BODY_LIMIT
from usergrowth_dagster.messaging.gateways.signature_tokens import SignatureTokens
from usergrowth_dagster.messaging.gateways.webhook import SIGNATURE, TIMESTAMP, sign
from usergrowth_dagster.serve import app as app_module
from usergrowth_dagster.serve.app import make_app
from usergrowth_dagster.serve.listening import addresses
from usergrowth_dagster.settings import Settings

__all__ = ["client", "home", "store"]


def two_rows(store: ControlStore, gateway: str) -> tuple[list[int], int]:
    """Two messages that a gateway has accepted, and their batch."""
    place = occurrence(store, gateway, name=gateway)
    return messages(store, place, [S.ACCEPTED] * 2, request_id=None), place[1]


def test_aliyun(client: TestClient, store: ControlStore, home: Settings) -> None:
    """Guards against reports of a batch that miss their row, and against other people's reports."""
    _, batch = two_rows(store, "aliyun")
    report = {
        "biz_id": "932702304080415357^0",
        "err_code": "DELIVERED",
        "err_msg": "用户接收成功",
        "message_id": "1",
        "out_id": signed_out_id(SignatureTokens(home.home, "aliyun"), str(batch)),
        "phone_number": phone(0)[1:],
        "report_time": "2026-03-01 18:00:05",
        "request_id": "r",
        "send_time": "2026-03-01 18:00:00",
        "sign_name": "示例商店",
        "sms_size": "1",
        "success": True,
        "template_code": "SMS_1",
    }
    foreign = {**report, "out_id": f"{batch}.{'0' * 32}", "phone_number": phone(1)[1:]}
    for _ in range(2):
        answer = client.post("/aliyun/report", json=[report, foreign])
        assert answer.status_code == 200 and answer.json()["code"] == 0 and answer.json()["msg"]
    assert states(store) == [S.DELIVERED, S.ACCEPTED]
    assert rows(store, schema.message)[0]["final_time"] == datetime(
        2026, 3, 1, 10, 0, 5, tzinfo=UTC
    )
    known = dict(addresses(home, 1))
    up = urlsplit(known["Aliyun SmsUp"])
    reply = {
        "content": "退订",
        "dest_code": "1069",
        "phone_number": phone(1)[1:],
        "send_time": "2026-03-01 18:01:00",
        "sequence_id": 1234567890,
        "sign_name": "示例商店",
    }
    assert client.post("/aliyun/up", json=[reply]).status_code == 403
    for path in (up.path, "/aliyun/up"):
        assert client.post(f"{path}?{up.query}", json=[reply]).json()["code"] == 0
    assert [row["action"] for row in rows(store, schema.reply)] == ["opt_out"]
    assert len(rows(store, schema.suppression)) == 1


def test_twilio(client: TestClient, store: ControlStore) -> None:
    """Guards against unsigned callbacks that are obeyed, and a text that we send back by mistake."""
    validator = pytest.importorskip("twilio.request_validator").RequestValidator("twilio-secret")
    ids, _ = two_rows(store, "twilio")

    def post(path: str, form: dict[str, str], **headers: str) -> tuple[int, str]:
        signed = {"X-Twilio-Signature": validator.compute_signature(ROOT + path, form)}
        answer = client.post(path, data=form, headers={**signed, **headers})
        return answer.status_code, answer.text

    for word, status in (
        ("status", "queued"),
        ("dlr", "sent"),
        ("dlr", "delivered"),
        ("dlr", "sent"),
    ):
        form = {"MessageSid": "SM1", "MessageStatus": status, "To": phone(0)}
        answer = post(f"/twilio/{word}?out_id={ids[0]}", form)
        assert answer == (200, '<?xml version="1.0"?><Response></Response>')
    form = {"MessageSid": "SM2", "MessageStatus": "undelivered", "ErrorCode": "30005"}
    assert post(f"/twilio/dlr?out_id={ids[1]}", form)[0] == 200
    assert states(store) == [S.DELIVERED, S.UNDELIVERED]
    assert rows(store, schema.message)[1]["error_code"] == "30005"
    assert post("/twilio/dlr", form, **{"X-Twilio-Signature": "forged"})[0] == 403
    stop = {"From": phone(0), "Body": " Stop. ", "MessageSid": "SM3"}
    for _ in range(2):
        assert post("/twilio/reply", stop)[0] == 200
    assert [row["action"] for row in rows(store, schema.reply)] == ["opt_out"]


def test_kannel(client: TestClient, store: ControlStore, home: Settings) -> None:
    """Guards against reports that come twice or backwards, and against forged ones."""
    ids, _ = two_rows(store, "kannel")
    tokens = SignatureTokens(home.home, "kannel")

    def report(status: int, mark: str) -> int:
        query = {"out_id": ids[0], "mark": mark, "status": status, "answer": "", "time": 1772359200}
        answer = client.get(f"/kannel/dlr?{urlencode(query)}")
        assert answer.text == "" or answer.status_code != 200
        return answer.status_code

    assert report(1, "0" * 32) == 403
    for status in (8, 1, 4, 2, 1):
        assert report(status, tokens.sign(str(ids[0]))) == 200
    assert states(store) == [S.DELIVERED, S.ACCEPTED]
    assert len(rows(store, schema.receipt)) == 4
    assert client.get("/kannel/dlr").status_code in (400, 403)


def test_webhook(client: TestClient, store: ControlStore) -> None:
    """Guards against a signature that is not asked for, or that is asked of other bytes."""
    ids, _ = two_rows(store, "webhook")

    def post(path: str, content: object, secret: str = "0123456789abcdef") -> int:
        body, now = json.dumps(content).encode(), str(int(time.time()))
        headers = {TIMESTAMP: now, SIGNATURE: sign(secret, now, body)}
        return client.post(path, content=body, headers=headers).status_code

    reports = {"receipts": [{"out_id": str(i), "status": "delivered"} for i in ids]}
    assert post("/webhook/receipts", reports, "another secret!!") == 403
    assert post("/webhook/receipts", reports) == 200
    assert states(store) == [S.DELIVERED] * 2
    assert post("/webhook/receipts", {"receipts": [{"out_id": "1", "status": "?"}]}) == 200
    assert post("/webhook/receipts", [{"out_id": "1", "status": "delivered"}]) == 400
    assert post("/webhook/replies", {"replies": [{"from": phone(0), "content": "R"}]}) == 200
    assert len(rows(store, schema.suppression)) == 1


def test_unsubscribe_link(client: TestClient, store: ControlStore, home: Settings) -> None:
    """Guards against a mail scanner that refuses for the reader, and against forged refusals."""
    from usergrowth_dagster.messaging.gateways.smtp import SmtpGateway

    link = urlsplit(SmtpGateway(home).unsubscribe_url("li@example.com", "示例商店"))
    address = f"{link.path}?{link.query}"
    page = client.get(address)
    assert page.status_code == 200 and '<form method="post">' in page.text
    assert rows(store, schema.suppression) == []
    assert client.post(address, data={"List-Unsubscribe": "One-Click"}).status_code == 200
    (suppressed,) = rows(store, schema.suppression)
    assert (suppressed["channel"], suppressed["reason"]) == ("email", "reply")
    assert client.post("/smtp/mo?token=forged").status_code == 403
    mail = b"From: li@example.com\r\nSubject: START\r\n\r\nSTART\r\n"
    assert client.post("/smtp/mo", content=mail).status_code == 403
    assert client.post("/smtp/unguessable/mo", content=mail).status_code == 200


def test_wrong_requests(
    client: TestClient, store: ControlStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Guards against tracebacks, numbers in answers and logs, bodies without end, open doors."""
    caplog.set_level(logging.DEBUG)
    good = "/file/unguessable/receipts"
    number = phone(3)
    cases: list[tuple[str, str, bytes, int]] = [
        ("POST", "/file/receipts", b"[]", 403),
        ("POST", "/file/wrong/receipts", b"[]", 403),
        ("POST", "/file/%00%ff/receipts", b"[]", 403),
        ("POST", "/aliyun/wrong/report", b"[]", 403),
        ("POST", "/nobody/receipts", b"[]", 404),
        ("POST", "/file/unguessable/other", b"[]", 404),
        ("GET", good, b"", 405),
        ("PUT", good, b"[]", 405),
        ("POST", good, b"", 400),
        ("POST", good, b"{" * 100_000, 400),
        ("POST", good, b"[" * 100_000, 400),
        ("POST", good, f'[{{"out_id": "{number}" "success"'.encode(), 400),
        ("POST", "/twilio/status?To=" + number, b"MessageStatus=\xff", 400),
        ("GET", f"/kannel/mo?from={number}&mark=\xe9", b"", 403),
        ("POST", good, b" " * (BODY_LIMIT + 1), 413),
        ("POST", f"/aliyun/report?{number}", f'{{"phone_number": "{number}"}}'.encode(), 400),
        ("POST", "/smtp/dlr", f"From: {number}@shop.example\n\nx".encode(), 400),
        ("POST", "/smtp/unguessable/mo", number.encode(), 400),
        ("GET", "/kannel/mo?" + "&".join(["a=1"] * 2000), b"", 400),
    ]
    for method, path, body, status in cases:
        answer = client.request(method, path, content=body)
        assert answer.status_code == status, (path, answer.text)
        assert number[1:] not in answer.text and "Traceback" not in answer.text
        if status != 405 or method == "GET":
            assert answer.json()["code"] == status and len(answer.json()["msg"]) > 10
    chunks = (b" " * 65_536 for _ in range(BODY_LIMIT // 65_536 + 2))
    assert client.post(good, content=chunks).status_code == 413
    ours = [r.getMessage() for r in caplog.records if r.name.startswith(("usergrowth", "uvicorn"))]
    assert ours and number[1:] not in "".join(ours) and "unguessable" not in "".join(ours)
    assert not rows(store, schema.receipt)


def test_trouble_of_ours(
    client: TestClient,
    store: ControlStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Guards against a report that is turned away for good because our database has a bad moment."""
    ids, _ = two_rows(store, "file")
    good = "/file/unguessable/receipts"
    body = [{"out_id": str(ids[0]), "success": True}]
    with store.write() as connection:
        connection.execute(text("alter table receipt rename to away"))
    answer = client.post(good, json=body)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    with store.write() as connection:
        connection.execute(text("alter table away rename to receipt"))
    # somebody holds the database for longer than a provider waits
    with monkeypatch.context() as hurried, store.write():
        hurried.setattr(app_module, "_ANSWER_SECONDS", 0.3)
        assert client.post(good, json=body).status_code == 503
        assert client.get("/healthz").status_code == 200
    assert client.post(good, json=body).status_code == 200
    assert states(store)[0] is S.DELIVERED and len(rows(store, schema.receipt)) == 1
    monkeypatch.delenv("USERGROWTH_TWILIO_AUTH_TOKEN")
    answer = client.post("/twilio/status", data={"MessageSid": "x"})
    assert answer.status_code == 503 and "USERGROWTH" not in answer.text
    assert "USERGROWTH_TWILIO_AUTH_TOKEN" in caplog.text


def test_refusal_between_planning_and_sending(client: TestClient, store: ControlStore) -> None:
    """Guards against reports and refusals at once that shut each other out."""
    ids, _ = two_rows(store, "file")
    set_state(store, ids[1], S.PLANNED)
    statuses: list[int] = []

    def post(path: str, content: object) -> None:
        for _ in range(10):
            statuses.append(client.post(f"/file/unguessable/{path}", json=content).status_code)

    work = [
        ("receipts", [{"out_id": str(ids[0]), "success": True}]),
        ("up", [{"phone_number": phone(1), "content": "TD", "sequence_id": "1"}]),
        ("up", [{"phone_number": phone(1), "content": "hello", "sequence_id": "2"}]),
    ]
    threads = [threading.Thread(target=post, args=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 30
    assert states(store)[0] is S.DELIVERED
    assert len(rows(store, schema.reply)) == 2 and len(rows(store, schema.suppression)) == 1


def test_start_up_needs_the_right_key(home: Settings, tmp_path: Path) -> None:
    """Guards against suppressions hashed with another key, which hold nobody back."""
    from usergrowth_dagster.errors import UserError
    from usergrowth_dagster.messaging.ledger import Ledger
    from usergrowth_dagster.messaging.people.phones import PhoneVault

    opened = open_store(home)
    Ledger(opened, PhoneVault.from_secret(b"another secret, long enough"))
    opened.close()
    with pytest.raises(UserError, match="secret key"), TestClient(make_app(home)):
        pass
