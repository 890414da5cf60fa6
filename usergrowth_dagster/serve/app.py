"""The addresses that providers post to, and what they are answered with.

``/<token>`` is a short link of a text: :mod:`usergrowth_dagster.serve.links`.

``/<gateway>/<kind>``, where the gateway is a registered one and its ``routes`` have the kind, such
as ``dlr`` and ``mo``. ``/<gateway>/<token>/<kind>`` is the same with the credential
``callback_token`` in the path. The gateway reads the request, checks that it is the provider's, and
words the answer.

=====  =========================================================================================
200    everything is stored, on disk
400    not what the provider sends; 403: not sent by the provider; 413: too long; 408: too slow
503    the database or the gateway's set-up is in trouble, or too much waits: come again
=====  =========================================================================================

No answer and no line of the log holds a query, a token or a number.
"""

import asyncio
import contextlib
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from sqlalchemy import text
from starlette.concurrency import run_in_threadpool

from usergrowth_dagster.control.store import open_store
from usergrowth_dagster.errors import SetUpError, UserError
from usergrowth_dagster.messaging.credentials import credential
from usergrowth_dagster.messaging.gateways.protocol import (
    Brings,
    Callback,
    CallbackAnswer,
    Gateway,
    Receipt,
    Reply,
    Unread,
    UnsignedError,
)
from usergrowth_dagster.messaging.gateways.registry import gateways
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.operations.replies import reread_replies
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.monitoring.process_figures import ReceiverFigures, new_registry
from usergrowth_dagster.serve.inbox import Busy, Inbox
from usergrowth_dagster.serve.links import Links
from usergrowth_dagster.settings import Settings

TOKEN = "callback_token"
"""Credential: the part of the path that stands for a proof of origin."""

_BODY_SECONDS = 20.0
_ANSWER_SECONDS = 12.0  # providers hang up after some 15 seconds, and come again
LOG = logging.getLogger("usergrowth.serve")


class _Refused(Exception):
    """Nothing is stored, and why."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


def make_app(settings: Settings, figures: ReceiverFigures | None = None) -> FastAPI:
    """The application of a home; it opens the control store when it starts.

    Args:
        settings: of the home.
        figures: counts what comes in; None: nobody looks.
    """
    receiver = _Receiver(settings, figures or ReceiverFigures(new_registry()))

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(receiver.open)
        try:
            yield
        finally:
            await run_in_threadpool(receiver.close)

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route("/healthz", receiver.health, methods=["GET"], response_model=None)
    for path in ("/{token}", "/{token}/"):  # else a slash is answered with a Location of the Host
        app.add_api_route(path, receiver.follow, methods=["GET", "HEAD"], response_model=None)
    for path in ("/{gateway}/{kind}", "/{gateway}/{token}/{kind}"):
        app.add_api_route(path, receiver.receive, methods=["GET", "POST"], response_model=None)
    return app


class _Receiver:
    def __init__(self, settings: Settings, figures: ReceiverFigures) -> None:
        self.settings, self.figures = settings, figures
        self._gateways: dict[str, Gateway] = {}

    def open(self) -> None:
        self.store = open_store(self.settings)
        ledger = Ledger(
            self.store, open_vault(self.settings.home, self.settings.default_country)
        )  # checks the key
        if late := reread_replies(self.store, ledger.vault, self.settings):
            LOG.warning("%d earlier replies refuse by the words of now", late)
        self.inbox = Inbox(self.store, ledger.vault, self.settings, self.figures)
        self.figures.waits(lambda: self.inbox.waiting)
        self.links = Links(self.store, ledger.vault, self.settings)

    def close(self) -> None:
        self.links.close()
        self.inbox.close()
        self.store.close()

    async def health(self) -> Response:
        """Whether the database answers, and how many requests wait to be written."""

        def ask() -> None:
            with self.store.read() as connection:
                connection.execute(text("select 1"))

        try:
            await asyncio.wait_for(run_in_threadpool(ask), _ANSWER_SECONDS)
        except Exception as error:
            LOG.error("the database does not answer: %s", type(error).__name__)
            return _refused(503, "the database does not answer")
        if not self.inbox.works:
            return _refused(503, "the writer has ended; start the service again")
        return _said(200, 0, f"ok, {self.inbox.waiting} waiting")

    async def follow(self, request: Request) -> Response:
        """One call of a short link."""
        began = time.monotonic()
        answer = await self.links.follow(request)
        self.figures.link(answer.status_code)
        took = (time.monotonic() - began) * 1000
        LOG.info("%s /<token> %d %.0f ms", request.method, answer.status_code, took)
        return answer

    async def receive(self, request: Request) -> Response:
        """One call of a provider."""
        began = time.monotonic()
        parts = request.path_params
        name, kind = str(parts["gateway"]), str(parts["kind"])
        gateway = gateways().get(name)
        brings = gateway.routes.get(kind) if gateway else None
        if gateway is None or brings is None:
            self.figures.answered(None, kind, 404)
            return _refused(404, "there is no such address")
        why = ""
        try:
            answer = await self._take(request, gateway, brings)
        except _Refused as refusal:
            why = refusal.sentence
            answer = _refused(refusal.status, why)
        except Exception as error:
            why = f"unexpected {type(error).__name__}"  # its text might hold a number
            answer = _refused(503, "this could not be stored now; come again")
        self.figures.answered(name, kind, answer.status_code)
        took = (time.monotonic() - began) * 1000
        level = logging.INFO if answer.status_code < 400 else logging.WARNING
        line = (request.method, name, kind, answer.status_code, took, why)
        LOG.log(level, "%s /%s/%s %d %.0f ms %s", *line)
        return answer

    async def _take(self, request: Request, gateway: type[Gateway], brings: Brings) -> Response:
        callback = Callback(
            body=await _body(request, gateway.longest_body, gateway.kept_body),
            headers=dict(request.headers),
            url=self._public_url(request),
        )
        if request.method == "GET" and (page := gateway.page(brings, callback)):
            return _answered(page)
        if request.method not in gateway.methods:
            raise _Refused(405, f"this address takes {' or '.join(sorted(gateway.methods))}")
        token = request.path_params.get("token")
        items = await run_in_threadpool(self._parse, gateway, token, callback, brings)
        replies = brings is Brings.REPLIES
        try:
            stored = asyncio.wrap_future(self.inbox.put(gateway.name, items, replies=replies))
            await asyncio.wait_for(asyncio.shield(stored), _ANSWER_SECONDS)
        except Busy:
            raise _Refused(503, "too much is waiting; come again") from None
        except TimeoutError:
            raise _Refused(503, "the database takes long; come again") from None
        return _answered(gateway.confirm(brings, items))

    def _parse(
        self, kind: type[Gateway], token: str | None, callback: Callback, brings: Brings
    ) -> Sequence[Receipt | Unread] | Sequence[Reply | Unread]:
        """What the request says.

        Raises:
            _Refused: it is not the provider's, or cannot be read.
        """
        name = kind.name
        not_ready = _Refused(503, f"the gateway {name} is not set up here")
        try:
            gateway = self._gateways.get(name) or kind.make(self.settings)
        except UserError as error:
            LOG.error("the gateway %s cannot be used: %s", name, error)
            raise not_ready from None
        self._gateways[name] = gateway
        try:
            _check_origin(self.settings, kind, token, callback, brings)
            if brings is Brings.REPLIES:
                return gateway.parse_replies(callback)
            return gateway.parse_receipts(callback)
        except UnsignedError as error:
            raise _Refused(403, str(error)) from None
        except SetUpError as error:
            LOG.error("the gateway %s cannot be used: %s", name, error)
            raise not_ready from None
        except UserError as error:
            raise _Refused(400, str(error)) from None
        except Exception as error:  # the same request again would not be read any better
            LOG.error("a request to %s cannot be read: %s", name, type(error).__name__)
            raise _Refused(400, "this cannot be read") from None

    def _public_url(self, request: Request) -> str:
        """The address as the provider knows it, whatever a proxy made of it."""
        scope: dict[str, Any] = dict(request.scope)
        path = bytes(scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        query = bytes(scope.get("query_string", b"")).decode("latin-1")
        root = (self.settings.callback_url or str(request.base_url)).rstrip("/")
        return f"{root}{path}?{query}" if query else f"{root}{path}"


async def _body(request: Request, limit: int, keeps: int) -> bytes:
    """The first ``keeps`` bytes of a body of at most ``limit``.

    Raises:
        _Refused: it is longer, or does not come.
    """
    too_long = _Refused(413, f"a body has at most {limit:,} bytes")
    length = request.headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and int(length[:20]) > limit:
        raise too_long
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise too_long
                body += chunk[: keeps - len(body)]
    except TimeoutError:
        raise _Refused(408, f"the body did not come within {_BODY_SECONDS:.0f} seconds") from None
    return bytes(body)


def _answered(answer: CallbackAnswer) -> Response:
    """A gateway's own answer."""
    return Response(answer.body, media_type=answer.media_type)


def _said(status: int, code: int, sentence: str) -> Response:
    """``{"code": …, "msg": …}``; a temporary trouble asks to come again."""
    return Response(
        json.dumps({"code": code, "msg": sentence}, ensure_ascii=False),
        status_code=status,
        media_type="application/json",
        headers={"Retry-After": "5"} if status == 503 else {},
    )


def _refused(status: int, sentence: str) -> Response:
    """Nothing was stored."""
    return _said(status, status, sentence)


def _check_origin(
    settings: Settings,
    gateway: type[Gateway],
    token: str | None,
    callback: Callback,
    brings: Brings,
) -> None:
    """Ask for the token in the path where the callback itself cannot prove who calls.

    That is the dry-run gateway, and e-mails that a mail server hands over.

    Raises:
        UnsignedError: the token is missing or wrong.
    """
    if token is None and gateway.proves_origin(brings, callback):
        return
    expected = credential(settings.home, TOKEN, required=False)
    if expected is None:
        raise UnsignedError(
            f"this address needs the credential {TOKEN} to be set, and its value in the path: "
            f"/{gateway.name}/<{TOKEN}>/…"
        )
    if not hmac.compare_digest((token or "").encode("utf-8", "replace"), expected.encode()):
        raise UnsignedError(f"the path must hold the {TOKEN}: /{gateway.name}/<{TOKEN}>/…")
