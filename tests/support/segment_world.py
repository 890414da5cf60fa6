"""A small home with every table that a segment may read, and the same rows as plain Python."""

import random
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.project import Project

D = date(2024, 3, 4)
CITIES = ["Oslo", "it's", 'quo"te', "; drop table user_tags; --", ""]
KINDS = ["buy", "login", "o'clock"]
LIKES = ["tea", "it's", "x;y"]
STAGES = ["A", "I", "P", "L"]
USERS = 60
ITEMS: dict[str, tuple[float | None, str | None]] = {"i1": (1.0, "tea|it's"), "i2": (3.5, "x;y")}
"""Price and genres of items as of the morning of D; nothing is known of i3."""
_KVN, _KVS = pa.map_(pa.string(), pa.float64()), pa.map_(pa.string(), pa.string())


def phone(number: int) -> str:
    """A number of the fictional range."""
    return f"+9990000{number:06d}"


@dataclass(frozen=True)
class Event:
    """An event, or several alike."""

    ds: date
    kind: str
    item: str | None
    events: float
    pay: float

    @property
    def page(self) -> str | None:
        """A text of the event."""
        return None if self.pay % 5 == 0 else CITIES[int(self.pay) % 4]


@dataclass
class Person:
    """What is known of a user on the morning of D, and what they do later."""

    user: str
    features: dict[str, Any]
    tags: dict[str, Any]
    rfm: dict[str, Any]
    stages: dict[date, str]
    events: list[Event] = field(default_factory=list)


def people() -> list[Person]:
    """The people of the world, the same in every run; some values are missing."""
    rng = random.Random(7)

    def maybe(value: Any) -> Any:
        return None if rng.random() < 0.25 else value

    def one(place: int) -> Person:
        events = [
            Event(
                D - timedelta(days=rng.randint(-2, 40)),
                rng.choice(KINDS),
                maybe(f"i{rng.randint(1, 3)}"),
                float(rng.randint(1, 3)),
                float(rng.randint(0, 50)),
            )
            for _ in range(rng.randint(0, 8))
        ]
        return Person(
            f"u{place:02d}",
            {
                "events_7d": maybe(float(rng.randint(0, 5))),
                "age": maybe(rng.randint(18, 60)),
                "user_type": maybe(rng.choice(["a", "b'"])),
                "attribute_num": maybe([("visits", float(rng.randint(0, 4)))]),
                "attribute_str": maybe([("city", rng.choice(CITIES))]),
            },
            {
                "flag": maybe(rng.random() < 0.5),
                "level": maybe(rng.randint(-1, 3)),
                "spend": maybe(rng.randint(0, 4) / 2),
                "city": maybe(rng.choice(CITIES)),
                "likes": maybe(rng.sample(LIKES, rng.randint(0, 2))),
                "since": maybe(D - timedelta(days=rng.randint(0, 9))),
            },
            {"rfm_type": rng.choice(["high_value", "potential"]), "r_score": rng.randint(1, 3)},
            {D: rng.choice(STAGES), D - timedelta(days=7): rng.choice(STAGES)},
            events,
        )

    return [one(place) for place in range(USERS)]


def write_world(home: Path) -> Project:
    """A home with the tables of the world, of D and of the day after."""
    make_home(home, {"start_date": "2024-01-01", "today": D.isoformat(), "timezone": "UTC"})
    project = Project.open(home)
    everybody = people()
    for day in (D, D + timedelta(days=1)):
        _write_states(project, everybody, day)
    _write_events(project, everybody)
    return project


def _replace(
    project: Project, table: str, rows: list[dict[str, Any]], layout: Any, **scope: str
) -> None:
    days = sorted({row["ds"] for row in rows})
    project.warehouse.replace(
        table, pa.Table.from_pylist(rows, pa.schema(layout)), days=days, scope=scope
    )


def _write_states(project: Project, everybody: list[Person], day: date) -> None:
    key = [("ds", pa.date32()), ("user_id", pa.string())]
    _replace(
        project,
        "user_features",
        [{"ds": day, "user_id": one.user, **one.features} for one in everybody],
        [
            *key,
            ("events_7d", pa.float64()),
            ("age", pa.int64()),
            ("user_type", pa.string()),
            ("attribute_num", _KVN),
            ("attribute_str", _KVS),
        ],
    )
    _replace(
        project,
        "user_tags",
        [{"ds": day, "user_id": one.user, **one.tags} for one in everybody[:-3]],
        [
            *key,
            ("flag", pa.bool_()),
            ("level", pa.int64()),
            ("spend", pa.float64()),
            ("city", pa.string()),
            ("likes", pa.list_(pa.string())),
            ("since", pa.date32()),
        ],
    )
    _replace(
        project,
        "rfm",
        [{"ds": day, "user_id": one.user, **one.rfm} for one in everybody],
        [*key, ("rfm_type", pa.string()), ("r_score", pa.int32())],
    )
    _replace(
        project,
        "aipl",
        [
            {"ds": at, "user_id": one.user, "stage": stage}
            for one in everybody
            for at, stage in one.stages.items()
        ],
        [*key, ("stage", pa.string())],
    )
    _replace(
        project,
        "scores",
        [
            {
                "ds": day,
                "task_id": "care",
                "user_id": one.user,
                "score": place / 100,
                "model_name": "churn",
            }
            for place, one in enumerate(everybody[:50])
        ],
        [*key, ("task_id", pa.string()), ("score", pa.float64()), ("model_name", pa.string())],
        task_id="care",
    )


def _write_events(project: Project, everybody: list[Person]) -> None:
    single = [
        {
            **{"ds": e.ds, "user_id": one.user, "behavior": e.kind, "item_id": e.item},
            **{"events": e.events, "amounts": [("pay", e.pay)]},
            "kvs_str": [("page", e.page)] if e.page is not None else [],
        }
        for one in everybody
        for e in one.events
    ]
    key = [("ds", pa.date32()), ("user_id", pa.string())]
    _replace(
        project,
        "stg_behavior",
        single,
        [
            *key,
            ("behavior", pa.string()),
            ("item_id", pa.string()),
            ("events", pa.float64()),
            ("amounts", _KVN),
            ("kvs_str", _KVS),
        ],
    )
    _write_items(project)
    days: dict[tuple[date, str], dict[str, Any]] = {}
    for row in single:
        found = days.setdefault(
            (row["ds"], row["user_id"]),
            {"ds": row["ds"], "user_id": row["user_id"], "events": 0.0, "kinds": {}, "pay": 0.0},
        )
        found["events"] += row["events"]
        found["kinds"][row["behavior"]] = found["kinds"].get(row["behavior"], 0.0) + row["events"]
        found["pay"] += row["amounts"][0][1]
    _replace(
        project,
        "user_day",
        [
            {**one, "kinds": list(one["kinds"].items()), "amounts": [("pay", one["pay"])]}
            for one in days.values()
        ],
        [*key, ("events", pa.float64()), ("kinds", _KVN), ("amounts", _KVN)],
    )


def _write_items(project: Project) -> None:
    """What is known of the items before D, and other things that are known earlier and later."""
    other: dict[str, tuple[float | None, str | None]] = dict.fromkeys(
        (*ITEMS, "i3"), (99.0, "other")
    )
    days = ((D - timedelta(days=9), other), (D - timedelta(days=3), ITEMS), (D, other))
    _replace(
        project,
        "stg_item",
        [
            {
                **{"ds": day, "item_id": name},
                **{"kvs_num": [("price", price)], "kvs_str": [("genre", genre)]},
            }
            for day, items in days
            for name, (price, genre) in items.items()
        ],
        [("ds", pa.date32()), ("item_id", pa.string()), ("kvs_num", _KVN), ("kvs_str", _KVS)],
    )


def write_population(
    project: Project, rows: list[tuple[str, str | None, str | None]], day: date = D
) -> None:
    """An upload: user, phone and e-mail address of each row."""
    layout = [
        ("ds", pa.date32()),
        ("task_id", pa.string()),
        ("row", pa.int64()),
        ("user_id", pa.string()),
    ]
    _replace(
        project,
        "population",
        [
            {
                **{"ds": day, "task_id": "care", "row": place, "user_id": user, "item_id": ""},
                **{"phone": number, "variables": [("email", mail)] if mail else None},
            }
            for place, (user, number, mail) in enumerate(rows, 1)
        ],
        [*layout, ("item_id", pa.string()), ("phone", pa.string()), ("variables", _KVS)],
        task_id="care",
    )
