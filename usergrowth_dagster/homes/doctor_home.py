"""What the doctor looks at in a home: who may read it, what can be written, what others share."""

import os
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shlex import quote

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import CONFIG_NAME, Settings
from usergrowth_dagster.settings.places import local_path, sqlite_file

CLOCK_LEEWAY = timedelta(minutes=2)
_SHOWN = 5  # files that a sentence names
_NUMBERS = ("control.db*", "secret.key*", "credentials.toml", "contents.txt")
_NUMBER_TABLES = ("population", "quarantine", "decisions", "raw_user")


def writable(settings: Settings) -> str:
    """That all folders can be written.

    Raises:
        UserError: one cannot.
    """
    places = [settings.home, *_local(settings.storage_root), *_local(settings.landing_root)]
    database = sqlite_file(settings.database)
    if database is not None:
        places.append(database if database.exists() else database.parent)
    bad = [place for place in places if place.exists() and not os.access(place, os.W_OK)]
    if bad:
        raise UserError(
            f"{', '.join(map(str, bad))} cannot be written by this user; commands that only show "
            "something still work",
            code="home.unhealthy",
        )
    return f"{settings.home}; tables in {settings.storage_root}; files in {settings.landing_root}"


def _local(place: str) -> list[Path]:
    path = local_path(place)
    return [] if path is None else [path]


def private(settings: Settings) -> str:
    """That the home has mode 0700, and what holds numbers 0600.

    Raises:
        UserError: others may enter the home or read files with numbers.
    """
    problems = []
    if settings.home.stat().st_mode & 0o077:
        problems.append(
            f"{settings.home} can be entered by others: chmod 700 {quote(str(settings.home))}"
        )
    open_files = [path for path in _with_numbers(settings) if path.stat().st_mode & 0o077]
    if open_files:
        named = ", ".join(str(path) for path in open_files[:_SHOWN])
        more = f" and {len(open_files) - _SHOWN:,} more" if len(open_files) > _SHOWN else ""
        problems.append(f"files with numbers can be read by others: {named}{more}; chmod 600 them")
    if problems:
        raise UserError("\n".join(problems), code="home.unhealthy")
    return "for its owner alone"


def _with_numbers(settings: Settings) -> Iterator[Path]:
    """Files that the product wrote and that hold numbers, in clear, sealed or as the secret."""
    for pattern in _NUMBERS:
        yield from settings.home.glob(pattern)
    database = sqlite_file(settings.database)
    if database is not None and database.parent != settings.home and database.exists():
        yield database
    folders = [settings.home / "outbox", settings.home / "reports"]
    for root in _local(settings.storage_root):
        folders += [root / "tables" / name for name in _NUMBER_TABLES]
    for root in _local(settings.landing_root):
        folders.append(root / "population_output")
        if root.parent != settings.home:  # beside the home, nothing else guards the uploads
            folders.append(root / "population")
    for folder in folders:
        yield from (path for path in sorted(folder.rglob("*")) if path.is_file())


def clock(settings: Settings) -> str:
    """The time now, unless it lies before what was written here.

    Raises:
        UserError: it does: texts would be sent at the wrong time.
    """
    now = datetime.now(UTC)
    files = [*settings.home.glob("*"), *settings.home.glob("dagster/history/*.db")]
    newest = max((path.stat().st_mtime for path in files), default=0.0)
    seen = datetime.fromtimestamp(newest, UTC)
    if seen > now + CLOCK_LEEWAY:
        raise UserError(
            f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, but files of the home were "
            f"written at {seen:%Y-%m-%d %H:%M} UTC; set the clock",
            code="home.unhealthy",
        )
    return f"{now:%Y-%m-%d %H:%M:%S} UTC"


def zone(settings: Settings) -> str:
    """The business time zone, the time there, and a business date that is pinned."""
    local = datetime.now(settings.zone)
    pinned = f"; the business date is pinned to {settings.today}" if settings.today else ""
    return f"{settings.timezone}, {local:%Y-%m-%d %H:%M %z} there{pinned}"


def shared(settings: Settings) -> str:
    """Which stores other homes use too.

    Raises:
        UserError: another home has the same tables or the same ledger.
    """
    own = _stores(settings.home, settings.model_dump(mode="json"))
    bad: list[str] = []
    harmless: list[str] = []
    for other, stores in _others(settings):
        for name, place in own.items():
            if stores.get(name) == place:
                sentence = f"{name} {place} is also that of the home {other}"
                (harmless if name in ("landing", "mlflow") else bad).append(sentence)
    if bad:
        raise UserError(
            "\n".join(
                f"{sentence}: each would change what the other decided and sent" for sentence in bad
            ),
            code="home.unhealthy",
        )
    return "; ".join(harmless) or "no other home uses them"


def _stores(home: Path, values: dict[str, object]) -> dict[str, str]:
    """Where a home with these settings keeps everything; a URL without its password."""
    from sqlalchemy.engine import make_url

    def folder(name: str) -> str:
        place = local_path(str(values.get(name) or home / name))
        return str(values[name]) if place is None else str(_whole(place))

    def database(name: str, default: Path) -> str:
        url = str(values.get(name) or "")
        file = sqlite_file(url) if url else default
        if file is not None:
            return str(_whole(file))
        return make_url(url).render_as_string(hide_password=True)

    return {
        "storage": folder("storage"),
        "landing": folder("landing"),
        "database": database("database_url", home / "control.db"),
        "mlflow": database("mlflow_tracking_uri", home / "mlflow" / "mlflow.db"),
    }


def _whole(path: Path) -> Path:
    return path.absolute().resolve()


def _others(settings: Settings) -> Iterator[tuple[Path, dict[str, str]]]:
    """Other homes: those beside this one, and those that hold one of its stores."""
    own = _whole(settings.home)
    near = [path for path in own.parent.iterdir() if path.is_dir()]
    for place in _stores(settings.home, settings.model_dump(mode="json")).values():
        if "://" not in place:
            near += Path(place).parents
    for home in dict.fromkeys(map(_whole, near)):
        config = home / CONFIG_NAME
        if home == own or not config.is_file():
            continue
        try:
            values = tomllib.loads(config.read_text(encoding="utf-8-sig"))
            yield home, _stores(home, values)
        except (OSError, ValueError):
            continue  # its own doctor says so
