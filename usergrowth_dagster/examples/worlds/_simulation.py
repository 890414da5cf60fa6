"""The life of synthetic users, day by day, as arrays over users; no user is looped over.

Each user is active, cooling (a third of the sessions), dormant or dead: a Markov chain with the
user's own daily rates, so that the chance to come back within a window has an exact value. On a
day the state moves first, then sessions are Poisson with the user's rate × state × weekday ×
season.

A touch of day d finds the state at the end of d - 1. Let p0 be the chance of a session in
[d + 1, d + R] without a text. A text draws, independently of all else, one of

* nothing;
* a visit of its own on a random day of the window (chance b), after which the user is active:
  p1 = 1 - (1 - p0)(1 - b);
* staying away for the whole window (chance a): p1 = p0 (1 - a).

b is lower for active users, who come anyhow, and higher for an item of the favorite category; the
dead do not answer. The next touch of a user is more than R days later, so that windows never
overlap and p0, p1 and the effect p1 - p0 are exact, not estimates.

Texts may also come from outside (``Asked``): a campaign's. They are answered by the same mechanism
and the same draws, which are functions of seed, user and day alone: a world in which a user is not
texted, or by another policy, has the same luck otherwise. What was not texted can be asked for its
chances all the same.
"""

from dataclasses import dataclass

import numpy as np

from usergrowth_dagster.examples.worlds._population import (
    CATEGORIES,
    Array,
    Users,
    draw_items,
    uniform,
)

STATES = ("active", "cooling", "dormant", "dead")
"""States in the order of their codes."""

_PACE = np.array([1.0, 0.33, 0.0, 0.0, 0.0])
"""Sessions relative to the active state; the last one is not registered yet."""

FADE_DAYS = 30
"""Days in which the activity of a fading world falls to half."""

_UNBORN = 4
_MOST_SESSIONS = 6  # a day
_STATE_PURPOSE = {"start": 20, "move": 21}

COPIES = ("short", "long")
"""Texts: the long one costs two messages and works 1.3 times as often."""

_BOOST = np.array([0.3, 0.8, 1.0, 0.0, 0.0])
_ANNOY = np.array([0.5, 1.0, 1.0, 0.0, 0.0])
NEVER = -10_000
"""Stands for no day."""
_FIRST_TOUCH = 14  # day of the world, so that touched users have some history
_DELAY = 0.8  # a text's own visit comes k days later with a chance falling like 0.8^k
_PURPOSE = {"sessions": 22, "touch": 23, "arm": 24, "answer": 25}
_PURPOSE |= {"delay": 26, "copy": 27, "send_hour": 28, "offer": 29}  # offer takes 29 to 31


@dataclass(frozen=True)
class Calendar:
    """Days of the world: weekday of its first day (Monday is 0), day of the year, length.

    From the day ``fades_from`` on, all users' activity falls to half within :data:`FADE_DAYS` days,
    and stays there; None: it does not.
    """

    weekday: int
    day_of_year: int
    days: int
    fades_from: int | None = None

    def weekend(self, day: Array | int) -> Array:
        """Whether days are a Saturday or Sunday."""
        return np.asarray((np.asarray(day) + self.weekday) % 7 >= 5)

    def season(self, day: Array | int) -> Array:
        """Factor of sessions: by the year 1.15 in mid-December and 0.85 in mid-June, and fading."""
        phase = 2 * np.pi * (np.asarray(day) + self.day_of_year - 350) / 365.25
        yearly = np.asarray(1 + 0.15 * np.cos(phase))
        if self.fades_from is None:
            return yearly
        return np.asarray(yearly * 0.5 ** np.clip((day - self.fades_from) / FADE_DAYS, 0, 1))


def _sessions_mean(users: Users, calendar: Calendar, who: Array, day: Array | int) -> Array:
    """Expected sessions of active users on a day."""
    busy = np.where(calendar.weekend(day), users.weekend[who], 1.0)
    return np.asarray(users.rate[who] * busy * calendar.season(day))


def _first_states(users: Users) -> Array:
    """States on the eve of the first day: the chain's balance, less those who died before."""
    to_cool, to_active, to_dormant, back, die, _ = users.chain
    active = np.ones(len(users.index))
    cooling = active * to_cool / (to_active + to_dormant)
    dormant = cooling * to_dormant / (back + die)
    total = active + cooling + dormant
    alive = np.exp(users.registered * die * dormant / total)  # registered is negative here
    draw = uniform(users.key, _STATE_PURPOSE["start"])
    edges = np.array([active, active + cooling, total]) / total * alive
    state = (draw >= edges).sum(axis=0)
    return np.asarray(np.where(users.registered < 0, state, _UNBORN))


def _move(users: Users, state: Array, day: int) -> Array:
    """The states after a day's move; a user is active on the day of registration."""
    to_cool, to_active, to_dormant, back, die, sudden = users.chain
    zero = np.zeros_like(back)
    every = np.arange(len(state))
    first = np.stack([sudden, to_active, back, zero, zero])[state, every]
    second = np.stack([to_cool, to_dormant, die, zero, zero])[state, every]
    to_first = np.array([3, 0, 0, 3, _UNBORN])[state]
    to_second = np.array([1, 2, 3, 3, _UNBORN])[state]
    draw = uniform(users.key, _STATE_PURPOSE["move"], day)
    moved = np.where(draw < first, to_first, np.where(draw < first + second, to_second, state))
    return np.asarray(np.where(users.registered == day, 0, moved))


def chance_of_return(
    users: Users, calendar: Calendar, who: Array, day: Array, state: Array, window: int
) -> Array:
    """Exact chance of a session in [day + 1, day + window], given the state at the end of day - 1.

    Backward over the window: the chance of *no* session from a day on, by the state before it, is
    the mean over the day's move of (no session that day) x (none afterwards).
    """
    to_cool, to_active, to_dormant, back, die, sudden = users.chain[:, who]
    quiet = np.ones((3, len(who)))  # dead users are quiet for certain
    for ahead in range(window, -1, -1):
        mean = _sessions_mean(users, calendar, who, day + ahead) * (ahead > 0)
        active = quiet[0] * np.exp(-mean * _PACE[0])
        cooling = quiet[1] * np.exp(-mean * _PACE[1])
        dormant = quiet[2]
        quiet = np.stack(
            [
                sudden + to_cool * cooling + (1 - sudden - to_cool) * active,
                to_active * active + to_dormant * dormant + (1 - to_active - to_dormant) * cooling,
                back * active + die + (1 - back - die) * dormant,
            ]
        )
    none = np.concatenate([quiet, np.ones((1, len(who)))])[state, np.arange(len(who))]
    return np.asarray(1 - none)


def _poisson(mean: Array, draw: Array) -> Array:
    """Poisson counts by inversion, cut at six; 0 with a chance of exactly exp(-mean)."""
    term = np.exp(-mean)
    total = term.copy()
    count = np.zeros(len(mean), dtype=np.int64)
    for k in range(1, _MOST_SESSIONS + 1):
        count += draw >= total
        term = term * mean / k
        total += term
    return count


@dataclass(frozen=True)
class Touches:
    """Candidates for a text, treated or not; arrays of the same length.

    ``who`` is the user's position, ``day`` the day of the world, ``p0`` and ``p1`` the chances of
    a session in [day + 1, day + R] without and with the text, ``returned`` 1, 0 or -1 (the world
    ends before the window).
    """

    who: Array
    day: Array
    item: Array
    copy: Array
    hour: Array
    state: Array
    propensity: Array
    treated: Array
    p0: Array
    p1: Array
    returned: Array


@dataclass(frozen=True)
class Asked:
    """Texts from outside, and what else its chances are asked of; arrays of the same length.

    ``who`` is the user's position, ``day`` the day of the world; only the ``texted`` change it. The
    others are questions, and do not keep anybody from being texted.
    """

    who: Array
    day: Array
    item: Array
    copy: Array
    texted: Array


@dataclass(frozen=True)
class Lives:
    """What happened to n users.

    ``sessions`` counts them, (days, n); ``died`` is the day of death, -1 before the first day,
    ``NEVER`` for those alive at the end; ``touches`` are the world's own, ``asked`` the answers to
    what came from outside, ordered by day, with the propensity NaN; None when nothing was asked.
    """

    sessions: Array
    died: Array
    touches: Touches
    asked: Touches | None = None


def _touch(
    users: Users, state: Array, recency: Array, free: Array, day: int, items: int
) -> dict[str, Array]:
    """Draw the day's candidates and arms; both lean on days since the last session only."""
    chance = np.select([recency >= 14, recency >= 4], [1 / 20, 1 / 40], 1 / 120)
    who = np.flatnonzero(free & (uniform(users.key, _PURPOSE["touch"], day) < chance))
    key = users.key[who]
    propensity = np.select([recency[who] >= 14, recency[who] >= 4], [0.65, 0.5], 0.35)
    return {
        "who": who,
        "day": np.full(len(who), day),
        "item": draw_items(users, who, np.full(len(who), day), items, _PURPOSE["offer"]),
        "copy": (uniform(key, _PURPOSE["copy"], day) < 0.3).astype(np.int64),
        "hour": np.floor(9 + 11 * uniform(key, _PURPOSE["send_hour"], day)).astype(np.int64),
        "propensity": propensity,
        "treated": uniform(key, _PURPOSE["arm"], day) < propensity,
    }


def _of_day(asked: Asked | None, day: int) -> dict[str, Array]:
    """What came from outside on a day, in the shape of :func:`_touch`."""
    if asked is None:
        nothing = np.empty(0, dtype=np.int64)
        asked = Asked(nothing, nothing, nothing, nothing, nothing.astype(bool))
    here = np.flatnonzero(asked.day == day)
    return {
        **{name: getattr(asked, name)[here] for name in ("who", "day", "item", "copy")},
        "hour": np.zeros(len(here), dtype=np.int64),
        "propensity": np.full(len(here), np.nan),
        "treated": asked.texted[here],
    }


def _with_answer(
    users: Users, state: Array, touch: dict[str, Array], strength: float
) -> dict[str, Array]:
    """Add the state that a touch finds, and the chances that a text brings or keeps away."""
    who, item, copy = touch["who"], touch["item"], touch["copy"]
    works = np.where(item % CATEGORIES == users.favorite[who], 1.25, 0.75) * (1 + 0.3 * copy)
    states = state[who]
    return {
        **touch,
        "state": states,
        "boost": np.minimum(strength * users.boost[who] * _BOOST[states] * works, 0.95),
        "annoy": np.minimum(strength * users.annoy[who] * _ANNOY[states], 0.95),
    }


@dataclass
class _Spell:
    """How texts still hold on users: until when, and on which day they bring a visit."""

    busy_until: Array
    visit_on: Array
    away_until: Array

    def text(self, users: Users, touch: dict[str, Array], day: int, window: int) -> None:
        """Draw what the texts of a day do; who is a candidate only is left as they are."""
        treated = touch["treated"]
        who = touch["who"][treated]
        key = users.key[who]
        answer = uniform(key, _PURPOSE["answer"], day)
        share = uniform(key, _PURPOSE["delay"], day) * (1 - _DELAY**window)
        delay = 1 + np.floor(np.log1p(-share) / np.log(_DELAY)).astype(np.int64)
        comes, flees = answer < touch["boost"][treated], answer < touch["annoy"][treated]
        self.visit_on[who[comes]] = day + np.minimum(delay, window)[comes]
        self.away_until[who[flees]] = day + window

    def hold(self, who: Array, day: int, window: int) -> None:
        """Keep users from the next touch for a window."""
        self.busy_until[who] = day + window


def live(
    users: Users,
    calendar: Calendar,
    items: int,
    window: int,
    *,
    asked: Asked | None = None,
    own_until: int | None = None,
    strength: float = 1.0,
) -> Lives:
    """Let users live through the calendar.

    Args:
        users: n users.
        calendar: the days.
        items: number of items in the world.
        window: days R in which a text works.
        asked: texts from outside, and questions.
        own_until: first day on which the world draws no candidates of its own; default: never.
        strength: how many times as often texts work, for good and bad, up to 95 of 100.

    Returns:
        Sessions (days, n) as int8, days of death (n,), candidates for a text, treated or not.

    Raises:
        ValueError: a user is asked about, or texted from outside, in the window of another text, or
            before the day after registration.
    """
    n = len(users.index)
    everyone = np.arange(n)
    state = _first_states(users)
    sessions = np.zeros((calendar.days, n), dtype=np.int8)
    died = np.where(state == 3, -1, NEVER)
    last_seen = np.full(n, NEVER)
    spell = _Spell(*(np.full(n, NEVER) for _ in range(3)))
    touches: list[dict[str, Array]] = []
    answers: list[dict[str, Array]] = []
    for day in range(calendar.days):
        outside = _with_answer(users, state, _of_day(asked, day), strength)
        texted = outside["who"][outside["treated"]]
        if (spell.busy_until[outside["who"]] >= day).any() or len(np.unique(texted)) < len(texted):
            raise ValueError(f"day {day}: a user has a text already, whose window is not over")
        if (users.registered[outside["who"]] >= day).any():
            raise ValueError(f"day {day}: a user is not there yet, and cannot be texted")
        spell.hold(texted, day, window)
        free = (users.registered < day) & (spell.busy_until < day) & (day >= _FIRST_TOUCH)
        free &= own_until is None or day < own_until
        drawn = _touch(users, state, day - last_seen, free, day, items)
        candidates = _with_answer(users, state, drawn, strength)
        spell.hold(candidates["who"], day, window)
        for touch, kept in ((candidates, touches), (outside, answers)):
            spell.text(users, touch, day, window)
            kept.append(touch)
        before, state = state, _move(users, state, day)
        called = spell.visit_on == day
        state = np.where(called, 0, state)
        died = np.where((state == 3) & (before != 3), day, died)
        mean = _sessions_mean(users, calendar, everyone, day) * _PACE[state]
        count = _poisson(mean, uniform(users.key, _PURPOSE["sessions"], day))
        is_away = (spell.away_until >= day) & (spell.busy_until - window < day)
        count = np.where(is_away, 0, count)
        count = np.maximum(count, called | (users.registered == day))
        sessions[day] = count
        last_seen = np.where(count > 0, day, last_seen)
    died = np.where(state == 3, died, NEVER)
    return Lives(
        sessions,
        died,
        _truth(users, calendar, sessions, touches, window),
        _truth(users, calendar, sessions, answers, window) if asked is not None else None,
    )


def _truth(
    users: Users, calendar: Calendar, sessions: Array, touches: list[dict[str, Array]], window: int
) -> Touches:
    """Join the days' touches and add the exact chances and what came of them."""
    all_days = {name: np.concatenate([touch[name] for touch in touches]) for name in touches[0]}
    boost, annoy = all_days.pop("boost"), all_days.pop("annoy")
    who, day = all_days["who"], all_days["day"]
    p0 = chance_of_return(users, calendar, who, day, all_days["state"], window)
    seen = np.concatenate(
        [np.zeros((1, len(users.index)), dtype=np.int32), (sessions > 0).cumsum(0, dtype=np.int32)]
    )
    end = np.minimum(day + window, calendar.days - 1)
    came = (seen[end + 1, who] - seen[day + 1, who]) > 0
    return Touches(
        **all_days,
        p0=p0,
        p1=np.where(annoy > 0, p0 * (1 - annoy), 1 - (1 - p0) * (1 - boost)),
        returned=np.where(day + window < calendar.days, came.astype(np.int64), -1),
    )
