"""The presets: exports of other tools that ``sources.yml`` names instead of describing them.

A preset is one YAML file. This package's lie beside this module; another package registers the
package that its files lie in as an entry point of the group ``usergrowth.presets``. The keys of a
table under ``fills`` are those of a source, see :mod:`usergrowth_dagster.sources.definition`.
"""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from usergrowth_dagster.errors import SetUpError, UserError
from usergrowth_dagster.plugins import PRESETS, folders_beside
from usergrowth_dagster.yaml_file import explain, read_mapping, read_text

Keys = Mapping[str, Any]
"""Keys of one source as YAML has them."""

_MERGED = ("read", "day", "columns", "num", "str")
"""Keys that an entry adds to one by one; all others it replaces."""


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Export(_Keys):
    """One file of an export, and how it fills a landing table.

    Attributes:
        file: what the file is.
        known_by: columns that such a file has, and others do not all have.
        width: number of columns of a file without a header.
        source: the keys of the source, without ``name``, ``fills`` and ``from``.
        becomes: by field of the export, what becomes of it.
    """

    file: str
    known_by: tuple[str, ...] = ()
    width: int | None = None
    source: dict[str, Any]
    becomes: dict[str, str] = Field(min_length=1)


class Preset(_Keys):
    """An export of a tool.

    Attributes:
        name: as sources.yml names it.
        title: what the export is.
        documentation: pages that describe the format.
        notes: what a person should know before using it.
        fills: by landing table, the file that fills it; the first is the default.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,29}$")
    title: str
    documentation: tuple[str, ...] = Field(min_length=1)
    notes: tuple[str, ...] = ()
    fills: dict[Literal["user", "item", "behavior", "operation"], Export] = Field(min_length=1)

    def export_for(self, table: str) -> Export | None:
        """The file that fills a landing table, if one does."""
        return next((export for name, export in self.fills.items() if name == table), None)

    @property
    def table(self) -> str:
        """The landing table that is filled where a source names none."""
        return next(iter(self.fills))

    def keys_for(self, table: str) -> dict[str, Any]:
        """The keys of a source of a landing table, without ``from``.

        Raises:
            UserError: the preset does not fill the table.
        """
        export = self.export_for(table)
        if export is None:
            raise UserError(
                f"the preset {self.name} fills {' or '.join(self.fills)}, not {table}",
                code="source.invalid",
            )
        name = self.name if table == self.table else f"{self.name}_{table}"
        return {"preset": self.name, "name": name, "fills": table, **export.source}


@dataclass(frozen=True)
class Recognized:
    """An export that a file seems to be.

    Attributes:
        preset: the preset that reads it.
        table: the landing table that it fills.
        reason: the columns that it is known by.
    """

    preset: Preset
    table: str
    reason: str


@cache
def presets() -> Mapping[str, Preset]:
    """All presets by name, in order of their names.

    Raises:
        SetUpError: a file breaks the format of a preset, or two have one name.
    """
    known: dict[str, Preset] = {}
    for folder in folders_beside(PRESETS, "."):
        for path in sorted(folder.glob("*.yml")):
            preset = _read(path)
            if preset.name in known:
                raise SetUpError(
                    f"{path}: there is another preset {preset.name!r}; give it another name",
                    code="plugin.unusable",
                )
            known[preset.name] = preset
    return MappingProxyType(dict(sorted(known.items())))


def _read(path: Path) -> Preset:
    try:
        content = read_mapping(read_text(path), str(path))
        return Preset.model_validate({"name": path.stem, **content})
    except ValidationError as error:
        reason = str(explain(error, Preset, str(path)))
    except UserError as error:
        reason = str(error)
    raise SetUpError(reason, code="plugin.unusable")


def with_presets(content: dict[str, Any], origin: str) -> dict[str, Any]:
    """The content of sources.yml with the keys that its presets stand for.

    What is no list of entries stays as it is, for the check of the format to refuse.

    Args:
        content: the file.
        origin: its name, for the error.

    Raises:
        UserError: an entry names a preset that is not there, or a table that its preset does not
            fill.
    """
    entries = content.get("sources")
    if not isinstance(entries, list):
        return content
    written = [
        _with_preset(entry, f"{origin}: sources.{number}")
        if isinstance(entry, dict) and entry.get("preset") is not None
        else entry
        for number, entry in enumerate(entries)
    ]
    return {**content, "sources": written}


def _with_preset(entry: Keys, place: str) -> dict[str, Any]:
    preset = _named(str(entry["preset"]), f"{place}.preset")
    try:
        keys = preset.keys_for(str(entry.get("fills", preset.table)))
    except UserError as error:
        raise UserError(f"{place}.fills: {error}", code="source.invalid") from None
    merged = {**keys, **entry}
    for key in _MERGED:
        given, known = entry.get(key, {}), keys.get(key, {})
        if isinstance(given, dict):
            if key == "day" and {"time", "snapshot"} & given.keys():
                known = {k: v for k, v in known.items() if k not in {"time", "snapshot"}}
            merged[key] = {k: v for k, v in {**known, **given}.items() if v is not None}
    return merged


def _named(name: str, place: str) -> Preset:
    known = presets()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        near = " or ".join(repr(one) for one in close)
        hint = f"did you mean {near}?" if close else f"there are {', '.join(known)}"
        raise UserError(f"{place}: no preset is called {name!r}; {hint}", code="source.invalid")
    return known[name]


def recognize(columns: Collection[str], *, has_header: bool = True) -> Recognized | None:
    """The preset of an export with some columns; of several, the one that is known by most.

    Args:
        columns: of the file; of one without a header only their number counts.
        has_header: whether the file names them.
    """
    folded = {name.casefold() for name in columns}
    candidates = []
    for preset in presets().values():
        for table, export in preset.fills.items():
            if has_header and export.known_by and _are_in(export.known_by, folded):
                names = ", ".join(export.known_by)
                reason = f"its columns {names} are those of {preset.title}: {export.file}"
                candidates.append((len(export.known_by), Recognized(preset, table, reason)))
            elif not has_header and export.width == len(columns):
                reason = f"{export.width} columns without a header are those of {preset.title}"
                candidates.append((1, Recognized(preset, table, reason)))
    return max(candidates, key=lambda one: one[0], default=(0, None))[1]


def _are_in(names: Collection[str], folded: Collection[str]) -> bool:
    return all(name.casefold() in folded for name in names)
