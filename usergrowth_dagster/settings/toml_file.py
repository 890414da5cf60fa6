"""The settings file, read strictly: what is wrong with it in one sentence, with line and remedy."""

import difflib
import re
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from usergrowth_dagster.errors import UserError

MAX_BYTES = 1 << 20
"""Bytes of the largest settings file that is read."""

_LINE = re.compile(r"^\s*([\w-]+)\s*([=:＝：])\s*(.*?)\s*$")
_PLACE = re.compile(r" \(at line (\d+), column \d+\)")
_WORDS = {"True": "true", "False": "false", "yes": "true", "no": "false"}
_SECRET = re.compile("url|key|secret|token|password", re.IGNORECASE)
_QUOTES = "“”‘’「」\"'"


def read_toml(path: Path, known: Collection[str]) -> dict[str, Any]:
    """The settings of a file; none when there is no file.

    Args:
        path: the file.
        known: the names of all settings.

    Raises:
        UserError: not UTF-8, not TOML, or a name that is no setting; names the line and what to do.
    """
    text = _text(path)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: {_remedy(text, str(error))}", code="file.unreadable") from None
    except RecursionError:
        raise UserError(
            f"{path}: not valid TOML: nested too deep", code="file.unreadable"
        ) from None
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "usergrowth_dagster/settings has all"
            raise UserError(
                f"{path}: line {line_of(text, name)}: unknown setting {name!r}; {hint}",
                code="setting.unknown",
            )
    return values


def _text(path: Path) -> str:
    try:
        with path.open("rb") as handle:
            content = handle.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return ""
    if len(content) > MAX_BYTES:
        raise UserError(
            f"{path}: larger than {MAX_BYTES:,} bytes; is it the right file?",
            code="file.unreadable",
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}: line {line}: not UTF-8; save the file as UTF-8", code="file.unreadable"
        ) from None


def line_of(text: str, name: str) -> int:
    """The line on which a setting stands, from 1."""
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(rf"\s*\[?[\"']?{re.escape(name)}[\"']?\s*[\].=]", line):
            return number
    return 1


def _remedy(text: str, error: str) -> str:
    """What to do about a line that is not TOML."""
    place = _PLACE.search(error)
    number = int(place[1]) if place else len(text.splitlines())
    rule = f"line {number}: not valid TOML: {_PLACE.sub('', error)}"
    lines = text.splitlines()
    match = _LINE.match(lines[number - 1]) if 0 < number <= len(lines) else None
    if match is None:
        return rule
    name, sign, value = match.groups()
    if sign != "=":
        return f"{rule}; write a plain = after {name}, such as {name} = {_written(name, value)}"
    if value in _WORDS or not value.startswith(('"', "'", "[", "{")):
        return f"{rule}; write {name} = {_written(name, value)}"
    return rule


def _written(name: str, value: str) -> str:
    """A value as TOML has it, as far as can be known; what may hold a password is not repeated."""
    if _SECRET.search(name):
        return '"…"'
    plain = value.strip(_QUOTES)
    if value in _WORDS:
        return _WORDS[value]
    if re.fullmatch(r"[+-]?\d+(\.\d+)?|true|false", plain) and plain == value:
        return plain
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
