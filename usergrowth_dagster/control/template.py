"""The text of a campaign, or several between which its people are drawn (A/B/n).

A template's own ``content`` is the text that is called as the template; ``variants`` are further
ones by name. Each is a template record of its own, with its own provider's code and review.
A report has the figures of each text beside those of the arms, by name: no text is called like one.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, ValidationInfo, field_validator, model_validator

from usergrowth_dagster.control.values import FROM_FILE, Name, Strict, check_name, key_error

MAX_NAME = 30
MAX_VARIANTS = 9
"""Beside the template's own text; with more, each is too seldom sent to say anything."""

ARM_NAMES = ("treatment", "control", "explored")
"""What a report calls groups of people; a text of that name would take the group's place."""

ProviderCode = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


@dataclass(frozen=True)
class CampaignText:
    """One text of a campaign.

    ``name`` is that of its template record and of the variant, ``code`` the provider's, ``share``
    its weight in the draw, ``key`` its key path in the campaign file.
    """

    name: str
    content: str
    subject: str | None
    code: str | None
    share: float
    key: str


class VariantSpec(Strict):
    """One more text of a campaign; its type, and a subject it has not, are the template's."""

    content: str = Field(min_length=1, max_length=20_000, description="the text")
    subject: str | None = Field(None, min_length=1, max_length=200, description="of an e-mail")
    code: ProviderCode | None = Field(None, description="the provider's own code of this text")
    share: float = Field(1.0, gt=0, le=1e6, description="weight among the texts")


class TemplateSpec(Strict):
    """The text with its ``${variables}``; its rules are checked in messaging."""

    name: Name = Field(min_length=1, max_length=MAX_NAME, description="reviewed by this name")
    content: str = Field(
        min_length=1, max_length=20_000, description="the text; ${name} is a column of the upload"
    )
    type: Literal["code", "notification", "promotion"] = Field(
        "promotion", description="a promotion must say how to refuse"
    )
    subject: str | None = Field(None, min_length=1, max_length=200, description="of an e-mail")
    code: ProviderCode | None = Field(
        None, description="the provider's own code of the approved template, such as SMS_123456"
    )
    share: float | None = Field(
        None, gt=0, le=1e6, description="weight of this text among the variants; default 1"
    )
    variants: dict[str, VariantSpec] = Field(
        {}, max_length=MAX_VARIANTS, description="further texts by name, drawn by their shares"
    )

    @field_validator("variants", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        for name in value if isinstance(value, dict) else ():
            if not isinstance(name, str):
                raise ValueError(f"a variant's name is a text: write {name!r} in quotes")
        return value

    @model_validator(mode="after")
    def _whole(self, info: ValidationInfo) -> Self:
        named = ((self.name, "name"), *((n, f"variants.{n}") for n in self.variants))
        for name, key in named if info.context == FROM_FILE else ():
            if name in ARM_NAMES:
                rule = f"a report calls a group of people {name}; choose another name for the text"
                raise key_error(key, rule)
            try:
                check_name(name)
            except ValueError as error:
                raise key_error(key, str(error)) from None
        if self.share is not None and not self.variants:
            raise key_error("share", "only a template with variants shares its people; remove it")
        codes: dict[str, str] = {self.code: self.name} if self.code else {}
        for name, variant in self.variants.items():
            if not 1 <= len(name) <= MAX_NAME:
                rule = f"a variant's name has 1 to {MAX_NAME} characters, this one {len(name)}"
                raise key_error(f"variants.{name}", rule)
            if name == self.name:
                rule = "the template's own text has this name; choose another"
                raise key_error(f"variants.{name}", rule)
            if variant.code and codes.setdefault(variant.code, name) != name:
                rule = (
                    f"{variant.code} is the code of {codes[variant.code]!r}; each text has its own"
                )
                raise key_error(f"variants.{name}.code", rule)
        return self

    @property
    def texts(self) -> tuple[CampaignText, ...]:
        """All texts: the template's own, then the variants in the order of the file."""
        own = CampaignText(
            self.name, self.content, self.subject, self.code, self.share or 1.0, "template"
        )
        return (
            own,
            *(
                CampaignText(
                    *(name, one.content, one.subject or self.subject, one.code, one.share),
                    f"template.variants.{name}",
                )
                for name, one in self.variants.items()
            ),
        )
