"""A receiver of the webhook gateway's batches, made after its documentation alone."""

import hashlib
import hmac
import json
import time
from datetime import datetime
from typing import Any

from conformance import Mood
from http_provider import Answered, Provider, Request

SECRET = "secret-of-the-example"


def headers(body: bytes, secret: str = SECRET, timestamp: int | None = None) -> dict[str, str]:
    """The headers of a signed request."""
    moment = str(int(time.time()) if timestamp is None else timestamp)
    mac = hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"X-Usergrowth-Timestamp": moment, "X-Usergrowth-Signature": f"v1={mac}"}


class Receiver(Provider):
    """The receiver. ``refusal`` is the status of everything in the moods DEFER and STOP."""

    def __init__(self) -> None:
        super().__init__()
        self.refusal: tuple[int, dict[str, str]] = (429, {"Retry-After": "7"})
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}
        self.keys: list[str] = []
        self.shared: dict[str, dict[str, Any]] = {}
        self.override: Any = None

    def handle(self, request: Request) -> Answered:
        """Batches at /hook, look-ups at /hook/lookup."""
        assert request.method == "POST" and dict(request.query) == {"tenant": "a"}
        assert request.headers["content-type"] == "application/json"
        moment = int(request.headers["x-usergrowth-timestamp"])
        assert abs(time.time() - moment) < 30
        right = headers(request.body, timestamp=moment)["X-Usergrowth-Signature"]
        assert hmac.compare_digest(request.headers["x-usergrowth-signature"], right)
        content = json.loads(request.body)
        if request.path == "/hook/lookup":
            return self._look_up(content)
        assert request.path == "/hook"
        assert request.headers["idempotency-key"] == content["batch_id"]
        return self._take(content)

    def _take(self, content: dict[str, Any]) -> Answered:
        shared = {"batch_id", "schedule", "occurrence", "channel", "signature", "subject"}
        shared |= {"template_code", "template_type", "submitted_time", "messages"}
        assert set(content) == shared
        assert datetime.fromisoformat(content["submitted_time"]).tzinfo is not None
        messages = content["messages"]
        for message in messages:
            assert set(message) == {"out_id", "user_id", "to", "text", "params", "segments"}
            self.attempts.append(message["to"])
        if self.mood in (Mood.DEFER, Mood.STOP):
            status, more = self.refusal
            return Answered(status, {}, True, more)
        self.keys.append(content["batch_id"])
        assert len(set(self.keys)) == len(self.keys), "a key came twice"
        self.shared[content["batch_id"]] = {
            name: content[name] for name in ("template_code", "subject")
        }
        results = []
        for message in messages:
            if self.mood is Mood.REFUSE_ONE and message["to"] == self.bad:
                results.append({"out_id": message["out_id"], "answer": "rejected", "code": "no"})
                continue
            results.append({"out_id": message["out_id"], "answer": "accepted", "request_id": "r"})
            if self.takes:
                self.taken.append(message["to"])
                self.texts[message["to"]] = message["text"]
                self.rows[content["batch_id"], message["out_id"]] = message
        return Answered(200, self.override or {"results": results}, True)

    def _look_up(self, content: dict[str, Any]) -> Answered:
        results = []
        for asked in content["messages"]:
            assert set(asked) == {"out_id", "batch_id", "to", "request_id"}
            row = self.rows.get((asked["batch_id"], asked["out_id"]))
            fate = "accepted" if row and row["to"] == asked["to"] else "not_found"
            results.append({"out_id": asked["out_id"], "found": fate, "request_id": "r"})
        return Answered(200, {"results": results})
