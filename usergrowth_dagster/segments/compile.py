"""A segment's tree as one statement of DuckDB, as of an execution date D.

Each table is read once. Columns of a table become columns of one common table expression, events
become one aggregation, and the tree becomes one condition over their join. Values go into sqlglot's
tree as literals, names as quoted identifiers; no text of the file is ever put into SQL.

Only days before D are read of events; tables of execution dates are read as of D, which was its
morning. Everybody is who has a row in ``user_features`` as of D.
"""

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.segments.behavior import (
    ITEM_NUMBERS,
    ITEM_TEXTS,
    active_days,
    active_units,
    begins,
    comes_back,
    days_with,
    ends,
    first_day,
    in_sequence,
    last_day,
    sum_in_days,
    sum_in_events,
    value_of,
)
from usergrowth_dagster.segments.comparing import Kind, compare, kind_of
from usergrowth_dagster.segments.definition import Node, Segment
from usergrowth_dagster.segments.leaves import (
    Aipl,
    Attribute,
    Event,
    Feature,
    Member,
    Rfm,
    Sample,
    Score,
    Sequence,
    Tagged,
    Upload,
)
from usergrowth_dagster.segments.lifecycle import Lifecycle
from usergrowth_dagster.segments.trees import (
    column,
    day,
    every,
    member_of,
    named,
    number,
    one_of,
    some,
    text,
    tree,
)
from usergrowth_dagster.segments.windows import Span, check_days, check_window, days_back

if TYPE_CHECKING:
    from sqlglot import exp

FEATURES, TAGS, RFM, AIPL, SCORES = "user_features", "user_tags", "rfm", "aipl", "scores"
DAYS, EVENTS, ITEMS = "user_day", "stg_behavior", "stg_item"

_CELLS = 2**52
_OF_ITEMS = ("item_text", "item_number", "category")
_OF_KINDS: Mapping[str, Kind] = {
    "text": "text",
    "number": "number",
    "item_text": "text",
    "item_number": "number",
    "category": "texts",
}
_ATTRIBUTE_MAPS: Mapping[str, tuple[str, Kind]] = {
    "number": ("attribute_num", "number"),
    "text": ("attribute_str", "text"),
}


@dataclass(frozen=True)
class Inputs:
    """What a statement reads.

    Attributes:
        columns: DuckDB types of the columns of each table that may be named.
        known_days: days of events before D from which the people of ``user_features`` are known.
        people: by path of a leaf ``segment``, ``upload`` or ``score``, the relation with its
            ``user_id``; of a score also ``score`` and ``decile``.
        kept: by path of a leaf whose people are known already, the relation with their ``user_id``;
            the tables of such a leaf need not be there.
    """

    columns: Mapping[str, Mapping[str, str]]
    known_days: int
    people: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)


def tables_of(
    segment: Segment, on: date, known_days: int, *, without: Collection[str] = ()
) -> dict[str, int]:
    """Tables that the tree reads, and how many days before D of each; 0: as of D alone.

    Args:
        segment: the segment.
        on: the execution date D.
        known_days: days that are read for a leaf about the whole history.
        without: paths of leaves that are left out.
    """
    wanted = {FEATURES: 0}

    def reads(table: str, days: int = 0) -> None:
        wanted[table] = max(days, wanted.get(table, 0))

    for at, leaf in segment.leaves():
        if at in without:
            continue
        if isinstance(leaf, Event):
            reads(_source_of(leaf), days_back(leaf, on))
            if _asks_items(leaf):
                reads(ITEMS)
        elif isinstance(leaf, Sequence):
            reads(DAYS, days_back(leaf, on))
        elif isinstance(leaf, Lifecycle):
            reads(DAYS, _lifecycle_days(leaf, known_days)[1])
        elif isinstance(leaf, Tagged):
            reads(TAGS)
        elif isinstance(leaf, Rfm):
            reads(RFM)
        elif isinstance(leaf, Aipl):
            reads(AIPL, leaf.over_days or 0)
        elif isinstance(leaf, Score):
            reads(SCORES, leaf.max_age_days)
    return wanted


def _source_of(leaf: Event) -> str:
    """The table with what an event leaf asks: sums by day where they have it."""
    single = leaf.items is not None or (leaf.sum_of is not None and leaf.behavior is not None)
    return EVENTS if single or leaf.where is not None else DAYS


def _asks_items(leaf: Event) -> bool:
    """Whether an event leaf has a condition on the item."""
    return any(one.key in _OF_ITEMS for one in leaf.where or ())


def _lifecycle_days(leaf: Lifecycle, known_days: int) -> tuple[str, int]:
    """The key that decides how many days before D a lifecycle reads, and how many."""
    if leaf.regularly is not None:
        return "regularly.of", leaf.regularly.span
    if leaf.stopped is not None:
        return "stopped.active_days", leaf.stopped.active_days + leaf.stopped.silent_days
    return "", known_days


def compile_segment(
    segment: Segment, origin: str, on: date, inputs: Inputs, *, sample: float | None = None
) -> str:
    """The SELECT of the user ids of a segment with a tree.

    Args:
        segment: the segment.
        origin: its file, for the error.
        on: the execution date D.
        inputs: what may be read, under the tables' own names.
        sample: only this share of everybody, drawn by a hash.

    Raises:
        UserError: a name is unknown, a value does not fit its column, or a window is longer than
            everybody is known for; names the key path.
    """
    assert segment.where is not None
    return _Compiler(segment, origin, on, inputs, sample).statement().sql(dialect="duckdb")


def compile_leaves(
    segment: Segment, origin: str, on: date, inputs: Inputs, paths: tuple[str, ...]
) -> str:
    """The SELECT of everybody with a BOOLEAN for each of some leaves: ``leaf_0``, ``leaf_1`` …

    Args:
        segment: a segment with a tree.
        origin: its file, for the error.
        on: the execution date D.
        inputs: what may be read, under the tables' own names.
        paths: the leaves.

    Raises:
        UserError: as :func:`compile_segment`.
    """
    return _Compiler(segment, origin, on, inputs, None).leaves(paths).sql(dialect="duckdb")


def sampled_people(origin: str, on: date, share: float) -> str:
    """The SELECT of the user ids of a sample of everybody, as :func:`compile_segment` draws it."""
    everybody = _Compiler(Segment(select="everybody"), origin, on, Inputs({}, 1), share)
    return everybody.part("everybody", []).sql(dialect="duckdb")


class _Compiler:
    """One statement while it is made: the columns of each part, then the condition."""

    def __init__(
        self, segment: Segment, origin: str, on: date, inputs: Inputs, sample: float | None
    ) -> None:
        self.segment, self.origin, self.on, self.inputs = segment, origin, on, inputs
        self.sample = sample
        self.parts: dict[str, list[exp.Expr]] = {"everybody": []}
        self.tables = tables_of(segment, on, inputs.known_days, without=inputs.kept)
        self.missing = segment.missing == "include"

    def statement(self) -> "exp.Select":
        from sqlglot import exp

        assert self.segment.where is not None
        condition = self._node(self.segment.where, f"{self.origin}: where")
        return self._joined(exp.select(column("user_id", "everybody")).where(condition))

    def leaves(self, paths: tuple[str, ...]) -> "exp.Select":
        from sqlglot import exp

        by_path = dict(self.segment.leaves())
        flags = [self._leaf(by_path[at], f"{self.origin}: {at}") for at in paths]
        columns = [named(flag, f"leaf_{place}") for place, flag in enumerate(flags)]
        return self._joined(exp.select(column("user_id", "everybody"), *columns))

    def _joined(self, query: "exp.Select") -> "exp.Select":
        """A query with the parts that its columns and its condition have made."""
        query = query.from_("everybody")
        for name in self.parts:
            if name != "everybody":
                query = query.join(name, using=["user_id"], join_type="left")
        for name, columns in self.parts.items():
            query = query.with_(name, as_=self.part(name, columns))
        return query

    def part(self, name: str, columns: list["exp.Expr"]) -> "exp.Select":
        """The SELECT of one part, one row a user."""
        from sqlglot import exp

        table = FEATURES if name == "everybody" else name
        listed = [named(value, f"{name}_{place}") for place, value in enumerate(columns)]
        query = exp.select("user_id", *listed).from_(exp.to_identifier(table, quoted=True))
        if name == EVENTS and ITEMS in self.tables:
            query = query.join(_items(), using=["item_id"], join_type="left")
        if name in (DAYS, EVENTS):
            first = self._before(self.tables[name])
            query = query.where(tree("ds >= :first and ds < :d", first=first, d=day(self.on)))
        elif name == AIPL:
            query = query.where(tree("ds <= :d", d=day(self.on)))
        else:
            query = query.where(tree("ds = :d", d=day(self.on)))
        if self.sample is not None:
            query = query.where(self._is_in("segment_estimate", self.sample))
        if name in (DAYS, EVENTS, AIPL):
            query = query.group_by("user_id")
        return query

    def _before(self, days: int) -> "exp.Expr":
        return day(self.on - timedelta(days=days))

    def _is_in(self, salt: str, share: float) -> "exp.Expr":
        """Whether a user's place in [0, 1), by SHA-256 of salt and user, is below a share."""
        return tree(
            "cast('0x' || substr(sha256(:salt || user_id), 1, 13) as bigint) < :most",
            salt=text(f"{salt}:"),
            most=number(int(share * _CELLS)),
        )

    def _add(self, part: str, value: "exp.Expr") -> "exp.Expr":
        """Make a column of a part, once; how the condition names it."""
        columns = self.parts.setdefault(part, [])
        if value in columns:
            place = columns.index(value)
        else:
            place = len(columns)
            columns.append(value)
        return column(f"{part}_{place}", part)

    def _node(self, node: Node, at: str) -> "exp.Expr":
        from sqlglot import exp

        if node.leaf is not None:
            return self._leaf(node.leaf, f"{at}.{node.key}")
        below = [self._node(child, f"{at}.{step}") for step, child in node.below]
        if node.negated is not None:
            return exp.not_(exp.paren(below[0]))
        return every(below) if node.all is not None else some(below)

    def _leaf(self, leaf: Any, at: str) -> "exp.Expr":
        made: dict[type, Callable[[Any, str], exp.Expr]] = {
            Tagged: self._tag,
            Attribute: self._attribute,
            Feature: self._feature,
            Event: self._event,
            Sequence: self._sequence,
            Lifecycle: self._lifecycle,
            Rfm: self._rfm,
            Aipl: self._aipl,
            Score: self._score,
            Member: self._people,
            Upload: self._people,
            Sample: self._sample,
        }
        kept = self.inputs.kept.get(self._path(at))
        if kept is not None:
            return member_of(column("user_id", "everybody"), kept)
        return made[type(leaf)](leaf, at)

    def _path(self, at: str) -> str:
        """A key path without the file."""
        return at.removeprefix(f"{self.origin}: ")

    def _compared(self, table: str, name: str, leaf: Any, at: str, key: str) -> "exp.Expr":
        """A comparison with a column of a table that has one row a user."""
        columns = {
            n: k
            for n, k in self.inputs.columns.get(table, {}).items()
            if n not in ("ds", "user_id")
        }
        kind = kind_of(columns.get(name, ""))
        if kind is None:
            raise UserError(f"{at}.{key}: {_unknown(table, name, columns)}", code="segment.invalid")
        part = "everybody" if table == FEATURES else table
        value = self._add(part, column(name))
        return compare(leaf, value, kind, at, missing=self.missing)

    def _tag(self, leaf: Tagged, at: str) -> "exp.Expr":
        return self._compared(TAGS, leaf.key, leaf, at, "key")

    def _feature(self, leaf: Feature, at: str) -> "exp.Expr":
        return self._compared(FEATURES, leaf.name, leaf, at, "name")

    def _attribute(self, leaf: Attribute, at: str) -> "exp.Expr":
        if leaf.key is not None:
            return self._compared(FEATURES, leaf.key, leaf, at, "key")
        source = "number" if leaf.number is not None else "text"
        name, kind = _ATTRIBUTE_MAPS[source]
        key = leaf.number if leaf.number is not None else leaf.text
        assert key is not None
        value = self._add("everybody", tree(":pairs[:key]", pairs=column(name), key=text(key)))
        return compare(leaf, value, kind, at, missing=self.missing)

    def _event(self, leaf: Event, at: str) -> "exp.Expr":
        span = check_window(leaf, at, "within_days", self.on, self.inputs.known_days)
        source = _source_of(leaf)
        total = (
            sum_in_days(leaf, span)
            if source == DAYS
            else sum_in_events(leaf, span, self._of_events(leaf, at))
        )
        value = tree("coalesce(:v, 0)", v=self._add(source, total))
        bounds = [
            tree(f":v {sign} :x", v=value, x=number(float(limit)))
            for sign, limit in ((">=", leaf.low), ("<=", leaf.at_most))
            if limit is not None
        ]
        return every(bounds)

    def _of_events(self, leaf: Event, at: str) -> "list[exp.Expr]":
        """The conditions on single events and their items."""
        return [
            compare(
                one,
                value_of(one),
                _OF_KINDS[one.key],
                f"{at}.where.{place}",
                missing=self.missing,
            )
            for place, one in enumerate(leaf.where or ())
        ]

    def _sequence(self, leaf: Sequence, at: str) -> "exp.Expr":
        span = check_window(leaf, at, "last_days", self.on, self.inputs.known_days)
        after = Span(span.first, self.on - timedelta(days=1))
        other = leaf.then if leaf.then is not None else leaf.not_then
        assert other is not None
        firsts = self._add(DAYS, days_with(leaf.first, span))
        others = self._add(DAYS, days_with(other, after))
        return in_sequence(leaf, firsts, others, self.on)

    def _lifecycle(self, leaf: Lifecycle, at: str) -> "exp.Expr":
        key, days = _lifecycle_days(leaf, self.inputs.known_days)
        check_days(days, f"{at}.{key}", self.inputs.known_days)
        known, behavior = self.on - timedelta(days=self.inputs.known_days), leaf.behavior
        if leaf.first_seen is not None:
            place = f"{at}.first_seen"
            span = check_window(leaf.first_seen, place, "within_days", self.on, days)
            return begins(self._add(DAYS, first_day(behavior, known)), span)
        if leaf.regularly is not None:
            units = self._add(DAYS, active_units(behavior, leaf.regularly, self.on))
            least = number(leaf.regularly.at_least)
            return tree("coalesce(:v, 0) >= :least", v=units, least=least)
        if leaf.stopped is not None:
            last = self._add(DAYS, last_day(behavior, leaf.stopped, self.on))
            return ends(last, leaf.stopped, self.on)
        assert leaf.resumed is not None
        check_days(leaf.resumed.within_days, f"{at}.resumed.within_days", days)
        active = self._add(DAYS, active_days(behavior, known))
        return comes_back(active, leaf.resumed, self.on)

    def _rfm(self, leaf: Rfm, at: str) -> "exp.Expr":
        conditions = []
        for name, options in (
            ("rfm_type", leaf.types),
            ("r_score", leaf.r),
            ("f_score", leaf.f),
            ("m_score", leaf.m),
        ):
            if options is not None:
                listed = [text(o) if isinstance(o, str) else number(o) for o in options]
                conditions.append(one_of(self._add(RFM, column(name)), listed))
        return tree("coalesce(:met, false)", met=every(conditions))

    def _aipl(self, leaf: Aipl, at: str) -> "exp.Expr":
        if leaf.stage is not None:
            return self._stage(0, leaf.stage)
        assert leaf.before is not None and leaf.after is not None and leaf.over_days is not None
        return every([self._stage(leaf.over_days, leaf.before), self._stage(0, leaf.after)])

    def _stage(self, ago: int, stages: tuple[str, ...]) -> "exp.Expr":
        stage = tree("max(stage) filter (where ds = :d)", d=self._before(ago))
        listed = one_of(self._add(AIPL, stage), map(text, stages))
        return tree("coalesce(:met, false)", met=listed)

    def _score(self, leaf: Score, at: str) -> "exp.Expr":
        relation = self.inputs.people[self._path(at)]
        conditions = []
        if leaf.at_least is not None:
            conditions.append(tree("score >= :x", x=number(float(leaf.at_least))))
        if leaf.at_most is not None:
            conditions.append(tree("score <= :x", x=number(float(leaf.at_most))))
        if leaf.decile is not None:
            conditions.append(one_of(column("decile"), map(number, leaf.decile)))
        return member_of(column("user_id", "everybody"), relation, every(conditions))

    def _people(self, leaf: Member | Upload, at: str) -> "exp.Expr":
        relation = self.inputs.people[self._path(at)]
        return member_of(column("user_id", "everybody"), relation)

    def _sample(self, leaf: Sample, at: str) -> "exp.Expr":
        return self._add("everybody", self._is_in(f"segment_sample:{leaf.salt}", leaf.share))


def _items() -> "exp.Expr":
    """What is known of items, under names that no column of an event has."""
    from sqlglot import exp

    return (
        exp.select("item_id", named(column("kvs_num"), ITEM_NUMBERS))
        .select(named(column("kvs_str"), ITEM_TEXTS))
        .from_(exp.to_identifier(ITEMS, quoted=True))
        .subquery("items")
    )


def _unknown(table: str, name: str, columns: Mapping[str, str]) -> str:
    if name in columns:
        return f"{name!r} of {table} is a {columns[name]}, which cannot be compared"
    close = difflib.get_close_matches(name, list(columns), n=1)
    listed = ", ".join(list(columns)[:20])
    hint = f"did you mean {close[0]!r}?" if close else f"there are {listed or 'none'}"
    return f"{table} has no column {name!r}; {hint}"
