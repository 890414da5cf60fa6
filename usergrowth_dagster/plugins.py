"""What packages register through entry points: gateways, questions and presets, also of others.

In a checkout this package's own entries are read from ``pyproject.toml``, since the metadata of an
editable installation is only as new as the last ``pip install``.
"""

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from usergrowth_dagster.errors import SetUpError

PROBLEMS = "usergrowth.problems"
"""Entry points of questions."""

PRESETS = "usergrowth.presets"
"""Entry points of packages with files of presets."""

_PACKAGE = "usergrowth-dagster"


@cache
def registered(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group, this package's own first.

    Args:
        group: such as ``usergrowth.gateways``.

    Raises:
        SetUpError: two packages register one name.
    """
    packages: dict[str, str] = {}
    points = []
    for package, point in _entries(group):
        if point.name in packages:
            raise SetUpError(
                f"{group}: {point.name!r} is registered by {packages[point.name]} and by "
                f"{package}; uninstall one of them",
                code="plugin.unusable",
            )
        packages[point.name] = package
        points.append(point)
    return tuple(points)


@cache
def loaded(group: str) -> Mapping[str, Any]:
    """What is registered in a group, by its name.

    Raises:
        SetUpError: as :func:`registered`, or an entry cannot be loaded.
    """
    objects = {}
    for point in registered(group):
        try:
            objects[point.name] = point.load()
        except Exception as error:
            raise SetUpError(
                f"{group}: {point.name!r}, registered as {point.value}, cannot be loaded: "
                f"{type(error).__name__}: {error}",
                code="plugin.unusable",
            ) from error
    return MappingProxyType(objects)


def _entries(group: str) -> Iterator[tuple[str, EntryPoint]]:
    """Entry points with the names of their packages."""
    installed = [(_package_of(point), point) for point in entry_points(group=group)]
    declared = checkout_entries(Path(__file__).resolve().parent.parent, group)
    if declared is not None:
        for name, value in declared.items():
            yield _PACKAGE, EntryPoint(name, value, group)
        installed = [pair for pair in installed if pair[0] != _PACKAGE]
    yield from sorted(installed, key=lambda pair: (pair[0] != _PACKAGE, pair[0], pair[1].name))


def checkout_entries(folder: Path, group: str) -> dict[str, str] | None:
    """What this package's ``pyproject.toml`` in a folder registers; None: it is no checkout.

    An installed package lies in ``site-packages``, where others may have left a file of that name.
    """
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8")).get("project", {})
    except (OSError, ValueError):
        return None
    if project.get("name") != _PACKAGE:
        return None
    return dict(project.get("entry-points", {}).get(group, {}))


def _package_of(point: EntryPoint) -> str:
    return point.dist.name.lower().replace("_", "-") if point.dist else "an unnamed package"


def folders_beside(group: str, name: str) -> tuple[Path, ...]:
    """Folders of a name beside the modules that a group's entries name, those that are there.

    No module is executed, only the package that it lies in.

    Raises:
        SetUpError: as :func:`registered`, or an entry names a module that is not there.
    """
    folders = set()
    for point in registered(group):
        try:
            spec = find_spec(point.module)
        except ModuleNotFoundError:
            spec = None
        if spec is None or spec.origin is None:
            raise SetUpError(
                f"{group}: {point.name!r} is registered as {point.value}, and there is no such "
                "module; install its package anew, or uninstall it",
                code="plugin.unusable",
            )
        folders.add(Path(spec.origin).parent / name)
    return tuple(sorted(folder for folder in folders if folder.is_dir()))
