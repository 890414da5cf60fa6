"""Named places in the dispatcher where a test may stop the process; nothing happens otherwise."""

from collections.abc import Callable

ACTIONS: dict[str, Callable[[], None]] = {}
"""What to do at a named place; empty outside tests."""

CLAIMED = "claimed"
SUBMITTING = "submitting_committed"
ANSWERED = "provider_answered"
RECORDED = "result_committed"


def reach(name: str) -> None:
    """Pass a named place."""
    action = ACTIONS.get(name)
    if action is not None:
        action()
