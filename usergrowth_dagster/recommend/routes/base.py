"""What a route is: it learns from a history, and scores the items for users by theirs."""

from typing import TYPE_CHECKING, Protocol

from usergrowth_dagster.recommend.history import History

if TYPE_CHECKING:
    from usergrowth_dagster.recommend.history import Floats


class Route(Protocol):
    """One way from a user to items."""

    @property
    def name(self) -> str:
        """Short, as pages and results show it."""
        ...

    def scores(self, people: History) -> "Floats":
        """How much speaks for each item, as users x items.

        Args:
            people: the histories of the users to score, over the items that the route learned.

        Returns:
            A new array of 4-byte numbers, which the caller may change; 0 or less: nothing speaks
            for the item.
        """
        ...
