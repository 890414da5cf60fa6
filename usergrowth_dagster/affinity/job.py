"""``job_config.json``: which segments a job makes, and how many users each has.

The file is one JSON object, a list of them, or one a line, as a batch segment job reads them::

    {"itemAttributes": "ITEMS.genres = \\"Action\\"", "numResults": 50}

``numResults`` (users of a segment at most) and ``minScore`` (their least score) are ours and may be
left out; ``itemAttributes`` may be a list.
"""

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usergrowth_dagster.affinity.expression import Expression, parse_expression
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.yaml_file import read_text

FILE_NAME = "job_config.json"

NUM_RESULTS = 50
"""Users of a segment at most, where a job does not say: as the vendor's example has it."""

_KEYS = ("itemAttributes", "numResults", "minScore")


@dataclass(frozen=True)
class Segment:
    """One segment that a job asks for.

    Attributes:
        expression: which items.
        place: file and key of the expression, for an error sentence.
        num_results: users at most.
        min_score: least score of a user, from 0 to 1.
    """

    expression: Expression
    place: str
    num_results: int
    min_score: float


def read_job(
    path: Path, *, top: int | None = None, min_score: float | None = None
) -> tuple[Segment, ...]:
    """The segments of a job, in the file's order.

    Args:
        path: the file.
        top: users of a segment at most, instead of what the file says.
        min_score: least score, instead of what the file says.

    Raises:
        UserError: the file cannot be read, or a key or an expression breaks a rule.
    """
    segments = [
        Segment(
            parse_expression(text, f"{path}{place}: itemAttributes"),
            f"{path}{place}: itemAttributes",
            _number(entry, "numResults", NUM_RESULTS, path, place) if top is None else top,
            _score(entry, path, place) if min_score is None else min_score,
        )
        for place, entry in _entries(path)
        for text in _texts(entry, path, place)
    ]
    texts = [segment.expression.text for segment in segments]
    for text in texts:
        if texts.count(text) > 1:
            raise _invalid(f"{path}: itemAttributes: {text!r} appears twice; keep one")
    return tuple(segments)


def _invalid(sentence: str) -> UserError:
    return UserError(sentence, code="affinity.invalid")


def _entries(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The objects of the file, each with its place."""
    text = read_text(path)
    try:
        parsed = json.loads(text)
        some = parsed if isinstance(parsed, list) else [parsed]
        lines = [("" if len(some) == 1 else f": entry {n}", e) for n, e in enumerate(some, 1)]
    except json.JSONDecodeError as whole:
        lines = []
        for number, line in enumerate(text.splitlines(), 1):
            try:
                lines += [(f": line {number}", json.loads(line))] if line.strip() else []
            except json.JSONDecodeError as error:
                # A first line that is whole JSON means one object a line; else one is broken.
                at, why = (number, error) if lines else (whole.lineno, whole)
                raise _invalid(
                    f"{path}: line {at}, column {why.colno}: not valid JSON: {why.msg}"
                ) from None
    if not lines:
        raise _invalid(f"{path}: it holds no segment; write itemAttributes")
    for place, entry in lines:
        if not isinstance(entry, dict):
            raise _invalid(f"{path}{place}: an object with itemAttributes is expected")
        for key in entry:
            if key not in _KEYS:
                close = difflib.get_close_matches(key, _KEYS, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(_KEYS)}"
                raise _invalid(f"{path}{place}: {key}: unknown key; {hint}")
    return lines


def _texts(entry: dict[str, Any], path: Path, place: str) -> list[str]:
    value = entry.get("itemAttributes")
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise _invalid(
            f'{path}{place}: itemAttributes: an expression such as ITEMS.genres = "Action" is '
            f"required, not {json.dumps(value)[:60]}"
        )
    return [str(text) for text in texts]


def _number(entry: dict[str, Any], key: str, default: int, path: Path, place: str) -> int:
    value = entry.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _invalid(
            f"{path}{place}: {key}: a whole number from 1 is expected, not {json.dumps(value)[:60]}"
        )
    return value


def _score(entry: dict[str, Any], path: Path, place: str) -> float:
    value = entry.get("minScore", 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise _invalid(
            f"{path}{place}: minScore: a number from 0 to 1 is expected, not "
            f"{json.dumps(value)[:60]}"
        )
    return float(value)
