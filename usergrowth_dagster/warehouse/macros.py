"""DuckDB macros of the SQL models: expressions that many models share, defined once.

``sql/macros`` holds the definitions, and the same folder beside a question of another package may
hold more. Each engine creates them. Whatever reads a model's syntax tree
(its version, its lineage, its translation for another engine) first replaces each call by the body
of the macro, so that a macro and the text that it stands for mean the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from usergrowth_dagster.plugins import PROBLEMS, folders_beside
from usergrowth_dagster.warehouse.model_files import ModelError, models_root

if TYPE_CHECKING:
    from sqlglot import exp

MACROS = "macros"
"""The folder below ``sql`` that holds macros instead of models."""


@dataclass(frozen=True)
class Macro:
    """An expression with parameters, as a syntax tree."""

    name: str
    parameters: tuple[str, ...]
    body: "exp.Expr"


@cache
def macro_statements() -> str:
    """The statements that create the project's macros in an engine."""
    return "\n".join(path.read_text(encoding="utf-8") for path in _files())


@cache
def project_macros() -> Mapping[str, Macro]:
    """The project's macros by name."""
    return read_macros(macro_statements())


def read_macros(statements: str) -> dict[str, Macro]:
    """The macros that some statements create, by name.

    Raises:
        ModelError: a statement creates no macro, or one that another statement has created.
    """
    import sqlglot
    from sqlglot import exp

    macros: dict[str, Macro] = {}
    for tree in sqlglot.parse(statements, dialect="duckdb"):
        if not isinstance(tree, exp.Create) or tree.kind != "MACRO":
            raise ModelError(f"sql/{MACROS}: expected create macro, not {tree}")
        function, name = tree.this, tree.this.this.name.lower()
        if name in macros:
            raise ModelError(f"sql/{MACROS}: creates the macro {name} twice")
        parameters = tuple(parameter.name.lower() for parameter in function.expressions)
        macros[name] = Macro(name, parameters, tree.expression)
    return macros


def expand(tree: "exp.Expr", macros: Mapping[str, Macro]) -> "exp.Expr":
    """A syntax tree with the body of each macro in the place of its calls.

    Args:
        tree: stays as it is.
        macros: by name; a macro may call others.

    Raises:
        ModelError: a call has more or fewer arguments than its macro has parameters, or a macro
            calls itself.
    """
    return _expand(tree.copy(), macros, ())


def _expand(tree: "exp.Expr", macros: Mapping[str, Macro], within: tuple[str, ...]) -> "exp.Expr":
    """Replace the calls in a tree, innermost arguments first; the tree is changed."""
    from sqlglot import exp

    for call in reversed(list(tree.find_all(exp.Anonymous))):
        macro = macros.get(call.name.lower())
        if macro is None:
            continue
        if macro.name in within:
            raise ModelError(f"sql/{MACROS}: the macro {macro.name} calls itself")
        body = _expand(_filled(macro, call.expressions), macros, (*within, macro.name))
        if call is tree:
            tree = body
        else:
            call.replace(_grouped(body, call.parent))
    return tree


def _filled(macro: Macro, arguments: "list[exp.Expr]") -> "exp.Expr":
    """The body of a macro with arguments in the place of its parameters."""
    from sqlglot import exp

    if len(arguments) != len(macro.parameters):
        raise ModelError(
            f"sql/{MACROS}: {macro.name} takes {len(macro.parameters)} arguments, "
            f"not {len(arguments)}"
        )
    values = dict(zip(macro.parameters, arguments, strict=True))

    def fill(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column) and not node.table and node.name.lower() in values:
            return _grouped(values[node.name.lower()].copy(), node.parent)
        return node

    def as_field(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.StructExtract) and node.expression.is_string:
            return exp.Dot(this=node.this, expression=exp.to_identifier(node.expression.name))
        return node

    return macro.body.copy().transform(fill, copy=False).transform(as_field, copy=False)


def _grouped(value: "exp.Expr", parent: "exp.Expr | None") -> "exp.Expr":
    """A value in parentheses where an operator around it would take it apart."""
    from sqlglot import exp

    operators = (exp.Binary, exp.Unary, exp.Between, exp.In, exp.Bracket)
    inside = isinstance(parent, operators) and not isinstance(parent, exp.Paren | exp.PropertyEQ)
    loose = isinstance(value, operators) and not isinstance(value, exp.Paren | exp.Dot)
    return exp.Paren(this=value) if inside and loose else value


def _files() -> list[Path]:
    folders = (models_root() / "sql", *folders_beside(PROBLEMS, "sql"))
    return [path for folder in folders for path in sorted((folder / MACROS).glob("*.sql"))]
