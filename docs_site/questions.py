"""The page of the questions, from the registered classes."""

from docs_site.markdown import code, table
from usergrowth_dagster.learning.problems import problems
from usergrowth_dagster.learning.problems.base import Problem
from usergrowth_dagster.learning.targets import target_called

HEAD = """\
# Questions

A question is what a model answers about a user. A campaign names the one that its people are
scored by as `algorithm.kind`; see the keys of each in the [campaign file](campaign.md). A package
adds another by an [entry point](../how-to/questions.md).

"""
_COLUMNS = ("question", "asks", "answer", "rows", "training table", "named by campaigns")


def page() -> str:
    """The questions in a table: what each asks, of which rows, and how it is answered."""
    return HEAD + table(_COLUMNS, [_line(problem) for problem in problems().values()])


def _line(problem: type[Problem]) -> tuple[str, ...]:
    return (
        code(problem.name),
        problem.words.asks,
        f"{problem.words.score} ({target_called(problem.target).name})",
        "touches" if problem.by_touch else "users on snapshot days",
        code(problem.training_table()),
        "yes" if problem.asked_in_campaigns else "no: asked for by a choice by uplift",
    )
