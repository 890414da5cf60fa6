"""The page of identity.yml: its keys, the default types, and the tables of persons."""

from docs_site.campaign import keys_of
from docs_site.markdown import code, schema_hint, sentence, table
from usergrowth_dagster.identity.definition import DEFAULT_TYPES, Identity
from usergrowth_dagster.identity.tables import (
    CONFLICT_COLUMNS,
    CONFLICTS,
    HISTORY,
    HISTORY_COLUMNS,
    ONE_ID,
    ONE_ID_COLUMNS,
    REASONS,
)

HEAD = """\
# Identity

The file `identity.yml` in a home says which types of ids link users; see
[Know one person behind many ids](../how-to/identity.md). An unknown key is refused.
"""
_TABLES = ((ONE_ID, ONE_ID_COLUMNS), (HISTORY, HISTORY_COLUMNS), (CONFLICTS, CONFLICT_COLUMNS))


def page() -> str:
    """The keys, the types of a home without the file, the reasons, and a section a table."""
    schema = Identity.model_json_schema(by_alias=True)
    schema["properties"]["types"].pop("default")  # they have a table of their own
    types = [(code(one.name), str(one.priority), one.rule or "–") for one in DEFAULT_TYPES]
    reasons = [(code(reason), sentence(text)) for reason, text in REASONS.items()]
    parts = [
        HEAD + schema_hint("identity") + keys_of(schema),
        f"\n## Default types\n\n{table(('type', 'priority', 'rule'), types)}",
        f"\n## Reasons\n\n{table(('reason', 'the link joins nobody, since'), reasons)}",
    ]
    for name, columns in _TABLES:
        lines = [(code(key), code(kind), sentence(text)) for key, (kind, text) in columns.items()]
        parts.append(f"\n## {name}\n\n{table(('column', 'type', 'meaning'), lines)}")
    return "".join(parts)
