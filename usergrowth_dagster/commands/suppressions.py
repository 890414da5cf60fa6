"""The suppression list by hand and by file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from usergrowth_dagster.commands.delivery import opened
from usergrowth_dagster.control.audit import whoami
from usergrowth_dagster.control.store import utc_now
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.policy import suppression
from usergrowth_dagster.messaging.policy.suppression_files import (
    Exported,
    Imported,
    export_csv,
    import_csv,
)
from usergrowth_dagster.settings import Settings


@contextmanager
def open_ledger(home: Path | None) -> Iterator[tuple[Ledger, Settings]]:
    """The ledger, whose secret key the hashes must be made with, and the settings."""
    with opened(home) as (store, settings):
        yield Ledger(store, open_vault(settings.home, settings.default_country)), settings


def add(
    home: Path | None,
    phone: str | None,
    user_id: str | None,
    channel: str,
    scope: str,
    note: str,
) -> bool:
    """Suppress a person by hand; whether that is new."""
    with open_ledger(home) as (ledger, _):
        return suppression.suppress(
            ledger.store,
            ledger.vault,
            phone=phone,
            user_id=user_id,
            channel=channel,
            scope=scope,
            reason=suppression.BY_HAND,
            source=note or f"by {whoami()}",
            now=utc_now(),
            actor=whoami(),
        )


def lift(
    home: Path | None,
    phone: str | None,
    user_id: str | None,
    channel: str | None,
    scope: str | None,
    forgotten: bool,
) -> int:
    """Lift a person's suppressions; how many."""
    with open_ledger(home) as (ledger, _):
        return suppression.lift(
            ledger.store,
            ledger.vault,
            phone=phone,
            user_id=user_id,
            channel=channel,
            scope=scope,
            forgotten=forgotten,
            now=utc_now(),
            actor=whoami(),
        )


def load(home: Path | None, path: Path, channel: str, scope: str, skip_bad: bool) -> Imported:
    """Import a file."""
    if channel not in suppression.CHANNELS:
        known = ", ".join(suppression.CHANNELS)
        raise UserError(
            f"channel {channel!r} is not known; known are: {known}", code="gateway.unknown"
        )
    with open_ledger(home) as (ledger, _):
        return import_csv(
            ledger.store,
            ledger.vault,
            path,
            channel=channel,
            scope=scope,
            skip_bad=skip_bad,
            now=utc_now(),
            actor=whoami(),
        )


def save(home: Path | None, path: Path, force: bool) -> Exported:
    """Export to a file."""
    with open_ledger(home) as (ledger, _):
        return export_csv(ledger.store, ledger.vault, path, force=force, actor=whoami())


def count(home: Path | None) -> list[tuple[str, str, str, int]]:
    """Suppressions in force by channel, scope and reason."""
    with opened(home) as (store, _):
        return suppression.counts(store)
