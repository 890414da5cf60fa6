"""Short links: ``GET /<token>`` leads on to the campaign's own page, once the click is on disk.

=====  =========================================================================================
302    to the URL that the campaign names; nothing of the request gets into it
404    no token of this home, or one with a changed character
429    the same, to a caller who has tried many (:mod:`usergrowth_dagster.serve.guesses`)
503    the database does not answer, so it is not known where the link leads
=====  =========================================================================================

A click that cannot be stored is logged, and the person is led on all the same. No token, no
address and no user agent is logged or kept.
"""

import asyncio
import contextlib
import logging
import queue
import threading
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from usergrowth_dagster.control.store import ControlStore, utc_now
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.messaging.receiving.clicks import (
    Click,
    Target,
    caller_of,
    first_message,
    record_clicks,
    target_of,
)
from usergrowth_dagster.messaging.schedules.occurrences import business_now
from usergrowth_dagster.messaging.texts.links import LinkTokens
from usergrowth_dagster.serve.connections import peer_of
from usergrowth_dagster.serve.guesses import Guesses
from usergrowth_dagster.settings import Settings

LOG = logging.getLogger("usergrowth.serve")
MOST_WAITING = 5_000
_MOST_AT_ONCE = 2_000
_WAIT_SECONDS = 5.0
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
    "X-Content-Type-Options": "nosniff",
}


class Links:
    """Answers the calls of short links.

    Args:
        store: an opened, migrated store.
        vault: the home's keys.
        settings: the business clock.
    """

    def __init__(self, store: ControlStore, vault: PhoneVault, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._tokens = LinkTokens(vault)
        self._clicks = ClickWriter(store)
        self._guesses = Guesses()
        self._first: int | None = None

    def close(self) -> None:
        """Write what is there."""
        self._clicks.close()

    async def follow(self, request: Request) -> Response:
        """One call of a link."""
        token = str(request.path_params["token"])
        try:
            target = await asyncio.wait_for(run_in_threadpool(self._target, token), _WAIT_SECONDS)
        except Exception as error:
            LOG.error("a link could not be looked up: %s", type(error).__name__)
            return _said(
                503, "This link cannot be opened just now. Please try again in a minute.", 60
            )
        if target is None:
            return self._unknown(request)
        if target.counts:
            await self._count(request, target)
        return Response(status_code=302, headers={**_HEADERS, "Location": target.url})

    def _unknown(self, request: Request) -> Response:
        """The answer to a token that no message has."""
        seconds = self._guesses.refuse(peer_of(request.client))
        if seconds is None:
            return _said(404, "This link leads nowhere: it is incomplete, or not one of ours.")
        return _said(429, "Too many links that lead nowhere. Please try again later.", seconds)

    def _target(self, token: str) -> Target | None:
        if self._first is None:
            self._first = first_message(self._store)
        if self._first is None:  # no message, so no link
            return None
        message_id = self._tokens.message_id(token, self._first)
        return None if message_id is None else target_of(self._store, message_id)

    async def _count(self, request: Request, target: Target) -> None:
        """Wait until the click is on disk, but not for long: the person wants to get on."""
        kind = caller_of(request.method, request.headers, target.submitted, utc_now())
        now = business_now(self._settings)
        click = Click(target.message_id, target.occurrence_id, kind, now)
        try:
            stored = asyncio.wrap_future(self._clicks.put(click))
            await asyncio.wait_for(asyncio.shield(stored), _WAIT_SECONDS)
        except TimeoutError:
            LOG.error("a click waits to be stored: the database takes long")
        except queue.Full:
            LOG.error("a click was not stored: too many wait")
        except Exception as error:
            LOG.error("a click was not stored: %s", type(error).__name__)


@dataclass
class _Waiting:
    click: Click
    done: "Future[None]" = field(default_factory=Future)


class ClickWriter:
    """One writer: clicks that wait are stored together, then everybody is led on."""

    def __init__(self, store: ControlStore) -> None:
        self._store = store
        self._waiting: queue.Queue[_Waiting | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="clicks", daemon=True)
        self._thread.start()

    def put(self, click: Click) -> "Future[None]":
        """Hand a click over; the future is done when it is on disk.

        Raises:
            queue.Full: too many wait.
        """
        waiting = _Waiting(click)
        self._waiting.put_nowait(waiting)
        return waiting.done

    def close(self) -> None:
        """Write what is there and end the thread."""
        self._waiting.put(None)
        self._thread.join(timeout=60)

    def _run(self) -> None:
        ends = False
        while not ends:
            first = self._waiting.get()
            parts = [] if first is None else [first]
            ends = first is None
            with contextlib.suppress(queue.Empty):
                while not ends and len(parts) < _MOST_AT_ONCE:
                    following = self._waiting.get_nowait()
                    if following is None:
                        ends = True
                    else:
                        parts.append(following)
            if parts:
                self._write(parts)

    def _write(self, parts: list[_Waiting]) -> None:
        try:
            record_clicks(self._store, [part.click for part in parts])
        except Exception as error:
            LOG.error("storing clicks failed with %s", type(error).__name__)
            for part in parts:
                with contextlib.suppress(InvalidStateError):
                    part.done.set_exception(error)
            return
        for part in parts:
            with contextlib.suppress(InvalidStateError):  # nobody waits for it any more
                part.done.set_result(None)


def _said(status: int, sentence: str, seconds: int | None = None) -> Response:
    """A plain sentence for the person who called, who may come again after some seconds."""
    headers = {**_HEADERS, **({"Retry-After": str(seconds)} if seconds is not None else {})}
    return Response(f"{sentence}\n", status, headers, media_type="text/plain")
