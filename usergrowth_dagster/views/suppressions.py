"""The people who must not be texted, in counts."""

from dataclasses import dataclass

from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.messaging.policy.suppression import counts


@dataclass(frozen=True)
class SuppressionsView:
    """How many suppressions of a channel, a scope and a reason are in force."""

    channel: str
    scope: str
    reason: str
    suppressions: int


def count_suppressions(store: ControlStore) -> list[SuppressionsView]:
    """Suppressions in force, by channel, scope and reason."""
    return [SuppressionsView(*count) for count in counts(store)]
