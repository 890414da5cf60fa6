"""The file ``identity.yml``: which types of ids link users, and how far they are to be trusted.

    types:
      - {name: member_id, priority: 1, unique: true, multi: false}
      - {name: phone, priority: 3, most: 5, normalise: phone}
      - {name: phone_md5, priority: 3, most: 5, hashes: {of: phone, with: md5, form: mainland}}
      - {name: device, priority: 20, most: 20}
    junk: ["unknown device"]

A home without the file has the types of :data:`DEFAULT_TYPES`.
"""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.yaml_file import explain, read_mapping, read_text

FILE_NAME = "identity.yml"
"""File of a home with the types of ids; with it, decisions know persons too."""

USER = "user_id"
"""The type of the users themselves; it is always there."""

NAME = r"^[a-z][a-z0-9_]{0,39}$"

JUNK = (
    *("null", "none", "nil", "nan", "na", "n/a", "undefined", "unknown", "anonymous", "guest"),
    *("test", "(not set)", "not set", "true", "false", "0", "-", "--", "[]", "{}"),
)
"""Values that are nobody's, in lower case; those of ``junk`` are added to them."""


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Hashes(_Keys):
    """The values of the type are hashes of the values of another type."""

    of: str = Field(pattern=NAME, description="type of the plain values")
    with_: Literal["md5", "sha256"] = Field(
        alias="with", description="function; its hash is written in hexadecimal digits"
    )
    form: Literal["plain", "digits", "mainland"] = Field(
        "plain",
        description="what was hashed. plain: the value as it is compared here, of a number its "
        "E.164 form; digits: the number without +; mainland: the eleven digits of a Chinese number",
    )


class IdType(_Keys):
    """One type of ids."""

    name: str = Field(pattern=NAME, description="as the column id_type has it, once")
    priority: int = Field(
        50, ge=1, le=1000, description="links of a smaller number are made first, and stand"
    )
    unique: bool = Field(
        False,
        description="two values never belong to one person: a link that would join them is refused",
    )
    multi: bool = Field(
        True, description="whether a person has several; else the one seen last is current"
    )
    most: int | None = Field(
        None,
        ge=1,
        description="a value that more users have links nobody; default: no limit",
    )
    normalise: Literal["phone", "email", "lower", "as_is"] = Field(
        "as_is",
        description="how two spellings become one: E.164, an e-mail address in lower case, lower "
        "case without blanks around it, or not at all",
    )
    hashes: Hashes | None = Field(
        None, description="its values are hashes of another type's; one that is known is that value"
    )

    @property
    def is_address(self) -> bool:
        """Whether its values reach a person."""
        return self.normalise in ("phone", "email")

    @property
    def rule(self) -> str:
        """What holds for it, in words."""
        words = ["unique"] if self.unique else []
        words += [] if self.multi else ["one a person"]
        words += [f"at most {self.most} users"] if self.most is not None else []
        words += [self.normalise] if self.normalise != "as_is" else []
        words += [f"{self.hashes.with_} of {self.hashes.of}"] if self.hashes is not None else []
        return ", ".join(words)

    @model_validator(mode="after")
    def _hash_is_hexadecimal(self) -> "IdType":
        if self.hashes is not None and self.normalise != "as_is":
            raise ValueError("give hashes or normalise, one of them")
        return self


def _hashed(of: str, priority: int, most: int | None) -> tuple[IdType, ...]:
    return tuple(
        IdType(
            name=f"{of}_{function}",
            priority=priority,
            most=most,
            hashes=Hashes(of=of, with_=function),
        )
        for function in ("md5", "sha256")
    )


APPROVED = IdType(name="approved", priority=2, most=2)
"""The type of pairs that somebody approved; a home that asks for suggestions has it."""

DEFAULT_TYPES = (
    IdType(name="member_id", priority=1, unique=True, multi=False),
    IdType(name=USER, priority=2),
    IdType(name="phone", priority=3, most=5, normalise="phone"),
    *_hashed("phone", 3, 5),
    IdType(name="unionid", priority=7, unique=True, multi=False),
    IdType(name="openid", priority=8, most=5),
    IdType(name="email", priority=9, most=5, normalise="email"),
    *_hashed("email", 9, 5),
    IdType(name="device", priority=20, most=20, normalise="lower"),
)
"""The types of a home that names none."""


class Compared(_Keys):
    """What two users may have alike."""

    value: str = Field(min_length=1, description="DuckDB expression over stg_user")
    compare: Literal["exact", "name", "text", "no"] = Field(
        "exact",
        description="exact: equal or not; name: alike by Jaro-Winkler; text: up to two letters "
        "apart; no: only for agree_on",
    )


class Suggest(_Keys):
    """Users who may be one person although no id links them."""

    fields: dict[Annotated[str, Field(pattern=NAME)], Compared] = Field(
        min_length=2, description="what is compared, by name"
    )
    agree_on: tuple[tuple[str, ...], ...] = Field(
        min_length=1,
        description="pairs of users who agree on all fields of one of these lists are compared, "
        "no others",
    )
    least: float = Field(
        0.9, gt=0, lt=1, description="chance of being one person from which a pair is suggested"
    )
    expected_share: float = Field(
        0.02, gt=0, lt=1, description="share of users who have a second account, at a guess"
    )

    @property
    def compared(self) -> tuple[str, ...]:
        """Names of the fields that are compared."""
        return tuple(name for name, one in self.fields.items() if one.compare != "no")

    @model_validator(mode="after")
    def _fields_are_known(self) -> "Suggest":
        for place, names in enumerate(self.agree_on):
            if strangers := [name for name in names if name not in self.fields]:
                raise _rule(f"agree_on.{place}", f"there is no field {strangers[0]!r}")
            if not names:
                raise _rule(f"agree_on.{place}", "name one field at least")
        if len(self.compared) < 2:
            raise _rule("fields", "two fields at least are compared")
        for name in self.compared:
            if all(name in names for names in self.agree_on):
                raise _rule(
                    "agree_on",
                    f"every list has {name!r}, so nothing can be learned of it; add a list without",
                )
        return self


class Identity(_Keys):
    """The types of ids of a home, and values that are nobody's."""

    types: tuple[IdType, ...] = Field(
        DEFAULT_TYPES, min_length=1, max_length=50, description="all types that link users"
    )
    junk: tuple[str, ...] = Field((), description="further values that are nobody's")
    suggest: Suggest | None = Field(
        None,
        description="pairs of users who may be one person, for somebody to approve",
        exclude=True,  # it makes no persons
    )

    @cached_property
    def all_types(self) -> tuple[IdType, ...]:
        """The types with that of the users first; a type's place is its number in tables."""
        users = next((one for one in self.types if one.name == USER), IdType(name=USER, priority=2))
        others = tuple(one for one in self.types if one.name != USER)
        known = self.suggest is None or any(one.name == APPROVED.name for one in others)
        return (users, *others) if known else (users, *others, APPROVED)

    @property
    def junk_words(self) -> tuple[str, ...]:
        """All values that are nobody's, in lower case."""
        return tuple(sorted({*JUNK, *(word.strip().lower() for word in self.junk)}))

    @model_validator(mode="after")
    def _names_occur_once(self) -> "Identity":
        names = [one.name for one in self.types]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two types have the name {name!r}; give each its own")
        return self

    @model_validator(mode="after")
    def _hashes_are_of_plain_types(self) -> "Identity":
        known = {one.name: one for one in self.all_types}
        for place, one in enumerate(self.types):
            if one.hashes is None:
                continue
            key, plain = f"types.{place}.hashes", known.get(one.hashes.of)
            if plain is None:
                raise _rule(f"{key}.of", f"there is no type {one.hashes.of!r}")
            if plain.hashes is not None or plain.name == USER:
                raise _rule(f"{key}.of", f"{plain.name!r} is no type of plain values")
            if one.hashes.form != "plain" and plain.normalise != "phone":
                raise _rule(f"{key}.form", f"{one.hashes.form} is of a type with normalise: phone")
        return self


def _rule(key: str, text: str) -> PydanticCustomError:
    return PydanticCustomError("key_rule", "{rule}", {"key": key, "rule": text})


def read_identity(home: Path) -> Identity:
    """The types of ids of a home; the default ones without an identity.yml.

    Raises:
        UserError: the file breaks its format; names the key path, the rule and the value.
    """
    path = home / FILE_NAME
    return parse_identity(read_text(path), str(path)) if path.exists() else Identity()


def parse_identity(text: str, origin: str) -> Identity:
    """The types of ids that a text describes.

    Args:
        text: the YAML.
        origin: where it comes from, for the error.

    Raises:
        UserError: it breaks its format; names the key path, the rule and the value.
    """
    try:
        return Identity.model_validate(read_mapping(text, origin))
    except ValidationError as error:
        raise UserError(str(explain(error, Identity, origin)), code="identity.invalid") from None
