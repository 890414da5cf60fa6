"""The page of the tables, from the landing contracts and the SQL models' yml."""

from docs_site.markdown import code, sentence, table
from usergrowth_dagster.data.contracts import CONTRACTS, Contract
from usergrowth_dagster.warehouse.models import ModelGraph, load_graph

HEAD = """\
# Tables

Tables are Delta tables below `<storage>/tables`, partitioned by `ds`. Landing files make the raw
tables; each other table is one SELECT in `dbt_like_models/` or `sql/` with a yml beside it, from
which this page is made.
"""
_COLUMNS = ("column", "type", "meaning")


def page() -> str:
    """Landing files, then the models by folder, inputs before outputs."""
    graph = load_graph()
    parts = [HEAD, "\n## Landing files\n"]
    parts += [_contract(contract) for contract in CONTRACTS.values()]
    parts.append(_rules())
    for folder in dict.fromkeys(graph.models[name].folder for name in graph.order):
        parts.append(f"\n## {folder}\n")
        parts += [_model(graph, n) for n in graph.order if graph.models[n].folder == folder]
    return "".join(parts)


def _rules() -> str:
    """Every rule that a row can break, once, with its code in the quarantine."""
    rules = {rule.code: rule for one in CONTRACTS.values() for _, rule in one.rejections}
    lines = [
        (f'<a id="{name}"></a>{code(name)}', sentence(rule.sentence))
        for name, rule in rules.items()
    ]
    return f"\n### Rules\n\n{table(('rule', 'a row passes when'), lines)}"


def _contract(contract: Contract) -> str:
    place = (
        f"{contract.table}/ds=yyyymmdd" if contract.table != "population" else "population/<task>"
    )
    lines = [
        (
            code(column.name),
            code(column.kind),
            sentence(column.meaning) + ("" if column.nullable else " Required."),
            ", ".join(f"[{rule.code}](#{rule.code})" for rule in column.rules),
        )
        for column in contract.columns
    ]
    key = f" Unique by {', '.join(map(code, contract.key))} within a day." if contract.key else ""
    return (
        f"\n### {contract.raw_table}\n\n{sentence(contract.meaning)} Lands from "
        f"`{place}/*`.{key}\n\n{table((*_COLUMNS, 'rules'), lines)}"
    )


def _model(graph: ModelGraph, name: str) -> str:
    model = graph.models[name]
    kind = "Table" if model.materialized else "View"
    grain = f" One row by {', '.join(map(code, model.grain))}." if model.grain else ""
    reads = ", ".join(f"[{ref}](#{ref})" for ref in sorted(model.refs)) or "nothing"
    lines = [
        (code(c.name), code(c.data_type), sentence(c.description))
        for c in graph.columns(name).values()
    ]
    return (
        f"\n### {name}\n\n{sentence(model.description)}\n\n{kind}.{grain} Reads {reads}.\n\n"
        f"{table(_COLUMNS, lines)}"
    )
