"""Announces exported segments to a webhook: one POST, which the receiver must take once by its key.

::

    {"event": "affinity_segments_exported", "job": "bingewatch", "folder": "/srv/out",
     "segments": [{"expression": "ITEMS.genres = \\"Action\\"", "file": "ITEMSgenresAction_….csv",
                   "sha256": "…", "users": 50, "endpoints": 49, "without_endpoint": 1, …}]}

408, 425, 429, every 5xx, a time-out and a lost connection are tried again, with longer waits. No
id or address of a person is in it.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from usergrowth_dagster.affinity.export import SegmentFile
from usergrowth_dagster.documents import document
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.gateways.bounded_http import BoundedClient
from usergrowth_dagster.messaging.gateways.protocol import Answer
from usergrowth_dagster.messaging.gateways.wire import quiet, sort_error

EVENT = "affinity_segments_exported"
ATTEMPTS = 4
SECONDS = 20.0
FIRST_WAIT = 0.5
"""Seconds before the second attempt; each later wait is twice as long."""

_AGAIN = frozenset({408, 425, 429})


class _TryAgainError(Exception):
    """The receiver did not take the announcement, and may when it is posted again."""


def shown_url(url: str) -> str:
    """A webhook's URL without its path, which is often a secret.

    Raises:
        UserError: it is no URL with http or https.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https"):
        raise UserError(
            "the webhook is no URL that begins with http:// or https://", code="command.invalid"
        )
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}/…"


def announce(url: str, job: str, folder: Path, files: Sequence[SegmentFile]) -> None:
    """Post what was exported.

    Args:
        url: the webhook.
        job: name of the job.
        folder: where the files are.
        files: what was written.

    Raises:
        UserError: the receiver refuses it, or was not there in :data:`ATTEMPTS` attempts.
    """
    import tenacity

    shown = shown_url(url)
    content = {"event": EVENT, "job": job, "folder": folder.absolute(), "segments": list(files)}
    body = document(content).encode()
    headers = {
        "Content-Type": "application/json",
        "Idempotency-Key": hashlib.sha256(body).hexdigest()[:32],
    }
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_TryAgainError),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_exponential(multiplier=FIRST_WAIT, max=30),
        reraise=True,
    )
    try:
        with quiet(), BoundedClient(1) as client:
            attempts(_post, client, url, shown, headers, body)
    except _TryAgainError as error:
        raise UserError(
            f"webhook {shown} did not take the announcement in {ATTEMPTS} attempts: {error}; the "
            "files are written",
            code="export.unreachable",
        ) from None


def _post(client: BoundedClient, url: str, shown: str, headers: Any, body: bytes) -> None:
    try:
        answered = client.exchange("POST", url, headers, body, SECONDS)
    except Exception as error:  # its text may hold the address
        answer, code = sort_error(error)
        if answer is Answer.STOP:
            raise UserError(
                f"webhook {shown}: {code.replace('_', ' ')}; the files are written",
                code="export.unreachable",
            ) from None
        raise _TryAgainError(code.replace("_", " ")) from None
    if 200 <= answered.status < 300:
        return
    if answered.status in _AGAIN or answered.status >= 500:
        raise _TryAgainError(f"it answers {answered.status}")
    raise UserError(
        f"webhook {shown} refuses the announcement with {answered.status}; the files are written",
        code="export.refused",
    )
