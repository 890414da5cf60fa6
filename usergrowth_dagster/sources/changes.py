"""Which sources have new or changed files: what a sensor asks, again and again.

A file that is being written changes from look to look, so a source counts as changed when two looks
in a row see the same. What fails to be listed is no empty folder: it is noted, and looked at again.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.sources.definition import Source
from usergrowth_dagster.sources.land import listed_files


@dataclass(frozen=True)
class Cursor:
    """What earlier looks saw.

    Attributes:
        landed: by source, the fingerprint of the files that it was last asked to land.
        seen: by source, the fingerprint of the last look.
        requests: how often sources were asked to land; it makes the next request another one.
    """

    landed: dict[str, str] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)
    requests: int = 0

    @classmethod
    def load(cls, text: str | None) -> "Cursor":
        """A cursor from its text; nothing or something unreadable begins anew."""
        try:
            stored = json.loads(text or "{}")
            return cls(dict(stored["landed"]), dict(stored["seen"]), int(stored["requests"]))
        except (ValueError, TypeError, KeyError):
            return cls()

    def dump(self) -> str:
        """The cursor as text."""
        return json.dumps(vars(self), sort_keys=True)


@dataclass(frozen=True)
class Look:
    """What one look found.

    Attributes:
        changed: names of the sources to land.
        notes: a sentence for each source that cannot be listed.
        cursor: for the next look.
    """

    changed: tuple[str, ...]
    notes: tuple[str, ...]
    cursor: Cursor


def look_at_sources(sources: Iterable[Source], folder: Path, before: Cursor) -> Look:
    """Look at the files of sources.

    A database is not looked at: asking it what is new costs what reading it costs.

    Args:
        sources: the sources.
        folder: what relative patterns start from.
        before: the cursor of the look before.
    """
    seen, notes = dict(before.seen), []
    changed: dict[str, str] = {}
    for source in sources:
        if source.database is not None:
            continue
        try:
            fingerprint = _fingerprint(source, folder)
        except UserError as error:
            notes.append(str(error))
            continue
        settled = before.seen.get(source.name) == fingerprint
        seen[source.name] = fingerprint
        if settled and before.landed.get(source.name) != fingerprint:
            changed[source.name] = fingerprint
    cursor = Cursor(before.landed | changed, seen, before.requests + bool(changed))
    return Look(tuple(sorted(changed)), tuple(notes), cursor)


def _fingerprint(source: Source, folder: Path) -> str:
    """What changes whenever a file of the source is new, changed or gone."""
    listed = sorted((file.uri, file.tag) for file in listed_files(source, folder))
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]
