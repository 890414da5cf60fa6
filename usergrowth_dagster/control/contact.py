"""The ``contact:`` block of a campaign file: its own rules of when and how often people are texted.

Whatever it leaves out is as the settings say.
"""

from datetime import time
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, StringConstraints


def _to_clock(value: Any) -> Any:
    """A time of day; YAML 1.1 reads 21:30 as the number 1290, in minutes."""
    if isinstance(value, time):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 60 <= value < 24 * 60:
        return time(value // 60, value % 60)
    if isinstance(value, str):
        try:
            clock = time.fromisoformat(value.strip())
        except ValueError:
            pass
        else:
            if clock.tzinfo is None and ":" in value:
                return clock
    raise ValueError(f"must be a time of day such as 08:00, not {str(value)!r}")


Clock = Annotated[time, BeforeValidator(_to_clock)]


class ContactSpec(BaseModel):
    """How often and when a campaign's people are contacted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, str_strip_whitespace=True)

    cap_messages: PositiveInt | None = Field(
        None, description="messages a person may have had in cap_days, of all campaigns"
    )
    cap_days: PositiveInt | None = Field(None, le=366, description="days that cap_messages counts")
    min_gap_hours: float | None = Field(
        None, ge=0, le=24 * 366, description="hours since a person's last message"
    )
    send_from: Clock | None = Field(None, description="no text before it, in recipients' own time")
    send_until: Clock | None = Field(None, description="no text from it on, in the same time")
    ignore_cap: bool = Field(
        False, description="codes and notifications: neither cap nor gap holds for them"
    )
    require_consent: Annotated[str, StringConstraints(pattern=r"^[^\s:,]{1,64}$")] | None = Field(
        None, description="population column or user attribute that must say true, 1 or yes"
    )
    max_audience_days: PositiveInt | None = Field(
        None, description="an audience decided longer ago than this is not sent to"
    )
