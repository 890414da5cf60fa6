"""The page of the campaign file, from its JSON schema."""

from collections.abc import Iterator, Mapping
from typing import Any

from docs_site.markdown import code, number, sentence, table
from usergrowth_dagster.control.campaign import FORMS, campaign_schema

HEAD = """\
# Campaign file

One YAML file describes one campaign. `usergrowth apply -f campaign.yaml` checks every key and
creates or updates the records. An unknown key is refused.

`usergrowth schema -o campaign.schema.json` writes the JSON schema from which this page is made.
With this first line, editors that know YAML schemas complete and check the keys:

```yaml
# yaml-language-server: $schema=campaign.schema.json
```

The job settings of the vendor's plug-in (`training: {algorithm: sms_recall, …}`,
`selection: {percentage_threshold: 0.5, exe_date: …}`) are accepted as well, and are not part of
the schema.
"""

Schema = Mapping[str, Any]


def page() -> str:
    """A section for the file and one for each group of keys."""
    return HEAD + keys_of(campaign_schema())


def keys_of(schema: Schema) -> str:
    """A table of a file's keys, and one for each group of keys in it."""
    parts = ["\n## The file\n\n", _table(schema, schema["$defs"])]
    for title, name in _groups("", schema, schema["$defs"]):
        group = schema["$defs"][name]
        parts += [f"\n## {title}\n\n", f"{_prose(group)}\n\n", _table(group, schema["$defs"])]
    return "".join(parts)


def _groups(
    before: str, group: Schema, known: Mapping[str, Schema], above: tuple[str, ...] = ()
) -> Iterator[tuple[str, str]]:
    """Every group of keys below a group, by its path in the file, with the name of its schema.

    A group inside itself is not entered again; ``above`` names the groups that it is in.
    """
    for key, value in group.get("properties", {}).items():
        names = list(_refs(value))
        for name in (one for one in names if one not in above):
            kind = _constant(known[name]) if len(names) > 1 else ""
            path = f"{before}{key}{'.*' if _is_mapping(value) else ''}"
            yield (f"{path}, {kind}" if kind else path), name
            yield from _groups(f"{path}.", known[name], known, (*above, name))


def _constant(group: Schema) -> str:
    """The kind that a group of a union stands for."""
    kind = group.get("properties", {}).get("kind", {})
    return str(kind.get("const", ""))


def _is_mapping(value: Schema) -> bool:
    return isinstance(value.get("additionalProperties"), Mapping)


def _refs(value: Schema) -> Iterator[str]:
    """The groups that a value may be."""
    if "$ref" in value:
        yield str(value["$ref"]).rpartition("/")[2]
    for form in (*value.get("anyOf", ()), *value.get("oneOf", ())):
        yield from _refs(form)
    for inner in ("items", "additionalProperties"):
        if isinstance(value.get(inner), Mapping):
            yield from _refs(value[inner])


def _table(group: Schema, known: Mapping[str, Schema]) -> str:
    required = set(group.get("required", ()))
    lines = [
        (
            code(key),
            _type(value),
            "**required**" if key in required else _default(value),
            sentence(value.get("description", "") or _first(_refs(value), known)),
        )
        for key, value in group.get("properties", {}).items()
    ]
    return table(("key", "value", "default", "meaning"), lines)


def _first(names: Iterator[str], known: Mapping[str, Schema]) -> str:
    """The first sentence about the group that a key holds."""
    for name in names:
        return str(known[name].get("description", "")).partition("\n\n")[0].partition(". ")[0]
    return ""


def _prose(group: Schema) -> str:
    return " ".join(str(group.get("description", "")).split())


def _default(value: Schema) -> str:
    if isinstance(value.get("default"), dict) or value.get("default") in (None, "", []):
        return ""
    default = value["default"]
    return code(str(default).lower() if isinstance(default, bool) else default)


def _type(value: Schema) -> str:
    """The forms of a value in words, with their bounds."""
    for several in ("anyOf", "oneOf"):
        if several in value:
            forms = [_type(form) for form in value[several] if form.get("type") != "null"]
            return " or ".join(dict.fromkeys(forms))
    if "$ref" in value:
        return "group of keys"
    if "const" in value:
        return code(value["const"])
    if "enum" in value:
        return ", ".join(code(one) for one in value["enum"])
    for name, form in FORMS.items():
        if value.get("pattern") == form["pattern"]:
            return name
    kind = value.get("type", "anything")
    if kind == "array":
        return f"list of {_type(value.get('items', {}))}"
    if kind == "object":
        inner = value.get("additionalProperties") or next(iter(value["patternProperties"].values()))
        return f"names with {_type(inner)}"
    kinds = " or ".join(kind) if isinstance(kind, list) else str(kind)
    words = kinds.replace("string", "text").replace("boolean", "true or false")
    return words + _bounds(value)


_SIGNS = {
    "minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<",
    "minLength": "length ≥", "maxLength": "length ≤",
}  # fmt: skip


def _bounds(value: Schema) -> str:
    bounds = [f"{sign} {number(value[name])}" for name, sign in _SIGNS.items() if name in value]
    if "pattern" in value:
        bounds.append(code(value["pattern"]))
    return f", {', '.join(bounds)}" if bounds else ""
