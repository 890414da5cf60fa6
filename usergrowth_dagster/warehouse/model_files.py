"""The yml beside a model: dbt's keys, and below ``config.meta`` those that dbt does not have.

The classes here are the format. ``sql/model.schema.json``, which editors read, is made from them:
``python -m usergrowth_dagster.warehouse.model_files > sql/model.schema.json``.
"""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from usergrowth_dagster.error_codes import ErrorCode
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.yaml_file import explain

_LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader  # ten times as fast
_INPUT = re.compile(r"ref\('([a-z_]\w*)'\)|source\('[a-z_]\w*', '([a-z_]\w*)'\)")


class ModelError(UserError):
    """A model file breaks the rules of the graph; the text names the file and the rule."""

    def __init__(
        self, sentence: str, *, code: ErrorCode = "sql_model.invalid", hint: str = ""
    ) -> None:
        super().__init__(sentence, code=code, hint=hint)


class _Keys(BaseModel):
    """A group of keys; an unknown one is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TestConfig(_Keys):
    """What becomes of rows that fail a test."""

    severity: Literal["error", "warn"] = Field(
        "error", description="error keeps the rows out of the table, warn reports them"
    )


class Values(_Keys):
    """Arguments of ``accepted_values``."""

    values: tuple[str | int, ...] = Field(min_length=1, description="all values beside null")


class Limits(_Keys):
    """Arguments of ``dbt_utils.accepted_range``."""

    min_value: int | float | None = Field(None, description="the smallest value that passes")
    max_value: int | float | None = Field(None, description="the largest value that passes")


class NullTest(_Keys):
    """No value is null."""

    config: TestConfig = TestConfig()


class ValuesTest(_Keys):
    """Every value is one of a list."""

    arguments: Values
    config: TestConfig = TestConfig()


class RangeTest(_Keys):
    """Every value is within limits."""

    arguments: Limits
    config: TestConfig = TestConfig()


class ColumnTest(_Keys):
    """One test of a column's values; the key names it."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    not_null: NullTest | None = None
    accepted_values: ValuesTest | None = None
    accepted_range: RangeTest | None = Field(None, alias="dbt_utils.accepted_range")

    @model_validator(mode="after")
    def _one(self) -> "ColumnTest":
        if len(self.model_fields_set) != 1:
            raise ValueError("name one test")
        return self


def _named(test: Any) -> Any:
    """A test that is written as its name alone, as a group of keys."""
    return {test: {}} if isinstance(test, str) else test


class ModelColumn(_Keys):
    """One output column: DuckDB type, meaning, and the tests of its values."""

    name: str
    data_type: str = Field(description="DuckDB type")
    description: str = Field(description="what a value means, with its unit")
    data_tests: tuple[
        Annotated[
            ColumnTest,
            BeforeValidator(_named, json_schema_input_type=Literal["not_null"] | ColumnTest),
        ],
        ...,
    ] = ()


class InputDaysKeys(_Keys):
    """Days of an input that an output day reads: all from ``first`` to ``last``, or the newest.

    An offset counts days from the output day. It is a number, or a run setting with a sign and a
    number: ``-history_days``, ``churn_days - 1``.
    """

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["first", "last"]}, {"required": ["snapshot"]}]}
    )

    first: int | str | None = Field(None, description="offset of the first day")
    last: int | str | None = Field(None, description="offset of the last day")
    snapshot: int | None = Field(
        None, description="the newest landed day that is not after this offset"
    )
    read_once: bool = Field(
        False, description="whether each row is read once for all output days of a statement"
    )

    @model_validator(mode="after")
    def _either(self) -> "InputDaysKeys":
        if self.model_fields_set - {"read_once"} not in ({"first", "last"}, {"snapshot"}):
            raise ValueError("give first and last, or snapshot")
        return self


class Meta(_Keys):
    """What dbt has no key for."""

    grain: tuple[str, ...] = Field(description="columns whose values together occur once")
    inherit: tuple[str, ...] = Field((), description="models whose columns come first")
    labels: tuple[str, ...] = Field((), description="columns that look ahead of the output day")
    inputs: dict[str, InputDaysKeys] = Field(
        {}, description="days of a table that an output day reads; the same day if not named"
    )
    complete_with: dict[str, int | str] = Field(
        {}, description="offset of the day of a table that must have landed before the model runs"
    )
    monthly: bool = Field(False, description="whether a view is kept in a file a month")
    by_date: bool = Field(
        False, description="whether a view of a range of dates is made one date after the other"
    )
    by_user: bool = Field(
        False, description="whether each row is made of rows of its own user, so that users part"
    )


class ModelConfig(_Keys):
    """How a model is kept, and what dbt has no key for."""

    materialized: Literal["table", "view"]
    meta: Meta


class ModelKeys(_Keys):
    """One model."""

    name: str = Field(description="the name of the SQL file")
    description: str
    config: ModelConfig
    columns: tuple[ModelColumn, ...] = Field((), description="output columns, without inherited")


def _table(reference: Any) -> Any:
    """The table that a reference names."""
    match = _INPUT.fullmatch(reference) if isinstance(reference, str) else None
    if match is None:
        raise ValueError("write ref('model') or source('landing', 'table')")
    return match[1] or match[2]


class Given(_Keys):
    """Rows of one input; columns that a row leaves out are null."""

    input: Annotated[str, BeforeValidator(_table, json_schema_input_type=str)] = Field(
        description="ref('a model'), or source('landing', 'a landed table')"
    )
    rows: tuple[dict[str, Any], ...]


class Expect(_Keys):
    """The rows that come out, in any order; columns that a row leaves out may be anything."""

    rows: tuple[dict[str, Any], ...]


class Overrides(_Keys):
    """Run settings that differ from the defaults."""

    vars: dict[str, int] = {}


class UnitTestKeys(_Keys):
    """One example of what a model does."""

    name: str
    model: str
    description: str = ""
    overrides: Overrides = Overrides()
    given: tuple[Given, ...]
    expect: Expect


class ModelFile(_Keys):
    """The yml beside a model."""

    version: Literal[2]
    models: tuple[ModelKeys, ...] = Field(min_length=1, max_length=1, description="the one model")
    unit_tests: tuple[UnitTestKeys, ...] = ()


def models_root() -> Path:
    """The folder that holds ``sql`` and ``dbt_like_models``: in the wheel, else the checkout."""
    package = Path(__file__).resolve().parent.parent
    packaged = package / "_models"
    return packaged if packaged.is_dir() else package.parent


def read_model_file(path: Path) -> ModelFile:
    """Read the yml beside a model.

    Raises:
        ModelError: the file is missing, no YAML, or has a key or value that the format does not
            have; the sentence names the file and the path of the key.
    """
    try:
        keys = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
        return ModelFile.model_validate(keys)
    except FileNotFoundError:
        raise ModelError(f"{path}: not there; each model needs a yml of the same name") from None
    except yaml.YAMLError as error:
        raise ModelError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise ModelError(str(explain(error, ModelFile, str(path)))) from None


def json_schema() -> str:
    """The format as a JSON schema, as text."""
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Model"}
    return json.dumps(schema | ModelFile.model_json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
