"""The date that the values of a tag are of: when the tag is due again, and when it is stale.

What is known of a tag on an execution date is noted with the commit of that date's rows: the date
that its values are of, and what they were made by. A tag that is not due takes the values of the
newest earlier date that has it, and keeps their date.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from usergrowth_dagster.project import Project
from usergrowth_dagster.tags.definition import Tag

TABLE = "user_tags"
_NOTE = "tags"
_AT_ONCE = 30  # dates whose notes are read at once
_REFRESH_DAYS = {"daily": 1, "weekly": 7}
_VALUE_KEYS = {"key", "type", "rule", "statistic", "score", "upload", "words", "max_age_days"}


@dataclass(frozen=True)
class Standing:
    """What is noted of a tag on a date.

    Attributes:
        as_of: the date that its values are of: on which they were worked out; of a score, that of
            the newest score; of an upload, the first date that read this content. None: nobody
            has a score.
        definition: hash of the keys that its values follow from.
        content: hash of the uploaded file; "" of other tags.
    """

    as_of: date | None
    definition: str
    content: str = ""


@dataclass(frozen=True)
class Carried:
    """A tag that is not due.

    Attributes:
        day: the earlier date whose rows have the values.
        standing: what is noted of the tag on it.
    """

    day: date
    standing: Standing


def definition_mark(tag: Tag) -> str:
    """Hash of the keys that the values of a tag follow from; its names are left out."""
    keys = tag.model_dump(mode="json", include=_VALUE_KEYS, exclude_none=True)
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:12]


def note_of(standings: Mapping[str, Standing]) -> dict[str, object]:
    """The note of a date, for its commit."""
    return {
        _NOTE: {
            key: {
                "as_of": one.as_of.isoformat() if one.as_of else None,
                "definition": one.definition,
                **({"content": one.content} if one.content else {}),
            }
            for key, one in standings.items()
        }
    }


def standings_on(project: Project, day: date) -> dict[str, Standing]:
    """What is noted of each tag on a date; a date of an earlier release has no notes."""
    return _standings(project.warehouse.notes(TABLE, first=day, last=day).get(day, {}))


def _standings(note: Mapping[str, Any]) -> dict[str, Standing]:
    return {
        key: Standing(
            date.fromisoformat(one["as_of"]) if one["as_of"] else None,
            one["definition"],
            one.get("content", ""),
        )
        for key, one in note.get(_NOTE, {}).items()
    }


def newest_before(project: Project, keys: Collection[str], day: date) -> dict[str, Carried]:
    """By key of a tag, the newest earlier date that has it with what is noted there."""
    newest: dict[str, Carried] = {}
    days = [one for one in project.warehouse.days(TABLE) if one < day] if keys else []
    while days and len(newest) < len(set(keys)):
        days, some = days[:-_AT_ONCE], days[-_AT_ONCE:]
        notes = project.warehouse.notes(TABLE, first=some[0], last=some[-1])
        for earlier in sorted(notes, reverse=True):
            for key, standing in _standings(notes[earlier]).items():
                if key in keys:
                    newest.setdefault(key, Carried(earlier, standing))
    return newest


def not_due(project: Project, tags: Iterable[Tag], day: date) -> dict[str, Carried]:
    """The tags that a date takes from an earlier one, by key.

    A tag is due where it is daily, where its definition has changed, where it was worked out on the
    date itself already, and a weekly one from the seventh day on.
    """
    slow = {tag.key: tag for tag in tags if tag.refresh != "daily"}
    here = standings_on(project, day) if slow else {}
    worked_out = {
        key
        for key, tag in slow.items()
        if key in here and here[key] == Standing(day, definition_mark(tag), here[key].content)
    }
    return {
        key: carried
        for key, carried in newest_before(project, slow.keys() - worked_out, day).items()
        if carried.standing.definition == definition_mark(slow[key])
        and not _is_due(slow[key], carried, day)
    }


def _is_due(tag: Tag, carried: Carried, day: date) -> bool:
    """Whether so many days have passed that the tag is worked out again."""
    limit = _REFRESH_DAYS.get(tag.refresh)
    as_of = carried.standing.as_of
    return limit is not None and (as_of is None or day - as_of >= timedelta(days=limit))


def stale_sentence(tag: Tag, standing: Standing | None, day: date) -> str:
    """Why a tag is stale on a day; "" where it is fresh, or where it need not be.

    Args:
        tag: with ``fresh_days``.
        standing: what is noted of it; None: nothing.
        day: on which it should be fresh.
    """
    if tag.fresh_days is None:
        return ""
    if standing is None or standing.as_of is None:
        return f"tag {tag.key} is stale: no date of its values is known"
    age = (day - standing.as_of).days
    if age <= tag.fresh_days:
        return ""
    return (
        f"tag {tag.key} is stale: its values are of {standing.as_of}, {age} days before {day}, and "
        f"are fresh for {tag.fresh_days} days"
    )


def stale_tags(project: Project, tags: Sequence[Tag], day: date) -> list[str]:
    """Why tags are stale on an execution date whose tags have been worked out, a sentence each."""
    if not any(tag.fresh_days is not None for tag in tags):
        return []
    known = standings_on(project, day)
    sentences = [stale_sentence(tag, known.get(tag.key), day) for tag in tags]
    return [sentence for sentence in sentences if sentence]
