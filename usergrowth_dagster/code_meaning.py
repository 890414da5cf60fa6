"""The meaning of Python source: what the version of a training, a scoring or a decision hashes.

Comments, docstrings and layout change no result, and neither does the folder a module lies in.
"""

import ast
import hashlib
import platform
from collections.abc import Iterator
from functools import cache
from importlib import metadata, resources
from importlib.resources.abc import Traversable

from usergrowth_dagster import __version__

SHOWN = (
    "learning/amounts/card.py",
    "learning/amounts/plots.py",
    "learning/card.py",
    "learning/plots.py",
    "learning/reviewing.py",
    "learning/tracking.py",
    "learning/uplift/card.py",
    "learning/uplift/plots.py",
)
"""Modules of pictures, cards and reviews: no figure and no score depends on them."""

_NAMES_OF_ERRORS = ("code", "hint")
_LIBRARIES = ("duckdb", "lightgbm", "numpy", "scikit-learn", "pandas", "pyarrow")
_PACKAGE = __name__.partition(".")[0]


@cache
def installed() -> dict[str, str]:
    """Versions of the package, of Python, and of the libraries that results depend on."""
    return {
        "usergrowth": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _LIBRARIES},
    }


@cache
def source_hash(
    parts: tuple[str, ...], *, without: tuple[str, ...] = (), below: tuple[str, ...] = ()
) -> str:
    """Hash of what the modules below some folders and files of the package do.

    Args:
        parts: paths below the package, ``/`` between folders.
        without: modules of them that only show what was computed.
        below: folders of them whose modules have hashes of their own; the modules ``base.py`` and
            ``__init__.py`` of such a folder are part of this one.

    Raises:
        ValueError: there is no such part, so that its hash would stand for nothing.
    """
    root = resources.files(_PACKAGE)
    left_out = set(without)
    modules = dict(pair for part in parts for pair in _modules(root.joinpath(part), part))
    left_out |= {name for name in modules if _has_own_hash(name, below)}
    if missing := left_out - modules.keys():
        raise ValueError(f"{_PACKAGE} has no {', '.join(sorted(missing))} in {', '.join(parts)}")
    hashes = sorted(
        hashlib.sha256(code_meaning(module.read_text("utf-8")).encode()).hexdigest()
        for name, module in modules.items()
        if name not in left_out
    )
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:16]


def _has_own_hash(name: str, folders: tuple[str, ...]) -> bool:
    folder, _, module = name.rpartition("/")
    return folder in folders and module not in ("__init__.py", "base.py")


def code_meaning(source: str) -> str:
    """Python source as its syntax tree has it, without docstrings and imports of this package."""
    tree = ast.parse(source)
    _Bare().visit(tree)
    return ast.unparse(tree)


class _Bare(ast.NodeTransformer):
    """Drops what does not change what a module does.

    The package's own imports only say where a module lies: what they name is hashed by itself.
    The code and the hint of an error are for its reader.
    """

    def visit(self, node: ast.AST) -> ast.AST | None:
        if isinstance(node, ast.If) and _is_name(node.test, "TYPE_CHECKING"):
            return None
        if isinstance(node, ast.ImportFrom) and _is_own(node.module or "", node.level):
            return None
        if isinstance(node, ast.Import) and all(_is_own(name.name) for name in node.names):
            return None
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:]
            self.generic_visit(node)
            node.body = node.body or [ast.Pass()]
            return node
        if isinstance(node, ast.Call) and _is_an_error(node.func):
            node.keywords = [one for one in node.keywords if one.arg not in _NAMES_OF_ERRORS]
        return self.generic_visit(node)


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _is_an_error(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id.endswith("Error")


def _is_own(module: str, level: int = 0) -> bool:
    return level > 0 or module.partition(".")[0] == _PACKAGE


def _modules(place: Traversable, name: str) -> Iterator[tuple[str, Traversable]]:
    """Python modules at or below a place, by their paths.

    Raises:
        ValueError: there is none.
    """
    if place.is_file() and name.endswith(".py"):
        yield name, place
        return
    below = list(place.iterdir()) if place.is_dir() else []
    inner = [child for child in below if child.is_dir() and _has_modules(child)]
    direct = [child for child in below if child.is_file() and child.name.endswith(".py")]
    if not (inner or direct):
        raise ValueError(f"{_PACKAGE} has no {name}")
    for child in (*inner, *direct):
        yield from _modules(child, f"{name}/{child.name}")


def _has_modules(folder: Traversable) -> bool:
    return any(
        _has_modules(child) if child.is_dir() else child.name.endswith(".py")
        for child in folder.iterdir()
    )
