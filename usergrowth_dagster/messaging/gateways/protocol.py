"""What a gateway is: submit a batch, look messages up, parse receipts and replies.

The dispatcher has written the rows down as ``submitting`` before :meth:`Gateway.submit` is called.
Whatever a gateway cannot be sure of it must answer with ``IN_DOUBT`` (or raise): such rows are
looked up later and never sent again by themselves.

A gateway never repeats a submission by itself, keeps every number out of logs, exceptions and
``repr``, and ends :meth:`Gateway.submit` within about ``settings.gateway_timeout`` seconds, which
the dispatcher's lease outlasts. What it could not begin in that time was not taken: ``DEFERRED``.

``usergrowth serve`` hands a provider's request to ``/<gateway>/dlr`` to
:meth:`Gateway.parse_receipts`, and one to ``/<gateway>/mo`` to :meth:`Gateway.parse_replies`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from usergrowth_dagster.error_codes import ErrorCode
from usergrowth_dagster.errors import UserError


class UnsignedError(UserError):
    """A callback's signature is missing or wrong: it was not made by the provider (HTTP 403)."""

    def __init__(
        self, sentence: str, *, code: ErrorCode = "callback.unsigned", hint: str = ""
    ) -> None:
        super().__init__(sentence, code=code, hint=hint)


class Answer(StrEnum):
    """What a provider's answer means for one message."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"  # this row will never go out, the others may
    DEFERRED = "deferred"  # certainly not taken; try again later
    STOP = "stop"  # certainly not taken, and none will be: stop the campaign and alert
    IN_DOUBT = "in_doubt"  # perhaps taken


class Found(StrEnum):
    """What a look-up says about one message."""

    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    REJECTED = "rejected"
    NOT_FOUND = "not_found"


@dataclass(frozen=True)
class OutMessage:
    """One message on its way out.

    ``out_id`` is the ledger row's id, as text; ``phone`` the channel's address (for e-mail, the
    e-mail address).
    """

    out_id: str
    user_id: str
    phone: str = field(repr=False)
    text: str = field(repr=False)
    params: Mapping[str, str] = field(repr=False)
    segments: int = 1


@dataclass(frozen=True)
class OutBatch:
    """At most :attr:`Gateway.max_batch` messages of one occurrence and text, with what they share.

    An occurrence with several texts (A/B/n) has batches of each, with its own ``template_code`` and
    ``subject``.
    """

    batch_id: str
    schedule: str
    occurrence: str
    channel: str
    signature: str
    template_code: str
    template_type: str
    submitted_time: datetime
    messages: Sequence[OutMessage]
    subject: str | None = None  # of an e-mail


@dataclass(frozen=True)
class Result:
    """The answer for one message of a batch.

    ``code`` is the provider's own code; ``retry_after`` (seconds) belongs to DEFERRED;
    ``opted_out``: it is rejected since the person has refused texts at the provider.
    """

    out_id: str
    answer: Answer
    code: str = ""
    request_id: str | None = None
    retry_after: float | None = None
    opted_out: bool = False


@dataclass(frozen=True)
class Inquiry:
    """One message whose fate is asked for; ``batch_id`` is that of its last batch."""

    out_id: str
    schedule: str
    occurrence: str
    submitted_time: datetime
    phone: str = field(repr=False)
    request_id: str | None = None
    batch_id: str | None = None


@dataclass(frozen=True)
class Finding:
    """What the provider knows about one inquiry."""

    out_id: str
    found: Found
    code: str = ""
    request_id: str | None = None


@dataclass(frozen=True)
class Receipt:
    """A delivery report: by ``out_id``, else by ``batch_id`` or ``request_id``, and phone.

    A provider that takes one id of ours for a whole batch gives the batch's back: within a batch
    every phone is another one, so batch and phone name one row. ``status`` is never NOT_FOUND.
    ``opted_out``: it was not delivered since the person has refused texts at the provider.
    """

    status: Found
    out_id: str | None = None
    request_id: str | None = None
    phone: str | None = field(default=None, repr=False)
    code: str = ""
    time: datetime | None = None
    batch_id: str | None = None
    opted_out: bool = False


@dataclass(frozen=True)
class Reply:
    """A text that a recipient sent back.

    ``signature`` is the one that the reply was to, where the provider tells; ``sequence_id`` the
    provider's own id of the reply.
    """

    phone: str = field(repr=False)
    content: str = field(repr=False)
    signature: str | None = None
    sequence_id: str | None = None
    send_time: datetime | None = None


@dataclass(frozen=True)
class Unread:
    """An entry of a post that brings neither a report nor a reply.

    ``why`` is a sentence without numbers. ``raw`` is the entry as it came, kept for a person; None:
    the entry belongs to another system on the same account and is only counted. ``phone`` is the
    number that it is from or about, as far as it could be read.
    """

    why: str
    raw: str | None = field(repr=False)
    phone: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Callback:
    """A request that a provider made to us, as it came.

    Args:
        body: the raw body; empty for a GET.
        headers: names in any case.
        url: the full address that the provider called, with its query, as it knows it: the
            setting ``callback_url``, the path and the query, whatever a proxy made of it.
    """

    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    url: str = field(default="", repr=False)

    def header(self, name: str) -> str:
        """A header's value, or "" when it is missing."""
        return self._headers.get(name.lower(), "")

    @cached_property
    def _headers(self) -> dict[str, str]:
        return {key.lower(): value for key, value in self.headers.items()}

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The address's query; of a key that comes twice, the first value.

        Raises:
            UserError: the address is none, or its query holds too many fields.
        """
        try:
            return _first(urlsplit(self.url).query)
        except ValueError:
            raise UserError(
                "callback: the address or its query cannot be read", code="callback.malformed"
            ) from None

    @cached_property
    def form(self) -> Mapping[str, str]:
        """The body as a form; of a key that comes twice, the first value.

        Raises:
            UserError: the body is not UTF-8, or holds too many fields.
        """
        try:
            return _first(self.body.decode())
        except ValueError:
            raise UserError(
                "callback: the body is not a form in UTF-8", code="callback.malformed"
            ) from None


def _first(encoded: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in parse_qsl(encoded, keep_blank_values=True, max_num_fields=1000):
        found.setdefault(key, value)
    return found


class Gateway(Protocol):
    """A provider, or something that behaves like one."""

    @property
    def name(self) -> str:
        """Short name, kept with every batch so that look-ups go to the right provider."""
        ...

    @property
    def max_batch(self) -> int:
        """Most messages in one call."""
        ...

    @property
    def rate(self) -> float | None:
        """Messages a second that the provider takes by default; None: as many as come."""
        ...

    def require_set_up(self) -> None:
        """Asked before anything is written ahead: whether all that submitting needs is there.

        Raises:
            UserError: a setting, a credential or the provider's SDK is missing.
        """
        ...

    def submit(self, batch: OutBatch) -> Sequence[Result]:
        """Hand over a batch once, without retries; a message without a result is in doubt."""
        ...

    def look_up(self, inquiries: Sequence[Inquiry]) -> Sequence[Finding]:
        """Ask for the fate of messages; changes nothing, so it may be repeated.

        NOT_FOUND, or no finding, does not mean "not taken": the provider may know it later. Where
        providers cannot be asked, every message is NOT_FOUND.
        """
        ...

    def parse_receipts(self, callback: Callback) -> Sequence[Receipt | Unread]:
        """Read the delivery reports that the provider posts; one that cannot be read is Unread.

        Raises:
            UnsignedError: the provider did not sign it.
            UserError: it is not what the provider sends; the sentence says why.
        """
        ...

    def parse_replies(self, callback: Callback) -> Sequence[Reply | Unread]:
        """Read the replies that the provider posts; one that cannot be read is Unread.

        Raises:
            UnsignedError: the provider did not sign it.
            UserError: it is not what the provider sends; the sentence says why.
        """
        ...
