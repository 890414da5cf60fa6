"""Tables of what a home holds, one after the other, as ``status`` and ``delivery`` print them."""

from typing import TYPE_CHECKING

from usergrowth_dagster.cli.cells import Count
from usergrowth_dagster.cli.common import Page

if TYPE_CHECKING:
    from usergrowth_dagster.views.deliveries import DeliveriesView
    from usergrowth_dagster.views.status import Status


def show_status(status: "Status", page: Page) -> None:
    """Print every part that could be read."""
    if status.tables is not None:
        header: tuple[str, ...] = ("table", "rows", "days", "first", "last", "version")
        lines = [
            (t.table, Count(t.rows), t.days, t.first, t.last, t.version) for t in status.tables
        ]
        page.section("Tables", header, lines)
    if status.models is not None:
        header = ("model", "version", "champion", "status", "trained at", "last label day")
        refs = [view.ref for view in status.models]
        versions = [
            (m.name, m.version, m.champion, m.status, m.execution_date, m.last_label_day)
            for m in refs
        ]
        page.section("Models", header, versions)
    if status.waiting:
        header = ("campaign", "model", "version", "to approve it")
        waiting = [(w.campaign, w.model, w.version, w.approval) for w in status.waiting]
        page.section("Models that wait for review", header, waiting)
    if status.tasks is not None:
        header = ("task", "campaign", "date", "status", "output")
        tasks = [(t.task, t.campaign, t.date, t.status, t.output) for t in status.tasks]
        page.section("Tasks", header, tasks)
        failures = [
            (t.task, t.failure.code, t.failure.reason, t.failure.hint)
            for t in status.tasks
            if t.failure is not None
        ]
        if failures or page.as_json:
            page.section("Failed tasks", ("task", "code", "reason", "hint"), failures)
    if status.stale:
        header = ("segment", "campaigns", "what that does", "why", "what to do")
        stale = [
            (
                *(s.segment, ", ".join(s.campaigns)),
                "nothing of them is sent" if s.blocks else "its newest snapshot is used",
                *("; ".join(s.reasons), s.remedy),
            )
            for s in status.stale
        ]
        page.section("Stale segments", header, stale)
    if status.deliveries is not None:
        show_deliveries(status.deliveries, page)


def show_deliveries(view: "DeliveriesView", page: Page) -> None:
    """Print occurrences, people by state, what is due next, and what nobody could read."""
    runs = [(o.schedule, o.occurrence, o.state, o.due, o.send_by, o.note) for o in view.occurrences]
    page.section("Deliveries", ("schedule", "occurrence", "state", "due", "send by", "note"), runs)
    people = [
        (p.schedule, p.occurrence, p.channel, p.state, p.reason, Count(p.people))
        for p in view.people
    ]
    columns = ("schedule", "occurrence", "channel", "state", "reason", "people")
    page.section("Messages", columns, people)
    if view.clicked:
        header = (
            *("schedule", "occurrence", "text", "channel", "people", "delivered", "clicked"),
            *("rate", "all clicks", "bots"),
        )
        clicked = [
            (
                *(c.schedule, c.occurrence, c.variant, c.channel),
                *(Count(c.people), Count(c.delivered)),
                *(Count(c.clicked), "" if c.rate is None else f"{c.rate:.1%}"),
                *(Count(c.clicks), Count(c.bots)),
            )
            for c in view.clicked
        ]
        page.section("Clicks", header, clicked)
    if view.following:
        page.section(
            "Next", ("schedule", "due"), [(next_.schedule, next_.due) for next_ in view.following]
        )
    if view.unread:
        entries = [(u.gateway, u.kind, Count(u.entries)) for u in view.unread]
        page.section("Unreadable: usergrowth replies", ("gateway", "kind", "entries"), entries)
