"""Column lineage of the SQL models: which table columns each output column is made from."""

import hashlib
import json
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.warehouse.meaning import expanded
from usergrowth_dagster.warehouse.models import (
    AS_OF_DATES,
    RUN_SETTING_NAMES,
    RUN_SETTINGS,
    ModelGraph,
)

Source = tuple[str, str]
"""A table and one of its columns."""


@lru_cache(maxsize=64)
def column_lineage(graph: ModelGraph, model: str) -> dict[str, frozenset[Source]]:
    """Output column → table columns, seen through the views in between.

    The relations ``as_of_dates`` and ``run_settings`` are no tables and are left out.
    """
    resolved = {}
    for column, sources in _own_lineage(graph, model).items():
        origins: set[Source] = set()
        for table, name in sources:
            if table in graph.models and not graph.models[table].materialized:
                origins |= column_lineage(graph, table).get(name, frozenset())
            else:
                origins.add((table, name))
        resolved[column] = frozenset(origins)
    return resolved


def kept_lineage(graph: ModelGraph, model: str, folder: Path) -> dict[str, frozenset[Source]]:
    """As :func:`column_lineage`, which takes .2 s a model, read from a file where it is kept.

    Args:
        graph: the models.
        model: one of them.
        folder: keeps a file a model; may be deleted at any time.
    """
    file, key = folder / f"{model}.json", _key(graph, model)
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        kept = json.loads(file.read_bytes())
        if kept["key"] == key:
            return {
                column: frozenset((table, name) for table, name in sources)
                for column, sources in kept["columns"].items()
            }
    lineage = column_lineage(graph, model)
    columns = {column: sorted(sources) for column, sources in lineage.items()}
    with suppress(OSError):  # a home that cannot be written keeps none
        content = json.dumps({"key": key, "columns": columns})
        Storage(str(folder)).write_bytes(file.name, content.encode())
    return lineage


def _key(graph: ModelGraph, model: str) -> str:
    """Changes with the model, the views that it reads, its inputs' columns, and sqlglot."""
    inputs = {table: graph.types(table) for table in graph.table_inputs(model)}
    facts = (version("sqlglot"), graph.code_version(model), sorted(inputs.items()))
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _own_lineage(graph: ModelGraph, model: str) -> dict[str, set[Source]]:
    from sqlglot.lineage import lineage

    facts = graph.models[model]
    schema: dict[str, Any] = {ref: graph.types(ref) for ref in facts.refs}
    schema[AS_OF_DATES] = {"as_of": "DATE"}
    schema[RUN_SETTINGS] = dict.fromkeys(RUN_SETTING_NAMES, "INT")
    nodes = lineage(None, expanded(facts.sql).sql("duckdb"), schema, dialect="duckdb")
    by_column = {}
    for column in graph.types(model):
        leaves = [leaf for leaf in nodes[column].walk() if not leaf.downstream]
        by_column[column] = {
            (leaf.source.name, leaf.name.rsplit(".", 1)[-1])
            for leaf in leaves
            if leaf.source.key == "table" and leaf.source.name in facts.refs
        }
    return by_column
