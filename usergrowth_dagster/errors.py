"""The one exception for a mistake that the user can mend, and lists of sentences."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from usergrowth_dagster.error_codes import CODES, ErrorCode

LISTED = 20
"""Sentences of one list that are printed at most."""


class UserError(Exception):
    """A mistake in the user's files, settings or commands.

    Its text is one sentence that names the file, line, column and rule (or the key path in a YAML)
    and says what to do next. The command line prints it without a traceback and exits with 2;
    an asset fails with it as its only message. Several mistakes are a sentence a line.

    Attributes:
        code: what went wrong, as a name that does not change.
        hint: what to do next; that of the code where the error gives none of its own.
    """

    def __init__(self, sentence: str, *, code: ErrorCode, hint: str = "") -> None:
        super().__init__(sentence)
        self.code = code
        self.hint = hint or CODES[code].hint

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is pickled as its class and its positional arguments alone.
        return partial(type(self), code=self.code, hint=self.hint), (str(self),), self.__dict__


class SetUpError(UserError):
    """Something that the operator must set up first: a credential, or a provider's SDK."""


def listed(sentences: Sequence[str], where: str) -> str:
    """Sentences one a line, at most :data:`LISTED`, then how many more there are and ``where``.

    >>> listed(["a", "b"], "see the log")
    'a\\nb'
    """
    lines = list(sentences[:LISTED])
    if len(sentences) > LISTED:
        lines.append(f"and {len(sentences) - LISTED:,} more; {where}")
    return "\n".join(lines)
