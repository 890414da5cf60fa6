"""What landing files must look like: columns, types, keys, and the rules a row can break."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import MISSING_VALUES, Settings

NULL_TEXT = r"\N"
"""How a CSV cell says that there is no value."""

LONGEST_LINE = 1 << 20
"""Bytes of the longest line that is read; a longer one is a reject."""

READER_VERSION = 2
"""Raised when the same files would land differently, so that landed days are read again."""


@dataclass(frozen=True)
class Reading:
    """How landing files are read.

    Args:
        encoding: of CSV files, as Python names it.
        missing: values that say that there is none.
    """

    encoding: str = "utf-8"
    missing: tuple[str, ...] = MISSING_VALUES

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the settings say."""
        return cls(settings.encoding, settings.missing_values)

    @property
    def mark(self) -> str:
        """Text that changes whenever the same file could land differently; "" by default."""
        if self == Reading():
            return ""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Rule:
    """One rule that a row can break: a stable code for tables, a sentence for people."""

    code: str
    sentence: str


LINE_RULES = (
    Rule("too_long", f"a line has at most {LONGEST_LINE:,} bytes"),
    Rule("bad_utf8", "a row is UTF-8 text"),
    Rule("nul", "a row holds no NUL byte"),
    Rule("line_break", "a value holds no line break, neither a newline nor a carriage return"),
    Rule("quote", "a double quote encloses a whole value on one line and is doubled inside it"),
    Rule("field_count", "a row has exactly as many values as the header has names"),
)
"""Rules of the whole row, in the order in which they are asked."""

NOT_NULL = Rule("not_null", rf"the value is required: it is neither {NULL_TEXT} nor left out")
EMPTY = Rule("empty", rf"the value is not an empty text (no value is written {NULL_TEXT})")
BIGINT = Rule("bigint", rf"the value is a whole number of 64 bits, or {NULL_TEXT}")
GENDER = Rule("gender", rf"gender is 1 (male), 2 (female) or {NULL_TEXT}")
AGE = Rule("age", rf"age is between 0 and 150 years, or {NULL_TEXT}")
DAY = Rule("yyyymmdd", rf"the value is a date of the calendar written yyyymmdd, or {NULL_TEXT}")
KVS = Rule(
    "kvs",
    "the value is key:value pairs parted by single spaces, with half-width colons and no colon, "
    f"comma or space inside a key or value, or {NULL_TEXT}",
)
KVS_NUMBER = Rule("kvs_number", "every value of a kvs_num pair is a finite int or float")
KVS_KEY = Rule("kvs_key", "a key occurs once in a cell")
DUPLICATE = Rule("duplicate", "the key is unique within a day; the first row of it is kept")
FORGOTTEN = Rule("forgotten", "nothing of a person who was forgotten is taken in")

CHECKS: dict[str, tuple[Rule, ...]] = {
    "text": (),
    "id": (EMPTY,),
    "gender": (GENDER,),
    "age": (AGE,),
    "yyyymmdd": (DAY,),
    "kvs_num": (KVS, KVS_NUMBER, KVS_KEY),
    "kvs_str": (KVS, KVS_KEY),
}
"""Rules behind each ``Column.check``, in the order in which they are asked."""


@dataclass(frozen=True)
class Column:
    """One column of a landing file.

    Args:
        name: header name, exactly.
        kind: DuckDB type in the raw table, ``VARCHAR`` or ``BIGINT``.
        nullable: whether ``\\N`` is allowed.
        meaning: one phrase for people.
        check: key of ``CHECKS``: what a value must satisfy.
    """

    name: str
    kind: str
    nullable: bool
    meaning: str
    check: str = "text"

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules of a value, in the order in which they are asked."""
        required = () if self.nullable else (NOT_NULL,)
        typed = (BIGINT,) if self.kind == "BIGINT" else ()
        return (*required, *typed, *CHECKS[self.check])


@dataclass(frozen=True)
class Contract:
    """The columns of one landing table, in file order.

    Args:
        table: landing folder name.
        columns: columns in the order of the header.
        key: columns that are unique within a day; empty when rows are events.
        meaning: what one row is.
    """

    table: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    meaning: str

    @property
    def names(self) -> tuple[str, ...]:
        """Header names in order."""
        return tuple(column.name for column in self.columns)

    @property
    def raw_table(self) -> str:
        """Name of the table that holds the accepted rows."""
        return "population" if self.table == "population" else f"raw_{self.table}"

    def raw_types(self) -> dict[str, str]:
        """DuckDB types of the raw table's columns, in order, with ``ds``."""
        kinds = {column.name: column.kind for column in self.columns}
        if self.table != "population":
            return {**kinds, "ds": "DATE"}
        head = {"ds": "DATE", "task_id": "VARCHAR", "row": "BIGINT"}
        return {**head, **kinds, "variables": "MAP(VARCHAR, VARCHAR)"}

    def descriptions(self) -> dict[str, str]:
        """The meaning of each column of the raw table."""
        return {
            **{column.name: column.meaning for column in self.columns},
            **{name: text for name, text in _OWN_COLUMNS.items() if name in self.raw_types()},
        }

    @cached_property
    def rejections(self) -> tuple[tuple[str | None, Rule], ...]:
        """Every (column, rule) a row can break, in the order asked; no column: the whole row."""
        of_rows = [(None, rule) for rule in LINE_RULES]
        of_cells = [(column.name, rule) for column in self.columns for rule in column.rules]
        of_people = [("user_id", FORGOTTEN)] if self.has_people else []
        of_days = [(self.key[0], DUPLICATE)] if self.key else []
        return (*of_rows, *of_cells, *of_people, *of_days)

    @property
    def has_people(self) -> bool:
        """Whether a row is about a user; its id is the first column then."""
        return self.names[0] == "user_id"

    @cached_property
    def version(self) -> str:
        """Short hash that changes whenever the same file could land differently."""
        text = repr((READER_VERSION, self.columns, self.key, self.rejections))
        return hashlib.sha256(text.encode()).hexdigest()[:8]


_OWN_COLUMNS = {
    "ds": "the day of the landing folder; of a population, the execution date",
    "task_id": "the population's folder name",
    "row": "place of the row in the upload, from 1, files in name order",
    "variables": "extra columns of the upload that have a value, by name; they fill ${name}",
}

_KVS_NUM = Column(
    "kvs_num", "VARCHAR", True, "numbers as k:v pairs; hh00..hh23 hold the hour's count", "kvs_num"
)
_KVS_STR = Column("kvs_str", "VARCHAR", True, "texts as k:v pairs", "kvs_str")

IDENTITY = "identity"
"""Landing table of the ids that users were seen with."""

CONTRACTS: dict[str, Contract] = {
    contract.table: contract
    for contract in (
        Contract(
            "user",
            (
                Column("user_id", "VARCHAR", False, "the user, unique per day", "id"),
                Column("gender", "BIGINT", True, "1 male, 2 female", "gender"),
                Column("age", "BIGINT", True, "age in years", "age"),
                Column("reg_time", "VARCHAR", True, "day of registration, yyyymmdd", "yyyymmdd"),
                Column("user_type", "VARCHAR", True, "business class of the user"),
                _KVS_NUM,
                _KVS_STR,
            ),
            ("user_id",),
            "one user's attributes on the day (a full snapshot)",
        ),
        Contract(
            "item",
            (
                Column("item_id", "VARCHAR", False, "the item, unique per day", "id"),
                _KVS_NUM,
                _KVS_STR,
            ),
            ("item_id",),
            "one item's attributes on the day (a full snapshot)",
        ),
        Contract(
            "behavior",
            (
                Column("user_id", "VARCHAR", False, "the user who acted", "id"),
                Column("behavior", "VARCHAR", False, "kind of behavior, such as login", "id"),
                Column("item_id", "VARCHAR", True, "the item acted on", "id"),
                _KVS_NUM,
                _KVS_STR,
            ),
            (),
            "one event, or the day's aggregate of one user, behavior and item",
        ),
        Contract(
            "operation",
            (
                Column("user_id", "VARCHAR", False, "the user who was touched", "id"),
                Column(
                    "target", "VARCHAR", False, "kind of touch, such as sms; holdout: none", "id"
                ),
                Column("item_id", "VARCHAR", True, "the item the touch was about", "id"),
                _KVS_NUM,
                _KVS_STR,
            ),
            (),
            "one past touch",
        ),
        Contract(
            "population",
            (
                Column("user_id", "VARCHAR", False, "the user who may be contacted", "id"),
                Column("item_id", "VARCHAR", False, "the item the message is about", "id"),
                Column("phone", "VARCHAR", True, "phone number; may be joined later"),
            ),
            (),
            "one user who may be contacted about one item",
        ),
        Contract(
            IDENTITY,
            (
                Column("user_id", "VARCHAR", False, "the user who has the id", "id"),
                Column("id_type", "VARCHAR", False, "its type, as identity.yml names it", "id"),
                Column("id_value", "VARCHAR", False, "the id, such as a phone number", "id"),
                Column("source", "VARCHAR", True, "the system that saw both together"),
                Column("time", "VARCHAR", True, "day on which it saw them, yyyymmdd", "yyyymmdd"),
            ),
            (),
            "one id that a user was seen with",
        ),
    )
}
"""The six contracts by landing folder name."""

LANDING_TABLES = ("user", "item", "behavior", "operation")
"""Landing tables that come by day in every home."""

DAILY_TABLES = (*LANDING_TABLES, IDENTITY)
"""Landing tables that come by day, also those that a home may do without."""

WITH_ADDRESSES = ("population", IDENTITY)
"""Tables whose rejects are kept without digits, since any of their cells may be a phone number."""


def contract_of(table: str) -> Contract:
    """The contract of a table that lands by day.

    Raises:
        UserError: there is no such table.
    """
    if table not in DAILY_TABLES:
        raise UserError(
            f"{table!r} is not a landing table; choose from {', '.join(DAILY_TABLES)}",
            code="command.invalid",
        )
    return CONTRACTS[table]


QUARANTINE_TYPES = {
    "table_name": "VARCHAR",
    "ds": "DATE",
    "file": "VARCHAR",
    "line": "BIGINT",
    "column_name": "VARCHAR",
    "rule": "VARCHAR",
    "broken": "VARCHAR",
    "raw_row": "VARCHAR",
}
"""DuckDB types of the quarantine table, in order: one row a reject.

``column_name`` and ``rule`` are the first rule that the row breaks; ``broken`` names every one with
the value seen.
"""
