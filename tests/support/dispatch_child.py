"""A dispatcher in a process of its own, which may die at a named place."""

import json
import os
import sys
from datetime import date

from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.settings import load_settings

D = date(2017, 12, 28)
"""The business day of a child, and of the desks that it works for."""


def child_program() -> list[str]:
    """The command of :func:`main` in a process of its own."""
    return [sys.executable, __file__]


def main() -> None:
    """Dispatch in this process; the third argument names a place at which it dies."""
    from usergrowth_dagster.messaging.dispatching import failpoints
    from usergrowth_dagster.messaging.dispatching.dispatch import dispatch

    home, url, place, passes = sys.argv[1:5]
    left = [int(passes)]

    def die() -> None:
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)

    if place != "-":
        failpoints.ACTIONS[place] = die
    settings = load_settings(home, database_url=url, today=D)
    store = ControlStore(settings.database, settings.zone)
    print(json.dumps(dispatch(store, settings).as_dict()))


if __name__ == "__main__":
    main()
