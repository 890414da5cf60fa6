"""The modules of the package import each other in one direction."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "usergrowth_dagster"


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(source: str, modules: set[str]) -> set[str]:
    """The modules that a source imports, also for type checkers alone and inside functions."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            imported |= below & modules or {node.module}
    return imported & modules


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules of which each imports the one before it, or none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_imports_itself_through_others() -> None:
    """Two modules that can only be read, moved and tested together."""
    paths = {module_name(path): path for path in PACKAGE.rglob("*.py")}
    graph = {
        name: imports_of(path.read_text("utf-8"), set(paths)) - {name}
        for name, path in paths.items()
    }
    assert len(graph) > 200 and graph["usergrowth_dagster.warehouse.build"]
    assert circle(graph) == []


def test_imports_of_every_kind_count() -> None:
    """A circle that hides in a function or behind TYPE_CHECKING."""
    source = (
        "import a.b\nfrom c import d, e\nif TYPE_CHECKING:\n    from f import G\n"
        "def h():\n    from i import j\n"
    )
    modules = {"a.b", "c", "c.d", "f", "i", "k"}
    assert imports_of(source, modules) == {"a.b", "c.d", "f", "i"}
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}
