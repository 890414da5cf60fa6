"""What a gateway is: submit a batch, look messages up, parse receipts and replies.

The dispatcher has written the rows down as ``submitting`` before :meth:`Gateway.submit` is called.
Whatever a gateway cannot be sure of it must answer with ``IN_DOUBT`` (or raise): such rows are
looked up later and never sent again by themselves.

A gateway never repeats a submission by itself, keeps every number out of logs, exceptions and
``repr``, and ends :meth:`Gateway.submit` within about ``settings.gateway_timeout`` seconds, which
the dispatcher's lease outlasts. What it could not begin in that time was not taken: ``DEFERRED``.

``usergrowth serve`` hands a provider's request to ``/<gateway>/dlr`` to
:meth:`Gateway.parse_receipts`, and one to ``/<gateway>/mo`` to :meth:`Gateway.parse_replies`. An
answer with 200 means that everything is on disk.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import ClassVar, Self
from urllib.parse import parse_qsl, urlsplit

from usergrowth_dagster.error_codes import ErrorCode
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.settings.gateways import GatewaySettings

BODY_LIMIT = 2 << 20
"""Bytes of the longest callback that is taken, unless a gateway says otherwise."""


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

    ``signature`` is the one that the reply was to, where the provider says so; ``sequence_id`` the
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
    fields: dict[str, str] = {}
    for key, value in parse_qsl(encoded, keep_blank_values=True, max_num_fields=1000):
        fields.setdefault(key, value)
    return fields


class Brings(StrEnum):
    """What a provider calls one of our addresses with."""

    RECEIPTS = "receipts"
    REPLIES = "replies"


ROUTES: Mapping[str, Brings] = {
    **dict.fromkeys(("receipts", "report", "status", "dlr"), Brings.RECEIPTS),
    **dict.fromkeys(("replies", "up", "reply", "mo"), Brings.REPLIES),
}
"""The last part of a callback's path, ``/<gateway>/<part>``, in the words of several providers."""


@dataclass(frozen=True)
class CallbackAnswer:
    """How a callback is answered once everything in it is stored (HTTP 200)."""

    body: str
    media_type: str = "application/json"


class Gateway(ABC):
    """A provider, or something that behaves like one: a class in one file.

    It is registered as an entry point of the group ``usergrowth.gateways`` under its name. The
    receiver, the settings, the command line and the list of gateways read everything else here.

    Attributes:
        name: short name, kept with every batch so that look-ups go to the right provider; the
            first part of the paths of its callbacks.
        channels: what it sends: ``sms``, ``email``.
        settings_model: its settings.
        credentials: names of its credentials.
        extra: the optional dependencies of this package that it needs, if any.
        looks_up: how the provider can be asked about a message, for the list of gateways.
        personal_codes: codes that belong to one person: their number, or their refusal. Every
            other code may hold for everybody: a sender that is not registered, a quota.
        max_batch: most messages in one call.
        rate: messages a second that the provider takes by default; None: as many as come.
        routes: what the paths of its callbacks bring.
        methods: HTTP methods of its callbacks; a page is got with GET whatever they are.
        longest_body: bytes of the longest callback that is taken.
        kept_body: bytes of a callback that are read; the rest is passed over.
    """

    name: ClassVar[str]
    channels: ClassVar[tuple[str, ...]] = ("sms",)
    settings_model: ClassVar[type[GatewaySettings]] = GatewaySettings
    credentials: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str | None] = None
    looks_up: ClassVar[str] = "no"
    personal_codes: ClassVar[frozenset[str]] = frozenset()
    max_batch: ClassVar[int] = 100
    rate: ClassVar[float | None] = None
    routes: ClassVar[Mapping[str, Brings]] = ROUTES
    methods: ClassVar[frozenset[str]] = frozenset({"POST"})
    longest_body: ClassVar[int] = BODY_LIMIT
    kept_body: ClassVar[int] = BODY_LIMIT

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @classmethod
    def make(cls, settings: Settings) -> Self:
        """The gateway of a home.

        Raises:
            UserError: a setting or a credential is missing.
        """
        return cls(settings)

    def require_set_up(self) -> None:  # noqa: B027  # some check everything when they are made
        """Check, before anything is written ahead, that all that submitting needs is there.

        Raises:
            UserError: a setting, a credential or the provider's SDK is missing.
        """

    @abstractmethod
    def submit(self, batch: OutBatch) -> Sequence[Result]:
        """Hand over a batch once, without retries; a message without a result is in doubt."""

    def look_up(self, inquiries: Sequence[Inquiry]) -> Sequence[Finding]:
        """Ask for the fate of messages; changes nothing, so it may be repeated.

        NOT_FOUND, or no finding, does not mean "not taken": the provider may know it later. Where
        providers cannot be asked, every message is NOT_FOUND, as here.
        """
        return [Finding(inquiry.out_id, Found.NOT_FOUND) for inquiry in inquiries]

    def parse_receipts(self, callback: Callback) -> Sequence[Receipt | Unread]:
        """Read the delivery reports that the provider posts; one that cannot be read is Unread.

        Raises:
            UnsignedError: the provider did not sign it.
            UserError: it is not what the provider sends; the sentence says why.
        """
        raise UserError(f"{self.name} sends no delivery reports", code="callback.malformed")

    def parse_replies(self, callback: Callback) -> Sequence[Reply | Unread]:
        """Read the replies that the provider posts; one that cannot be read is Unread.

        Raises:
            UnsignedError: the provider did not sign it.
            UserError: it is not what the provider sends; the sentence says why.
        """
        raise UserError(f"{self.name} sends no replies", code="callback.malformed")

    @classmethod
    def proves_origin(cls, brings: Brings, callback: Callback) -> bool:
        """Whether a callback can prove who calls; else its path must hold ``callback_token``."""
        return True

    @classmethod
    def page(cls, brings: Brings, callback: Callback) -> CallbackAnswer | None:
        """The page that a GET of a person asks for, which stores nothing; None: there is none."""
        return None

    @classmethod
    def confirm(cls, brings: Brings, items: Sequence[Receipt | Reply | Unread]) -> CallbackAnswer:
        """The answer to a callback whose items are stored, those that could not be read too."""
        return counted(brings, items)

    @classmethod
    def callback_addresses(cls, settings: Settings, root: str) -> Sequence[tuple[str, str]]:
        """What to enter in the provider's console: (what it is for, address).

        Args:
            settings: of the home.
            root: the address that ``usergrowth serve`` has from outside, without ``/`` at its end.

        Raises:
            UserError: a setting or a credential is missing.
        """
        return [
            (f"{cls.name} {brings}", f"{root}/{cls.name}/{path}")
            for brings, path in ((Brings.RECEIPTS, "dlr"), (Brings.REPLIES, "mo"))
        ]

    @classmethod
    def is_personal(cls, code: str) -> bool:
        """Whether a code belongs to one person."""
        return code in cls.personal_codes


def counted(brings: Brings, items: Sequence[Receipt | Reply | Unread]) -> CallbackAnswer:
    """``{"code": 0, "msg": …}`` with the numbers of entries that were taken, kept, passed over."""
    unread = [item for item in items if isinstance(item, Unread)]
    foreign = sum(1 for item in unread if item.raw is None)
    parts = [f"{len(items) - len(unread)} {brings} taken"]
    if len(unread) > foreign:
        parts.append(f"{len(unread) - foreign} could not be read and are kept")
    if foreign:
        parts.append(f"{foreign} of other systems passed over")
    return CallbackAnswer(json.dumps({"code": 0, "msg": ", ".join(parts)}, ensure_ascii=False))
