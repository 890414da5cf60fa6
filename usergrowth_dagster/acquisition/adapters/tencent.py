"""Tencent Ads' RTA: protobuf over HTTP, at most 60 ms from its sending to its receipt.

A rejection has the code 1. Every accepting strategy is an ``out_target_id``; one with a factor has
a ``target_infos``, too. The exchange keeps a weight factor within its own bounds.
"""

from google.protobuf.message import DecodeError

from usergrowth_dagster.acquisition.adapters.base import Ask, MalformedError, Reply
from usergrowth_dagster.acquisition.adapters.tencent_pb2 import Request, Response
from usergrowth_dagster.acquisition.decide import Decision
from usergrowth_dagster.acquisition.devices import Device, Kind, device, hashed

_REJECTED = 1
_FIELDS: tuple[tuple[Kind, str, frozenset[int]], ...] = (
    ("idfa", "idfa_md5sum", frozenset({0})),
    ("imei", "imei_md5sum", frozenset({1})),
    ("android_id", "android_id_md5sum", frozenset({2})),
    ("mac", "mac_md5sum", frozenset({3})),
    ("oaid", "oaid_md5sum", frozenset({4, 5})),
)
"""By kind, the field of the MD5 and the marks by which the exchange doubts it."""
_DOUBTFUL_QAID = 6


class Tencent:
    """The adapter."""

    name = "tencent"
    content_type = "application/x-protobuf"
    shed = Reply(200, Response(code=_REJECTED).SerializeToString())

    def read(self, content: bytes) -> Ask:
        """What a body asks.

        Raises:
            MalformedError: it is no such message.
        """
        try:
            request = Request.FromString(content)
        except DecodeError:
            raise MalformedError("the body is no RtaRequest") from None
        experiments = [str(one.exp_id) for one in request.exps]
        return Ask(request.id, _devices(request.device), experiments, request.is_ping)

    def pong(self, ask: Ask) -> Reply:
        """Only the id and the code."""
        return Reply(200, Response(request_id=ask.id, code=0).SerializeToString())

    def write(self, ask: Ask, decision: Decision, milliseconds: int) -> Reply:
        """The answer, with the strategies that accept."""
        response = Response(
            request_id=ask.id,
            code=0 if decision.accept else _REJECTED,
            processing_time_ms=milliseconds,
            response_cache_time=decision.cache_seconds,
            out_target_id=[one.id for one in decision.hits],
        )
        for one in decision.hits:
            if one.factor is not None and decision.factor is not None:
                response.target_infos.add(out_target_id=one.id, user_weight_factor=one.factor)
        return Reply(200, response.SerializeToString())


def _devices(sent: Request.Device) -> list[Device]:
    """The ids that the exchange does not doubt."""
    doubtful = frozenset(sent.doubtful_ids_list)
    read = [
        device(kind, md5)
        for kind, field, marks in _FIELDS
        if (md5 := getattr(sent, field)) and doubtful.isdisjoint(marks)
    ]
    if _DOUBTFUL_QAID not in doubtful:
        for one in sent.qaid_infos:
            read.append(device("caid", one.qaid_md5sum or hashed("caid", one.qaid)))
    return [one for one in read if one is not None]
