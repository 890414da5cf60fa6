"""Pieces of markdown: tables, code, anchors."""

import re
from collections.abc import Iterable, Sequence


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A markdown table; cells are taken as markdown, with pipes escaped.

    >>> print(table(("a", "b"), [("1", "x|y")]))
    | a | b |
    | --- | --- |
    | 1 | x\\\\|y |
    <BLANKLINE>
    """
    rows = [header, ["---"] * len(header), *lines]
    return "".join(f"| {' | '.join(map(_cell, row))} |\n" for row in rows)


def code(text: object) -> str:
    """Text as inline code; nothing for an empty one."""
    return f"`{text}`" if str(text) else ""


def sentence(text: str) -> str:
    """A description with a capital at its start and a full stop at its end.

    >>> sentence("days to look back")
    'Days to look back.'
    """
    text = " ".join(text.replace("``", "`").split())
    if not text:
        return ""
    first = text.split()[0]
    if first.strip(",;:").isalpha():  # a name such as output.csv keeps its case
        text = text[0].upper() + text[1:]
    return _literal(text) + ("" if text[-1] in ".!?…" else ".")


def number(value: float) -> str:
    """A bound, without the zeros of a float.

    >>> number(2.0), number(0.5), number(1_000_000.0)
    ('2', '0.5', '1,000,000')
    """
    return f"{int(value) if value == int(value) else value:,}"


def _literal(text: str) -> str:
    """Text whose angle brackets are no HTML; those in code are none anyway."""
    parts = text.split("`")
    parts[::2] = [part.replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(str(text).split()))


def schema_hint(name: str) -> str:
    """How an editor gets the JSON schema of the file ``<name>.yml``."""
    return (
        f"\n`usergrowth {name} schema -o {name}.schema.json` writes the JSON schema from which "
        "this page is made.\nWith this first line, editors that know YAML schemas complete and "
        "check the keys:\n\n```yaml\n"
        f"# yaml-language-server: $schema={name}.schema.json\n```\n"
    )
