"""The page of the settings, from the pydantic models of the product and of its gateways."""

import types
import typing
from datetime import date, time
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from docs_site.markdown import code, number, sentence, table
from usergrowth_dagster.settings import (
    DeliverySettings,
    EffectSettings,
    LearningSettings,
    Settings,
    settings_class,
)
from usergrowth_dagster.settings.gateways import gateway_settings

HEAD = """\
# Settings

A setting is a line of `usergrowth.toml` in the home folder, or a variable named
`USERGROWTH_<NAME>` in capitals. The variable wins. An unknown name is refused.

```toml title="usergrowth.toml"
timezone = "Europe/London"
cap_messages = 2
```

Passwords and keys are not settings; see
[credentials](../how-to/gateways.md#credentials).
"""
_GROUPS = (
    ("Data and machine", Settings),
    ("Delivery", DeliverySettings),
    ("Control groups and effects", EffectSettings),
    ("Models", LearningSettings),
)
_LONG = 6  # a longer default list is shown by its first items


def page() -> str:
    """The settings in groups: name, type, default, meaning."""
    parts = [HEAD]
    groups = [
        (title, [name for name in Settings.model_fields if _group_of(name) is group])
        for title, group in _GROUPS
    ]
    groups += [
        (f"Gateway {gateway}", list(model.model_fields))
        for gateway, model in gateway_settings()
        if model.model_fields
    ]
    for title, names in groups:
        parts.append(
            f"\n## {title}\n\n{table(('setting', 'type', 'default', 'meaning'), _lines(names))}"
        )
    return "".join(parts)


def _group_of(name: str) -> type:
    return next((group for _, group in _GROUPS[1:] if name in group.model_fields), Settings)


def _lines(names: list[str]) -> list[tuple[str, str, str, str]]:
    fields = settings_class().model_fields
    return [
        (
            f'<a id="{name}"></a>{code(name)}',
            type_words(fields[name].annotation) + _bounds(fields[name]),
            _default(fields[name]),
            sentence(fields[name].description or ""),
        )
        for name in names
    ]


_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    Path: "path",
    date: "date",
    time: "time",
    Any: "anything",
}


def type_words(annotation: Any) -> str:
    """A type in words, for people who write TOML."""
    if annotation in _WORDS:
        return _WORDS[annotation]
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_words(args[0])
    if origin is Literal:
        return ", ".join(code(value) for value in args)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_words(arg) for arg in args if arg is not type(None))
    if origin in (list, tuple):
        return f"list of {type_words(args[0])}s"
    return str(getattr(annotation, "__name__", annotation))


_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def _bounds(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {number(getattr(rule, name))}"
        for rule in [*field.metadata, *_inner(field.annotation)]
        for name, sign in _SIGNS.items()
        if getattr(rule, name, None) is not None
    ]
    return f", {', '.join(dict.fromkeys(bounds))}" if bounds else ""


def _inner(annotation: Any) -> list[Any]:
    """The rules inside an optional type, such as ``PositiveInt | None``."""
    return [rule for arg in get_args(annotation) for rule in getattr(arg, "__metadata__", ())]


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "by machine"
    value = field.default
    if value is None:
        return ""
    if isinstance(value, bool):
        return code(str(value).lower())
    if isinstance(value, list | tuple):
        shown = [code(one) for one in value[:_LONG]]
        return ", ".join(shown + ["…"] * (len(value) > _LONG)) or "none"
    return code(value)
