"""Every setting of the product, in one place, with its unit and default.

Each gateway declares its own settings in its own file; :func:`settings_class` has them all. A value
is taken from the environment (``USERGROWTH_<NAME>``), else from ``<home>/usergrowth.toml``, else
from the default.
"""

import codecs
import re
from collections.abc import Mapping
from datetime import date, datetime, time
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from zoneinfo import ZoneInfo

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    create_model,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from usergrowth_dagster.days import check_day
from usergrowth_dagster.errors import SetUpError, UserError
from usergrowth_dagster.settings import machine
from usergrowth_dagster.settings.databases import MLFLOW, url_of_schema
from usergrowth_dagster.settings.gateways import DRY_RUN, gateway_settings
from usergrowth_dagster.settings.places import refusal, sqlite_url, table_refusal
from usergrowth_dagster.settings.toml_file import line_of, read_toml

OPT_OUT_TEXTS = ["拒收请回复R", "回T退订", "Reply STOP"]
_CARRIER_WORDS = (
    "STOP,STOPALL,STOP ALL,UNSUBSCRIBE,UNSUB,CANCEL,END,QUIT,REVOKE,OPT OUT,OPTOUT,REMOVE,ARRET"
)
_CHINESE_LETTERS = ["T", "TD", "N", "R"]
_CHINESE_WORDS = "退订,退訂,拒收,取消,取消订阅,取消訂閱,QX,0000,00000"
OPT_OUT_WORDS = (
    _CARRIER_WORDS.split(",")
    + _CHINESE_LETTERS
    + _CHINESE_WORDS.split(",")
    + [f"回{letter}" for letter in _CHINESE_LETTERS]
    + [f"{letter}退订" for letter in _CHINESE_LETTERS]
)
"""Replies that refuse: the words of carriers and of the FCC, and those of mainland China."""
OPT_IN_WORDS = ["START", "UNSTOP"]
Share = Annotated[float, Field(ge=0, le=1)]
_REMOTE = re.compile(
    r"sc://(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?(/(;[\w-]+=[^;\s]+)*)?"
)
_LINK_ROOT = re.compile(r"https?://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?/?")

_OF_NO_SECRET = {
    *("literal_error", "bool_parsing", "int_parsing", "float_parsing"),
    *("greater_than", "greater_than_equal", "less_than", "less_than_equal"),
}
"""Errors of numbers, switches and words: their value may be shown."""

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


class DeliverySettings(BaseSettings):
    """Everything about sending that an operator may set; part of ``Settings``."""

    message_price: float = Field(
        0.045, ge=0, description="price of one message segment, in currency"
    )
    email_price: float = Field(0.0, ge=0, description="price of one e-mail, in currency")
    currency: str = Field("CNY", description="currency of prices and budgets")
    billing: Literal["mainland", "international"] = Field(
        "mainland", description="how message segments are counted"
    )
    gateway: str = Field(
        DRY_RUN, description="gateway that texts are submitted to (docs/gateways.md); file: dry run"
    )
    email_gateway: str = Field(
        DRY_RUN,
        description="gateway that e-mails are submitted to (docs/gateways.md); file: dry run",
    )
    default_country: str | None = Field(
        None,
        description="ISO code (CN, US …) of the country of phone numbers that are written without "
        "one; default: such numbers are refused",
    )
    fictional_numbers: bool | None = Field(
        None,
        description="whether the numbers of the example worlds (+999 and ten digits) count as "
        "numbers; default: only while the gateway is file (dry run)",
    )
    gateway_rate: PositiveFloat | None = Field(
        None, description="messages a second by gateway and signature; default: the gateway's own"
    )
    gateway_burst: PositiveInt | None = Field(
        None, description="messages that may go out at once after a pause; default: one second's"
    )
    gateway_timeout: PositiveFloat = Field(
        20.0, le=90, description="seconds that one call of a provider may take"
    )
    send_from: time = Field(time(8), description="no text before it, in the recipient's own time")
    send_until: time = Field(
        time(21, 59), description="no text from it on, in the recipient's own time"
    )
    send_within_hours: Annotated[PositiveInt, Field(le=720)] = Field(
        24, description="hours after its time that an occurrence may still go out"
    )
    timezone_key: str = Field(
        "timezone", description="population column or user attribute with an IANA time zone"
    )
    cap_messages: PositiveInt | None = Field(
        3, description="messages a person may get in cap_days, over all campaigns; null: no cap"
    )
    cap_days: PositiveInt = Field(7, description="days that cap_messages counts")
    min_gap_hours: float = Field(
        0.0, ge=0, description="hours since a person's last message before the next one"
    )
    number_cap: PositiveInt = Field(
        50, description="the provider's limit of promotions per number, signature and 24 hours"
    )
    max_audience_days: PositiveInt = Field(
        3, description="an audience decided longer ago than this is not sent to"
    )
    opt_out_texts: list[str] = Field(
        OPT_OUT_TEXTS, min_length=1, description="a promotion must hold one of these"
    )
    opt_out_words: list[str] = Field(
        OPT_OUT_WORDS, description="replies that refuse, beside the built-in ones (these here)"
    )
    opt_out_contained: bool = Field(
        True, description="a longer reply that holds a refusal refuses too (Stop. Thank you)"
    )
    opt_in_words: list[str] = Field(OPT_IN_WORDS, description="replies that lift a refusal")
    opt_out_scope: Literal["everywhere", "signature"] = Field(
        "everywhere", description="what a refusal holds for"
    )
    callback_url: str | None = Field(
        None, description="public root URL of `usergrowth serve`, passed to providers"
    )
    link_domain: str | None = Field(
        None,
        description="root URL of the short links in texts, such as https://s.example.com, which "
        "leads to `usergrowth serve`",
        exclude_if=lambda value: value is None,  # homes without links keep their digests
    )
    serve_port: Annotated[PositiveInt, Field(le=65535)] = Field(
        8321, description="port of `usergrowth serve`"
    )
    serve_connections: Annotated[PositiveInt, Field(ge=20, le=100_000)] = Field(
        500, description="connections that `usergrowth serve` holds open at once"
    )
    stop_after_failures: NonNegativeInt = Field(
        50,
        description="messages that fail with one cause (rejected, or reported as undelivered) "
        "after which a campaign is stopped, where more than nine of ten fail; ten times as many "
        "where the causes differ or belong to each person; 0: never",
    )
    stall_minutes: PositiveInt = Field(
        15, description="a due occurrence without any progress for so long is reported as stalled"
    )

    @field_validator("default_country")
    @classmethod
    def _known_country(cls, value: str | None) -> str | None:
        import phonenumbers

        if value is None or value in phonenumbers.SUPPORTED_REGIONS:
            return value
        raise ValueError(f"{value!r} is not the ISO code of a country, in capitals: CN, US …")

    @field_validator("link_domain")
    @classmethod
    def _link_root(cls, value: str | None) -> str | None:
        if value is None or _LINK_ROOT.fullmatch(value):
            return None if value is None else value.rstrip("/")
        raise ValueError(
            f"{value!r} is not a root URL such as https://s.example.com: http or https, a host "
            "and maybe a port, without a path"
        )

    @property
    def reads_fictional(self) -> bool:
        """Whether the numbers of the example worlds count as numbers."""
        if self.fictional_numbers is not None:
            return self.fictional_numbers
        return self.gateway == DRY_RUN


class EffectSettings(BaseSettings):
    """What an operator may set about control groups; part of ``Settings``."""

    global_holdout_share: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.02, description="share of all users whom no campaign texts, to measure all of them"
    )
    global_holdout_epoch: str = Field(
        "1", min_length=1, description="another epoch draws the global control group afresh"
    )
    global_holdout_rotate_days: PositiveInt | None = Field(
        91, description='draws it afresh every so many days; "null": only with the epoch'
    )
    export_touches: bool = Field(
        True,
        description="what our own campaigns sent, and whom they held out, lands as operation rows; "
        "false where another system lands the same touches already",
    )

    simulated_people: bool = Field(
        False,
        description="people of this home are simulated and answer what the dry run writes to "
        "files, so that its reports measure them; else a dry run texts nobody and shows no effect",
    )

    @field_validator("global_holdout_rotate_days", mode="before")
    @classmethod
    def _never(cls, value: Any) -> Any:
        return None if value == "null" else value  # TOML and the environment have no null


class LearningSettings(BaseSettings):
    """What an operator may set about models; part of ``Settings``."""

    min_positives_train: PositiveInt = Field(
        50, description="a version whose train slice has fewer rows of either class is rejected"
    )
    min_positives_test: PositiveInt = Field(20, description="the same of its test slice")
    min_positives_slice: PositiveInt = Field(
        20, description="a part of the users with fewer rows of either class shows no figures"
    )
    max_calibration_error: Share = Field(
        0.02, description="calibration error that is allowed beyond what chance alone shows"
    )
    refresh_level_days: Annotated[int, Field(ge=0, le=90)] = Field(
        0,
        description="days of the newest closed labels that scoring takes the level of its "
        "probabilities from; 0 keeps the level of the training",
    )
    leak_auc: Annotated[float, Field(ge=0.5, le=1)] = Field(
        0.99, description="a feature that alone ranks the label so well is taken for a leak"
    )
    leak_dependence: Share = Field(
        0.1, description="a feature without which log-loss rises by so much is taken for a leak"
    )
    leak_jump: Share = Field(
        0.1, description="a feature's own AUC may rise by so much over that in the version before"
    )
    trusted_features: tuple[str, ...] = Field(
        (), description="columns known on the execution date, which the leakage gate leaves alone"
    )
    max_unseen_share: Share = Field(
        0.95, description="scoring fails when more of a column's values are new to the model"
    )
    drift_notice: Annotated[float, Field(gt=0)] = Field(
        0.1, description="population stability index from which a feature is named as shifted"
    )
    drift_warning: Annotated[float, Field(gt=0)] = Field(
        0.25, description="population stability index from which a feature has drifted"
    )
    drift_weight: Share = Field(
        0.25, description="a check warns when drifted features carry so much of a model's weight"
    )


class SegmentSettings(BaseSettings):
    """What an operator may set about segments; part of ``Settings``."""

    segment_jump: Annotated[float, Field(gt=0)] = Field(
        0.5,
        description="a segment whose size differs by more than this share from the snapshot before "
        "raises an alert",
    )
    segment_seconds: PositiveInt = Field(
        300, description="a segment's query that takes longer is ended"
    )
    segment_rows: PositiveInt = Field(
        20_000_000, description="a segment with more people than this is refused"
    )
    segment_stale: Literal["block", "warn"] = Field(
        "block",
        description="what a campaign does while its segment is stale: block (nothing of it is "
        "decided, planned or begun to be sent), or warn (its newest snapshot is used all the same)",
    )


class Settings(DeliverySettings, EffectSettings, LearningSettings, SegmentSettings):
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
    s3_endpoint: str | None = Field(
        None, description="object store that is not Amazon's; default AWS_ENDPOINT_URL"
    )
    s3_addressing: Literal["auto", "path", "virtual"] = Field(
        "auto", description="virtual: the bucket is a part of the endpoint's name, as OSS wants it"
    )
    cache_gb: PositiveFloat = Field(
        50.0, description="GB of local copies of table files that are in an object store"
    )
    keep_days: PositiveInt = Field(
        90, description="days that files of earlier versions of tables stay; usergrowth maintain"
    )
    database_url: str | None = Field(
        None, description="control store and ledger; default SQLite at <home>/control.db"
    )
    one_database: bool = Field(
        False,
        description="the records of Dagster and of MLflow lie in the PostgreSQL database of "
        "database_url too, in the schemas dagster and mlflow; chosen when a home is made",
    )
    mlflow_tracking_uri: str | None = Field(
        None, description="MLflow; default SQLite at <home>/mlflow/mlflow.db, or see one_database"
    )
    mlflow_artifacts: str | None = Field(
        None,
        description="root of the models' files: a directory or s3://…; default "
        "<home>/mlflow/artifacts",
    )
    timezone: str = Field("Asia/Shanghai", description="business time zone (IANA name)")
    start_date: date = Field(date(2017, 1, 1), description="first execution date of the partitions")
    today: date | None = Field(
        None, description="pins the business clock to 10:00 of a day, for replaying historic data"
    )
    tables_by: Literal["user_id", "one_id"] = Field(
        "user_id",
        description="one_id: in `usergrowth sql` and its database file every table of users has "
        "the column one_id, the person by the newest identity",
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
    yearly_discount: float = Field(
        0.0, ge=0, le=1, description="yearly rate by which lifetime values discount later amounts"
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
        500_000,
        description="larger training sets are sampled down to so many rows, with weights",
    )
    boosting_rows: PositiveInt | None = Field(
        None,
        description="LightGBM learns a probability from up to so many rows of a set that is "
        "sampled for the others: they are read from disk; default: from the sample",
    )
    catch_up_days: int = Field(
        7, ge=0, le=90, description="the daily run looks back so many days for late landings"
    )
    failure_webhook: str | None = Field(
        None, description="URL that gets a JSON POST when a run fails"
    )
    affinity_webhook: str | None = Field(
        None, description="URL that gets a JSON POST when segments of an affinity job are exported"
    )
    engine: Literal["duckdb", "spark"] = Field(
        "duckdb", description="what runs the SQL models: duckdb in the process, or spark"
    )
    spark_remote: str | None = Field(
        None,
        description="Spark Connect server of the engine spark, such as sc://10.0.0.5:15002; "
        "default: one that is started inside the process",
    )
    memory_limit: str = Field(
        default_factory=machine.memory_limit,
        description="memory of one DuckDB connection; default: two fifths of the machine's",
    )
    threads: PositiveInt = Field(
        default_factory=machine.processors,
        description="threads of one DuckDB connection; default: the machine's processors",
    )
    executor: Literal["processes", "kubernetes", "celery"] = Field(
        "processes",
        description="where the steps of Dagster's runs are executed: processes of the run's "
        "machine, a pod of the cluster for each, or Celery's workers",
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

    @field_validator("s3_endpoint")
    @classmethod
    def _web_address(cls, value: str | None) -> str | None:
        if value is not None and not _LINK_ROOT.fullmatch(value):
            raise ValueError(
                f"{value!r} is not an endpoint such as https://oss-cn-hangzhou.aliyuncs.com"
            )
        return value

    @field_validator("spark_remote")
    @classmethod
    def _spark_connect(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if ";token=" in value:
            raise ValueError(
                "it holds a token, which belongs in the variable SPARK_CONNECT_AUTHENTICATE_TOKEN"
            )
        match = _REMOTE.fullmatch(value)
        if match is not None and int(match["port"] or 1) in range(1, 65536):
            return value
        raise ValueError(f"{value!r} is not a Spark Connect server such as sc://10.0.0.5:15002")

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
        if self.mlflow_tracking_uri is None and self.one_database:
            return url_of_schema(self.database, MLFLOW)
        return self.mlflow_tracking_uri or sqlite_url(self.home / "mlflow" / "mlflow.db")

    @property
    def artifacts_root(self) -> str:
        """Root URI of the files of models, where the tracking store leaves that to its clients."""
        return self.mlflow_artifacts or (self.home.absolute() / "mlflow" / "artifacts").as_uri()

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
        if first["type"] in _OF_NO_SECRET:
            rule += f", not {first['input']!r}"
        variable = f"USERGROWTH_{key.upper()}"
        source = variable if variable in os.environ else str(toml)
        if variable not in os.environ and key in written and key not in overrides:
            source += f", line {line_of(toml.read_text('utf-8-sig'), key)}"
        raise UserError(
            f"setting {key!r} (from {source}): {rule}", code="setting.invalid"
        ) from None
    _check_places({"storage": made.storage_root, "landing": made.landing_root})
    if made.one_database and not made.database.startswith("postgresql"):
        raise UserError(
            "setting 'one_database' needs setting 'database_url' (USERGROWTH_DATABASE_URL) to name "
            "a PostgreSQL database: postgresql://<user>@<host>/<database>",
            code="setting.invalid",
        )
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
