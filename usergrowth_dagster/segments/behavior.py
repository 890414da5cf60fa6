"""Columns and conditions about a user's events, as sqlglot's trees: sums, sequences, lifecycles.

Columns are aggregates over the rows of one user: days of ``user_day``, or events of
``stg_behavior``. Conditions name such a column and are never NULL.
"""

from datetime import date, timedelta
from typing import TYPE_CHECKING

from usergrowth_dagster.segments.leaves import Event, Of, Sequence
from usergrowth_dagster.segments.lifecycle import UNITS, Regularly, Resumed, Stopped
from usergrowth_dagster.segments.trees import column, day, every, number, one_of, text, tree
from usergrowth_dagster.segments.windows import Span

if TYPE_CHECKING:
    from sqlglot import exp

ITEM_TEXTS, ITEM_NUMBERS = "item_str", "item_num"
"""Columns of an event with what is known of its item."""

_MAPS = {
    "text": "kvs_str",
    "number": "amounts",
    "item_text": ITEM_TEXTS,
    "item_number": ITEM_NUMBERS,
    "category": ITEM_TEXTS,
}


def _within(span: Span) -> "exp.Expr":
    """Whether a row is of the days."""
    return tree("ds >= :first and ds <= :last", first=day(span.first), last=day(span.last))


def value_of(condition: Of) -> "exp.Expr":
    """The value of an event that a condition of it is about."""
    key = getattr(condition, condition.key)
    value = tree(":pairs[:key]", pairs=column(_MAPS[condition.key]), key=text(key))
    return tree("string_split(:v, '|')", v=value) if condition.category is not None else value


def sum_in_days(leaf: Event, span: Span) -> "exp.Expr":
    """The sum over the days of a window, of counts or of an amount."""
    value = _count(leaf.behavior) if leaf.sum_of is None else _amount(leaf.sum_of)
    return tree("sum(:v) filter (where :within)", v=value, within=_within(span))


def _amount(key: str) -> "exp.Expr":
    """An amount of a day or an event; 0 without one."""
    return tree("coalesce(amounts[:key], 0)", key=text(key))


def _count(behavior: tuple[str, ...] | None) -> "exp.Expr":
    """How many events a day has, of some kinds or in all."""
    if behavior is None:
        return tree("events")
    first, *others = dict.fromkeys(behavior)
    value = tree("coalesce(kinds[:key], 0)", key=text(first))
    for name in others:
        value = tree(":v + coalesce(kinds[:key], 0)", v=value, key=text(name))
    return value


def sum_in_events(leaf: Event, span: Span, conditions: "list[exp.Expr]") -> "exp.Expr":
    """The sum over single events of a window, of those for which all conditions hold."""
    value = tree("events") if leaf.sum_of is None else _amount(leaf.sum_of)
    wanted = [_within(span)]
    for name, options in (("behavior", leaf.behavior), ("item_id", leaf.items)):
        if options is not None:
            wanted.append(one_of(column(name), map(text, options)))
    return tree("sum(:v) filter (where :wanted)", v=value, wanted=every([*wanted, *conditions]))


def days_with(kind: str, span: Span) -> "exp.Expr":
    """The days of a window with a kind of behavior, as a list."""
    return tree(
        "list(ds) filter (where kinds[:key] > 0 and :within)",
        key=text(kind),
        within=_within(span),
    )


def in_sequence(leaf: Sequence, firsts: "exp.Expr", others: "exp.Expr", on: date) -> "exp.Expr":
    """The condition of a sequence over the days of its two behaviors."""
    same = leaf.first == (leaf.then if leaf.then is not None else leaf.not_then)
    follows = tree(
        "len(list_filter(:others, lambda b: b >= a + :gap and b <= a + :span)) > 0",
        others=tree("coalesce(:v, [])", v=others),
        gap=number(int(same)),
        span=number(leaf.within_days),
    )
    if leaf.not_then is not None:
        follows = tree(
            "a + :span < :d and not (:follows)",
            span=number(leaf.within_days),
            d=day(on),
            follows=follows,
        )
    met = tree("len(list_filter(:firsts, lambda a: :follows)) > 0", firsts=firsts, follows=follows)
    return tree("coalesce(:met, false)", met=met)


# --- lifecycles ---------------------------------------------------------------------------------


def _active(behavior: tuple[str, ...] | None, first: date) -> "exp.Expr":
    """Whether a row is a day on or after ``first`` with an event, of some kinds or of any."""
    return tree(":v > 0 and ds >= :first", v=_count(behavior), first=day(first))


def first_day(behavior: tuple[str, ...] | None, known: date) -> "exp.Expr":
    """Column: the first active day on or after ``known``."""
    return tree("min(ds) filter (where :active)", active=_active(behavior, known))


def begins(first: "exp.Expr", span: Span) -> "exp.Expr":
    """Whether the first active day is in a window."""
    return tree(
        "coalesce(:v >= :first and :v <= :last, false)",
        v=first,
        first=day(span.first),
        last=day(span.last),
    )


def active_units(behavior: tuple[str, ...] | None, form: Regularly, on: date) -> "exp.Expr":
    """Column: how many of the last days or weeks have an event; a week is seven days."""
    return tree(
        "count(distinct (date_diff('day', ds, :d) - 1) // :size) filter (where :active)",
        d=day(on),
        size=number(UNITS[form.unit]),
        active=_active(behavior, on - timedelta(days=form.span)),
    )


def last_day(behavior: tuple[str, ...] | None, form: Stopped, on: date) -> "exp.Expr":
    """Column: the last active day of the active and the silent days."""
    first = on - timedelta(days=form.active_days + form.silent_days)
    return tree("max(ds) filter (where :active)", active=_active(behavior, first))


def ends(last: "exp.Expr", form: Stopped, on: date) -> "exp.Expr":
    """Whether the last active day is before the silence."""
    silence = on - timedelta(days=form.silent_days)
    return tree("coalesce(:v < :silence, false)", v=last, silence=day(silence))


def active_days(behavior: tuple[str, ...] | None, known: date) -> "exp.Expr":
    """Column: the active days on or after ``known``, as a list."""
    return tree("list(ds) filter (where :active)", active=_active(behavior, known))


def comes_back(days: "exp.Expr", form: Resumed, on: date) -> "exp.Expr":
    """Whether an active day follows a silence that follows an active day."""
    silent = tree(
        "len(list_filter(:days, lambda a: a < b and a >= b - :silent)) = 0",
        days=days,
        silent=number(form.silent_days),
    )
    met = tree(
        "len(list_filter(:days, lambda b: b >= :first and list_min(:days) < b and :silence)) > 0",
        days=days,
        first=day(on - timedelta(days=form.within_days)),
        silence=silent,
    )
    return tree("coalesce(:met, false)", met=met)
