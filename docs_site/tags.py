"""The page of tags.yml, from its JSON schema, with the tables that it makes."""

from docs_site.campaign import keys_of
from docs_site.markdown import code, schema_hint, sentence, table
from usergrowth_dagster.tags import aipl, item_words, rfm
from usergrowth_dagster.tags.definition import Catalogue

HEAD = """\
# Tags

The file `tags.yml` in a home says what is known of people as tags, RFM groups and AIPL stages; see
[Tag people](../how-to/tags.md). `usergrowth tags check` checks every expression and file. An
unknown key is refused.
"""


def page() -> str:
    """A section for the file, one for each group of keys, the tables, and the groups."""
    parts = [HEAD + schema_hint("tags") + keys_of(Catalogue.model_json_schema(by_alias=True))]
    for name, columns in (
        (rfm.TABLE, rfm.COLUMNS),
        (aipl.TABLE, aipl.COLUMNS),
        (item_words.TABLE, item_words.COLUMNS),
    ):
        lines = [(code(key), code(kind), sentence(text)) for key, (kind, text) in columns.items()]
        parts.append(f"\n## The table {name}\n\n{table(('column', 'type', 'meaning'), lines)}")
    groups = [
        (code(one.code), one.name, one.name_zh, *("high" if high else "low" for high in one.high))
        for one in rfm.TYPES
    ]
    header = ("group", "name", "name in Chinese", "recency", "frequency", "money")
    parts.append(f"\n## RFM groups\n\n{table(header, groups)}")
    return "".join(parts)
