"""The Kannel gateway against a scripted smsbox: answers, time-outs, reports, replies, secrecy."""

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from http_provider import with_credentials
from support.patience import PATIENCE
from support.phones import phone

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.examples import kannel_boxes
from usergrowth_dagster.messaging.gateways.kannel import KannelGateway, reply_url, sort_answer
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Callback,
    Found,
    OutBatch,
    OutMessage,
    UnsignedError,
)
from usergrowth_dagster.settings import Settings

Request = tuple[dict[str, str], str]
ACCEPTED = (202, "0: Accepted for delivery")


def batch(size: int, text: str = "【示例商店】新年好。拒收请回复R", segments: int = 1) -> OutBatch:
    return OutBatch(
        "7",
        "冬",
        "o",
        "sms",
        "示例商店",
        "UG_1",
        "promotion",
        datetime.now(UTC),
        [OutMessage(str(n), f"u{n}", phone(n), text, {}, segments) for n in range(1, size + 1)],
    )


@contextmanager
def smsbox(
    answer: Callable[[Request], tuple[int, str] | None],
) -> Iterator[tuple[str, list[Request]]]:
    """An HTTP server in smsbox's place; None as an answer hangs up. Yields address and requests."""
    seen: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            assert "?" not in self.path
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            request = (dict(self.headers.items()), text)
            seen.append(request)
            if (status := answer(request)) is None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(status[0])
            self.send_header("Content-Length", str(len(status[1])))
            self.end_headers()
            self.wfile.write(status[1].encode())

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/cgi-bin/sendsms", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def account(settings: Settings) -> Settings:
    """Settings of a home with Kannel's credentials."""
    return with_credentials(settings, kannel_user="shop", kannel_password="hunter2secret")


def gateway(settings: Settings, url: str, **more: object) -> KannelGateway:
    return KannelGateway(settings.model_copy(update={"kannel_url": url, **more}))


@pytest.mark.parametrize(
    ("status", "body", "segments", "answer"),
    [
        (202, "0: Accepted for delivery", 1, Answer.ACCEPTED),
        (202, "3: Queued for later delivery", 3, Answer.ACCEPTED),
        (202, "Sent. Message splits: 2", 2, Answer.ACCEPTED),
        (503, "Temporal failure, try again later.", 1, Answer.DEFERRED),
        (503, "Temporal failure, try again later.", 2, Answer.IN_DOUBT),
        (503, "<html>proxy", 1, Answer.IN_DOUBT),
        (403, "Not routable. Do not try again.", 1, Answer.REJECTED),
        (403, "Authorization failed for sendsms", 1, Answer.STOP),
        (400, "Number(s) has/have been denied by white- and/or black-lists.", 1, Answer.REJECTED),
        (400, "Sender missing and no global set, rejected", 1, Answer.STOP),
        (404, "Unknown request.", 1, Answer.STOP),
        (500, "Sending failed.", 1, Answer.IN_DOUBT),
        (202, "", 1, Answer.IN_DOUBT),
        (302, "elsewhere", 1, Answer.IN_DOUBT),
    ],
)
def test_answers_are_sorted(status: int, body: str, segments: int, answer: Answer) -> None:
    """Guards against a text that is sent twice after a 5xx, and a fault of ours laid on a row."""
    assert sort_answer(status, body, segments)[0] is answer


def test_request_is_whole_and_secret(account: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """Guards against garbled Chinese, and a number or password in an address, a log or a repr."""
    with smsbox(lambda _: ACCEPTED) as (url, seen), caplog.at_level(logging.DEBUG):
        mine = gateway(account, url, callback_url="https://g.example/ug/", kannel_from="10690000")
        results = mine.submit(batch(20))
        mine.submit(batch(1, "Your gift [€5]"))
    assert [r.out_id for r in results] == [str(n) for n in range(1, 21)]
    assert {(r.answer, r.code) for r in results} == {(Answer.ACCEPTED, "0")}
    by_phone = {head["X-Kannel-To"]: (head, text) for head, text in seen[:20]}
    assert set(by_phone) == {phone(n) for n in range(1, 21)}
    head, text = by_phone[phone(3)]
    assert text == "【示例商店】新年好。拒收请回复R"
    assert head["Content-Type"] == "text/plain; charset=UTF-8"
    assert (head["X-Kannel-Coding"], seen[20][0]["X-Kannel-Coding"]) == ("2", "0")
    assert (head["X-Kannel-Username"], head["X-Kannel-Password"]) == ("shop", "hunter2secret")
    assert (head["X-Kannel-From"], head["X-Kannel-DLR-Mask"]) == ("10690000", "31")
    report = urlsplit(head["X-Kannel-DLR-URL"])
    assert (report.scheme, report.netloc, report.path) == ("https", "g.example", "/ug/kannel/dlr")
    assert parse_qs(report.query)["out_id"] == ["3"]
    assert phone(3) not in report.query
    said = "".join(record.getMessage() for record in caplog.records) + repr(mine) + repr(results)
    assert "999" + "0" * 6 not in said
    assert "hunter2" not in said


def test_doubt_and_certainty(account: Settings) -> None:
    """Guards against resending what may have been taken, and holding back what was not."""
    calm = threading.Event()

    def answer(request: Request) -> tuple[int, str] | None:
        to = request[0]["X-Kannel-To"]
        if to == phone(2):
            return None
        if to == phone(3):
            calm.wait(PATIENCE)
        return ACCEPTED

    with smsbox(answer) as (url, seen):
        results = gateway(account, url, gateway_timeout=4.0).submit(batch(6))
        calm.set()
    answered = {r.out_id: (str(r.answer), r.code) for r in results}
    assert answered.pop("2") == ("in_doubt", "RemoteProtocolError")
    assert answered.pop("3") == ("in_doubt", "ReadTimeout")
    assert set(answered.values()) == {("accepted", "0")}
    assert len(seen) == 6
    (refused,) = gateway(account, url).submit(batch(1))  # nobody listens there any more
    assert (refused.answer, refused.code) == (Answer.DEFERRED, "ConnectError")
    with pytest.raises(UserError, match="kannel_url"):
        gateway(account, "kannel:13013").submit(batch(1))


def test_hanging_kannel_dooms_few(account: Settings) -> None:
    """Guards against a whole batch in doubt, and past its lease, behind an smsbox that hangs."""
    calm = threading.Event()

    def hang(_: Request) -> tuple[int, str]:
        calm.wait(PATIENCE)
        return ACCEPTED

    with smsbox(hang) as (url, _seen):
        results = gateway(account, url, gateway_timeout=4.0).submit(batch(100))
        calm.set()
    answers = [r.answer for r in results]
    assert answers.count(Answer.IN_DOUBT) == 8
    assert answers.count(Answer.DEFERRED) == 92


def test_stop_spares_the_rest(account: Settings) -> None:
    """Guards against a wrong password that is tried a hundred times."""
    with smsbox(lambda _: (403, "Authorization failed for sendsms")) as (url, seen):
        results = gateway(account, url).submit(batch(100))
    assert {r.answer for r in results} == {Answer.STOP}
    assert len(seen) < 50


def _filled(account: Settings, out_id: str, **values: str) -> Callback:
    """The request that Kannel makes of the report address that it was given."""
    with smsbox(lambda _: ACCEPTED) as (url, seen):
        whole = batch(int(out_id))
        gateway(account, url, callback_url="https://g.example").submit(whole)
    address = next(h["X-Kannel-DLR-URL"] for h, _ in seen if h["X-Kannel-To"] == phone(int(out_id)))
    for key, escape in (("status", "%d"), ("answer", "%A"), ("time", "%T")):
        address = address.replace(escape, quote(values.get(key, ""), safe=""))
    return Callback(b"", {}, address)


@pytest.mark.parametrize(
    ("status", "answer", "fate", "code"),
    [
        ("1", "", Found.DELIVERED, "1"),
        (
            "2",
            "id:1 sub:001 dlvrd:000 stat:UNDELIV err:0D3 text:+9990000000003",
            Found.UNDELIVERED,
            "0D3",
        ),
        ("34", "", Found.UNDELIVERED, "34"),
        ("66", "", Found.UNDELIVERED, "66"),
        ("4", "", Found.ACCEPTED, "4"),
        ("8", "ACK/", Found.ACCEPTED, "8"),
        ("16", "NACK/no SMSC", Found.UNDELIVERED, "no SMSC"),
        ("16", "NACK/0x0000000b/Invalid +9990000000003", Found.UNDELIVERED, "0x0000000b"),
    ],
)
def test_reports(account: Settings, status: str, answer: str, fate: Found, code: str) -> None:
    """Guards against reports that are misread, and a number that gets into a row's error code."""
    callback = _filled(account, "3", status=status, answer=answer, time="1514426430")
    (receipt,) = gateway(account, "http://x").parse_receipts(callback)
    assert (receipt.status, receipt.out_id, receipt.code) == (fate, "3", code)
    assert receipt.time == datetime(2017, 12, 28, 2, 0, 30, tzinfo=UTC)


def test_forged_and_broken_reports(account: Settings) -> None:
    """Guards against anybody who marks texts as delivered, and a traceback for a bad request."""
    mine = gateway(account, "http://x")
    good = _filled(account, "1", status="1").url
    for bad in (
        good.replace("out_id=1", "out_id=2"),
        good.replace("mark=", "mark=0"),
        "https://g/",
    ):
        with pytest.raises(UnsignedError):
            mine.parse_receipts(Callback(b"", {}, bad))
    for bad, why in (("status=", "must be a number"), ("status=64", "not known")):
        (unread,) = mine.parse_receipts(Callback(b"", {}, good.replace("status=1", bad)))
        assert why in unread.why and "mark" not in unread.raw
    (late,) = mine.parse_receipts(
        Callback(b"", {}, good.replace("time=", "time=99999999999999999"))
    )
    assert late.time is None


def test_replies(account: Settings) -> None:
    """Guards against a refusal in Chinese that is not understood, and a forged one."""
    mine = gateway(account, "http://x", callback_url="https://g.example/")
    address = reply_url(mine.settings)

    def reply(text: bytes, coding: str) -> Callback:
        values = {"p": phone(1), "P": "10690000", "e": text.hex().upper(), "c": coding}
        filled = address
        for escape, value in {**values, "T": "1514426430", "I": "i1"}.items():
            filled = filled.replace(f"%{escape}", quote(value, safe=""))
        return Callback(b"", {}, filled)

    (one,) = mine.parse_replies(reply("退订".encode("utf-16-be"), "2"))
    assert (one.phone, one.content, one.sequence_id) == (phone(1), "退订", "i1")
    assert mine.parse_replies(reply(b"TD", "0"))[0].content == "TD"
    assert mine.parse_replies(reply("退订".encode(), "0"))[0].content == "退订"
    assert phone(1) not in repr(one)
    with pytest.raises(UnsignedError):
        mine.parse_replies(Callback(b"", {}, reply(b"TD", "0").url.replace("mark=", "mark=a")))
    for old, new, why in (("hex=5", "hex=z", "hexadecimal"), ("from=", "fro=", "'from'")):
        (bad,) = mine.parse_replies(Callback(b"", {}, reply(b"TD", "0").url.replace(old, new)))
        assert why in bad.why and "i1" in bad.raw and phone(1) not in repr(bad)
    assert bad.phone is None


def test_where_reports_go(account: Settings) -> None:
    """Guards against a Kannel far away that is told to report to its own machine."""
    url = "http://kannel.example:13013/cgi-bin/sendsms"
    with pytest.raises(UserError, match="callback_url"):
        reply_url(account.model_copy(update={"kannel_url": url}))
    assert reply_url(account).startswith(f"http://127.0.0.1:{account.serve_port}/kannel/mo?")
    with smsbox(lambda _: ACCEPTED) as (near, seen):
        gateway(account, near).submit(batch(1))
    assert json.dumps(seen[0][0]).count(f"127.0.0.1:{account.serve_port}/kannel/dlr") == 1


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Guards against a traceback where Kannel is not installed."""
    monkeypatch.setattr(kannel_boxes, "_PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get install kannel kannel-extras"):
        kannel_boxes.find_programs()
