"""Aliyun's SMS endpoint: RPC style over HTTP, signed with ACS3-HMAC-SHA256.

The signature is made anew from the request by the provider's published rule (canonical request,
hashed, HMAC with the access key's secret), without any code of the SDK.
"""

import hashlib
import hmac
import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote
from zoneinfo import ZoneInfo

from conformance import Mood
from http_provider import Answered, Provider, Request

KEY_ID, SECRET = "LTAI5tExampleOnly", "secret-of-the-example"
ZONE = ZoneInfo("Asia/Shanghai")
_AUTHORIZATION = re.compile(
    r"ACS3-HMAC-SHA256 Credential=([^,]+),SignedHeaders=([^,]+),Signature=([0-9a-f]{64})"
)
_NUMBER = re.compile(r"1\d{10}|[2-9]\d{6,14}")
BATCH = {"PhoneNumberJson", "SignNameJson", "TemplateParamJson"}


def signature(request: Request, signed: list[str], secret: str) -> str:
    """The signature that a request must have."""

    def encode(text: str) -> str:
        return quote(text, safe="-_.~")

    query = "&".join(f"{encode(key)}={encode(value)}" for key, value in sorted(request.query))
    canonical = "\n".join(
        [
            request.method,
            request.path,
            query,
            "".join(f"{name}:{request.headers[name].strip()}\n" for name in signed),
            ";".join(signed),
            hashlib.sha256(request.body).hexdigest(),
        ]
    )
    to_sign = f"ACS3-HMAC-SHA256\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    return hmac.new(secret.encode(), to_sign.encode(), hashlib.sha256).hexdigest()


class Aliyun(Provider):
    """The endpoint. ``refusal`` (HTTP status, code, sentence) is the answer in the moods DEFER,
    STOP and REFUSE_ONE; ``bad`` holds the numbers that REFUSE_ONE is about."""

    def __init__(self) -> None:
        super().__init__()
        self.refusal = (200, "isv.MOBILE_NUMBER_ILLEGAL", "illegal number")
        self.bads: set[str] = set()
        self.nonces: Counter[str] = Counter()
        self.details: list[dict[str, Any]] = []
        self.calls: list[int] = []
        self.values: dict[str, dict[str, str]] = {}
        self.pages = 0

    def handle(self, request: Request) -> Answered:
        """SendBatchSms and QuerySendDetails."""
        self._authorize(request)
        query = dict(request.query)
        assert len(query) == len(request.query)
        if request.headers["x-acs-action"] == "SendBatchSms":
            return self._send(query, request)
        assert request.headers["x-acs-action"] == "QuerySendDetails"
        return self._query(query, request)

    def _authorize(self, request: Request) -> None:
        assert (request.method, request.path) == ("POST", "/")
        headers = request.headers
        assert headers["x-acs-version"] == "2017-05-25"
        assert headers["x-acs-content-sha256"] == hashlib.sha256(request.body).hexdigest()
        when = datetime.strptime(headers["x-acs-date"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        assert abs(datetime.now(UTC) - when) < timedelta(minutes=15)
        self.nonces[headers["x-acs-signature-nonce"]] += 1
        assert max(self.nonces.values()) == 1
        assert "x-acs-retry-attempts" not in headers
        match = _AUTHORIZATION.fullmatch(headers["authorization"])
        assert match and match[1] == KEY_ID
        signed = match[2].split(";")
        assert signed == sorted(signed)
        must = {"host", *(name for name in headers if name.startswith("x-acs-"))}
        must |= {"content-type"} if request.body else set()
        assert must <= set(signed)
        assert hmac.compare_digest(match[3], signature(request, signed, SECRET))

    def _send(self, query: dict[str, str], request: Request) -> Answered:
        assert request.headers["content-type"] == "application/x-www-form-urlencoded"
        pairs = parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True)
        body = dict(pairs)
        assert len(body) == len(pairs)
        assert set(body) == BATCH and set(query) == {"OutId", "TemplateCode"}
        numbers, signs, values = (json.loads(body[key]) for key in sorted(BATCH))
        assert 1 <= len(numbers) == len(signs) == len(values) <= 100
        assert len(set(numbers)) == len(numbers) and all(_NUMBER.fullmatch(n) for n in numbers)
        assert all(2 <= len(sign) <= 12 for sign in signs)
        assert all(
            isinstance(text, str) and len(text) <= 35 for value in values for text in value.values()
        )
        assert len(query["OutId"]) < 256 and re.fullmatch(r"\w+", query["TemplateCode"])
        self.calls.append(len(numbers))
        refused = self.mood in (Mood.DEFER, Mood.STOP) or (
            self.mood is Mood.REFUSE_ONE and self.bads & set(numbers)
        )
        if not refused or self.mood is not Mood.REFUSE_ONE:
            self.attempts += numbers  # halves of a refused batch come again, on purpose
        if refused:
            status, code, message = self.refusal
            return Answered(status, {"Code": code, "Message": message, "RequestId": "R-0"}, True)
        biz_id = f"{len(self.calls):018d}^0"
        if self.takes:
            self.taken += numbers
            for number, value in zip(numbers, values, strict=True):
                self.texts[number] = value["name"]
                self.values[number] = value
                self.details.append(
                    {
                        "PhoneNum": number,
                        "SendStatus": 1,
                        "OutId": query["OutId"],
                        "SendDate": f"{datetime.now(ZONE):%Y-%m-%d %H:%M:%S}",
                        "TemplateCode": query["TemplateCode"],
                        "Content": value["name"],
                    }
                )
        return Answered(
            200, {"Code": "OK", "Message": "OK", "BizId": biz_id, "RequestId": "R-1"}, True
        )

    def _query(self, query: dict[str, str], request: Request) -> Answered:
        assert not request.body
        assert set(query) == {"PhoneNumber", "SendDate", "PageSize", "CurrentPage"}
        day = datetime.strptime(query["SendDate"], "%Y%m%d").replace(tzinfo=ZONE)
        # shortly before midnight a look-up names the day to come as well
        assert timedelta(minutes=-15) <= datetime.now(ZONE) - day < timedelta(days=31)
        size, page = int(query["PageSize"]), int(query["CurrentPage"])
        assert 1 <= size <= 50 <= size * 50 and page >= 1
        self.pages += 1
        details = [
            one
            for one in self.details
            if one["PhoneNum"] == query["PhoneNumber"] and one["SendDate"][:10] == f"{day:%Y-%m-%d}"
        ]
        some = details[(page - 1) * size : page * size]
        return Answered(
            200,
            {
                "Code": "OK",
                "Message": "OK",
                "RequestId": "R-2",
                "TotalCount": str(len(details)),
                "SmsSendDetailDTOs": {"SmsSendDetailDTO": some},
            },
        )
