"""The file ``sources.yml``: where rows of a landing table come from, and how they become them.

    sources:
      - name: invoices
        fills: behavior
        from: exports/invoices-*.csv
        read: {delimiter: ";", encoding: latin-1}
        day: {time: "strptime(invoice_date, '%d.%m.%Y %H:%M')", zone: Europe/London}
        columns: {user_id: customer, behavior: "'buy'", item_id: stock_code}
        num: {amount: quantity * unit_price}
        str: {country: country}
        where: customer is not null

Instead of ``from``, ``database`` names a table (:mod:`databases.keys`). A source that fills
``experiment`` is described by other columns (:mod:`experiments`).

Paths are relative to the file. Expressions are DuckDB's, one an entry; :mod:`expressions` says what
they may hold. The classes here are the format. An entry with a ``preset`` takes the keys that it
leaves out from :mod:`presets` before it is checked.

A key that is new to the format is left out of a dump at its default, so that the days of sources
that do not use it are not written again.
"""

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from usergrowth_dagster.data.contracts import CONTRACTS, IDENTITY, Contract
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.sources.databases.keys import DatabaseKeys, is_database_url
from usergrowth_dagster.sources.experiments import CONTRACT as EXPERIMENT_CONTRACT
from usergrowth_dagster.sources.experiments import (
    EXPERIMENT,
    LANDS_IN,
    EffectKeys,
    check_columns,
)
from usergrowth_dagster.sources.presets.registry import with_presets
from usergrowth_dagster.sources.tables.keys import TableKeys
from usergrowth_dagster.yaml_file import explain, read_mapping, read_text, schema_of

FILE_NAME = "sources.yml"
"""File of a home with its sources."""

OF_IDS = ("id_type", "id_value")
"""Columns of the landing table identity that ``ids`` gives."""

_NAME = r"^[a-z][a-z0-9_]{0,39}$"
"""What a source, an element and a type of ids may be called."""

KVS = frozenset({"kvs_num", "kvs_str"})
"""Columns of a contract that the entries ``num`` and ``str`` add pairs to."""

Format = Literal["csv", "json", "parquet"]


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _is_empty(value: Any) -> bool:
    return not value


class ReadKeys(_Keys):
    """How files are read that do not say it themselves: CSV in any of its dialects."""

    delimiter: Literal["spaces"] | Annotated[str, Field(min_length=1, max_length=4)] | None = Field(
        None, description="between values; spaces: any number of spaces and tabs, nothing quoted"
    )
    quote: str | None = Field(None, max_length=1, description='around values; "" for none')
    encoding: str = Field("utf-8", description="of CSV files, as Python names it")
    header: bool | None = Field(
        None, description="whether the first line names the columns; default: unless names do"
    )
    names: tuple[str, ...] = Field((), description="of the columns, where no line names them")
    skip: int = Field(0, ge=0, description="lines before the header")
    texts: tuple[str, ...] = Field(
        (),
        description="columns that are read as text; NULL where a file lacks them",
        exclude_if=_is_empty,
    )
    nested: tuple[str, ...] = Field(
        (),
        description="columns that are read as JSON, such as objects and lists; NULL where a file "
        "lacks them. With texts or nested, no other columns of JSON files are read",
        exclude_if=_is_empty,
    )

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            "".encode(value)
        except LookupError:
            raise ValueError(f"{value!r} is not an encoding such as utf-8 or gbk") from None
        return value


class DayKeys(_Keys):
    """The business day of a row: of its time, or one day for a table of today's state."""

    time: str | None = Field(None, description="expression: a date, or a time")
    zone: str | None = Field(
        None, description="of times without a zone; default: the business zone"
    )
    snapshot: date | Literal["start"] | None = Field(
        None,
        description="the one day of all rows; start: the first day of the home (setting "
        "start_date), so that every later day knows them",
    )

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        try:
            return value and str(ZoneInfo(value))
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{value!r} is not an IANA time zone such as Europe/London") from None

    @model_validator(mode="after")
    def _either(self) -> "DayKeys":
        if (self.time is None) == (self.snapshot is None):
            raise ValueError("give time or snapshot, one of them")
        return self


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _form(value: Any) -> str:
    """Whether rows come from files or from a table of a lake."""
    return "table" if isinstance(value, dict | TableKeys) else "files"


def _texts(value: Any) -> Any:
    """Numbers and booleans as the expressions that they are."""
    if isinstance(value, dict):
        return {
            k: str(v).lower() if isinstance(v, bool | int | float) else v for k, v in value.items()
        }
    return value


_StringOrStrings = str | tuple[str, ...]

Files = Annotated[
    tuple[str, ...],
    BeforeValidator(_listed, json_schema_input_type=_StringOrStrings),
    Field(min_length=1),
    Tag("files"),
]
"""Patterns of files."""

Expressions = Annotated[
    dict[str, str],
    BeforeValidator(_texts, json_schema_input_type=dict[str, str | float | bool | None]),
]


def _rule(key: str, rule: str) -> PydanticCustomError:
    return PydanticCustomError("key_rule", "{rule}", {"key": key, "rule": rule})


class Source(_Keys):
    """One source of one landing table."""

    preset: str | None = Field(
        None,
        description="an export that is known: only from is needed then, every other key may be "
        "given and takes the place of the preset's",
        exclude=True,  # what it stands for is in the other keys
    )
    name: str = Field(pattern=_NAME, description="of the source, once")
    fills: Literal["user", "item", "behavior", "operation", "identity", "experiment"] = Field(
        description="landing table; experiment: a past randomized test, which lands as operation"
    )
    from_: Annotated[Files | Annotated[TableKeys, Tag("table")], Discriminator(_form)] = Field(
        (),
        alias="from",
        description="file, or pattern such as logs/*.csv.gz, or a list of them; or a Delta or "
        "Iceberg table",
    )
    database: DatabaseKeys | None = Field(
        None,
        description="a table or a query of PostgreSQL, MySQL or MariaDB, instead of from",
        exclude=True,  # as long as the rows stay, it does not matter where they come from
    )
    format: Format | None = Field(None, description="csv, json or parquet; default: by the ending")
    read: ReadKeys = ReadKeys()
    each: dict[Annotated[str, Field(pattern=_NAME)], str] = Field(
        {},
        description="expression of a list of the record, by the name that other expressions have "
        "for an element: every element gives a row. Of several lists each sees the elements "
        "before it",
        exclude_if=_is_empty,
    )
    ids: Expressions = Field(
        {},
        description="of identity: expression of each id of a record, by its type in identity.yml; "
        "every id that has a value gives a row. Instead of columns.id_type and columns.id_value",
        exclude_if=_is_empty,
    )
    day: DayKeys
    columns: Expressions = Field(description="expression of each column of the landing table")
    num: Expressions = Field({}, description="expressions of numbers, by the key in kvs_num")
    str_: Expressions = Field(
        {}, alias="str", description="expressions of texts, by key in kvs_str"
    )
    where: str | None = Field(None, description="condition of the rows that are taken")
    unique: tuple[str, ...] = Field(
        (), description="expressions that name a row once; of several on a day, one is kept"
    )
    least_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="a new day with a smaller share of the usual rows waits; 0 lets all land",
    )
    late_days: int | None = Field(
        None,
        ge=0,
        description="a day that has landed and is older than so many days before the newest stays "
        "as it is, and its late rows are counted; default: every day is written again",
        exclude=True,  # a day that stands is not written anew for it
    )
    hours: bool = Field(True, description="whether a behavior's hour becomes a key hh00 to hh23")
    control: str | None = Field(
        None,
        min_length=1,
        description="of an experiment with columns.arm: name of the arm that was not treated",
        exclude_if=_is_empty,
    )
    effect: EffectKeys | None = Field(
        None,
        description="of an experiment: what counts as its outcome",
        exclude=True,  # what is measured of the rows is no part of them
    )

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns of its files; none for a table."""
        return () if isinstance(self.from_, TableKeys) else self.from_

    @property
    def table(self) -> TableKeys | None:
        """The Delta or Iceberg table that it reads; None for files and databases."""
        return self.from_ if isinstance(self.from_, TableKeys) else None

    @property
    def rows_from(self) -> str:
        """Where the rows come from, for people."""
        table = self.database or self.table
        return table.shown if table else ", ".join(self.patterns)

    @property
    def gives_lists(self) -> bool:
        """Whether a record gives as many rows as it has elements or ids, perhaps none."""
        return bool(self.each or self.ids)

    @property
    def contract(self) -> Contract:
        """The contract of the landing table that the source fills."""
        return CONTRACTS[self.lands_in]

    @property
    def lands_in(self) -> str:
        """The landing table that its rows land in."""
        return LANDS_IN if self.is_experiment else self.fills

    @property
    def is_experiment(self) -> bool:
        """Whether it describes a past randomized experiment."""
        return self.fills == EXPERIMENT

    @property
    def described_by(self) -> Contract:
        """The columns that its ``columns`` may name."""
        return EXPERIMENT_CONTRACT if self.is_experiment else self.contract

    def on_first_day(self, first: date) -> "Source":
        """The source with the first day of a home as its day, where it names no other."""
        if self.day.snapshot != "start":
            return self
        return self.model_copy(update={"day": DayKeys(snapshot=first)})

    @model_validator(mode="after")
    def _has_rows(self) -> "Source":
        if any(map(is_database_url, self.patterns)):
            raise _rule("from", "a database stands under database, as url and table")
        if not self.from_ and self.database is None:
            raise _rule("from", "required, but missing; a table stands under database instead")
        if self.from_ and self.database is not None:
            raise ValueError("give from or database, one of them")
        if self.each and self.database is not None:
            raise _rule("each", "is of files and tables of a lake; unnest the list in a query")
        of_files = self.read.model_copy(update={"texts": (), "nested": ()})
        if not self.patterns and (self.format or of_files != ReadKeys()):
            what = "a table" if self.database is None else "a database"
            raise ValueError(f"format and read are of files; {what} has neither")
        return self

    @model_validator(mode="after")
    def _fits_the_contract(self) -> "Source":
        self._check_ids()
        known = [column.name for column in self.described_by.columns]
        if strangers := [name for name in self.columns if name not in known]:
            raise ValueError(
                f"columns: {self.fills} has no column {strangers[0]!r}; it has {', '.join(known)}"
            )
        for column in self.described_by.columns:
            given = {*self.columns, *(OF_IDS if self.ids else ())}
            if not column.nullable and column.name not in given:
                raise ValueError(f"columns: {self.fills} needs {column.name}, {column.meaning}")
        for key in ("control", "effect"):
            if getattr(self, key) is not None and not self.is_experiment:
                raise _rule(key, f"only an experiment has one, and the source fills {self.fills}")
        if self.is_experiment and (missing := check_columns(self.columns, self.control)):
            raise ValueError(f"an experiment {missing}")
        for keys in (self.num, self.str_):
            for key in keys:
                if not key or set(key) & set(" :,\t"):
                    raise ValueError(f"the key {key!r} must have no space, colon or comma")
        return self

    def _check_ids(self) -> None:
        """Refuse ids of a table that has none, or that stand twice, or pairs of an identity."""
        if self.ids and self.fills != IDENTITY:
            raise _rule("ids", f"only identity has them, and the source fills {self.fills}")
        if self.ids and (twice := [name for name in OF_IDS if name in self.columns]):
            raise _rule(f"columns.{twice[0]}", "stands in ids already; give one of them")
        if strange := [name for name in self.ids if not re.fullmatch(_NAME, name)]:
            raise _rule(
                "ids",
                f"{strange[0]!r} is no name of a type: small letters, digits and _, 40 at most",
            )
        if self.fills == IDENTITY and (self.num or self.str_):
            raise _rule("num" if self.num else "str", "identity has no pairs of keys and values")


class Sources(_Keys):
    """All sources of a home."""

    sources: tuple[Source, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_occur_once(self) -> "Sources":
        names = [source.name for source in self.sources]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two sources have the name {name!r}; give each its own")
        return self


def sources_schema() -> dict[str, Any]:
    """The schema (JSON Schema 2020-12) of a sources.yml, for editors.

    A preset has most keys already, so a source with one needs none of them.
    """
    schema = schema_of(Sources, f"usergrowth {FILE_NAME}")
    source = schema["$defs"]["Source"]
    required = source.pop("required")
    source["anyOf"] = [{"required": ["preset"]}, {"required": required}]
    return schema


def read_sources(path: Path) -> tuple[Source, ...]:
    """The sources that a file describes.

    Raises:
        UserError: the file is missing or breaks its format; names the key path and the rule.
    """
    return parse_sources(read_text(path), str(path))


def parse_sources(text: str, origin: str) -> tuple[Source, ...]:
    """The sources that a text describes.

    Args:
        text: the YAML.
        origin: where it comes from, for the error.

    Raises:
        UserError: it breaks its format; names the key path and the rule.
    """
    content = with_presets(read_mapping(text, origin), origin)
    try:
        return Sources.model_validate(content).sources
    except ValidationError as error:
        raise UserError(str(explain(error, Sources, origin)), code="source.invalid") from None
