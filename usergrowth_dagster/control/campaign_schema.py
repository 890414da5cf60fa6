"""The file with the campaign file's JSON schema, beside the campaign files of a home."""

from pathlib import Path

from usergrowth_dagster.control.campaign import campaign_schema
from usergrowth_dagster.documents import document

FILE_NAME = "campaign.schema.json"
"""Name of the schema's file, which the first line of an example campaign file refers to."""


def schema_text() -> str:
    """The schema as one JSON document."""
    return document(campaign_schema()) + "\n"


def write_schema(file: Path) -> None:
    """Write the schema to a file, over an older one."""
    file.write_text(schema_text(), encoding="utf-8")
