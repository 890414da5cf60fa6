"""What a gateway is: submit a batch, look messages up, parse receipts.

The dispatcher has written the rows down as ``submitting`` before :meth:`Gateway.submit` is called.
Whatever a gateway cannot be sure of it must answer with ``IN_DOUBT`` (or raise): such rows are
looked up later and never sent again by themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol


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
    """One message on its way out. ``out_id`` is the ledger row's id, as text."""

    out_id: str
    user_id: str
    phone: str = field(repr=False)
    text: str = field(repr=False)
    params: Mapping[str, str] = field(repr=False)
    segments: int = 1


@dataclass(frozen=True)
class OutBatch:
    """At most :attr:`Gateway.max_batch` messages of one occurrence, with what they share."""

    batch_id: str
    schedule: str
    occurrence: str
    channel: str
    signature: str
    template_code: str
    template_type: str
    submitted_time: datetime
    messages: Sequence[OutMessage]


@dataclass(frozen=True)
class Result:
    """The answer for one message of a batch.

    ``code`` is the provider's own code; ``retry_after`` (seconds) belongs to DEFERRED.
    """

    out_id: str
    answer: Answer
    code: str = ""
    request_id: str | None = None
    retry_after: float | None = None


@dataclass(frozen=True)
class Inquiry:
    """One message whose fate is asked for."""

    out_id: str
    schedule: str
    occurrence: str
    submitted_time: datetime
    phone: str = field(repr=False)
    request_id: str | None = None


@dataclass(frozen=True)
class Finding:
    """What the provider knows about one inquiry."""

    out_id: str
    found: Found
    code: str = ""
    request_id: str | None = None


@dataclass(frozen=True)
class Receipt:
    """A delivery report: by ``out_id``, else by ``request_id`` and phone."""

    status: Found
    out_id: str | None = None
    request_id: str | None = None
    phone: str | None = field(default=None, repr=False)
    code: str = ""
    time: datetime | None = None


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

    def submit(self, batch: OutBatch) -> Sequence[Result]:
        """Hand over a batch once, without retries; a message without a result is in doubt."""
        ...

    def look_up(self, inquiries: Sequence[Inquiry]) -> Sequence[Finding]:
        """Ask for the fate of messages; changes nothing, so it may be repeated."""
        ...

    def parse_receipts(self, body: bytes, headers: Mapping[str, str]) -> Sequence[Receipt]:
        """Read what the provider posts back.

        Raises:
            UserError: the body is not what the provider sends; the sentence says why.
        """
        ...
