"""Expressions over items, such as ``ITEMS.genres = "Action"``, as SQL conditions.

The grammar is that of Amazon Personalize's filters over items, as far as a segment uses it::

    expression = and_part { OR and_part }
    and_part   = part { AND part }
    part       = ( expression ) | NOT part | ITEMS.field comparison
    comparison = (= | != | < | <= | > | >=) value | [NOT] IN ( value { , value } )

Field names are compared without regard to case. A field that holds several values, such as
``Crime|Drama``, equals each of them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import identifier, literals

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"[^"]*"|'[^']*')|(?P<number>-?\d+(?:\.\d+)?(?![\w.]))"""
    r"""|(?P<word>[^\W\d][\w.\-]*)|(?P<mark>!=|<=|>=|[=<>(),]))"""
)
_NAME = re.compile(r"[\W_]+")
_LONGEST_NAME = 100
_ORDERED = frozenset({"<", "<=", ">", ">="})


@dataclass(frozen=True)
class Comparison:
    """One comparison of a field with values, negated or not.

    Attributes:
        field: the field as it is written, without ``ITEMS.``.
        mark: ``=`` for one value or several, else <, <=, >, >=.
        values: the values as texts.
    """

    field: str
    mark: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Expression:
    """A parsed expression.

    Attributes:
        text: as it is written.
        parts: its comparisons, in the order of ``pattern``.
        pattern: SQL with ``{0}``, ``{1}`` … in place of the comparisons.
    """

    text: str
    parts: tuple[Comparison, ...]
    pattern: str

    @property
    def name(self) -> str:
        """The expression as a part of a file name.

        >>> parse_expression('ITEMS.genres = "Action"', "job").name
        'ITEMSgenresAction'
        """
        return _NAME.sub("", self.text)[:_LONGEST_NAME]

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields, each once."""
        return tuple(dict.fromkeys(part.field for part in self.parts))

    def condition(self, columns: Mapping[str, str]) -> str:
        """The expression over a table of items as SQL; NULL values match nothing.

        Args:
            columns: the table's column by field name in lower case.
        """
        return self.pattern.format(*(_condition(part, columns) for part in self.parts))


def _condition(part: Comparison, columns: Mapping[str, str]) -> str:
    column = identifier(columns[part.field.casefold()])
    if part.mark in _ORDERED:
        return (
            f"coalesce(try_cast({column} as double) {part.mark} {float(part.values[0])!r}, false)"
        )
    return f"coalesce(list_has_any({values_of(column)}, [{literals(part.values)}]), false)"


def values_of(column: str) -> str:
    """The values that a quoted column holds, separated by ``|``, as a list in SQL."""
    return f"list_transform(string_split({column}, '|'), lambda value: trim(value))"


def parse_expression(text: str, place: str) -> Expression:
    """An expression from its text.

    Args:
        text: such as ``ITEMS.genres = "Action"``.
        place: file and key for the error sentence.

    Raises:
        UserError: it breaks the grammar; the sentence names the character.
    """
    parser = _Parser(text, place)
    pattern = parser.either()
    parser.end()
    return Expression(text.strip(), tuple(parser.parts), pattern)


class _Parser:
    def __init__(self, text: str, place: str) -> None:
        self._text, self._place = text, place
        self.parts: list[Comparison] = []
        self._tokens = list(self._read())
        self._at = 0

    def _read(self) -> Iterator[tuple[str, str, int]]:
        at = 0
        while self._text[at:].strip():
            match = _TOKEN.match(self._text, at)
            if match is None:
                start = at + len(self._text[at:]) - len(self._text[at:].lstrip())
                self._fail(start, f"{self._text[start]!r} is not understood; texts need quotes")
            kind = str(match.lastgroup)
            yield kind, match[kind], match.start(kind)
            at = match.end()

    def _fail(self, at: int, rule: str) -> NoReturn:
        raise UserError(
            f"{self._place}: character {at + 1} of {self._text!r}: {rule}", code="affinity.invalid"
        )

    def _peek(self) -> tuple[str, str, int]:
        if self._at < len(self._tokens):
            return self._tokens[self._at]
        return "end", "", len(self._text)

    def _word(self, word: str) -> bool:
        """Take a keyword if it comes next."""
        kind, value, _ = self._peek()
        if kind == "word" and value.upper() == word:
            self._at += 1
            return True
        return False

    def _mark(self, mark: str, rule: str) -> None:
        kind, value, at = self._peek()
        if (kind, value) != ("mark", mark):
            self._fail(at, rule)
        self._at += 1

    def end(self) -> None:
        kind, value, at = self._peek()
        if kind != "end":
            self._fail(at, f"AND, OR or the end is expected, not {value}")

    def either(self) -> str:
        sides = [self._both()]
        while self._word("OR"):
            sides.append(self._both())
        return sides[0] if len(sides) == 1 else f"({' or '.join(sides)})"

    def _both(self) -> str:
        sides = [self._part()]
        while self._word("AND"):
            sides.append(self._part())
        return sides[0] if len(sides) == 1 else f"({' and '.join(sides)})"

    def _part(self) -> str:
        if self._word("NOT"):
            return f"(not {self._part()})"
        kind, value, at = self._peek()
        if (kind, value) == ("mark", "("):
            self._at += 1
            inner = self.either()
            self._mark(")", "a closing ) is expected")
            return inner
        if kind != "word" or not value.upper().startswith("ITEMS.") or len(value) == 6:
            self._fail(at, 'a field is expected, such as ITEMS.genres = "Action"')
        self._at += 1
        return self._comparison(value[6:])

    def _comparison(self, field: str) -> str:
        negated = self._word("NOT")
        if self._word("IN"):
            return self._add(Comparison(field, "=", self._list()), negated)
        kind, mark, at = self._peek()
        if negated or kind != "mark" or mark in "(),":
            self._fail(at, "=, !=, <, <=, >, >= or IN is expected")
        self._at += 1
        value = self._value(number=mark in _ORDERED)
        if mark == "!=":
            return self._add(Comparison(field, "=", (value,)), True)
        return self._add(Comparison(field, mark, (value,)), False)

    def _add(self, comparison: Comparison, negated: bool) -> str:
        self.parts.append(comparison)
        place = f"{{{len(self.parts) - 1}}}"
        return f"(not {place})" if negated else place

    def _list(self) -> tuple[str, ...]:
        self._mark("(", 'a list in ( ) is expected, such as IN ("Action", "Drama")')
        values = [self._value()]
        while self._peek()[:2] == ("mark", ","):
            self._at += 1
            values.append(self._value())
        self._mark(")", "a comma or a closing ) is expected")
        return tuple(values)

    def _value(self, *, number: bool = False) -> str:
        kind, value, at = self._peek()
        if kind == "number":
            self._at += 1
            return value
        if kind != "text" or number:
            self._fail(at, "a number is expected" if number else "a value in quotes is expected")
        self._at += 1
        return value[1:-1].strip()
