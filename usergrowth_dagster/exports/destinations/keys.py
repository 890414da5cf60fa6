"""The keys below ``to`` in ``exports.yml``: one destination."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from usergrowth_dagster.exports.keys import Keys


def _checked_place(value: object) -> object:
    """A folder, or the URL of one without a password; an error does not repeat it."""
    if isinstance(value, str) and "://" in value:
        try:
            parts = urlsplit(value)
        except ValueError:
            raise ValueError("is no URL such as s3://bucket/folder") from None
        if "@" in parts.netloc:
            raise ValueError(
                "a key never stands here; it comes from the environment, such as AWS_ACCESS_KEY_ID"
            )
        if not parts.netloc:
            raise ValueError("names no bucket; write it after the scheme, as in s3://bucket/folder")
    return value


class Destinations(Keys):
    """Where the rows go."""

    files: Annotated[str | None, BeforeValidator(_checked_place)] = Field(
        None, min_length=1, description="a folder, or s3://bucket/folder: files and a manifest"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> "Destinations":
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            known = ", ".join(type(self).model_fields)
            raise ValueError(f"give one destination of {known}")
        return self

    @property
    def kind(self) -> str:
        """The destination's key."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def makes_files(self) -> bool:
        """Whether the rows become files with a manifest."""
        return self.files is not None

    @property
    def keeps_columns(self) -> bool:
        """Whether the columns are the same on each date, also ``item_id`` without any item."""
        return not self.makes_files
