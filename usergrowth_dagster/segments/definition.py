"""The file of a segment: conditions in a tree, one SELECT, or a source of people.

    description: bought often, and silent for two weeks
    owner: growth
    refresh: daily
    where:
      all:
        - event: {behavior: buy, at_least: 3, within_days: 60}
        - not: {event: {within_days: 14}}
        - any:
            - attribute: {key: age, cmp: lt, value: 30}
            - attribute: {text: city, cmp: in, value: [Oslo, Bergen]}

Each segment is a file ``<home>/segments/<name>.yml`` (or ``.yaml``, ``.json``); its name is the
file's. The classes here are the format; :mod:`usergrowth_dagster.segments.leaves` has the leaves.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from usergrowth_dagster.control.values import SEGMENT_NAME
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.segments.groups.source import Source
from usergrowth_dagster.segments.leaves import (
    Aipl,
    Attribute,
    Event,
    Feature,
    Keys,
    Member,
    Rfm,
    Sample,
    Score,
    Sequence,
    Tagged,
    Upload,
)
from usergrowth_dagster.segments.lifecycle import Lifecycle
from usergrowth_dagster.yaml_file import explain, read_mapping, read_text

DEPTH = 5
"""Levels of a tree: a leaf alone is one."""

LEAVES = 50
"""Leaves of a tree at most."""

NAME = SEGMENT_NAME
_SCHEMA = "https://json-schema.org/draft/2020-12/schema"
_ONE_KEY: Any = {"minProperties": 1, "maxProperties": 1}

Leaf = (
    Tagged
    | Attribute
    | Feature
    | Event
    | Sequence
    | Lifecycle
    | Rfm
    | Aipl
    | Score
    | Member
    | Upload
    | Sample
)


class Node(Keys):
    """One condition: a leaf, or others under ``all``, ``any`` or ``not``; exactly one key."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, json_schema_extra=_ONE_KEY
    )

    all: "tuple[Node, ...] | None" = Field(
        None, min_length=1, description="every one of these holds"
    )
    any: "tuple[Node, ...] | None" = Field(
        None, min_length=1, description="at least one of these holds"
    )
    negated: "Node | None" = Field(
        None, alias="not", description="everyone known on the date who does not match this"
    )
    tag: Tagged | None = Field(None, description="a tag of the table user_tags")
    attribute: Attribute | None = Field(None, description="an attribute of the user")
    feature: Feature | None = Field(None, description="a column of user_features")
    event: Event | None = Field(None, description="how often or how much, in the last days")
    sequence: Sequence | None = Field(None, description="one behavior, then another or not")
    lifecycle: Lifecycle | None = Field(
        None, description="whether a habit begins, lasts, ends or comes back"
    )
    rfm: Rfm | None = Field(None, description="type or scores of the table rfm")
    aipl: Aipl | None = Field(None, description="stage, or change of stage, of the table aipl")
    score: Score | None = Field(None, description="score of a question's model")
    segment: Member | None = Field(None, description="member of another segment's snapshot")
    upload: Upload | None = Field(None, description="user ids of a file")
    sample: Sample | None = Field(None, description="random share of everybody")

    @property
    def key(self) -> str:
        """The one key that is there, as it is written."""
        (name,) = (name for name in Node.model_fields if getattr(self, name) is not None)
        return "not" if name == "negated" else name

    @property
    def below(self) -> tuple[tuple[str, "Node"], ...]:
        """The conditions below, each with its path from here; none of a leaf."""
        if self.negated is not None:
            return (("not", self.negated),)
        items = self.all if self.all is not None else self.any
        return tuple((f"{self.key}.{place}", node) for place, node in enumerate(items or ()))

    @property
    def leaf(self) -> Leaf | None:
        """The leaf, where it is one."""
        found: Leaf | None = None if self.below else getattr(self, self.key)
        return found

    @model_validator(mode="after")
    def _one_key(self) -> "Node":
        given = [n for n in Node.model_fields if getattr(self, n) is not None]
        if len(given) != 1:
            known = ", ".join("not" if n == "negated" else n for n in Node.model_fields)
            raise ValueError(f"must have exactly one key of {known}; it has {len(given)}")
        return self


class Segment(Keys):
    """One segment: who makes it, when it is refreshed, and its conditions, SELECT or source."""

    description: str = Field("", max_length=400, description="for people")
    owner: str = Field("", max_length=80, description="who answers for it")
    valid_until: date | None = Field(
        None, description="last execution date on which it may be used; later it is stale"
    )
    refresh: Literal["once", "daily", "on_upload"] = Field(
        "once",
        description="once: one snapshot of each definition; daily: one of each date; on_upload: "
        "one whenever a file that it names has changed",
    )
    missing: Literal["exclude", "include"] = Field(
        "exclude",
        description="whether people without a value match comparisons that say what the value is "
        "not (ne, nin, none). They match no other comparison but unset",
    )
    where: Node | None = Field(None, description="the conditions")
    select: str | None = Field(
        None,
        min_length=1,
        max_length=100_000,
        description="one SELECT with a column user_id, instead of conditions",
    )
    source: Source | None = Field(
        None, description="a list, a table or an algorithm, instead of conditions"
    )

    @model_validator(mode="after")
    def _one_form(self) -> "Segment":
        if sum(one is not None for one in (self.where, self.select, self.source)) != 1:
            raise ValueError("give where, select or source, one of them")
        if any(_is_unusable(text) for text in _texts(self.canonical)):
            raise ValueError("a text holds a character that no table has, such as NUL")
        uploads = any(isinstance(leaf, Upload) for _, leaf in self.leaves())
        is_file = self.source is not None and self.source.file is not None
        if self.refresh == "on_upload" and not uploads and not is_file:
            raise ValueError(
                "refresh: on_upload needs an upload among the conditions, or a source with a file"
            )
        return self

    def leaves(self) -> Iterator[tuple[str, Leaf]]:
        """Every leaf with its path, in the order of the file."""
        if self.where is not None:
            yield from _leaves(f"where.{self.where.key}", self.where, "where")

    @property
    def canonical(self) -> Mapping[str, Any]:
        """What decides who is in it, in one form: without description, owner and refresh.

        The values of a source's text are masked, since this is kept and shown.
        """
        if self.source is not None:
            return {"source": self.source.shown()}
        keys = {"missing", "where", "select"}
        made: Mapping[str, Any] = self.model_dump(
            mode="json", by_alias=True, exclude_none=True, include=keys
        )
        return made

    @property
    def form(self) -> str:
        """Where its people come from: where, select, or a source such as csv."""
        if self.source is not None:
            return self.source.kind
        return "where" if self.where is not None else "select"

    @property
    def version(self) -> str:
        """SHA-256 of :attr:`canonical`, 16 digits: another one when other people may be in it."""
        text = json.dumps(self.canonical, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


def _is_unusable(text: str) -> bool:
    """Whether a text holds NUL or half a character, which SQL cannot carry."""
    return "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text)


def _leaves(path: str, node: Node, at: str) -> Iterator[tuple[str, Leaf]]:
    leaf = node.leaf
    if leaf is not None:
        yield path, leaf
    for step, below in node.below:
        whole = f"{at}.{step}"
        yield from _leaves(f"{whole}.{below.key}", below, whole)


@dataclass(frozen=True)
class Named:
    """A segment with its name, and the file that it is from."""

    name: str
    segment: Segment
    origin: str


def parse_segment(text: str, origin: str) -> Segment:
    """The segment that a text describes.

    Args:
        text: YAML, or JSON where ``origin`` ends so.
        origin: file name for the error.

    Raises:
        UserError: it breaks its format or a limit; names the key path and the rule.
    """
    mapping = _read_json(text, origin) if origin.endswith(".json") else read_mapping(text, origin)
    if isinstance(mapping.get("where"), dict):
        _check_limits(mapping["where"], origin)
    try:
        return Segment.model_validate(mapping)
    except ValidationError as error:
        raise UserError(str(explain(error, Segment, origin)), code="segment.invalid") from None


def _read_json(text: str, origin: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                raise UserError(
                    f"{origin}: the key {name!r} appears twice; keep one", code="file.unreadable"
                )
        return dict(pairs)

    try:
        mapping = json.loads(text, object_pairs_hook=unique)
    except ValueError as error:
        raise UserError(f"{origin}: not valid JSON: {error}", code="file.unreadable") from None
    except RecursionError:
        raise _too_deep(origin) from None
    if not isinstance(mapping, dict):
        raise UserError(f"{origin}: must be one JSON object", code="file.unreadable")
    return mapping


def _too_deep(origin: str) -> UserError:
    return UserError(
        f"{origin}: where: the tree has more than {DEPTH} levels; make a segment of a part and "
        "name it with `segment`",
        code="segment.invalid",
    )


def _check_limits(where: dict[str, Any], origin: str) -> None:
    """Refuse a tree that is too deep or too large, before anything walks it.

    Raises:
        UserError: names the limit.
    """
    level, depth, leaves = [where], 0, 0
    while level:
        depth += 1
        if depth > DEPTH:
            raise _too_deep(origin)
        below: list[dict[str, Any]] = []
        for node in level:
            children = [node.get("not"), *_items(node.get("all")), *_items(node.get("any"))]
            nodes = [child for child in children if isinstance(child, dict)]
            leaves += not nodes
            below += nodes
        if leaves > LEAVES:
            raise UserError(
                f"{origin}: where: more than {LEAVES} conditions; make segments of parts of it "
                "and name them with `segment`",
                code="segment.invalid",
            )
        level = below


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def read_segment(path: Path) -> Named:
    """The segment of a file.

    Raises:
        UserError: the file is missing or breaks its format, or its name is none of a segment.
    """
    return Named(path.stem, parse_segment(read_text(path), str(path)), str(path))


def segment_schema() -> dict[str, Any]:
    """The schema (JSON Schema 2020-12) of a segment's file."""
    schema = Segment.model_json_schema(by_alias=True)
    return {"$schema": _SCHEMA, **schema, "title": "usergrowth segment"}
