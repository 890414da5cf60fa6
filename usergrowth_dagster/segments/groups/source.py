"""The key ``source`` of a segment's file: where its people come from, instead of conditions.

source: {text: "+1 555 010 0123, +1 555 010 0124"}
source: {text_file: vips.txt}
source: {csv: vips.csv, column: phone}
source: {table: user_features, filter: events_7d > 3}
source: {algorithm: churn, top: 1000}
"""

import codecs
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from usergrowth_dagster.addresses.shown import mask
from usergrowth_dagster.segments.leaves import Days, Keys, Text, is_below, rule

MOST_TYPED = 100
"""Values of ``text`` at most; more belong in a file."""

SEPARATORS = "\r\n,;\t，；、"
"""Characters between the values of a text or a text file. A space is none: numbers hold spaces."""

LISTS = ("text", "text_file", "csv")
"""Sources that people write, with rows that may be wrong."""

KINDS = (*LISTS, "table", "algorithm")
"""The five sources."""

_OWN: dict[str, tuple[str, ...]] = {
    "column": ("csv",),
    "filter": ("table",),
    "within_days": ("table",),
    "top": ("algorithm",),
    "above": ("algorithm",),
    "max_age_days": ("algorithm",),
    "encoding": ("text_file", "csv"),
    "phone_numbers": LISTS,
    "max_error_share": LISTS,
}
"""By key, the sources that may have it."""

_SPLIT = re.compile(f"[{SEPARATORS}]+")


def _is_text(value: Any) -> Any:
    """Refuse what is no text without repeating it: it may be a number of somebody."""
    if value is not None and not isinstance(value, str):
        raise ValueError("must be a text; write the values in quotes")
    return value


def split_values(text: str) -> list[str]:
    """The values of a text, without blank ones.

    >>> split_values("+1 555 010 0123, u7;\\n,u8")
    ['+1 555 010 0123', 'u7', 'u8']
    """
    return [value for part in _SPLIT.split(text) if (value := part.strip())]


class Source(Keys):
    """Where the people come from: exactly one of text, text_file, csv, table and algorithm."""

    text: Annotated[str | None, BeforeValidator(_is_text)] = Field(
        None,
        description=f"up to {MOST_TYPED} phone numbers or user ids, one a line or with commas or "
        "semicolons between them",
    )
    text_file: Text | None = Field(
        None,
        description="a file with one value a line, below the folder of the segments, or a URL such "
        "as s3://bucket/vips.txt",
    )
    csv: Text | None = Field(
        None,
        description="a file .csv, .csv.gz, .csv.zst or .parquet with a header, below the folder of "
        "the segments, or a URL",
    )
    column: Text | None = Field(None, description="column of the CSV file with the values")
    table: Text | None = Field(
        None, description="a table that a SELECT of a segment may read, with a column user_id"
    )
    filter: str | None = Field(
        None,
        min_length=1,
        max_length=2000,
        description="expression over the table's columns; default: every row",
    )
    within_days: Days | None = Field(
        None,
        description="rows of so many days; default: of the newest date that was known on the "
        "morning of the execution date",
    )
    algorithm: Text | None = Field(None, description="a question, such as churn, by its scores")
    top: Annotated[int, Field(strict=True, ge=1)] | None = Field(
        None, description="so many people with the highest scores"
    )
    above: float | None = Field(
        None, allow_inf_nan=False, description="or everybody with at least this score"
    )
    max_age_days: Annotated[int, Field(strict=True, ge=0, le=365)] = Field(
        7, description="scores of so many days before the execution date may be used"
    )
    phone_numbers: bool = Field(
        True, description="whether the values are phone numbers; false: they are user ids"
    )
    encoding: Text | None = Field(
        None, description="encoding of the file, such as gbk; default: the setting encoding"
    )
    max_error_share: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="a larger share of wrong rows fails the check; default: the setting "
        "max_reject_share",
    )

    @property
    def kind(self) -> str:
        """The one of the five sources that is there."""
        return next(name for name in KINDS if getattr(self, name) is not None)

    @property
    def is_list(self) -> bool:
        """Whether people have written its rows, so that they may be wrong."""
        return self.kind in LISTS

    @property
    def file(self) -> str | None:
        """The file, of a source that has one."""
        return self.text_file or self.csv

    @property
    def values(self) -> list[str]:
        """The values of ``text``."""
        return split_values(self.text or "")

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                codecs.lookup(value)
            except LookupError:
                raise ValueError(f"there is no encoding {value!r}") from None
        return value

    @field_validator("text_file", "csv")
    @classmethod
    def _stays_inside(cls, value: str | None) -> str | None:
        if value is not None and "://" not in value and not is_below(value):
            raise ValueError("must be a path below the folder of the segments, or a URL")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> "Source":
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(KINDS)}; it has {len(given)}")
        for key, kinds in _OWN.items():
            if key in self.model_fields_set and self.kind not in kinds:
                raise rule(key, f"is a key of {' and '.join(kinds)}, not of {self.kind}")
        self._fits()
        return self

    def _fits(self) -> None:
        if self.csv is not None and self.column is None:
            raise rule("column", "required, but missing")
        if self.algorithm is not None and (self.top is None) == (self.above is None):
            raise ValueError("give top or above, one of them")
        if self.text is not None and not 1 <= len(self.values) <= MOST_TYPED:
            raise rule(
                "text", f"has {len(self.values)} values, and 1 to {MOST_TYPED} are allowed; put "
                "more into a text_file"
            )  # fmt: skip

    def shown(self) -> dict[str, Any]:
        """The keys as they may be kept and shown: the values of ``text`` are masked."""
        made = self.model_dump(mode="json", exclude_defaults=True)
        if self.text is not None:
            made["text"] = [mask_value(value, number=self.phone_numbers) for value in self.values]
        return made


def mask_value(value: str, *, number: bool) -> str:
    """A value as it may be shown: of a number the beginning and end, of a user id its length.

    >>> mask_value("+9990000000012", number=True), mask_value("u-17", number=False)
    ('+999********12', '****')
    """
    if number and sum(map(str.isdigit, value)) > 8 and "@" not in value:
        return mask(value)
    return "*" * min(len(value), 20)
