"""The gateway class of the provider process: one call a batch, no retries, a short patience."""

import http.client
import json
from collections.abc import Sequence
from typing import Any

from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Callback,
    Finding,
    Found,
    Inquiry,
    OutBatch,
    Receipt,
    Reply,
    Result,
)

NAME = "crash"
RETRY = 0.05


class HttpGateway:
    """Talks to ``gateway_process.py``.

    Args:
        port: where it listens.
        world: whose messages these are.
        max_batch: most messages in one call.
        timeout: seconds that a call may take.
    """

    name = NAME
    rate: float | None = None

    def __init__(self, port: int, world: str, max_batch: int, timeout: float) -> None:
        self.port, self.world, self.max_batch, self.timeout = port, world, max_batch, timeout
        self.connection: http.client.HTTPConnection | None = None

    def call(self, action: str, body: Any) -> Any:
        """One request; whatever is not a whole good answer is raised."""
        connection = self.connection or http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=self.timeout
        )
        self.connection = None
        try:
            data = json.dumps(body).encode()
            connection.request("POST", f"/{self.world}/{action}", data)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise ConnectionError(f"status {answer.status}")
            document = json.loads(text)
        except BaseException:
            connection.close()
            raise
        self.connection = connection
        return document

    def submit(self, batch: OutBatch) -> Sequence[Result]:
        """Hand a batch over."""
        messages = [{"out_id": m.out_id, "phone": m.phone, "text": m.text} for m in batch.messages]
        shared = {"batch_id": batch.batch_id, "code": batch.template_code}
        document = self.call("submit", {**shared, "messages": messages})
        return [
            Result(out_id, Answer(answer), code, request, RETRY)
            for out_id, answer, code, request in document["results"]
        ]

    def look_up(self, inquiries: Sequence[Inquiry]) -> Sequence[Finding]:
        """Ask what was accepted."""
        answer = self.call("look_up", {"out_ids": [one.out_id for one in inquiries]})
        known = set(answer["accepted"])
        return [
            Finding(one.out_id, Found.ACCEPTED if one.out_id in known else Found.NOT_FOUND)
            for one in inquiries
        ]

    def parse_receipts(self, callback: Callback) -> Sequence[Receipt]:
        """The crash test makes its receipts itself."""
        return []

    def parse_replies(self, callback: Callback) -> Sequence[Reply]:
        """It has no replies."""
        return []
