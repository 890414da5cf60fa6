"""The kinds of answer: a probability, an amount, the effect of a text."""

from functools import cache
from typing import Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.targets.base import Target
from usergrowth_dagster.learning.targets.binary import Binary
from usergrowth_dagster.learning.targets.effect import Effect
from usergrowth_dagster.learning.targets.regression import Regression


@cache
def targets() -> dict[str, Target[Any]]:
    """The kinds of answer by name."""
    return {target.name: target for target in (Binary(), Effect(), Regression())}


def target_called(name: str) -> Target[Any]:
    """The kind of answer of a name.

    Raises:
        UserError: there is none.
    """
    known = targets()
    if name not in known:
        raise UserError(
            f"no kind of answer is called {name!r}; there are {', '.join(known)}",
            code="plugin.unusable",
        )
    return known[name]
