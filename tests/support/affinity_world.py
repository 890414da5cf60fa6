"""A simulated shop whose users have known affinities, as files in the form of Personalize."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

GENRES = ("Action", "Drama", "Comedy", "Crime", "War", "Western", "Music", "Horror")
START = 1_600_000_000
DAY = 86_400


@dataclass(frozen=True)
class Interactions:
    """Arrays of the same length: user, item, unix seconds; and the genre of each item."""

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    genre: np.ndarray


def simulate(
    users: int, items: int, events: int, *, seed: int = 1, liking: float = 6.0
) -> Interactions:
    """Users of hidden kinds, each with genres that it likes; activity is no part of the kind.

    A user is of one of four kinds. A kind likes two genres, ``liking`` times as much as others. So
    those who like Drama and not yet Action can be seen to like Action from what others did.
    """
    random = np.random.default_rng(seed)
    genre = np.arange(items) % len(GENRES)
    kind = random.integers(0, 4, users)
    weight = np.ones((4, len(GENRES)))
    for one in range(4):
        weight[one, [2 * one, 2 * one + 1]] = liking
    weight /= weight.sum(axis=1, keepdims=True)
    activity = random.gamma(0.8, 1.0, users) + 0.05
    user = np.sort(random.choice(users, events, p=activity / activity.sum()))
    chosen = (random.random(events)[:, None] > weight[kind[user]].cumsum(axis=1)).sum(axis=1)
    item = random.integers(0, items // len(GENRES), events) * len(GENRES) + chosen
    time = START + random.integers(0, 365 * DAY, events)
    return Interactions(user, item, time, genre)


def write_world(folder: Path, world: Interactions, job: str = "") -> Path:
    """The four files and the job of a world; every fifth user has two endpoints, every tenth none."""
    import pyarrow as pa
    import pyarrow.csv as arrow_csv

    folder.mkdir(parents=True, exist_ok=True)
    arrow_csv.write_csv(
        pa.table(
            {
                "USER_ID": pa.array(world.user).cast(pa.string()),
                "ITEM_ID": pa.array(world.item).cast(pa.string()),
                "EVENT_TYPE": pa.array(["Watch"] * len(world.user)),
                "TIMESTAMP": world.time,
            }
        ),
        folder / "interactions.csv",
    )
    items = [f"{n},T{n},{GENRES[g]}" for n, g in enumerate(world.genre)]
    (folder / "items.csv").write_text("\n".join(["ITEM_ID,TITLE,GENRES", *items]) + "\n")
    users = np.unique(world.user)
    (folder / "users.csv").write_text("\n".join(["USER_ID", *map(str, users)]) + "\n")
    endpoints = [
        f"e{user}-{n},{user},EMAIL,u{user}-{n}@shop.example"
        for user in users
        if user % 10
        for n in range(2 if user % 5 == 0 else 1)
    ]
    (folder / "endpoints.csv").write_text(
        "\n".join(["Id,User.UserId,ChannelType,Address", *endpoints]) + "\n"
    )
    (folder / "job_config.json").write_text(
        job or '{"itemAttributes": "ITEMS.genres = \\"Action\\"", "numResults": 100}'
    )
    return folder
