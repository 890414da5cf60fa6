"""Every setting of the product, in one place, with its unit and default.

Each gateway declares its own settings in its own file; :func:`settings_class` has them all. A value
is taken from the environment (``USERGROWTH_<NAME>``), else from ``<home>/usergrowth.toml``, else
from the default.
"""

import codecs
from collections.abc import Mapping
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any, cast
from zoneinfo import ZoneInfo

from pydantic import Field, PositiveInt, ValidationError, create_model, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from usergrowth_dagster.days import check_day
from usergrowth_dagster.errors import SetUpError, UserError
from usergrowth_dagster.settings import machine
from usergrowth_dagster.settings.delivery import DeliverySettings
from usergrowth_dagster.settings.effects import EffectSettings
from usergrowth_dagster.settings.gateways import gateway_settings
from usergrowth_dagster.settings.learning import LearningSettings
from usergrowth_dagster.settings.places import refusal, sqlite_url, table_refusal
from usergrowth_dagster.settings.toml_file import line_of, read_toml

CONFIG_NAME = "usergrowth.toml"
MISSING_VALUES = (
    "NULL",
    "null",
    "None",
    "nan",
    "NaN",
    "<NA>",
    "NaT",
    "undefined",
    "#N/A",
    "#VALUE!",
    "#REF!",
    "#NAME?",
    "#DIV/0!",
    "#NULL!",
)
"""What programs and spreadsheets write where there is no value, as they spell it."""


class Settings(DeliverySettings, EffectSettings, LearningSettings):
    """The product's own settings; build one with :func:`load_settings`.

    What that returns also has the settings of all registered gateways.
    """

    model_config = SettingsConfigDict(env_prefix="USERGROWTH_", extra="forbid", frozen=True)

    home: Path = Field(Path(".usergrowth"), description="folder of all state")
    storage: str | None = Field(
        None, description="root of the Delta tables: a directory or s3://…; default <home>/storage"
    )
    landing: str | None = Field(
        None, description="root of the landing files: a directory or s3://…; default <home>/landing"
    )
    database_url: str | None = Field(
        None, description="control store and ledger; default SQLite at <home>/control.db"
    )
    mlflow_tracking_uri: str | None = Field(
        None, description="MLflow; default SQLite at <home>/mlflow/mlflow.db"
    )
    timezone: str = Field("Asia/Shanghai", description="business time zone (IANA name)")
    start_date: date = Field(date(2017, 1, 1), description="first execution date of the partitions")
    today: date | None = Field(
        None, description="pins the business clock to 10:00 of a day, for replaying historic data"
    )
    lookback_days: Annotated[PositiveInt, Field(le=730)] = Field(
        90, description="days that the windows of the features look back"
    )
    history_days: Annotated[PositiveInt, Field(le=3660)] = Field(
        365, description="days that totals of touches, amounts and kinds look back"
    )
    active_days: PositiveInt = Field(
        28, description="a user counts as active with an event in so many days before D"
    )
    churn_days: Annotated[PositiveInt, Field(le=90)] = Field(
        7, description="churned = no behavior in [D, D + churn_days - 1]"
    )
    label_horizon_days: Annotated[PositiveInt, Field(le=90)] = Field(
        28, description="labels look at most so many days ahead"
    )
    top_n: PositiveInt = Field(
        12, description="behavior kinds, kvs keys and categories kept by name; the rest is 'other'"
    )
    max_reject_share: float = Field(
        0.01, ge=0, le=1, description="a landing day with a larger share of rejects fails"
    )
    encoding: str = Field(
        "utf-8", description="encoding of landing CSV files, such as utf-8, gbk or latin-1"
    )
    missing_values: tuple[str, ...] = Field(
        MISSING_VALUES,
        description="words that mean no value: counted in landing files, missing in a text",
    )
    output_for_spreadsheets: bool = Field(
        False, description="output.csv has ' before values that begin like a formula: = + - @"
    )
    max_training_rows: PositiveInt = Field(
        500_000, description="training sets are sampled by user down to so many rows"
    )
    catch_up_days: int = Field(
        7, ge=0, le=90, description="the daily run looks back so many days for late landings"
    )
    failure_webhook: str | None = Field(
        None, description="URL that gets a JSON POST when a run fails"
    )
    memory_limit: str = Field(
        default_factory=machine.memory_limit,
        description="memory of one DuckDB connection; default: two fifths of the machine's",
    )
    threads: PositiveInt = Field(
        default_factory=machine.processors,
        description="threads of one DuckDB connection; default: the machine's processors",
    )
    seed: int = Field(20170101, description="seed of everything that draws at random")

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            codecs.getincrementaldecoder(value)
            "".encode(value)
        except LookupError as error:
            raise ValueError(f"{value!r} is not an encoding such as utf-8 or gbk") from error
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{value!r} is not an IANA time zone such as Asia/Shanghai") from error
        return value

    @field_validator("start_date", "today")
    @classmethod
    def _known_day(cls, value: date | None) -> date | None:
        return None if value is None else check_day(value)

    @property
    def storage_root(self) -> str:
        """Root URI of the Delta tables."""
        return self.storage or str(self.home / "storage")

    @property
    def landing_root(self) -> str:
        """Root URI of the landing files."""
        return self.landing or str(self.home / "landing")

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the control store and ledger."""
        return self.database_url or sqlite_url(self.home / "control.db")

    @property
    def tracking_uri(self) -> str:
        """MLflow tracking URI."""
        return self.mlflow_tracking_uri or sqlite_url(self.home / "mlflow" / "mlflow.db")

    @property
    def zone(self) -> ZoneInfo:
        """The business time zone."""
        return ZoneInfo(self.timezone)

    def current_date(self) -> date:
        """Today's execution date in the business time zone, or the pinned one."""
        return self.today or datetime.now(self.zone).date()


@cache
def settings_class() -> type[Settings]:
    """The product's settings with those of all registered gateways.

    Raises:
        SetUpError: a gateway cannot be loaded, or its settings have names of others.
    """
    return _with_gateways(Settings)


def _with_gateways(base: type[Settings]) -> type[Settings]:
    owners = dict.fromkeys(base.model_fields, "the product")
    models: list[Any] = []
    for gateway, model in gateway_settings():
        for name in model.model_fields:
            if name in owners:
                raise SetUpError(
                    f"gateway {gateway!r}: the setting {name!r} belongs to {owners[name]} already; "
                    "give it another name",
                    code="plugin.unusable",
                )
            owners[name] = f"the gateway {gateway!r}"
        if model.model_fields:
            models.append(model)
    return cast("type[Settings]", create_model(base.__name__, __base__=(base, *models)))


def load_settings(home: Path | str | None = None, **overrides: Any) -> Settings:
    """Read the settings of a home folder (default: ``USERGROWTH_HOME``, else ``./.usergrowth``).

    Raises:
        UserError: a setting is unknown or out of its range, or a folder cannot be used; the
            sentence names it.
        SetUpError: as :func:`settings_class`.
    """
    import os

    root = Path(home or os.environ.get("USERGROWTH_HOME") or ".usergrowth").absolute()
    toml = root / CONFIG_NAME
    _check_places({"the home folder": str(root)})
    written = read_toml(toml, settings_class().model_fields)

    class FromHome(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            """Arguments win over the environment, the environment over the settings file."""
            return (init_settings, env_settings, InitSettingsSource(settings_cls, written))

    try:
        made = _with_gateways(FromHome)(**{"home": root, **overrides})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        rule = first["msg"].removeprefix("Value error, ")
        variable = f"USERGROWTH_{key.upper()}"
        source = variable if variable in os.environ else str(toml)
        if variable not in os.environ and key in written and key not in overrides:
            source += f", line {line_of(toml.read_text('utf-8-sig'), key)}"
        raise UserError(
            f"setting {key!r} (from {source}): {rule}", code="setting.invalid"
        ) from None
    _check_places({"storage": made.storage_root, "landing": made.landing_root})
    problem = table_refusal(made.storage_root)
    if problem is not None:
        raise UserError(
            f"storage {made.storage_root} {problem}; choose another home folder (--home or "
            "USERGROWTH_HOME), or another place for the tables (USERGROWTH_STORAGE)",
            code="setting.invalid",
        )
    return made


def _check_places(places: Mapping[str, str]) -> None:
    for name, place in places.items():
        problem = refusal(place)
        if problem is not None:
            raise UserError(f"{name} {place!r} {problem}", code="setting.invalid")
