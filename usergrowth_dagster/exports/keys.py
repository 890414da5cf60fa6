"""What all keys of ``exports.yml`` have in common."""

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class Keys(BaseModel):
    """A group of keys; an unknown one is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def rule(key: str, text: str) -> PydanticCustomError:
    """The error that a key breaks a rule, though another key decides it.

    Args:
        key: path of the key below the group.
        text: what the value must be.
    """
    return PydanticCustomError("key_rule", "{rule}", {"key": key, "rule": text})
