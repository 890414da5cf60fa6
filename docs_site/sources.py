"""The page of sources.yml, from its JSON schema."""

from docs_site.campaign import keys_of
from docs_site.markdown import schema_hint
from usergrowth_dagster.sources.definition import Sources

HEAD = """\
# Sources

The file `sources.yml` in a home says where the rows of landing tables come from; see
[Bring in an event log](../how-to/sources.md). `usergrowth sources check` checks every key and every
expression. An unknown key is refused.
"""


def page() -> str:
    """A section for the file and one for each group of keys."""
    return HEAD + schema_hint("sources") + keys_of(Sources.model_json_schema(by_alias=True))
