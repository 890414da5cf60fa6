"""Answers of a receiver that misbehaves, as bytes on the wire, made of what it would rightly say."""

import json
import time
import zlib
from collections.abc import Iterator
from typing import Any

Entries = list[dict[str, Any]]

_POISON = {
    "nan": float("nan"),
    "infinite": float("-inf"),
    "huge_number": -(10**400),
    "surrogate": "\ud800",
    "nul": "a\0b",
    "control": "\x1b[2J\u202e",
    "nested": [[[{"a": [None]}]]],
    "long": "x" * 300_000,
}
HOSTILE = (
    *("contrary", "contrary_reversed", "contrary_key", "contrary_status", "doubled", "foreign"),
    *("endless", "endless_head", "drip", "drip_head", "packed", *_POISON),
)


def hostile_response(fault: str, honest: Entries) -> Iterator[bytes]:
    """The whole response to a submission; it may never end."""
    contrary = [{**one, "answer": "deferred", "retry_after": 0.01} for one in honest]
    if fault == "contrary":
        entries = [each for pair in zip(honest, contrary, strict=True) for each in pair]
    elif fault == "contrary_reversed":
        entries = [*contrary, *honest]
    elif fault == "foreign":
        entries = [*honest, *({**one, "out_id": f"9{one['out_id']}"} for one in honest)]
    elif fault == "doubled":
        entries = [*honest, *honest]
    elif fault in _POISON:
        value = _POISON[fault]
        entries = [
            {**one, "code": value, "request_id": value, "retry_after": value} for one in honest
        ]
        entries += [{"out_id": value, "answer": "accepted"}]
    else:
        entries = honest
    body = json.dumps({"results": entries}).encode()
    if fault == "contrary_key":
        body = body.replace(b'"answer": ', b'"answer": "deferred", "answer": ')
    yield from _sent(fault, body)


def hostile_findings(fault: str, honest: Entries) -> Iterator[bytes]:
    """The whole response to a look-up."""
    entries = honest
    if fault.startswith("contrary"):
        entries = [*honest, *({**one, "found": "rejected"} for one in honest)]
    elif fault == "doubled":
        entries = [*honest, *honest]
    elif fault in _POISON:
        value = _POISON[fault]
        entries = [{**one, "code": value, "request_id": value} for one in honest]
        entries += [{"out_id": value, "found": value}]
    yield from _sent(fault, json.dumps({"results": entries}).encode())


def _sent(fault: str, body: bytes) -> Iterator[bytes]:
    status = b"429 X" if fault == "contrary_status" else b"200 OK"
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\n" % status
    if fault == "packed":
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        body = packer.compress(body + b" " * 20_000_000) + packer.flush()
        head += b"Content-Encoding: gzip\r\n"
    if fault in ("endless", "endless_head"):
        yield head if fault == "endless_head" else head + b"\r\n" + body[:-1]
        while True:
            yield b"X-More: 1\r\n" * 2_000
    whole = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    if not fault.startswith("drip"):
        yield whole
        return
    fast = 0 if fault == "drip_head" else whole.index(b"\r\n\r\n") + 4
    yield whole[:fast]
    for byte in whole[fast:]:
        time.sleep(0.05)
        yield bytes([byte])
