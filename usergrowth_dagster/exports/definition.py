"""The file ``exports.yml``: what goes out of a home, in which form, and where to.

    exports:
      - name: care_list
        audience: {campaign: care}
        columns: [task_id, user_id, score, rank]
        format: csv
        expires_after_days: 14
        to: {files: s3://growth/audiences}

Relative paths start from the file. The classes here are the format; :mod:`destinations.keys` has
the keys below ``to``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.exports.columns import (
    ADDRESSES,
    DEFAULT_OF_AUDIENCE,
    DEFAULT_OF_SCORES,
    OF_AUDIENCE,
    OF_SCORES,
)
from usergrowth_dagster.exports.destinations.keys import Destinations
from usergrowth_dagster.exports.keys import Keys, rule
from usergrowth_dagster.yaml_file import explain, read_mapping, read_text

FILE_NAME = "exports.yml"
"""File of a home with its exports."""

NAME = r"^[a-z][a-z0-9_]{0,39}$"


def _every(value: Any) -> Any:
    return {} if value == "all" else value


def _named(value: Any) -> Any:
    """A list of columns as the mapping from the name outside to the name here."""
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        if repeated := [name for name in value if value.count(name) > 1]:
            raise ValueError(f"the column {repeated[0]!r} stands twice")
        return {name: name for name in value}
    return value


class Audience(Keys):
    """Decided people: of one task, of a campaign's tasks, or (``all``) of all tasks of the date."""

    campaign: str | None = Field(None, min_length=1, description="tasks of this campaign")
    task: str | None = Field(None, min_length=1, description="this task")

    @model_validator(mode="after")
    def _at_most_one(self) -> "Audience":
        if self.campaign is not None and self.task is not None:
            raise ValueError("give campaign or task, one of them")
        return self


class Scores(Keys):
    """Scored people: of one task, of one question, or (``all``) of every task of the date."""

    question: str | None = Field(
        None, min_length=1, description="rows scored by this question's model, such as churn"
    )
    task: str | None = Field(None, min_length=1, description="this task")

    @model_validator(mode="after")
    def _at_most_one(self) -> "Scores":
        if self.question is not None and self.task is not None:
            raise ValueError("give question or task, one of them")
        return self


class Export(Keys):
    """One export: rows, their form, and one destination."""

    name: str = Field(pattern=NAME, description="of the export, once")
    audience: Annotated[
        Audience | None,
        BeforeValidator(_every, json_schema_input_type=Audience | Literal["all"] | None),
    ] = Field(None, description="decided people: all, or of a campaign or a task")
    scores: Annotated[
        Scores | None,
        BeforeValidator(_every, json_schema_input_type=Scores | Literal["all"] | None),
    ] = Field(None, description="scored people instead: all, or of a question or a task")
    rows: Literal["chosen", "all"] = Field(
        "chosen",
        description="chosen: people to be contacted (arm treatment, outcome selected); all: every "
        "decided row with its outcome. Scores have all",
    )
    refused: Literal["leave_out", "keep"] | None = Field(
        None,
        description="people who refuse to be contacted on any channel; default: leave_out, but "
        "keep with rows: all. Forgotten people never go out",
    )
    columns: Annotated[
        dict[str, str],
        BeforeValidator(_named, json_schema_input_type=dict[str, str] | tuple[str, ...]),
    ] = Field(
        {},
        description="columns that go out: a list of names, or the name outside with the column "
        "that it holds; default: who, score, rank, arm and outcome",
    )
    contains_addresses: bool = Field(
        False,
        description="consent that phone or email stands in columns; each such export leaves a "
        "record in the audit log",
    )
    format: Literal["parquet", "csv"] = Field("parquet", description="of files")
    for_spreadsheets: bool = Field(
        False,
        description="CSV: an apostrophe before what a spreadsheet takes for a formula; ids with "
        "= + - or @ before them change",
    )
    file_rows: int = Field(1_000_000, ge=1, description="rows of one file at most")
    expires_after_days: int | None = Field(
        None, ge=1, le=3650, description="days after which files may be removed; default: never"
    )
    to: Destinations

    @property
    def by_name(self) -> dict[str, str]:
        """By the name outside, the column that goes out; the default without ``item_id`` if empty.

        Whether ``item_id`` stands in a default is known with the rows; see :mod:`rows`.
        """
        default = DEFAULT_OF_SCORES if self.scores is not None else DEFAULT_OF_AUDIENCE
        return self.columns or {name: name for name in default}

    @property
    def known_columns(self) -> Mapping[str, tuple[str, str]]:
        """Types and meanings of the columns that it may have."""
        return OF_SCORES if self.scores is not None else OF_AUDIENCE

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its columns that reach a person."""
        return tuple(name for name in ADDRESSES if name in self.columns.values())

    @property
    def leaves_out_refusals(self) -> bool:
        """Whether people who refuse stay at home."""
        if self.refused is not None:
            return self.refused == "leave_out"
        return self.scores is None and self.rows == "chosen"

    @property
    def what(self) -> str:
        """What goes out, for people."""
        kind: Audience | Scores | None = self.audience or self.scores
        which = "" if kind is None else next(iter(kind.model_dump(exclude_none=True).values()), "")
        noun = "audience" if self.audience is not None else "scores"
        return f"{noun} of {which}" if which else f"every {noun}"

    @model_validator(mode="after")
    def _has_rows(self) -> "Export":
        if (self.audience is None) == (self.scores is None):
            raise ValueError("give audience or scores, one of them")
        return self

    @model_validator(mode="after")
    def _columns_are_known(self) -> "Export":
        for outside, column in self.columns.items():
            if not outside.strip() or "\0" in outside or len(outside) > 63:
                raise rule("columns", "a name outside has 1 to 63 characters and no NUL")
            if column not in self.known_columns:
                known = ", ".join(self.known_columns)
                raise rule("columns", f"there is no column {column!r}; known are {known}")
        if self.addresses and not self.contains_addresses:
            raise rule(
                "contains_addresses",
                f"must be true, since {' and '.join(self.addresses)} would leave the home",
            )
        return self

    @model_validator(mode="after")
    def _shows_the_control_group(self) -> "Export":
        chosen_only = self.scores is not None or self.rows == "chosen"
        if not chosen_only and not {"arm", "outcome"} & set(self.by_name.values()):
            raise rule(
                "columns",
                "rows: all needs arm or outcome, or nobody could tell who must be left alone",
            )
        return self

    @model_validator(mode="after")
    def _form_fits(self) -> "Export":
        if self.for_spreadsheets and (self.format != "csv" or not self.to.makes_files):
            raise rule("for_spreadsheets", "is of CSV files")
        if self.to.database is not None:
            missing = [name for name in self.to.database.key if name not in self.by_name]
            if missing:
                raise rule("to.database.key", f"{missing[0]!r} is none of the columns")
        if self.expires_after_days is not None and not self.to.makes_files:
            raise rule("expires_after_days", "is of files")
        return self


class Exports(Keys):
    """All exports of a home."""

    exports: tuple[Export, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_occur_once(self) -> "Exports":
        names = [export.name for export in self.exports]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two exports have the name {name!r}; give each its own")
        return self


def read_exports(path: Path) -> tuple[Export, ...]:
    """The exports that a file describes.

    Raises:
        UserError: the file is missing or breaks its format; names the key path and the rule.
    """
    return parse_exports(read_text(path), str(path))


def parse_exports(text: str, origin: str) -> tuple[Export, ...]:
    """The exports that a text describes.

    Args:
        text: the YAML.
        origin: where it comes from, for the error.

    Raises:
        UserError: it breaks its format; names the key path and the rule.
    """
    try:
        return Exports.model_validate(read_mapping(text, origin)).exports
    except ValidationError as error:
        raise UserError(str(explain(error, Exports, origin)), code="export.invalid") from None
