"""Erasure of persons, rotation of the key, and the audit log."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path

from usergrowth_dagster.commands.show import Say, ShowTable
from usergrowth_dagster.control.audit import entries, whoami
from usergrowth_dagster.homes.home import open_home
from usergrowth_dagster.people.forget import ForgetReport, forget
from usergrowth_dagster.project import Project

Progress = Callable[[str, int, int], None]


def forget_person(
    home: Path | None,
    user_id: str,
    addresses: Sequence[str],
    *,
    dry_run: bool,
    say: Say,
    table: ShowTable,
) -> list[str]:
    """Forget a person and show what was erased; returns what is left to do."""
    project = Project(open_home(home))
    report = forget(project, user_id, addresses, actor=whoami(), dry_run=dry_run)
    _show(report, dry_run, say, table)
    return report.failures


def _show(report: ForgetReport, dry_run: bool, say: Say, table: ShowTable) -> None:
    lines: list[tuple[object, ...]] = [
        (f"table {erased.table}", erased.rows, erased.days, erased.files)
        for erased in report.tables
        if erased.rows or erased.files
    ]
    lines += [
        (f"ledger: {name}" if name.startswith("message") else name, rows, None, None)
        for name, rows in report.store.items()
        if rows
    ]
    lines += [
        (f"output.csv of {task}", rows, None, None) for task, rows in report.outputs.items() if rows
    ]
    if report.outbox:
        lines.append(("outbox", report.outbox, None, None))
    if report.touches:
        lines.append(("landed touches", report.touches, None, None))
    if lines:
        table("", ("where", "rows", "days rewritten", "files removed"), lines)
    if dry_run:
        say(
            f"Nothing was changed. With {report.addresses} known addresses the person would be "
            f"suppressed in every channel, and stand as {report.name} in the ledger."
        )
        return
    what = "Erased" if report.anything else "Nothing was left to erase"
    say(
        f"{what}; {report.name} stays suppressed in every channel, with {report.addresses} "
        "addresses found. Landing files are left as they are: rows of the person are set aside "
        "(rule forgotten) whenever they land."
    )


def rotate_key(home: Path | None, say: Say, progress: Progress | None = None) -> None:
    """Change the key that seals numbers, and say what is left to do."""
    from usergrowth_dagster.messaging.people.rotation import rotate

    project = Project(open_home(home))
    done = rotate(project.store, project.settings.home, whoami(), progress)
    if done.resealed:
        counts = ", ".join(f"{number:,} of {name}" for name, number in done.resealed.items())
        say(f"Sealed again with key {done.key_id}: {counts}.")
    if done.todo:
        say(f"To do: {done.todo}.")
    elif done.resealed:
        say(f"The old key is gone; keep a copy of {project.settings.home / 'secret.key'} apart.")


def audit_log(
    home: Path | None, since: date | None, actor: str | None, limit: int
) -> list[tuple[datetime, str, str, str, str]]:
    """Lines of the audit log: time in the business time zone, who, what, to what, detail."""
    settings = open_home(home)
    start = datetime.combine(since, time(), settings.zone).astimezone(UTC) if since else None
    log = entries(Project(settings).store, since=start, actor=actor, limit=limit)
    return [
        (
            entry.time.astimezone(settings.zone),
            entry.actor,
            entry.action,
            entry.subject,
            entry.detail,
        )
        for entry in log
    ]
