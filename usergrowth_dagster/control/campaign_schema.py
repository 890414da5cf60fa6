"""The JSON schema of the campaign file, for editors that complete and check keys.

It is that of the pydantic models, with the forms that only YAML has: a bare algorithm, "on upload",
"now", and times without seconds or a zone. The vendor's own job settings are read from a file too,
but have no place in it.
"""

from typing import Any

from usergrowth_dagster.control.campaign import CampaignSpec
from usergrowth_dagster.control.values import NOW, ON_UPLOAD

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FORMS: dict[str, dict[str, Any]] = {
    "date": {"type": ["string", "integer"], "pattern": r"^\d{4}-?\d{2}-?\d{2}$"},
    "date-time": {
        "type": "string",
        "pattern": r"^\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})?$",
    },
    "time": {"type": "string", "pattern": r"^\d{1,2}:\d{2}(:\d{2})?$"},
}
"""How each kind of time is written in a campaign file, by its name in JSON Schema."""


def campaign_schema() -> dict[str, Any]:
    """The schema (JSON Schema 2020-12) of a campaign file."""
    schema = _as_written(CampaignSpec.model_json_schema())
    keys = schema["properties"]
    keys["execution_date"] = {
        "description": f'a day, or "{ON_UPLOAD}": each new upload by itself',
        "anyOf": [FORMS["date"], {"const": ON_UPLOAD}],
    }
    keys["algorithm"] = {
        "description": "which question the model answers; its kind alone is enough",
        "anyOf": [{"type": "string"}, keys["algorithm"]],
    }
    schema["$defs"]["HoldoutSpec"]["properties"]["epoch"]["type"] = ["string", "integer"]
    start = schema["$defs"]["ScheduleSpec"]["properties"]["execute_time"]
    start["anyOf"] = [{"const": NOW}, *(form for form in start["anyOf"] if "const" not in form)]
    return {"$schema": DIALECT, **schema, "title": "usergrowth campaign"}


def _as_written(part: Any) -> Any:
    """A part of the schema without generated titles, and with times as YAML files have them."""
    if isinstance(part, list):
        return [_as_written(one) for one in part]
    if not isinstance(part, dict):
        return part
    if "format" in part:
        rest = {name: value for name, value in part.items() if name != "format"}
        return rest | FORMS[part["format"]]
    kept = (pair for pair in part.items() if not (pair[0] == "title" and isinstance(pair[1], str)))
    return {name: _as_written(value) for name, value in kept}
