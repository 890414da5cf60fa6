"""Sequences in a file: a line is a user and then the items that it took, the oldest first.

Beside ``Beauty.txt`` may lie ``Beauty_item2attributes.json``, an object of each item's list of
categories. This is the form of the published sets for sequential recommendation.
"""

import json
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.recommend.history import History, history_of

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST = 3
"""Items that a user must have taken: one to learn from, one to fit the ranker, one to test."""


@dataclass(frozen=True)
class Sequences:
    """What a file holds.

    Attributes:
        name: of the file, without its ending.
        history: all of it; ages are 0, as no time is known.
        short: users who are left out since they took fewer than :data:`LEAST` items.
        attributes: name of the file of categories; empty where there is none.
    """

    name: str
    history: History
    short: int
    attributes: str


def read_sequences(path: Path) -> Sequences:
    """The sequences of a file, and the categories beside it.

    Raises:
        UserError: a file cannot be read or breaks its form; names file and line.
    """
    users: dict[str, int] = {}
    sequences: list[list[str]] = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if words[0] in users:
            raise _bad(f"{path}: line {number:,}: the user {words[0][:40]!r} appears twice")
        users[words[0]] = len(users)
        items = list(dict.fromkeys(reversed(words[1:])))[::-1]
        sequences.append(items)
    kept = [items for items in sequences if len(items) >= LEAST]
    if not kept:
        raise _bad(
            f"{path}: no line has a user and {LEAST} different items; a line is a user and then "
            "its items, the oldest first, with blanks between"
        )
    numbers = {item: n for n, item in enumerate(dict.fromkeys(chain.from_iterable(kept)))}
    beside = path.with_name(f"{path.stem}_item2attributes.json")
    categories = _categories(beside if beside.exists() else None, numbers)
    history = _history(kept, numbers, categories)
    short = len(sequences) - len(kept)
    return Sequences(path.stem, history, short, beside.name if beside.exists() else "")


def _history(kept: "Sequence[list[str]]", numbers: dict[str, int], categories: Any) -> History:
    import numpy as np

    lengths = [len(items) for items in kept]
    user = np.repeat(np.arange(len(kept)), lengths)
    flat = chain.from_iterable(kept)
    item = np.fromiter((numbers[one] for one in flat), dtype=np.int64, count=len(user))
    return history_of(user, item, np.zeros(len(user), np.float32), len(kept), categories)


def _categories(path: Path | None, numbers: dict[str, int]) -> Any:
    """Sparse items x categories of a file; no category without one."""
    from scipy import sparse

    pairs = [] if path is None else sorted(_pairs(path, numbers))
    columns = {name: n for n, name in enumerate(dict.fromkeys(name for _, name in pairs))}
    at = ([item for item, _ in pairs], [columns[name] for _, name in pairs])
    shape = (len(numbers), max(len(columns), 1))
    return sparse.csr_matrix(([1.0] * len(pairs), at), shape=shape, dtype="float32")


def _pairs(path: Path, numbers: dict[str, int]) -> set[tuple[int, str]]:
    """Item and category of each entry of a file of categories; other items are left out."""
    try:
        parsed = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise _bad(
            f"{path}: line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}"
        ) from None
    if not isinstance(parsed, dict):
        raise _bad(f"{path}: an object of each item's list of categories is expected")
    pairs = set()
    for item, names in parsed.items():
        if not isinstance(names, list):
            raise _bad(f"{path}: {item[:40]}: a list of categories is expected")
        if item in numbers:
            pairs |= {(numbers[item], str(name)) for name in names}
    return pairs


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise _bad(f"{path}: is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise _bad(f"{path}: cannot be read: {error.strerror}") from None


def _bad(sentence: str) -> UserError:
    return UserError(sentence, code="recommend.bad_file")
