"""A signed webhook: batches go out as JSON to ``webhook_url``, answers come back as JSON.

**A batch** is one POST to ``webhook_url`` with ``Idempotency-Key: <batch_id>``::

    {"batch_id": "7", "schedule": "…", "occurrence": "…", "channel": "sms", "signature": "…",
     "subject": null, "template_code": "…", "template_type": "promotion",
     "submitted_time": "2026-01-01T02:00:00+00:00",
     "messages": [{"out_id": "31", "user_id": "u1", "to": "+…", "text": "…",
                   "params": {"name": "…"}, "segments": 1}]}

and is answered with 200 and one result a message; one that is missing is in doubt::

    {"results": [{"out_id": "31", "answer": "accepted", "code": "", "request_id": "abc"}]}

``answer`` is ``accepted``, ``rejected``, ``deferred`` (with ``retry_after`` seconds), ``stop`` or
``in_doubt``. 429 defers the whole batch (by ``Retry-After`` seconds), any other 3xx or 4xx but 408
and 409 stops the campaign: with these the receiver must have taken nothing. Every other status, an
answer that is not of this form, a time-out or a lost connection leaves the batch in doubt. A batch
is never posted again with the same key: rows in doubt are looked up.

**A look-up** is a POST to ``webhook_url`` with ``/lookup`` after its path::

    {"messages": [{"out_id": "31", "batch_id": "7", "to": "+…", "request_id": null}]}
    {"results": [{"out_id": "31", "found": "delivered", "code": "", "request_id": "abc"}]}

``found`` is ``accepted``, ``delivered``, ``undelivered``, ``rejected`` or ``not_found``.

**Receipts** are posted by the receiver to ``<callback_url>/webhook/dlr``, **replies** to
``<callback_url>/webhook/mo``; the keys from ``code`` on may be missing::

    {"receipts": [{"out_id": "31", "status": "delivered", "code": "", "request_id": "abc",
                   "time": "2026-01-01T02:00:05+00:00"}]}
    {"replies": [{"from": "+…", "content": "STOP", "signature": "…", "id": "9", "time": "…"}]}

**Signature.** Every request, in both directions, has ``X-Usergrowth-Timestamp`` (Unix seconds) and
``X-Usergrowth-Signature``: ``v1=`` and the hexadecimal HMAC-SHA256, with the credential
``webhook_secret`` as its key, over the timestamp, a full stop and the body. One that is more than
five minutes old, or ahead, is refused.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.credentials import credential
from usergrowth_dagster.messaging.gateways.cleaning import (
    CODE_SIZE,
    clean_id,
    clean_number,
    clean_text,
    one_answer_each,
    one_finding_each,
)
from usergrowth_dagster.messaging.gateways.posted import Entry, moment_of, read_entries, text_of
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Callback,
    Finding,
    Found,
    Gateway,
    Inquiry,
    OutBatch,
    Receipt,
    Reply,
    Result,
    Unread,
    UnsignedError,
)
from usergrowth_dagster.messaging.gateways.wire import (
    LookUpError,
    not_in_the_clear,
    quiet,
    read_json,
    sort_error,
)
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.settings.gateways import GatewaySettings

TIMESTAMP, SIGNATURE = "X-Usergrowth-Timestamp", "X-Usergrowth-Signature"
_OLD_SECONDS = 300
_WAIT = 30.0
_DAY = 86_400.0
_MIN_SECRET = 16


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The value of the signature's header.

    >>> sign("0123456789abcdef", "1700000000", b"{}")[:11]
    'v1=e4f8e2ec'
    """
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"v1={digest.hexdigest()}"


class WebhookSettings(GatewaySettings):
    """Where batches go."""

    webhook_url: str | None = Field(None, description="where the webhook gateway posts batches")


class WebhookGateway(Gateway):
    """Submits to the receiver at ``webhook_url``.

    Args:
        settings: address, time-out; home of the credential ``webhook_secret``.

    Raises:
        UserError: the credential is missing or shorter than 16 characters.
    """

    name = "webhook"
    channels = ("sms", "email")
    settings_model = WebhookSettings
    credentials = ("webhook_secret",)
    looks_up = "yes: its look-up address"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._chosen = WebhookSettings.of(settings)
        self._secret = credential(settings.home, "webhook_secret")
        if len(self._secret) < _MIN_SECRET:
            raise UserError(
                f"the credential webhook_secret is too short: use at least "
                f"{_MIN_SECRET} characters",
                code="credential.invalid",
            )

    def require_set_up(self) -> None:
        """Check that the address is there and does not send numbers in the clear."""
        self._url()

    def submit(self, batch: OutBatch) -> Sequence[Result]:
        """One POST.

        Raises:
            UserError: ``webhook_url`` is missing, or no address that numbers may be sent to.
        """
        try:
            status, headers, body = self._post(
                "", batch_json(batch), {"Idempotency-Key": batch.batch_id}
            )
        except UserError:
            raise
        except Exception as error:  # its text may hold the address
            answer, code = sort_error(error)
            wait = _WAIT if answer is Answer.DEFERRED else None
            return [Result(m.out_id, answer, code, retry_after=wait) for m in batch.messages]
        if status == 200:
            return results_of(batch, body)
        answer, wait = Answer.IN_DOUBT, None
        if status == 429:
            answer, wait = Answer.DEFERRED, wait_seconds(headers.get("retry-after"))
        elif 300 <= status < 500 and status not in (408, 409):
            answer = Answer.STOP
        taken = [one for one in results_of(batch, body) if one.answer is Answer.ACCEPTED]
        if taken:  # a status that says "nothing" over a body that says "accepted"
            return [Result(m.out_id, Answer.IN_DOUBT, "contrary_answers") for m in batch.messages]
        return [Result(m.out_id, answer, str(status), retry_after=wait) for m in batch.messages]

    def look_up(self, inquiries: Sequence[Inquiry]) -> Sequence[Finding]:
        """One POST to the look-up address; a result that makes no sense counts as none.

        Raises:
            LookUpError: the receiver did not answer, or not in the right form.
            UserError: as :meth:`submit`.
        """
        asked = [
            {
                "out_id": inquiry.out_id,
                "batch_id": inquiry.batch_id,
                "to": inquiry.phone,
                "request_id": inquiry.request_id,
            }
            for inquiry in inquiries
        ]
        try:
            status, _, body = self._post("/lookup", {"messages": asked}, {})
        except UserError:
            raise
        except Exception as error:
            raise LookUpError(f"the webhook's look-up failed: {sort_error(error)[1]}") from None
        if status != 200:
            raise LookUpError(f"the webhook answered a look-up with {status}")
        findings = []
        for entry in entries_of(body, "results"):
            try:
                fate = Found(str(entry.get("found", Found.NOT_FOUND)))
            except ValueError:
                fate = Found.NOT_FOUND
            findings.append(Finding(entry["out_id"], fate, *code_and_id(entry)))
        return list(one_finding_each((one.out_id for one in inquiries), findings).values())

    def _url(self) -> str:
        url = self._chosen.webhook_url
        if not url:
            raise UserError(
                "setting 'webhook_url' is missing: where the webhook posts batches",
                code="setting.missing",
            )
        not_in_the_clear(url, "webhook_url")
        return url

    def _post(
        self, path: str, content: Mapping[str, Any], headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        import httpx

        from usergrowth_dagster.messaging.gateways.bounded_http import BoundedClient

        url = self._url()
        parts = urlsplit(url)
        body = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
        timestamp = str(int(time.time()))
        request = httpx.Request(  # reads the address as people write it
            "POST",
            urlunsplit(parts._replace(path=parts.path.rstrip("/") + path)) if path else url,
            headers={
                "Content-Type": "application/json",
                TIMESTAMP: timestamp,
                SIGNATURE: sign(self._secret, timestamp, body),
                **headers,
            },
        )
        if request.url.userinfo:
            login = httpx.BasicAuth(request.url.username, request.url.password)
            request = next(login.auth_flow(request))
        with (
            quiet(),
            # a new connection each time: an idle one may be dead without a sign
            BoundedClient(1) as client,
        ):
            answer = client.exchange(
                "POST",
                str(request.url.copy_with(username=None, password=None, fragment=None)),
                request.headers,
                body,
                self.settings.gateway_timeout,
            )
            return answer.status, answer.headers, answer.body

    def parse_receipts(self, callback: Callback) -> Sequence[Receipt | Unread]:
        """``{"receipts": […]}``; see the module's text.

        Raises:
            UnsignedError: the signature is missing, wrong or too old.
            UserError: not of that form.
        """
        return read_entries(self._signed(callback, "receipts"), "receipts", _receipt)

    def parse_replies(self, callback: Callback) -> Sequence[Reply | Unread]:
        """``{"replies": […]}``; see the module's text.

        Raises:
            UnsignedError: the signature is missing, wrong or too old.
            UserError: not of that form.
        """
        return read_entries(self._signed(callback, "replies"), "replies", _reply, "from")

    def _signed(self, callback: Callback, what: str) -> list[Any]:
        """The entries of a callback whose signature holds."""
        timestamp = callback.header(TIMESTAMP)
        right = sign(self._secret, timestamp, callback.body)
        given = callback.header(SIGNATURE).encode("utf-8", "replace")
        if not hmac.compare_digest(given, right.encode()):
            raise UnsignedError(f"{what}: {SIGNATURE} is missing or does not fit")
        if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > _OLD_SECONDS:
            raise UnsignedError(f"{what}: {TIMESTAMP} is more than five minutes from now")
        content = read_json(callback.body, what)
        entries = content.get(what) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise UserError(f'{what}: expected {{"{what}": [objects]}}', code="callback.malformed")
        return entries


def _receipt(entry: Entry, where: str) -> Receipt:
    try:
        status = Found(str(entry.get("status")))
    except ValueError:
        status = Found.NOT_FOUND
    if status is Found.NOT_FOUND:
        raise UserError(
            f"{where}: 'status' must be accepted, delivered, undelivered or rejected",
            code="callback.malformed",
        )
    code, request_id = code_and_id(entry)
    return Receipt(
        status=status,
        out_id=text_of(entry, "out_id", where),
        code=code,
        request_id=request_id,
        time=moment_of(entry, "time", UTC),
    )


def _reply(entry: Entry, where: str) -> Reply:
    return Reply(
        phone=text_of(entry, "from", where),
        content=text_of(entry, "content", where, empty=True),
        signature=str(entry.get("signature") or "") or None,
        sequence_id=str(entry.get("id") or "") or None,
        send_time=moment_of(entry, "time", UTC),
    )


def batch_json(batch: OutBatch) -> dict[str, Any]:
    """What is posted for a batch."""
    return {
        "batch_id": batch.batch_id,
        "schedule": batch.schedule,
        "occurrence": batch.occurrence,
        "channel": batch.channel,
        "signature": batch.signature,
        "subject": batch.subject,
        "template_code": batch.template_code,
        "template_type": batch.template_type,
        "submitted_time": batch.submitted_time.isoformat(),
        "messages": [
            {
                "out_id": message.out_id,
                "user_id": message.user_id,
                "to": message.phone,
                "text": message.text,
                "params": dict(message.params),
                "segments": message.segments,
            }
            for message in batch.messages
        ],
    }


def results_of(batch: OutBatch, body: bytes) -> list[Result]:
    """One result a message; one that the receiver did not give, or not rightly, is in doubt."""
    results = []
    for entry in entries_of(body, "results"):
        try:
            answer = Answer(str(entry.get("answer")))
        except ValueError:
            answer = Answer.IN_DOUBT
        wait = wait_seconds(entry.get("retry_after")) if answer is Answer.DEFERRED else None
        code, request_id = code_and_id(entry)
        code = code or ("no_answer" if answer is Answer.IN_DOUBT else "")
        results.append(Result(entry["out_id"], answer, code, request_id, wait))
    return list(one_answer_each((message.out_id for message in batch.messages), results).values())


def entries_of(body: bytes, key: str) -> list[dict[str, Any]]:
    """The objects with an ``out_id`` under a key of the receiver's answer; none in a wrong form.

    An object in which a key comes twice says two things at once, so that nothing is believed.
    """
    try:
        content = json.loads(body, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return []
    entries = content.get(key) if isinstance(content, dict) else None
    return [
        entry
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get("out_id"), str)
    ]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key comes twice")
    return content


def code_and_id(entry: Mapping[str, Any]) -> tuple[str, str | None]:
    """Code and request id, as long as the ledger holds."""
    request_id = clean_id(entry.get("request_id"), CODE_SIZE)
    return clean_text(entry.get("code"), CODE_SIZE), request_id


def wait_seconds(value: Any) -> float:
    """A wait between a second and a day."""
    return clean_number(value, 1.0, _DAY, _WAIT)
