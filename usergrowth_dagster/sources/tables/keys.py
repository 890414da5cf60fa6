"""The keys of a table of a lake under ``from``: where it is, and which catalog knows it.

    from: {delta: s3://lake/events}
    from: {iceberg: shop.events, catalog: {type: rest, uri: https://catalog.example.com}}

Credentials stand in the environment, where the libraries look for them, and never in the file.
"""

import re
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_SECRET = re.compile(r"secret|password|token|credential|account-key|account_key|private", re.I)
_URL_WITH_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]*@")

DEFAULT_CATALOG = "default"
"""Name of the Iceberg catalog where a source names none, as the library has it."""


class TableKeys(BaseModel):
    """A Delta or Iceberg table. Its newest snapshot is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    delta: str | None = Field(
        None, min_length=1, description="folder or URI of a Delta table; relative to the file"
    )
    iceberg: str | None = Field(
        None,
        pattern=r"^[^.\s]+(\.[^.\s]+)+$",
        description="name of an Iceberg table with its namespace, such as shop.events",
    )
    catalog: str | dict[str, str] | None = Field(
        None,
        description="the Iceberg catalog: the name of one that pyiceberg is configured for, or its "
        "properties, such as {type: rest, uri: https://…}; without credentials, which stand in "
        "variables such as PYICEBERG_CATALOG__DEFAULT__CREDENTIAL",
    )

    @field_validator("catalog")
    @classmethod
    def _holds_no_secret(cls, value: str | dict[str, str] | None) -> str | dict[str, str] | None:
        for key, text in value.items() if isinstance(value, Mapping) else ():
            if _SECRET.search(key) or _URL_WITH_PASSWORD.search(text):
                raise ValueError(
                    f"{key} holds a credential; set it in the environment, as "
                    f"{_variable(value, key)}"
                )
        return value

    @model_validator(mode="after")
    def _is_one_table(self) -> "TableKeys":
        if (self.delta is None) == (self.iceberg is None):
            raise ValueError("give delta or iceberg, one of them")
        if self.catalog is not None and self.iceberg is None:
            raise ValueError("a catalog is of an Iceberg table; give iceberg")
        return self

    @property
    def kind(self) -> str:
        """delta or iceberg."""
        return "delta" if self.iceberg is None else "iceberg"

    @property
    def shown(self) -> str:
        """The table, for people."""
        return f"the {self.kind} table {self.delta or self.iceberg}"


def _variable(catalog: object, key: str) -> str:
    """The environment variable that pyiceberg reads a property of a catalog from."""
    name = catalog.get("name", DEFAULT_CATALOG) if isinstance(catalog, Mapping) else DEFAULT_CATALOG
    parts = (str(name), *key.split("."))
    return "__".join(["PYICEBERG_CATALOG", *(part.replace("-", "_").upper() for part in parts)])
