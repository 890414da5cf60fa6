"""The header of a landing file against its contract: columns are found by name, in any order."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from usergrowth_dagster.data.contracts import Contract
from usergrowth_dagster.data.lines import read_header, shown
from usergrowth_dagster.data.storage import Storage, StoredFile
from usergrowth_dagster.errors import UserError


@dataclass(frozen=True)
class Header:
    """The column names of a file in its order, and those of them that are not read."""

    names: tuple[str, ...]
    unread: tuple[str, ...] = ()


def read_checked(
    landing: Storage,
    file: StoredFile,
    contract: Contract,
    encoding: str = "utf-8",
    called: Mapping[str, str] | None = None,
) -> Header:
    """The header of a landing file.

    Args:
        landing: where the file is.
        file: the file.
        contract: what it must look like.
        encoding: of a CSV.
        called: by a name of the file, the contract's name for it.

    Raises:
        UserError: a column is missing or there twice, or the file cannot be read.
    """
    called = called or {}
    names = tuple(called.get(name, name) for name in read_header(landing, file, encoding))
    problem = header_problem(contract, names)
    if problem is not None:
        raise UserError(f"{file.path}: line 1, {problem}", code="landing.bad_header")
    return Header(names, () if _takes_more(contract) else extra_names(contract, names))


def extra_names(contract: Contract, names: Sequence[str]) -> tuple[str, ...]:
    """The columns of a file beyond those of its contract, in order; of a population: variables."""
    return tuple(name for name in names if name not in contract.names)


def _takes_more(contract: Contract) -> bool:
    return contract.table == "population"


def header_problem(contract: Contract, names: Sequence[str]) -> str | None:
    """What is wrong with a header, naming column, expected and found; None when nothing is.

    Every name of the contract must be there once, in any order, and may have others beside it.
    """
    # A population without a header has a phone number where a name should be.
    digits = not _takes_more(contract)
    extra = extra_names(contract, names)
    for expected in contract.names:
        if expected not in names:
            return _missing(contract, expected, names, digits)
    for place, name in enumerate(names, 1):
        if _takes_more(contract) and not name.strip():
            return f"column {place}: expected a name, found {shown(name)}"
        if name in names[: place - 1] and (name.strip() or name not in extra):
            return f"column {place}: expected a new name, found {shown(name, digits=digits)} again"
    return None


def _missing(contract: Contract, expected: str, names: Sequence[str], digits: bool) -> str:
    """The sentence of a column that is missing, with what seems to stand in its place."""
    extra = extra_names(contract, names)
    by_likeness = {name.strip().casefold(): name for name in extra}
    close = difflib.get_close_matches(expected, by_likeness, n=1)
    place = contract.names.index(expected)
    if close:
        place = names.index(by_likeness[close[0]])
    elif place >= len(names) or names[place] in contract.names:
        place = next((n for n, name in enumerate(names) if name in extra), len(names))
    if place == len(names):
        return f"column {place + 1}: expected {expected!r}, found the end of the header"
    return f"column {place + 1}: expected {expected!r}, found {shown(names[place], digits=digits)}"
