"""MkDocs hook: adds the generated pages to the site, and writes none of them to the repository."""

from collections.abc import Callable, Mapping
from typing import Any

from mkdocs.structure.files import File

from docs_site import (
    campaign,
    commands,
    error_codes,
    exports,
    gateways,
    identity,
    presets,
    questions,
    segments,
    settings,
    sources,
    tables,
    tags,
)

PAGES: Mapping[str, Callable[[], str]] = {
    "reference/campaign.md": campaign.page,
    "reference/commands.md": commands.page,
    "reference/errors.md": error_codes.page,
    "reference/exports.md": exports.page,
    "reference/gateways.md": gateways.page,
    "reference/identity.md": identity.page,
    "reference/presets.md": presets.page,
    "reference/questions.md": questions.page,
    "reference/segments.md": segments.page,
    "reference/settings.md": settings.page,
    "reference/sources.md": sources.page,
    "reference/tables.md": tables.page,
    "reference/tags.md": tags.page,
}
"""By path in the site, what makes the page."""


def on_files(files: Any, config: Any) -> Any:
    """Add each generated page; MkDocs calls this once a build."""
    for path, page in PAGES.items():
        files.append(File.generated(config, path, content=page()))
    return files
