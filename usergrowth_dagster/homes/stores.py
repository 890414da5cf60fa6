"""Opening the control store of a home without an engine and without Dagster.

A dispatcher starts in a moment by it, and stays small.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from usergrowth_dagster.control.store import ControlStore, open_store
from usergrowth_dagster.homes.home import require_home
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.settings import Settings, load_settings


@contextmanager
def control_store(home: Path | None) -> Iterator[tuple[ControlStore, Settings]]:
    """The control store and the settings of a home.

    Raises:
        UserError: there is no such home yet.
    """
    settings = load_settings(home)
    require_home(settings)
    store = open_store(settings)
    try:
        yield store, settings
    finally:
        store.close()


@contextmanager
def open_ledger(home: Path | None) -> Iterator[tuple[Ledger, Settings]]:
    """The ledger and the settings of a home.

    Raises:
        UserError: there is no such home yet, or its secret key did not make the ledger's hashes.
    """
    with control_store(home) as (store, settings):
        yield Ledger(store, open_vault(settings.home, settings.default_country)), settings
