"""Named places in the dispatcher where a test may stop the process; nothing happens otherwise.

A place ``…ing`` is inside a transaction just before its commit, the others are just after it.
"""

from collections.abc import Callable

ACTIONS: dict[str, Callable[[], None]] = {}
"""What to do at a named place; empty outside tests."""

RECOVERED = "recovered"  # rows of lost workers taken back
CLAIMING = "claiming"
CLAIMED = "claimed"
WRITING = "submitting_uncommitted"
SUBMITTING = "submitting_committed"
ANSWERED = "provider_answered"
RECORDING = "result_uncommitted"
RECORDED = "result_committed"
TAKEN_BACK = "taken_back"  # a batch that was written ahead is not handed over after all
LOOKED_UP = "looked_up"  # the provider has answered, nothing is written yet
SETTLED = "settled"  # its answer is written
STOPPING = "stop_committed"  # a campaign is stopped, no alert is out yet
EXPIRED = "expired"
FINISHED = "occurrence_done"

PLACES = (
    *(RECOVERED, CLAIMING, CLAIMED, WRITING, SUBMITTING, ANSWERED, RECORDING, RECORDED),
    *(TAKEN_BACK, LOOKED_UP, SETTLED, STOPPING, EXPIRED, FINISHED),
)


def reach(name: str) -> None:
    """Pass a named place."""
    action = ACTIONS.get(name)
    if action is not None:
        action()
