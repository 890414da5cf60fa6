"""The questions: one file each, those of this folder and those of packages outside.

A question is registered by an entry point of the group ``usergrowth.problems``. One from outside
brings its SQL models in a folder ``sql`` beside its module.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Union

from pydantic import Field

from usergrowth_dagster.errors import SetUpError, UserError
from usergrowth_dagster.learning.problems.base import Problem
from usergrowth_dagster.plugins import PROBLEMS, loaded


@cache
def problems() -> Mapping[str, type[Problem]]:
    """The questions by name, in the order of their names.

    Raises:
        SetUpError: a package registers what is no question, or under another name than its own.
    """
    registered = loaded(PROBLEMS)
    for name, value in registered.items():
        if not (isinstance(value, type) and issubclass(value, Problem)):
            raise SetUpError(
                f"{PROBLEMS}: {name!r} is registered and is no Problem", code="plugin.unusable"
            )
        if value.name != name:
            raise SetUpError(
                f"{PROBLEMS}: {value.name!r} is registered as {name!r}; give both one name",
                code="plugin.unusable",
            )
    return MappingProxyType({name: registered[name] for name in sorted(registered)})


def problem_called(name: str) -> type[Problem]:
    """The question of a name.

    Raises:
        UserError: there is none.
    """
    problem = problems().get(name)
    if problem is None:
        raise UserError(
            f"no question is called {name!r}; there are {', '.join(problems())}",
            code="question.unknown",
        )
    return problem


@cache
def campaign_kinds() -> Mapping[str, str]:
    """What a campaign file may write as ``kind``: each name and alias with the question's name."""
    return MappingProxyType(
        {
            called: name
            for name, problem in problems().items()
            if problem.asked_in_campaigns
            for called in (*problem.aliases, name)
        }
    )


def any_block() -> Any:
    """The type of the block of any question, told apart by ``kind``."""
    blocks = tuple(p.block() for p in problems().values() if p.asked_in_campaigns)
    return Annotated[Union[blocks], Field(discriminator="kind")]  # noqa: UP007 - made at run time
