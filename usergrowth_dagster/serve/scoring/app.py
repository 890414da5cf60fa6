"""The ASGI application: reads a request, finds its door and service, and writes the answer.

=====  =========================================================================================
200    every row is answered
400    malformed, an unknown or missing feature, a wrong type; the sentence names them
401    no valid token of the service; 404: no such address, service or version; 405: wrong method
408    the body did not come in time; 413: too long, or too many rows; 415: not said to be JSON
429    more requests than a service takes; 503: no version is loaded, or the tables have no features
=====  =========================================================================================

Every answer names the request; one with scores or items also names the model, its version and the
date of the features. No line of the log and no error holds a value of a feature, an id or a token.
"""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from urllib.parse import parse_qsl

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.monitoring.scoring_figures import OTHER, ScoringFigures
from usergrowth_dagster.recommend.definition import SERVICE as RECOMMEND
from usergrowth_dagster.serve.scoring import (
    eas,
    inference_v2,
    invocations,
    native,
    personalize,
    recommend_doors,
)
from usergrowth_dagster.serve.scoring.callers import Pace, Tokens
from usergrowth_dagster.serve.scoring.exchange import Answer, Refusal, Request, Scored
from usergrowth_dagster.serve.scoring.inference_v2 import dumped
from usergrowth_dagster.serve.scoring.recommending import Recommending
from usergrowth_dagster.serve.scoring.services import Pair, Services
from usergrowth_dagster.serve.scoring.shadow import Shadow
from usergrowth_dagster.serve.scoring.stored import StoredFeatures

LOG = logging.getLogger("usergrowth.scoring")
Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

_INLINE_BYTES = 32 << 10
"""A longer body is read and scored beside the loop, so that short requests do not wait for it."""
_PASSED_OVER = 4
"""Times the limit that are read of a longer body: a caller who still sends reads no answer."""
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_OPEN = ("v2_server", "live", "ready", "release")
"""Doors that need no token: they say nothing of a model."""
_DOORS = (
    *recommend_doors.DOORS,
    ("eas", "POST", re.compile(r"/api/predict/(?P<service>[^/]+)/?")),
    ("invocations", "POST", re.compile(r"/invocations")),
    (
        "v2",
        "POST",
        re.compile(r"/v2/models/(?P<service>[^/]+)(/versions/(?P<version>[^/]+))?/infer"),
    ),
    ("native", "POST", re.compile(r"/v1/score/(?P<service>[^/]+)")),
    (
        "v2_ready",
        "GET",
        re.compile(r"/v2/models/(?P<service>[^/]+)(/versions/(?P<version>[^/]+))?/ready"),
    ),
    (
        "v2_model",
        "GET",
        re.compile(r"/v2/models/(?P<service>[^/]+)(/versions/(?P<version>[^/]+))?"),
    ),
    ("v2_server", "GET", re.compile(r"/v2/?")),
    ("live", "GET", re.compile(r"/v2/health/live")),
    ("ready", "GET", re.compile(r"/v2/health/ready|/ping|/health")),
    ("release", "GET", re.compile(r"/version")),
)


@dataclass(frozen=True)
class Limits:
    """What a request may cost.

    Attributes:
        rows: of one request.
        body: bytes of one request.
        body_seconds: in which a body must come.
        answer_seconds: in which a query of the tables must be answered.
    """

    rows: int = 1_000
    body: int = 4 << 20
    body_seconds: float = 10.0
    answer_seconds: float = 10.0


@dataclass
class App:
    """The application.

    Attributes:
        services: the versions that answer.
        tokens: of their callers.
        stored: the features in the tables.
        shadow: scores again what was answered.
        figures: counts what was answered.
        pace: requests a second.
        today: the business date.
        recommending: answers with items; None: that service was not asked for.
        limits: of one request.
        names: the outputs of the door of EAS.
    """

    services: Services
    tokens: Tokens
    stored: StoredFeatures
    shadow: Shadow
    figures: ScoringFigures
    pace: Pace
    today: Callable[[], date]
    recommending: Recommending | None = None
    limits: Limits = Limits()
    names: tuple[str, str, str] = eas.NAMES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        asked = headers.get("x-request-id", "")
        made = _Outcome(asked if _REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex)
        try:
            await self._answer_into(made, scope, headers, receive)
        except Refusal as refusal:
            made.refuse(scope["path"], refusal.status, refusal.sentence, refusal.after)
        except UserError as error:
            status = 400 if error.code == "rows.refused" else 503
            made.refuse(scope["path"], status, str(error))
        except Exception as error:  # its text might hold what was sent
            LOG.error("a request failed with %s", type(error).__name__)
            made.refuse(scope["path"], 500, "this could not be answered")
        await _write(send, made)
        took = time.perf_counter() - made.began
        self.figures.answered(made.service, made.door, made.status, made.rows, took)
        line = (made.door, made.service, made.status, made.rows, took * 1000)
        level = logging.DEBUG if made.door in _OPEN else logging.INFO  # probes ask without end
        LOG.log(level, "%s %s %d, %d rows, %.1f ms", *line)

    async def _answer_into(
        self, made: "_Outcome", scope: Scope, headers: Mapping[str, str], receive: Receive
    ) -> None:
        """Find the door and the service of a request, and put the answer into its outcome.

        Who calls is asked before the body is read: a stranger's body costs nothing.

        Raises:
            Refusal, UserError: it cannot be answered.
        """
        made.door, values = _door_of(scope["method"], scope["path"])
        if made.door in _OPEN:
            made.status, made.document = self._open_door(made.door)
            return
        if made.door in recommend_doors.NAMES:
            made.service = RECOMMEND
            self.tokens.require(RECOMMEND, headers.get("authorization"))
            self.pace.require(RECOMMEND)
            if self.recommending is None:
                raise Refusal(404, f"{RECOMMEND} is none of the services that run here")
            request = await self._request(made, scope, headers, receive)
            reply = await recommend_doors.reply(made.door, request, self.recommending)
            made.document, made.rows, made.headers = reply.document, reply.items, reply.headers
            return
        made.service = self._caller(values, headers)
        pair = self._pair(made.service, values)
        request = await self._request(made, scope, headers, receive)
        answer = await self._answer(made.door, request, made.request_id, pair)
        made.document, made.rows = answer.document, answer.rows
        made.headers = {
            "x-model-name": answer.served.name,
            "x-model-version": str(answer.served.version),
            "x-feature-date": answer.as_of.isoformat(),
        }

    async def _request(
        self, made: "_Outcome", scope: Scope, headers: Mapping[str, str], receive: Receive
    ) -> Request:
        """The whole request, at which the time of the answer begins.

        Raises:
            Refusal: its body is too long, or does not come.
        """
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        body = await self._body(headers, receive)
        made.began = time.perf_counter()
        return Request(scope["method"], scope["path"], query, headers, body)

    async def _body(self, headers: Mapping[str, str], receive: Receive) -> bytes:
        """The whole body.

        Raises:
            Refusal: it is too long, or does not come.
        """
        most, body, size = self.limits.body, bytearray(), 0
        too_long = Refusal(413, f"a body has at most {most:,} bytes")
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length[:20]) > _PASSED_OVER * most:
            raise too_long
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(400, "the body is not whole")
                    piece, more = message.get("body", b""), message.get("more_body", False)
                    size += len(piece)
                    body += piece[: most + 1 - len(body)]
                    if size > _PASSED_OVER * most:
                        raise too_long
        except TimeoutError:
            seconds = self.limits.body_seconds
            raise Refusal(408, f"the body did not come within {seconds:g} seconds") from None
        if size > most:
            raise too_long
        return bytes(body)

    def _open_door(self, door: str) -> tuple[int, Any]:
        """The answer of one of :data:`_OPEN`."""
        if door == "v2_server":
            return 200, inference_v2.server()
        if door == "live":
            return 200, {"live": True}
        if door == "release":
            return 200, inference_v2.server()["version"]
        ready = self._ready()
        return (200 if ready else 503), {"ready": ready}

    def _ready(self) -> bool:
        """Whether every service that was named can answer; where none was, whether one can."""
        if self.recommending is None:
            return self.services.ready
        both = all if self.services.named else any
        return both((self.services.ready, self.recommending.ready))

    def _caller(self, values: Mapping[str, str | None], headers: Mapping[str, str]) -> str:
        """The service that a caller may ask.

        Raises:
            Refusal: with 401, of a caller without its token.
        """
        shown = headers.get("authorization")
        name = values.get("service")
        if name is None:
            return self.tokens.service_of(shown)
        self.tokens.require(name, shown)
        return name

    def _pair(self, name: str, values: Mapping[str, str | None]) -> Pair:
        """What answers a service.

        Raises:
            Refusal: it is asked too often, no version is loaded, or another one is asked for.
        """
        self.pace.require(name)
        pair = self.services.get(name)
        if pair is None:
            raise Refusal(503, f"no version of {name} is loaded", after=5)
        wanted = values.get("version")
        if wanted is not None and wanted != str(pair.served.version):
            raise Refusal(404, f"version {pair.served.version} of {name} answers, and no other")
        return pair

    async def _answer(self, door: str, request: Request, request_id: str, pair: Pair) -> Answer:
        if door == "v2_ready":
            return Answer({"ready": True}, pair.served, self.today(), 0)
        if door == "v2_model":
            return Answer(inference_v2.metadata(pair.served), pair.served, self.today(), 0)
        tail = b""
        if door == "invocations":
            invocations.require_json(request)
        elif door == "v2":
            request, tail = inference_v2.split(request)
        document = request.document()
        if door == "native" and native.by_user(document):
            return await self._by_user(document, request_id, pair)
        if len(request.body) + len(tail) <= _INLINE_BYTES:
            return self._by_rows(door, request, request_id, pair, document, tail)
        job = (door, request, request_id, pair, document, tail)
        return await asyncio.to_thread(self._by_rows, *job)

    def _by_rows(
        self, door: str, request: Request, request_id: str, pair: Pair, document: Any, tail: bytes
    ) -> Answer:
        """Score what the rows of a request say."""
        if door == "eas":
            rows = eas.rows_of(document)
        elif door == "invocations":
            rows = invocations.rows_of(document)
        elif door == "v2":
            rows = inference_v2.rows_of(document, tail)
        else:
            rows = document["rows"]
        self._require_few(len(rows))
        served, today = pair.served, self.today()
        flat = served.scorer.reader.read(rows, extra=request.extra, partial=door == "eas")
        scored = Scored(served, served.scorer.score(flat), today)
        self.shadow.offer(pair.shadow, rows, scored.scores)
        if door == "eas":
            answer: Any = eas.answer_of(scored, self.names)
        elif door == "invocations":
            answer = invocations.answer_of(scored)
        elif door == "v2":
            answer = inference_v2.answer_of(document, scored)
        else:
            answer = native.rows_answer(request_id, scored)
        return Answer(answer, served, today, len(rows))

    async def _by_user(self, document: Any, request_id: str, pair: Pair) -> Answer:
        """Score users from the tables, beside the loop."""
        users, item = native.users_of(document, pair.served)
        self._require_few(len(users))
        try:
            async with asyncio.timeout(self.limits.answer_seconds):
                job = (pair.served, users, item, self.today())
                known = await asyncio.to_thread(self.stored.score, *job)
        except TimeoutError:
            raise Refusal(503, "the tables take long; come again", after=5) from None
        answer = native.users_answer(request_id, pair.served, users, known)
        return Answer(answer, pair.served, known.as_of, len(users))

    def _require_few(self, rows: int) -> None:
        if rows > self.limits.rows:
            raise Refusal(413, f"a request has at most {self.limits.rows:,} rows, and has {rows:,}")


@dataclass
class _Outcome:
    """What becomes of a request."""

    request_id: str
    status: int = 200
    document: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    door: str = OTHER
    service: str = OTHER
    rows: int = 0
    began: float = field(default_factory=time.perf_counter)

    def refuse(self, path: str, status: int, sentence: str, after: int | None = None) -> None:
        """Answer with an error in the form of the path's door."""
        self.status, self.rows = status, 0
        self.headers = {} if after is None else {"retry-after": str(after)}
        if path.startswith("/v2"):
            self.document = inference_v2.refusal_of(sentence)
        elif path.startswith("/invocations"):
            self.document = invocations.refusal_of(status, sentence)
        elif path in personalize.PATHS:
            self.document, kind = personalize.refusal_of(status, sentence)
            self.headers = {**self.headers, **kind}
        elif path.startswith("/v1"):
            self.document = native.refusal_of(status, sentence)
        else:
            self.document = eas.refusal_of(status, sentence)


def _door_of(method: str, path: str) -> tuple[str, Mapping[str, str | None]]:
    """The door of an address, and what its path names.

    Raises:
        Refusal: there is none, or it takes another method.
    """
    known = False
    for door, takes, form in _DOORS:
        if match := form.fullmatch(path):
            if method == takes:
                return door, match.groupdict()
            known = True
    if known:
        raise Refusal(405, f"this address does not take {method}")
    raise Refusal(404, "there is no such address")


async def _write(send: Send, made: _Outcome) -> None:
    """Send an outcome: a document as JSON, a text as it is."""
    document, kind = made.document, "application/json"
    if isinstance(document, str):
        text, kind = document.encode(), "text/plain"
    else:
        text = dumped(document)
    pairs = {"content-type": kind, "content-length": str(len(text)), **made.headers}
    pairs["x-request-id"] = made.request_id
    listed = [(name.encode(), value.encode("latin-1")) for name, value in pairs.items()]
    await send({"type": "http.response.start", "status": made.status, "headers": listed})
    await send({"type": "http.response.body", "body": text})
