"""The page of the presets, from their files."""

from docs_site.markdown import code, table
from usergrowth_dagster.sources.presets.registry import Export, Preset, presets

HEAD = """\
# Presets

An export that is known needs two lines in [sources.yml](sources.md):

```yaml
sources:
  - preset: segment
    from: exports/segment/*.json.gz
```

Every other key may be given and takes the place of the preset's: `columns`, `num`, `str`, `read`
and `day` key by key (a key with `null` is dropped), the others as a whole. A preset that fills
several tables takes the first unless `fills` names another. `usergrowth sources suggest` recognizes
an export by its columns. `usergrowth sources preview` shows what becomes of it. A package adds
presets by an [entry point](../how-to/sources.md#another-preset).
"""


def page() -> str:
    """A section for each preset: its documentation, and what becomes of each field."""
    return HEAD + "".join(_section(preset) for preset in presets().values())


def _section(preset: Preset) -> str:
    links = " · ".join(map(_link, preset.documentation))
    parts = [f"\n## {preset.name}\n\n{preset.title}. Documentation: {links}\n"]
    parts += [f"\n{note}\n" for note in preset.notes]
    parts += [_table(name, export) for name, export in preset.fills.items()]
    return "".join(parts)


def _link(address: str) -> str:
    """A link to a page of the web, or to one of this site by its path in the repository."""
    shown = address.split("://", 1)[-1].rstrip("/")
    return f"[{shown}]({address.replace('docs/', '../', 1) if '://' not in address else address})"


def _table(name: str, export: Export) -> str:
    lines = [(code(field), fate) for field, fate in export.becomes.items()]
    return f"\nThe table {code(name)}, from {export.file}:\n\n{table(('field', 'becomes'), lines)}"
