"""Hostile bodies at every address: none costs much time, and none is asked to come again."""

import base64
import json
import time
from collections.abc import Sequence
from urllib.parse import urlencode, urlsplit

import pytest
from app_desk import ROOT, client, home, store
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from usergrowth_dagster.messaging.gateways.aliyun import signed_out_id
from usergrowth_dagster.messaging.gateways.signature_tokens import SignatureTokens
from usergrowth_dagster.messaging.gateways.webhook import SIGNATURE, TIMESTAMP, sign
from usergrowth_dagster.serve.listening import addresses
from usergrowth_dagster.settings import Settings

__all__ = ["client", "home", "store"]
pytestmark = pytest.mark.usefixtures("few_objects")
SIZE = 250_000
CPU_SECONDS = 3.0
"""Of this whole process, for one post of SIZE bytes; a good one takes some hundredths."""

KINDS = ("receipts", "report", "status", "dlr", "replies", "up", "reply", "mo")


def nested(levels: int, line: bytes, head: bytes = b"") -> bytes:
    """An e-mail of so many levels, filled up with a line."""
    begun = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n)
        for n in range(levels)
    )
    return filled(head + b"From: li@shop.example\r\n" + begun, line)


def filled(begin: bytes, unit: bytes, end: bytes = b"") -> bytes:
    return begin + unit * ((SIZE - len(begin)) // len(unit)) + end


def mails(mark: bytes) -> dict[str, bytes]:
    """E-mails that cost a parser much; each holds a mark, so that it gets as far as it can."""
    head = b"Message-ID: <" + mark + b"@shop.example>\r\nFrom: li@shop.example\r\n"
    part = head + b'Content-Type: multipart/report; boundary="b"\r\n\r\n'
    status = part + b"--b\r\nContent-Type: message/delivery-status\r\n\r\n"
    return {
        "nested": nested(2000, b"--b1\r\n", head),
        "nested as allowed": nested(9, b"--bx", head),
        "nested without lines": nested(4000, b"x", head),
        "parts": filled(part, b"--b\r\n\r\n"),
        "messages": filled(head, b"Content-Type: message/rfc822\r\n\r\n"),
        "lines": filled(part + b"--b\r\n\r\n", b"\r\n"),
        "one line": filled(head + b"\r\n", b"a"),
        "boundary with blanks": filled(part + b"--b", b" ", b"x"),
        "status blocks": filled(status, b"Action: failed\r\n\r\n"),
        "status fields": filled(status, b"Action: failed\r\n"),
        "parameters": filled(head + b"Content-Type: text/plain; ", b"a=b;"),
        "quotes": filled(head + b"Content-Type: text/plain; ", b'";'),
        "folded": filled(head + b"Content-Type: text/plain;\r\n", b" a=b;\r\n"),
        "headers": filled(head, b"A: b\r\n"),
        "comments": filled(b"Message-ID: " + mark + b"\r\nFrom: ", b"("),
        "addresses": filled(b"Message-ID: " + mark + b"\r\nFrom: ", b"<a@b>,\r\n "),
        "encoded words": filled(head + b"Subject: ", b"=?utf-8?q?a?= "),
        "open words": filled(head + b"Subject: ", b"=?"),
        "date": filled(head + b"Date: ", b"1 "),
        "base64": filled(head + b"Content-Transfer-Encoding: base64\r\n\r\n", b"QUFB\r\n"),
        "marks": filled(b"A: b\r\n\r\n", b"ug.1." + b"0" * 31 + b" "),
        "html": filled(head + b"Content-Type: text/html\r\n\r\n", b"<style <a "),
        "charset": filled(head + b"Content-Type: text/plain; charset=punycode\r\n\r\n", b"a-"),
        "utf-7": filled(head + b"Content-Type: text/plain; charset=utf-7\r\n\r\n", b"+"),
        "accents": filled(head + b"\r\n", "a\u0315\u0300".encode()),
    }


def texts() -> dict[str, object]:
    """Values of an entry that cost whoever compares or keeps them much."""
    return {
        "accents": "\u0315\u0300" * (SIZE // 4),
        "ligatures": "ﷺ" * (SIZE // 3),
        "surrogates": "\ud800" * (SIZE // 6),
        "nul": "\0" * (SIZE // 6),
        "stop": "don't stop " * (SIZE // 11),
        "chinese": "不要退订" * (SIZE // 12),
        "digits": "1" * SIZE,
        "times": "2026-01-01T" * (SIZE // 11),
        "list": [[]] * (SIZE // 4),
        "object": {str(n): n for n in range(SIZE // 14)},
    }


def arrays(entry: dict[str, object], keys: Sequence[str]) -> dict[str, bytes]:
    """JSON that is not a provider's, or is one's with a hostile value under each of the keys."""
    bodies = {
        "deep": filled(b"", b"["),
        "deep and closed": b"[" * 900 + b"]" * 900,
        "deep entry": b'[{"phone_number":' + b"[" * 950 + b"]" * 950 + b"}]",
        "objects": b'{"a":' * 50_000,
        "empty entries": b"[" + filled(b"", b"{},", b"{}]"),
        "short entries": b"[" + filled(b"", b"0,", b"0]"),
        "digits": b"[" + b"9" * SIZE + b"]",
        "NaN": b"[NaN, Infinity, -1e999]",
        "open text": filled(b'["', b"\\u0041"),
        "keys": b"[{" + b'"a":1,' * 40_000 + b'"b":1}]',
        "entries": json.dumps([entry] * (SIZE // len(json.dumps(entry)))).encode(),
    }
    for name, value in texts().items():
        for key in keys:
            bodies[f"{key}: {name}"] = json.dumps([{**entry, key: value}]).encode()
    return bodies


def fast(client: TestClient, path: str, body: bytes, headers: dict[str, str]) -> int:
    """Post, and hold the time that this process worked against the bound; the status."""
    began = time.process_time()
    answer = client.post(path, content=body, headers=headers)
    took = time.process_time() - began
    assert took < CPU_SECONDS, f"{path}: {took:.1f} s"
    assert answer.status_code in (200, 400, 403, 413), (path, answer.status_code, answer.text[:200])
    return answer.status_code


def test_mails(client: TestClient, home: Settings) -> None:
    """Guards against an e-mail whose parts or headers hold the whole service up for half a minute."""
    mark = f"ug.1.{SignatureTokens(home.home, 'smtp').sign('1')}"
    forged = f"ug.1.{'0' * 32}"
    for given_mark, bad in ((mark, (200, 400)), (forged, (400, 403))):
        for name, body in mails(given_mark.encode()).items():
            status = fast(client, "/smtp/dlr", body, {})
            assert status in bad, name
            assert fast(client, "/smtp/mo", body, {}) == 403, name
            assert fast(client, "/smtp/unguessable/mo", body, {}) in (200, 400), name
    hidden = base64.encodebytes(mails(mark.encode())["parts"])
    assert fast(client, "/smtp/dlr", b"A: b\r\n\r\n" + hidden, {}) == 200


@pytest.mark.parametrize("gateway", ["aliyun", "file", "webhook"])
@pytest.mark.parametrize("kind", ["dlr", "mo"])
def test_arrays(client: TestClient, home: Settings, gateway: str, kind: str) -> None:
    """Guards against entries that cost much to read, to compare or to keep."""
    out_id = (
        signed_out_id(SignatureTokens(home.home, "aliyun"), "1") if gateway == "aliyun" else "1"
    )
    names = {"phone_number": "from"} if gateway == "webhook" else {}
    entry: dict[str, object] = (
        {"out_id": out_id, "phone_number": "13855550101", "report_time": "x", "success": True}
        if kind == "dlr"
        else {"phone_number": "13855550101", "content": "TD", "sequence_id": "1", "sign_name": "s"}
    )
    if gateway == "webhook":
        entry["status"] = "delivered"
    paths = {
        "aliyun": "/aliyun/dlr",
        "file": f"/file/unguessable/{kind}",
        "webhook": f"/webhook/{kind}",
    }
    path = paths[gateway]
    if (gateway, kind) == ("aliyun", "mo"):
        up = urlsplit(dict(addresses(home, 1))["Aliyun SmsUp"])
        path = f"{up.path}?{up.query}"
    renamed = {names.get(key, key): value for key, value in entry.items()}
    keys = [*renamed] if gateway == "file" else [*renamed][:2]
    for body in arrays(renamed, keys).values():
        headers = {}
        if gateway == "webhook":
            now = str(int(time.time()))
            body = b'{"%s": %s}' % (b"receipts" if kind == "dlr" else b"replies", body)
            headers = {TIMESTAMP: now, SIGNATURE: sign("0123456789abcdef", now, body)}
        fast(client, path, body, headers)


def test_forms_and_queries(client: TestClient, home: Settings) -> None:
    """Guards against a form or a query that costs much, signed or not."""
    validator = pytest.importorskip("twilio.request_validator").RequestValidator("twilio-secret")
    tokens = SignatureTokens(home.home, "kannel")
    bad = [texts()[name] for name in ("accents", "surrogates", "chinese")]
    for kind, form in (
        ("mo", {"From": "+12125550142", "Body": "STOP", "MessageSid": "SM1"}),
        ("dlr", {"MessageSid": "SM1", "MessageStatus": "sent", "To": "+12125550142"}),
    ):
        for key in form:
            for value in bad:
                sent = {**form, key: str(value).encode("utf-8", "replace").decode()}
                signature = validator.compute_signature(f"{ROOT}/twilio/{kind}", sent)
                body = urlencode(sent).encode()
                typed = {"Content-Type": "application/x-www-form-urlencoded"}
                signed = {"X-Twilio-Signature": signature, **typed}
                fast(client, f"/twilio/{kind}", body, signed)
            assert fast(client, f"/twilio/{kind}", body, typed) == 403
    for name in ("from", "hex", "time", "coding", "id"):
        for value in ("9" * 9_000, "7f" * 4_500, "\u0315\u0300" * 1_000):
            query = {
                "mark": tokens.sign("replies"),
                "from": "+12125550142",
                "hex": "54",
                name: value,
            }
            assert fast(client, f"/kannel/mo?{urlencode(query)}", b"", {}) == 200
    for name in ("status", "answer", "time"):
        for value in ("9" * 9_000, "err:" * 2_000, "NACK/" + "A " * 4_000):
            query = {"mark": tokens.sign("1"), "out_id": "1", "status": "1", name: value}
            assert fast(client, f"/kannel/dlr?{urlencode(query)}", b"", {}) == 200
    for path in ("/twilio/mo", "/kannel/mo", "/smtp/mo", "/aliyun/up"):
        fields = "&".join(f"a{n}=1" for n in range(5_000))
        assert fast(client, f"{path}?{fields}", fields.encode(), {}) in (400, 403)


@profile(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    gateway=st.sampled_from(["aliyun", "twilio", "kannel", "smtp", "webhook", "file"]),
    kind=st.sampled_from(KINDS),
    token=st.sampled_from(["", "/unguessable", "/wrong", "/%00"]),
    unit=st.one_of(
        st.binary(min_size=1, max_size=12),
        st.sampled_from(
            [b'{"a":', b"[", b'",', b"=?", b"--\r\n", b"\r\n\r\n", b"a: b\r\n", b"&", b"%"]
        ),
    ),
    begin=st.sampled_from([b"", b"[", b'[{"content":"', b"From: a@b\r\n\r\n", b'{"receipts":[']),
    size=st.sampled_from([1, 100, SIZE]),
)
def test_anything_at_any_address(
    client: TestClient, gateway: str, kind: str, token: str, unit: bytes, begin: bytes, size: int
) -> None:
    """Guards against a body that nobody thought of: it ends soon, and never in "come again"."""
    body = (begin + unit * (size // len(unit) + 1))[:SIZE]
    fast(client, f"/{gateway}{token}/{kind}", body, {})
