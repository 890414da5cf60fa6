"""Status and type codes of the control records, and which status may follow which.

The numbers are those of the PaiPlugin OpenAPI, so that an API of the same shape fits on top.
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum


class GroupSource(IntEnum):
    """Where a group's people come from."""

    TEXT = 0
    TEXT_FILE = 1
    CSV = 2
    TABLE = 3
    ALGORITHM = 4


class GroupStatus(IntEnum):
    """Whether a group's people have been checked."""

    CHECKING = 0
    PASSED = 1
    FAILED = 2


class JobStatus(IntEnum):
    """Life of a training or inference job."""

    QUEUED = 0
    SUBMITTED = 1
    RUNNING = 2
    SUCCESS = 3
    FAILED = 4


class ReviewStatus(IntEnum):
    """Review of a signature or template."""

    REVIEWING = 0
    APPROVED = 1
    REJECTED = 2


class TemplateType(IntEnum):
    """What a template's text is for."""

    CODE = 0
    NOTIFICATION = 1
    PROMOTION = 2


class RepeatUnit(IntEnum):
    """Unit of a schedule's repeat cycle."""

    NEVER = 0
    HOUR = 1
    DAY = 2
    WEEK = 3
    MONTH = 4


class ScheduleStatus(IntEnum):
    """Life of a schedule."""

    CHECKING = 0
    CHECK_OK = 1
    CHECK_FAILED = 2
    SENDING = 3
    SENT = 4
    FAILED = 5


class MessageStatus(IntEnum):
    """The vendor's coarse view of a message; :class:`MessageState` is ours."""

    SENDING = 0
    SUCCESS = 1
    FAILED = 2


class MessageState(StrEnum):
    """State of a recipient row in the ledger."""

    PLANNED = "planned"
    CLAIMED = "claimed"
    SUBMITTING = "submitting"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    IN_DOUBT = "in_doubt"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    EXPIRED = "expired"
    SKIPPED = "skipped"


class OccurrenceState(StrEnum):
    """State of one run of a schedule: only ``ready`` and ``sending`` ones are dispatched."""

    PLANNING = "planning"
    READY = "ready"
    SENDING = "sending"
    DONE = "done"
    STOPPED = "stopped"  # by the provider or a rule; a person may resume it
    CANCELLED = "cancelled"  # by a person, for good


class Kind(StrEnum):
    """Kinds of record that carry a guarded status and a history."""

    CAMPAIGN = "campaign"
    GROUP = "group"
    TRAINING_JOB = "training_job"
    INFERENCE_JOB = "inference_job"
    SIGNATURE = "signature"
    TEMPLATE = "template"
    SCHEDULE = "schedule"
    OCCURRENCE = "occurrence"


_JOB: Mapping[IntEnum, frozenset[IntEnum]] = {
    JobStatus.QUEUED: frozenset({JobStatus.SUBMITTED, JobStatus.RUNNING, JobStatus.FAILED}),
    JobStatus.SUBMITTED: frozenset({JobStatus.RUNNING, JobStatus.FAILED}),
    JobStatus.RUNNING: frozenset({JobStatus.RUNNING, JobStatus.SUCCESS, JobStatus.FAILED}),
    # a day may be run again: its decisions are read, not remade, once they were planned
    JobStatus.SUCCESS: frozenset({JobStatus.QUEUED, JobStatus.RUNNING}),
    JobStatus.FAILED: frozenset({JobStatus.QUEUED, JobStatus.RUNNING}),
}
_REVIEW: Mapping[IntEnum, frozenset[IntEnum]] = {
    ReviewStatus.REVIEWING: frozenset({ReviewStatus.APPROVED, ReviewStatus.REJECTED}),
    ReviewStatus.APPROVED: frozenset({ReviewStatus.REVIEWING, ReviewStatus.REJECTED}),
    ReviewStatus.REJECTED: frozenset({ReviewStatus.REVIEWING}),
}
_GROUP: Mapping[IntEnum, frozenset[IntEnum]] = {
    GroupStatus.CHECKING: frozenset({GroupStatus.PASSED, GroupStatus.FAILED}),
    GroupStatus.PASSED: frozenset({GroupStatus.CHECKING}),
    GroupStatus.FAILED: frozenset({GroupStatus.CHECKING}),
}
_SCHEDULE: Mapping[IntEnum, frozenset[IntEnum]] = {
    ScheduleStatus.CHECKING: frozenset({ScheduleStatus.CHECK_OK, ScheduleStatus.CHECK_FAILED}),
    ScheduleStatus.CHECK_OK: frozenset(
        {
            ScheduleStatus.CHECKING,
            ScheduleStatus.CHECK_FAILED,
            ScheduleStatus.SENDING,
            ScheduleStatus.FAILED,  # its send-by passed before anything went out
        }
    ),
    ScheduleStatus.CHECK_FAILED: frozenset({ScheduleStatus.CHECKING}),
    ScheduleStatus.SENDING: frozenset({ScheduleStatus.SENT, ScheduleStatus.FAILED}),
    # a campaign "on upload" gets further occurrences after its first
    ScheduleStatus.SENT: frozenset({ScheduleStatus.CHECKING, ScheduleStatus.SENDING}),
    ScheduleStatus.FAILED: frozenset({ScheduleStatus.CHECKING, ScheduleStatus.SENDING}),
}
TRANSITIONS: Mapping[Kind, Mapping[IntEnum, frozenset[IntEnum]]] = {
    Kind.TRAINING_JOB: _JOB,
    Kind.INFERENCE_JOB: _JOB,
    Kind.SIGNATURE: _REVIEW,
    Kind.TEMPLATE: _REVIEW,
    Kind.GROUP: _GROUP,
    Kind.SCHEDULE: _SCHEDULE,
}
"""Allowed next statuses, by kind of record and present status."""

MESSAGE_TRANSITIONS: Mapping[MessageState, frozenset[MessageState]] = {
    MessageState.PLANNED: frozenset(
        {MessageState.CLAIMED, MessageState.EXPIRED, MessageState.SKIPPED}
    ),
    MessageState.CLAIMED: frozenset(
        {MessageState.SUBMITTING, MessageState.PLANNED, MessageState.EXPIRED, MessageState.SKIPPED}
    ),
    MessageState.SUBMITTING: frozenset(
        {
            MessageState.ACCEPTED,
            MessageState.REJECTED,
            MessageState.IN_DOUBT,
            MessageState.PLANNED,  # deferred or stopped: the provider said that it took nothing
        }
    ),
    MessageState.IN_DOUBT: frozenset(
        {
            MessageState.ACCEPTED,
            MessageState.REJECTED,
            MessageState.DELIVERED,
            MessageState.UNDELIVERED,
            MessageState.PLANNED,  # only by a person's release, with a note
        }
    ),
    MessageState.ACCEPTED: frozenset(
        {MessageState.DELIVERED, MessageState.UNDELIVERED, MessageState.EXPIRED}
    ),
}
"""Allowed next states of a recipient row; states that are missing here are final."""

VENDOR_STATUS: Mapping[MessageState, MessageStatus] = {
    MessageState.DELIVERED: MessageStatus.SUCCESS,
    MessageState.REJECTED: MessageStatus.FAILED,
    MessageState.UNDELIVERED: MessageStatus.FAILED,
    MessageState.EXPIRED: MessageStatus.FAILED,
    MessageState.SKIPPED: MessageStatus.FAILED,
}
"""The vendor's message status for a ledger state; every other state is SENDING."""
