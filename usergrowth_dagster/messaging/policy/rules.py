"""The contact rules of a campaign: the settings' values, or those of its ``contact:`` block."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from usergrowth_dagster.messaging.policy.hours import next_open, zones_of
from usergrowth_dagster.settings import Settings


@dataclass(frozen=True)
class ContactRules:
    """The rules of one campaign; build them with :func:`contact_rules`.

    ``cap_messages`` None: no cap. ``zone`` is the business time zone, which stands for a
    recipient's that is not known. ``require_consent`` names the attribute that must be true.
    """

    cap_messages: int | None
    cap_days: int
    min_gap: timedelta
    number_cap: int
    send_from: time
    send_until: time
    max_audience_days: int
    require_consent: str | None
    zone: ZoneInfo

    @property
    def cap_window(self) -> timedelta:
        """How far back messages count for the cap."""
        return timedelta(days=self.cap_days)

    def next_open(self, moment: datetime, zone: str | None) -> datetime | None:
        """The first time from ``moment`` on (UTC) that is not in a recipient's quiet hours."""
        return next_open(moment, zones_of(zone, self.zone), self.send_from, self.send_until)


def contact_rules(settings: Settings, contact: Mapping[str, Any] | None) -> ContactRules:
    """The settings' contact rules, where the campaign's ``contact:`` block has no other.

    Args:
        settings: the home's settings.
        contact: the block as JSON (``occurrence.contact``), or None.
    """
    overrides = {key: value for key, value in (contact or {}).items() if value is not None}
    exempt = bool(overrides.get("ignore_cap"))
    gap = float(overrides.get("min_gap_hours", settings.min_gap_hours))
    return ContactRules(
        cap_messages=None if exempt else overrides.get("cap_messages", settings.cap_messages),
        cap_days=int(overrides.get("cap_days", settings.cap_days)),
        min_gap=timedelta(0) if exempt else timedelta(hours=gap),
        number_cap=settings.number_cap,
        send_from=_time(overrides.get("send_from", settings.send_from)),
        send_until=_time(overrides.get("send_until", settings.send_until)),
        max_audience_days=int(overrides.get("max_audience_days", settings.max_audience_days)),
        require_consent=overrides.get("require_consent"),
        zone=settings.zone,
    )


def _time(value: time | str) -> time:
    return value if isinstance(value, time) else time.fromisoformat(value)
