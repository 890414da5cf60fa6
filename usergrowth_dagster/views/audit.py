"""Who did what to a home."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from usergrowth_dagster.control.audit import entries
from usergrowth_dagster.project import Project


@dataclass(frozen=True)
class AuditView:
    """One entry of the audit log, on the clock of the business time zone."""

    time: datetime
    actor: str
    action: str
    subject: str
    detail: str


def read_audit(
    project: Project, *, since: date | None, actor: str | None, limit: int
) -> list[AuditView]:
    """Entries of the audit log, oldest first.

    Args:
        project: the home.
        since: only from this day on.
        actor: only actors whose name begins so.
        limit: only so many of the newest.
    """
    zone = project.settings.zone
    start = datetime.combine(since, time(), zone).astimezone(UTC) if since else None
    return [
        AuditView(e.time.astimezone(zone), e.actor, e.action, e.subject, e.detail)
        for e in entries(project.store, since=start, actor=actor, limit=limit)
    ]
