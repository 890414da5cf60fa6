"""The chain of states that synthetic users live in, its calendar and its exact chances of a return.

Each user is active, cooling (a third of the sessions), dormant or dead: a Markov chain with the
user's own daily rates, so that the chance to come back within a window has an exact value. On a
day the state moves first, then sessions are Poisson with the user's rate × state × weekday ×
season.
"""

from dataclasses import dataclass

import numpy as np

from usergrowth_dagster.examples.worlds._population import Array, Users, uniform

STATES = ("active", "cooling", "dormant", "dead")
"""States in the order of their codes."""

PACE = np.array([1.0, 0.33, 0.0, 0.0, 0.0])
"""Sessions relative to the active state; the last one is not registered yet."""

FADE_DAYS = 30
"""Days in which the activity of a fading world falls to half."""

_UNBORN = 4
_MOST_SESSIONS = 6  # a day
_PURPOSE = {"start": 20, "move": 21}


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


def sessions_mean(users: Users, calendar: Calendar, who: Array, day: Array | int) -> Array:
    """Expected sessions of active users on a day."""
    busy = np.where(calendar.weekend(day), users.weekend[who], 1.0)
    return np.asarray(users.rate[who] * busy * calendar.season(day))


def first_states(users: Users) -> Array:
    """States on the eve of the first day: the chain's balance, less those who died before."""
    to_cool, to_active, to_dormant, back, die, _ = users.chain
    active = np.ones(len(users.index))
    cooling = active * to_cool / (to_active + to_dormant)
    dormant = cooling * to_dormant / (back + die)
    total = active + cooling + dormant
    alive = np.exp(users.registered * die * dormant / total)  # registered is negative here
    draw = uniform(users.key, _PURPOSE["start"])
    edges = np.array([active, active + cooling, total]) / total * alive
    state = (draw >= edges).sum(axis=0)
    return np.asarray(np.where(users.registered < 0, state, _UNBORN))


def move(users: Users, state: Array, day: int) -> Array:
    """The states after a day's move; a user is active on the day of registration."""
    to_cool, to_active, to_dormant, back, die, sudden = users.chain
    zero = np.zeros_like(back)
    every = np.arange(len(state))
    first = np.stack([sudden, to_active, back, zero, zero])[state, every]
    second = np.stack([to_cool, to_dormant, die, zero, zero])[state, every]
    to_first = np.array([3, 0, 0, 3, _UNBORN])[state]
    to_second = np.array([1, 2, 3, 3, _UNBORN])[state]
    draw = uniform(users.key, _PURPOSE["move"], day)
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
        mean = sessions_mean(users, calendar, who, day + ahead) * (ahead > 0)
        active = quiet[0] * np.exp(-mean * PACE[0])
        cooling = quiet[1] * np.exp(-mean * PACE[1])
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


def poisson(mean: Array, draw: Array) -> Array:
    """Poisson counts by inversion, cut at six; 0 with a chance of exactly exp(-mean)."""
    term = np.exp(-mean)
    total = term.copy()
    count = np.zeros(len(mean), dtype=np.int64)
    for k in range(1, _MOST_SESSIONS + 1):
        count += draw >= total
        term = term * mean / k
        total += term
    return count
