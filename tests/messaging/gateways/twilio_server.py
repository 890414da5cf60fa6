"""Twilio's Messages resource: form posts with basic authentication, JSON back, pages of lists."""

import base64
import itertools
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, quote

from conformance import Mood
from http_provider import Answered, Provider, Request

ACCOUNT, TOKEN = "AC" + "0" * 32, "token-of-the-example"
ROOT = f"/2010-04-01/Accounts/{ACCOUNT}/Messages"
FROM = "+12125550100"


class Twilio(Provider):
    """The endpoint. ``refusal`` (HTTP status, Twilio's code) is the answer in the moods DEFER, STOP
    and REFUSE_ONE; ``bad`` is the number that REFUSE_ONE is about."""

    def __init__(self) -> None:
        super().__init__()
        self.refusal = (400, 21211)
        self.sender = {"From": FROM}
        self.callback = "https://ug.example/twilio/dlr?out_id="
        self.messages: list[dict[str, Any]] = []
        self.numbers = itertools.count(1)
        self.delay = timedelta(0)

    def handle(self, request: Request) -> Answered:
        """Create, fetch and list."""
        given = base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()
        if request.headers["authorization"] != f"Basic {given}":
            return refusal(401, 20003)
        assert request.headers["accept"] == "application/json"
        if request.method == "POST":
            assert request.path == f"{ROOT}.json" and not request.query
            return self._create(request)
        assert request.method == "GET" and not request.body
        if request.path == f"{ROOT}.json":
            return self._list(dict(request.query))
        sid = request.path.removeprefix(f"{ROOT}/").removesuffix(".json")
        matches = [one for one in self.messages if one["sid"] == sid]
        return Answered(200, matches[0]) if matches else refusal(404, 20404)

    def _create(self, request: Request) -> Answered:
        assert request.headers["content-type"] == "application/x-www-form-urlencoded"
        pairs = parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True)
        form = dict(pairs)
        assert len(form) == len(pairs)
        assert set(form) == {"To", "Body", "StatusCallback", *self.sender}
        assert {key: form[key] for key in self.sender} == self.sender
        assert re.fullmatch(r"\+[1-9]\d{6,14}", form["To"])
        assert 0 < len(form["Body"]) <= 1600
        assert re.fullmatch(re.escape(self.callback) + r"\d+", form["StatusCallback"])
        self.attempts.append(form["To"])
        if self.mood in (Mood.DEFER, Mood.STOP) or (
            self.mood is Mood.REFUSE_ONE and form["To"] == self.bad
        ):
            return refusal(*self.refusal, submission=True)
        made = self.make(form["To"], form["Body"])
        if self.takes:
            self.taken.append(form["To"])
            self.texts[form["To"]] = form["Body"]
            self.messages.insert(0, made)
        return Answered(201, made, True)

    def make(self, to: str, body: str, **other: Any) -> dict[str, Any]:
        """A message, as the API shows it."""
        sid = f"SM{next(self.numbers):032x}"
        now = format_datetime(datetime.now(UTC) - self.delay)
        return {
            "sid": sid,
            "account_sid": ACCOUNT,
            "to": to,
            "from": self.sender.get("From"),
            "messaging_service_sid": self.sender.get("MessagingServiceSid"),
            "body": body,
            "status": "queued",
            "direction": "outbound-api",
            "date_created": now,
            "date_updated": now,
            "date_sent": None,
            "error_code": None,
            "error_message": None,
            "num_segments": "1",
            "num_media": "0",
            "price": None,
            "price_unit": "USD",
            "api_version": "2010-04-01",
            "uri": f"{ROOT}/{sid}.json",
            "subresource_uris": {},
            **other,
        }

    def _list(self, query: dict[str, str]) -> Answered:
        assert set(query) <= {"To", "PageSize", "Page", "PageToken"}, query
        size, page = int(query["PageSize"]), int(query.get("Page", "0"))
        assert 1 <= size <= 1000
        matches = [one for one in self.messages if one["to"] == query["To"]]
        more = len(matches) > (page + 1) * size
        next_page = f"{ROOT}.json?To={quote(query['To'])}&PageSize={size}&Page={page + 1}"
        return Answered(
            200,
            {
                "messages": matches[page * size : (page + 1) * size],
                "page": page,
                "page_size": size,
                "start": page * size,
                "end": page * size + size - 1,
                "uri": f"{ROOT}.json",
                "first_page_uri": f"{ROOT}.json",
                "previous_page_uri": None,
                "next_page_uri": next_page if more else None,
            },
        )


def refusal(status: int, code: int, submission: bool = False) -> Answered:
    """An error in Twilio's form."""
    content = {"code": code, "message": "…", "more_info": "…", "status": status}
    return Answered(status, content, submission)
