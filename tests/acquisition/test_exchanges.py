"""What exchanges send and are answered, byte by byte, without our own messages."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from support.rta_service import policy

from usergrowth_dagster.acquisition.adapters.base import MalformedError
from usergrowth_dagster.acquisition.adapters.generic import Generic
from usergrowth_dagster.acquisition.adapters.mapped import read_mapped
from usergrowth_dagster.acquisition.adapters.openrtb import OpenRtb
from usergrowth_dagster.acquisition.adapters.tencent import Tencent
from usergrowth_dagster.acquisition.decide import Decider
from usergrowth_dagster.acquisition.devices import Device, hashed
from usergrowth_dagster.errors import UserError

RULES = policy(
    strategies=[{"name": "new", "target": "T1", "device": "any", "factor": 1.5}, {"name": "plain"}]
)
REJECTS = policy(strategies=[{"name": "old", "device": "known"}])


def field(number: int, value: bytes | int | str) -> bytes:
    """A field as protobuf's wire format writes it; numbers and lengths under 2**14."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128, value >> 7])


def fields(content: bytes) -> list[tuple[int, Any]]:
    """The fields of a message by number; texts and messages as bytes."""
    read, at = [], 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = content[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(content):
        tag = number()
        if tag & 7 == 0:
            read.append((tag >> 3, number()))
        elif tag & 7 == 5:
            read.append((tag >> 3, struct.unpack_from("<f", content, at)[0]))
            at += 4
        else:
            size = number()
            read.append((tag >> 3, content[at : at + size]))
            at += size
    return read


def test_tencent_by_the_numbers_of_its_fields() -> None:
    """Guards against a schema of ours that only we understand, and an id that the exchange doubts."""
    ids = {2: "idfa", 3: "imei", 4: "android_id", 5: "mac", 6: "oaid"}
    md5 = {number: hashed("mac", str(number)) for number in ids}
    qaid = field(1, 2) + field(2, "caid-plain") + field(3, "20230330")
    device = b"".join(field(number, value) for number, value in md5.items())
    device += field(1, 2) + field(7, "192.0.2.1") + field(9, 1) + field(9, 3) + field(13, qaid)
    body = field(1, "r-1") + field(5, device) + field(9, field(1, 301)) + field(9, field(1, 302))
    adapter = Tencent()
    ask = adapter.read(body + field(6, 25) + field(19, 1000) + field(200, b"later"))
    assert (ask.id, ask.ping, ask.experiments) == ("r-1", False, ["301", "302"])
    right = {
        Device(kind, md5[number]) for number, kind in ids.items() if kind not in ("imei", "mac")
    }  # type: ignore[arg-type]
    assert set(ask.devices) == right | {Device("caid", hashed("caid", "caid-plain"))}
    packed = field(1, "r-2") + field(5, device + field(9, bytes([0, 5, 6])))
    assert {one.kind for one in adapter.read(packed).devices} == {"android_id"}

    decision = Decider(RULES, lambda: None).decide(ask.devices, ask.experiments, 0.0)
    reply = adapter.write(ask, decision, 3)
    said = fields(reply.content)
    assert (reply.status, said[0]) == (200, (1, b"r-1"))
    assert (2, 0) in said and (4, 3) in said and (7, 600) in said
    assert [value for number, value in said if number == 10] == [b"T1", b"plain"]
    assert [fields(value) for number, value in said if number == 12] == [[(1, b"T1"), (6, 1.5)]]
    refused = Decider(REJECTS, lambda: None).decide(ask.devices, [], 0.0)
    said = fields(adapter.write(ask, refused, 0).content)
    assert dict(said)[2] == 1 and dict(said)[7] == 3600 and 10 not in dict(said)
    assert fields(adapter.shed.content) == [(2, 1)]
    ping = adapter.read(field(1, "p") + field(2, 1))
    assert ping.ping and fields(adapter.pong(ping).content) == [(1, b"p"), (2, 0)]


def test_json_of_plain_and_hashed_ids() -> None:
    """Guards against a plain id that is looked up as a hash, and a strategy nobody asked about."""
    adapter = Generic()
    sent = {
        "reqId": "r",
        "rtaIds": ["T1"],
        "expIds": ["7"],
        "dids": [
            {"type": "IDFA", "did": "ab-cd"},
            {"type": "OAID", "secure": "md5", "did": hashed("oaid", "x").upper()},
            {"type": "IMEI", "secure": "SHA256", "did": "00" * 32},
            {"type": "COOKIE", "did": "x"},
            {"type": "MAC", "did": ""},
        ],
    }
    ask = adapter.read(json.dumps(sent).encode())
    assert ask.devices == [
        Device("idfa", hashed("idfa", "AB-CD")),
        Device("oaid", hashed("oaid", "x")),
    ]
    decision = Decider(RULES, lambda: None).decide(ask.devices, ask.experiments, 0.0, ask.targets)
    assert json.loads(adapter.write(ask, decision, 0).content) == {
        "reqId": "r",
        "result": {"success": True, "data": [{"rtaId": "T1", "factor": 1.5}], "cacheSeconds": 600},
    }
    odd = adapter.read(b'{"reqId": "\\ud800", "dids": [{"type": "OAID", "did": "\\ud800"}]}')
    assert len(odd.devices) == 1 and json.loads(adapter.pong(odd).content)["reqId"] == "\ud800"
    nothing = Decider(RULES, lambda: None).decide(ask.devices, [], 0.0, frozenset({"other"}))
    assert json.loads(adapter.write(ask, nothing, 0).content)["result"]["data"] == []


def test_openrtb_respects_who_limits_tracking() -> None:
    """Guards against ids that are read although a person said no, and a bid without a factor."""
    adapter = OpenRtb()
    sent: dict[str, Any] = {
        "id": "1",
        "device": {"ifa": "ab", "os": "iOS", "didmd5": hashed("imei", "1")},
    }
    ask = adapter.read(json.dumps(sent).encode())
    assert ask.devices == [
        Device("idfa", hashed("idfa", "AB")),
        Device("imei", hashed("imei", "1")),
    ]
    sent["device"] |= {"os": "Android"}
    assert adapter.read(json.dumps(sent).encode()).devices[0] == Device(
        "oaid", hashed("oaid", "ab")
    )
    reply = adapter.write(ask, Decider(RULES, lambda: None).decide(ask.devices, [], 0.0), 0)
    said = {"strategies": ["T1", "plain"], "factor": 1.5, "cache_seconds": 600}
    assert (reply.status, json.loads(reply.content)) == (200, {"id": "1", "ext": {"rta": said}})
    rejected = adapter.write(ask, Decider(REJECTS, lambda: None).decide([], [], 0.0), 0)
    assert (rejected.status, rejected.content) == (204, b"")
    sent["device"] |= {"lmt": 1}
    assert adapter.read(json.dumps(sent).encode()).devices == []


MAPPING = """
request:
  id: req.id
  experiments: req.exps
  ping: {path: req.type, equals: 0}
  devices:
    - {path: device.oaid_md5, kind: oaid, hashed: true}
    - {path: device.idfa, kind: idfa}
response:
  accept: {id: $id, code: 0, said: {list: $strategies, by: [$factor]}, ttl: $cache_seconds}
  reject: {code: 1, note: none}
  pong: {id: $id}
"""


def test_a_mapping_file_makes_an_exchange(tmp_path: Path) -> None:
    """Guards against a file whose answers are not what it says, and a value that nothing gives."""
    (tmp_path / "other.yml").write_text(MAPPING)
    (adapter,) = read_mapped(tmp_path, ["json"])
    device = {"oaid_md5": hashed("oaid", "x"), "idfa": "ab"}
    body = {"req": {"id": 12, "exps": [7, "8"], "type": 1}, "device": device}
    ask = adapter.read(json.dumps(body).encode())
    right = [Device("oaid", hashed("oaid", "x")), Device("idfa", hashed("idfa", "AB"))]
    assert (ask.id, ask.experiments, ask.ping, ask.devices) == ("12", ["7", "8"], False, right)
    reply = adapter.write(ask, Decider(RULES, lambda: None).decide(ask.devices, [], 0.0), 0)
    said = {"list": ["T1", "plain"], "by": [1.5]}
    assert json.loads(reply.content) == {"id": "12", "code": 0, "said": said, "ttl": 600}
    rejected = adapter.write(ask, Decider(REJECTS, lambda: None).decide([], [], 0.0), 0)
    assert rejected == adapter.shed and json.loads(rejected.content) == {"code": 1, "note": "none"}
    ping = adapter.read(b'{"req": {"type": 0, "id": "p"}}')
    assert ping.ping and json.loads(adapter.pong(ping).content) == {"id": "p"}
    assert adapter.read(b'{"req": [], "device": 3}').devices == []
    for broken in (b"[]", b"{", b'{"req": {"id": {}}}', b'{"device": {"idfa": [1]}}'):
        with pytest.raises(MalformedError):
            adapter.read(broken)
    with pytest.raises(UserError, match="other is read without a file"):
        read_mapped(tmp_path, ["other"])
    (tmp_path / "other.yml").write_text(MAPPING.replace("$cache_seconds", "$ttl"))
    with pytest.raises(UserError, match=r"other\.yml: response\.accept: \$ttl stands for nothing"):
        read_mapped(tmp_path, [])


@pytest.mark.parametrize(
    ("adapter", "content"),
    [
        (Tencent(), b"\xff\xff\xff"),
        (Tencent(), field(1, b"\xff")[:-1]),
        (Tencent(), b"{}"),
        (Generic(), b"[]"),
        (Generic(), b"\x80"),
        (Generic(), b"[" * 100_000),
        (Generic(), b'{"dids": {}}'),
        (Generic(), b'{"dids": [1]}'),
        (Generic(), b'{"dids": [{"type": 1}]}'),
        (Generic(), b'{"rtaIds": "T1"}'),
        (Generic(), json.dumps({"dids": [{}] * 11}).encode()),
        (OpenRtb(), b"{}"),
        (OpenRtb(), b'{"id": "1", "device": []}'),
        (OpenRtb(), b'{"id": "1", "device": {"ifa": 5}}'),
    ],
)
def test_what_is_no_request_is_malformed_and_says_nothing_of_it(
    adapter: Any, content: bytes
) -> None:
    """Guards against a stranger's bytes that end in a traceback, or in a log."""
    with pytest.raises(MalformedError) as error:
        adapter.read(content)
    assert len(str(error.value)) < 60 and error.value.__suppress_context__ | (
        error.value.__cause__ is None
    )
