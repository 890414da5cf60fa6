"""Who lives in the synthetic world: latent users and items, drawn by a counter-based generator.

Every draw is a pure function of (seed, purpose, user, day, …), so a user is the same whatever
chunk computes it: SplitMix64 (Steele, Lea, Flood 2014), whose output function is applied to a key
plus a multiple of the golden-ratio increment.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

KINDS = ("loyal", "regular", "occasional", "flaky")
"""Latent kinds of users."""

CATEGORIES = 12
"""Item categories; item ``i`` has category ``i % CATEGORIES``."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_STREAMS = 64  # purposes of one (user, counter)
_SHARES = np.array([0.2, 0.35, 0.3, 0.15])
# Daily rates by kind: sessions while active; active → cooling, cooling → active,
# cooling → dormant, dormant → active, dormant → dead, active → dead.
_RATE = np.array([0.55, 0.28, 0.13, 0.40])
_CHAIN = np.array(
    [
        [0.012, 0.080, 0.020, 0.030, 0.001, 0.0002],
        [0.020, 0.060, 0.030, 0.020, 0.003, 0.0004],
        [0.025, 0.050, 0.040, 0.012, 0.004, 0.0006],
        [0.060, 0.030, 0.090, 0.008, 0.012, 0.0030],
    ]
)


def _mix(value: Array) -> Array:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(value ^ (value >> np.uint64(31)))


def keys(seed: int, index: Array) -> Array:
    """One 64-bit key a user (or item) of a seed, shape of ``index``."""
    with np.errstate(over="ignore"):
        root = _mix(np.array([seed % 2**64], dtype=np.uint64) + _GOLDEN)
        return _mix(root + (index.astype(np.uint64) + np.uint64(1)) * _GOLDEN)


def uniform(key: Array, purpose: int, counter: Array | int = 0) -> Array:
    """Draws in [0, 1), one for each key, independent between purposes (< 64) and counters (≥ 0)."""
    with np.errstate(over="ignore"):
        step = np.asarray(counter, dtype=np.uint64) * np.uint64(_STREAMS) + np.uint64(purpose + 1)
        bits = _mix(key + step * _GOLDEN)
    return np.asarray((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def normal(key: Array, purpose: int) -> Array:
    """Standard normal draws by Box and Muller; uses ``purpose`` and the one after it."""
    radius = np.sqrt(-2.0 * np.log1p(-uniform(key, purpose)))
    return np.asarray(radius * np.cos(2.0 * np.pi * uniform(key, purpose + 1)))


@dataclass(frozen=True)
class Users:
    """Latent and visible attributes of a range of users; arrays of the same length n.

    ``registered`` counts days from the world's first day and may be negative. ``chain`` is (6, n),
    in the order of the module's rates. ``boost`` is how likely a text brings a dormant user back
    by itself, ``annoy`` how likely it keeps the user away; at most one is above 0.
    """

    index: Array
    key: Array
    kind: Array
    engagement: Array
    rate: Array
    chain: Array
    weekend: Array
    hour: Array
    favorite: Array
    budget: Array
    buys: Array
    gender: Array
    age: Array
    registered: Array
    boost: Array
    annoy: Array


def draw_users(seed: int, first: int, last: int, days: int) -> Users:
    """Draw users ``first`` to ``last - 1`` of a world that runs for so many days.

    Six in ten registered up to two years before the world starts, the others while it runs. The
    young answer texts more often, the old and the loyal are more often put off by them.
    """
    index = np.arange(first, last, dtype=np.int64)
    key = keys(seed, index)
    kind = np.searchsorted(np.cumsum(_SHARES)[:-1], uniform(key, 0), side="right")
    engagement = normal(key, 1)
    push = np.exp(np.array([-0.4, 0.1, -0.3, 0.3, -0.1, -0.3])[:, None] * engagement)
    age = np.floor(16 + 55 * uniform(key, 3) ** 1.4).astype(np.int64)
    before = uniform(key, 4) < 0.6
    spread = uniform(key, 5)
    registered = np.where(before, -1 - np.floor(720 * spread), np.floor(days * spread))
    mood, size = uniform(key, 6), uniform(key, 7)
    persuadable = 0.22 + 0.25 * (age < 35)
    put_off = 0.08 + 0.14 * (age >= 50) + 0.08 * (kind == 0)
    boost = np.where(
        mood < persuadable, 0.2 + 0.35 * size, np.where(mood < 1 - put_off, 0.04 * size, 0.0)
    )
    annoy = np.where(mood >= 1 - put_off, 0.15 + 0.35 * size, 0.0)
    hidden = uniform(key, 8)
    return Users(
        index=index,
        key=key,
        kind=kind,
        engagement=engagement,
        rate=_RATE[kind] * np.exp(0.35 * engagement),
        chain=np.minimum(_CHAIN[kind].T * push, 0.45),
        weekend=0.7 + 0.9 * uniform(key, 9),
        hour=np.floor(8 + 14 * uniform(key, 10)).astype(np.int64),
        favorite=np.floor(CATEGORIES * uniform(key, 11)).astype(np.int64),
        budget=np.exp(0.4 * normal(key, 12)),
        buys=0.06 + 0.3 * uniform(key, 14),
        gender=np.where(hidden < 0.15, 0, np.where(uniform(key, 15) < 0.5, 1, 2)),
        age=np.where(uniform(key, 16) < 0.2, -1, age),
        registered=registered.astype(np.int64),
        boost=boost,
        annoy=annoy,
    )


def phones(index: Array) -> Array:
    """Ten digits a user, one-to-one, as integers below 10^10; they go behind +999."""
    return np.asarray((index * 7_654_321_987 % 10**10 + 1_234_567_891) % 10**10)


def item_prices(seed: int, items: int) -> Array:
    """Price of every item, log-normal around 20, in cents; shape (items,)."""
    key = keys(seed ^ 0x17E5, np.arange(items))
    return np.maximum(99, np.round(2000 * np.exp(0.7 * normal(key, 0)))).astype(np.int64)


def draw_items(users: Users, who: Array, counter: Array, items: int, purpose: int) -> Array:
    """An item for each event: six in ten of the user's favorite category, popular ones first.

    Args:
        users: the users.
        who: position of the event's user, shape (m,).
        counter: counter of the event's draws, shape (m,).
        items: number of items.
        purpose: first of three purposes used.

    Returns:
        Item numbers, shape (m,). Within a category the chance falls like 1 / rank.
    """
    key = users.key[who]
    from_favorite = uniform(key, purpose, counter) < 0.6
    other = np.floor(CATEGORIES * uniform(key, purpose + 1, counter)).astype(np.int64)
    category = np.minimum(np.where(from_favorite, users.favorite[who], other), items - 1)
    ranks = (items - 1 - category) // CATEGORIES + 1
    rank = np.floor((ranks + 1.0) ** uniform(key, purpose + 2, counter)).astype(np.int64) - 1
    return np.asarray(category + CATEGORIES * np.minimum(rank, ranks - 1))
