"""The recommender of a date in one file, which a service loads instead of learning it again.

An archive of numpy holds the arrays, and a JSON text the rest; nothing in it is executed. The files
lie in the home, one a date, and only the newest dates are kept.
"""

import json
import os
import zipfile
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.recommend.definition import Trial
from usergrowth_dagster.recommend.history import History
from usergrowth_dagster.recommend.learned import Learned
from usergrowth_dagster.recommend.ranker import Order
from usergrowth_dagster.recommend.recommender import Recommender
from usergrowth_dagster.recommend.routes.categories import Categories
from usergrowth_dagster.recommend.routes.latent import Latent
from usergrowth_dagster.recommend.routes.neighbours import Neighbours
from usergrowth_dagster.recommend.routes.popular import Popular

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = "recommend"
KEPT = 3
"""Files that are kept, of the newest dates."""

_FORMAT = 1
_ROUTES = {kind.__name__: kind for kind in (Neighbours, Latent, Categories, Popular)}
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
_FORGOTTEN = ""
"""Stands for a user who was forgotten; nothing can ask for it."""


@dataclass(frozen=True)
class Saved:
    """The recommender of a date as a file holds it.

    Attributes:
        day: the execution date.
        mark: of the definition and the inputs; with the date, the version that answers name.
        trial: the share of the users that a service answers in another order; None: no one.
        recommender: itself.
    """

    day: date
    mark: str
    trial: Trial | None
    recommender: Recommender

    @property
    def version(self) -> str:
        """What answers name."""
        return f"{self.day:%Y%m%d}-{self.mark}"


def saved_days(home: Path) -> dict[date, Path]:
    """The files of a home by date, the oldest first."""
    made = {}
    for path in sorted((home / FOLDER).glob("[0-9]*.npz")):
        try:
            made[date.fromisoformat(path.stem)] = path
        except ValueError:
            continue
    return made


def is_saved(home: Path, day: date, mark: str) -> bool:
    """Whether a date's file stands whole, or is older than those that are kept."""
    known = saved_days(home)
    if day not in known:
        return len(known) >= KEPT and day < min(known)
    try:
        return load_saved(known[day]).mark == mark
    except UserError:
        return False


def newest_saved(home: Path, today: date) -> Path | None:
    """The file of the newest date up to today; None without one."""
    known = {day: path for day, path in saved_days(home).items() if day <= today}
    return known[max(known)] if known else None


def save(home: Path, saved: Saved) -> None:
    """Write a date's file in place of the one that stands, and remove those of old dates."""
    folder = home / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {}
    made = saved.recommender
    head = {
        "format": _FORMAT,
        "mark": saved.mark,
        "trial": None if saved.trial is None else saved.trial.model_dump(),
        "history": _packed(made.history, "history", arrays),
        "routes": [
            [type(route).__name__, _packed(route, f"route{number}", arrays)]
            for number, route in enumerate(made.learned.routes)
        ],
        "order": [made.order.name, made.order.tried],
        "per_category": made.per_category,
        "seed": made.seed,
    }
    booster = made.order.booster
    texts = {
        "head": head,
        "users": made.user_ids,
        "items": made.item_ids,
        "booster": None if booster is None else booster.model_to_string(),
    }
    arrays |= {name: _bytes(value) for name, value in texts.items()}
    arrays |= {"counts": made.learned.counts, "barred": made.barred, "group": made.group}
    _write(folder / f"{saved.day}.npz", arrays)
    for path in list(saved_days(home).values())[:-KEPT]:
        path.unlink(missing_ok=True)


def load_saved(path: Path) -> Saved:
    """Read a file.

    Raises:
        UserError: it is damaged, or of another release.
    """
    try:
        arrays = _arrays(path)
        head = _text(arrays, "head")
        if head["format"] != _FORMAT:
            raise ValueError("format")
        return _saved(date.fromisoformat(path.stem), head, arrays)
    except _UNREADABLE as error:
        raise UserError(
            f"{path}: cannot be read as recommendations of this release ({type(error).__name__}); "
            f"run usergrowth recommend run --date {path.stem}",
            code="recommend.not_made",
        ) from None


def erase_from_saved(home: Path, user_id: str, *, dry_run: bool = False) -> int:
    """Take a user's id out of all files, so that nothing knows whose history it was.

    A damaged file is removed.

    Returns:
        The files that held it.
    """
    held = 0
    for path in saved_days(home).values():
        try:
            arrays = _arrays(path)
            users = _text(arrays, "users")
        except _UNREADABLE:  # nor can a service read it
            if not dry_run:
                path.unlink(missing_ok=True)
            continue
        if user_id in users:
            held += 1
            if not dry_run:
                kept = [_FORGOTTEN if one == user_id else one for one in users]
                _write(path, {**arrays, "users": _bytes(kept)})
    return held


def _saved(day: date, head: "Mapping[str, Any]", arrays: dict[str, Any]) -> Saved:
    routes = tuple(
        _unpacked(_ROUTES[kind], packed, f"route{number}", arrays)
        for number, (kind, packed) in enumerate(head["routes"])
    )
    near = next(one for one in routes if one.name == "i2i")
    booster = _text(arrays, "booster")
    if booster is not None:
        from lightgbm import Booster

        booster = Booster(model_str=booster)
    recommender = Recommender(
        user_ids=tuple(_text(arrays, "users")),
        item_ids=tuple(_text(arrays, "items")),
        history=_unpacked(History, head["history"], "history", arrays),
        learned=Learned(routes, near, arrays["counts"]),
        order=Order(head["order"][0], booster, head["order"][1]),
        barred=arrays["barred"],
        group=arrays["group"],
        per_category=head["per_category"],
        seed=head["seed"],
    )
    trial = None if head["trial"] is None else Trial.model_validate(head["trial"])
    return Saved(day, head["mark"], trial, recommender)


def _packed(one: Any, prefix: str, arrays: dict[str, Any]) -> dict[str, Any]:
    """The plain fields of a dataclass; its arrays and sparse matrices go into ``arrays``."""
    import numpy as np
    from scipy import sparse

    plain = {}
    for name in (part.name for part in fields(one)):
        value, key = getattr(one, name), f"{prefix}.{name}"
        if sparse.issparse(value):
            rows = value.tocsr()
            arrays |= {f"{key}.{part}": getattr(rows, part) for part in _SPARSE}
            plain[name] = {"sparse": list(rows.shape)}
        elif isinstance(value, np.ndarray):
            arrays[key] = value
            plain[name] = {"array": list(value.shape)}
        else:
            plain[name] = value
    return plain


_SPARSE = ("data", "indices", "indptr")


def _unpacked(kind: Any, plain: "Mapping[str, Any]", prefix: str, arrays: dict[str, Any]) -> Any:
    """The dataclass that :func:`_packed` took apart."""
    from scipy import sparse

    values = {}
    for name, value in plain.items():
        key = f"{prefix}.{name}"
        if isinstance(value, dict) and "sparse" in value:
            parts = tuple(arrays[f"{key}.{part}"] for part in _SPARSE)
            value = sparse.csr_matrix(parts, shape=tuple(value["sparse"]))
        elif isinstance(value, dict):
            value = arrays[key]
        values[name] = value
    return kind(**values)


def _arrays(path: Path) -> dict[str, Any]:
    import numpy as np

    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def _bytes(value: Any) -> Any:
    import numpy as np

    return np.frombuffer(json.dumps(value, ensure_ascii=False).encode(), dtype=np.uint8)


def _text(arrays: "Mapping[str, Any]", name: str) -> Any:
    return json.loads(arrays[name].tobytes())


def _write(path: Path, arrays: dict[str, Any]) -> None:
    """Write an archive beside a path and put it in its place at once."""
    import numpy as np

    new = path.with_name(f".{path.name}-{os.getpid()}")
    with new.open("wb") as handle:
        np.savez(handle, **arrays)
        handle.flush()
        os.fsync(handle.fileno())
    new.replace(path)
