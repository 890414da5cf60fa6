"""The page of exports.yml, from its JSON schema."""

from docs_site.campaign import keys_of
from docs_site.markdown import code, schema_hint, sentence, table
from usergrowth_dagster.exports.columns import OF_AUDIENCE, OF_SCORES
from usergrowth_dagster.exports.definition import Exports

HEAD = """\
# Exports

The file `exports.yml` in a home says which audiences and scores go to which other tools; see
[Hand an audience to another tool](../how-to/exports.md). `usergrowth exports check` checks every
key and tries every destination. An unknown key is refused.
"""


def page() -> str:
    """A section for the file, one for each group of keys, and the columns."""
    parts = [HEAD + schema_hint("exports") + keys_of(Exports.model_json_schema(by_alias=True))]
    for title, columns in (("an audience", OF_AUDIENCE), ("scores", OF_SCORES)):
        lines = [(code(name), code(kind), sentence(text)) for name, (kind, text) in columns.items()]
        parts.append(f"\n## Columns of {title}\n\n{table(('column', 'type', 'meaning'), lines)}")
    return "".join(parts)
