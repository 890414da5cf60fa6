"""Settings of delivery: rates, contact rules, callbacks; those of a gateway are in its own file."""

from datetime import time
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator
from pydantic_settings import BaseSettings

from usergrowth_dagster.settings.gateways import DRY_RUN

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

    @property
    def reads_fictional(self) -> bool:
        """Whether the numbers of the example worlds count as numbers."""
        if self.fictional_numbers is not None:
            return self.fictional_numbers
        return self.gateway == DRY_RUN
