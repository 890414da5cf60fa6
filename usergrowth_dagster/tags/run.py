"""Everything that ``tags.yml`` asks for, worked out for an execution date."""

from dataclasses import dataclass
from datetime import date

from usergrowth_dagster.project import Project
from usergrowth_dagster.tags.aipl import write_aipl
from usergrowth_dagster.tags.definition import (
    FILE_NAME,
    Catalogue,
    Tag,
    TagType,
    read_catalogue,
)
from usergrowth_dagster.tags.inputs import FEATURES, Written
from usergrowth_dagster.tags.item_words import write_item_words
from usergrowth_dagster.tags.rfm import write_rfm
from usergrowth_dagster.tags.user_tags import tag_types, write_user_tags
from usergrowth_dagster.warehouse.build import Builder


@dataclass(frozen=True)
class TagRun:
    """What a run came to: the tables as they stand, and what people should know."""

    day: date
    tables: tuple[Written, ...]
    notices: tuple[str, ...]


def catalogue_of(project: Project) -> Catalogue:
    """The catalogue of a home.

    Raises:
        UserError: there is no ``tags.yml``, or it breaks its format.
    """
    return read_catalogue(project.settings.home / FILE_NAME)


def tags_with_values(project: Project) -> list[tuple[Tag, TagType]]:
    """The tags of the catalogue that have ever been worked out, with the types of their values.

    Raises:
        UserError: ``tags.yml`` is missing or wrong, or no tags have been worked out.
    """
    tags = {tag.key: tag for tag in catalogue_of(project).tags}
    return [(tags[key], kind) for key, kind in tag_types(project).items() if key in tags]


def build_features(project: Project, day: date) -> None:
    """Bring the features of a date up to date, which rules are about."""
    builder = Builder(project.settings, project.warehouse)
    builder.build(FEATURES, [day], progress=project.progress)


def run_tags(project: Project, day: date, *, again: bool = False) -> TagRun:
    """Work out RFM, AIPL, words and tags of a date; what stands already is not written again.

    Args:
        project: the home.
        day: the execution date.
        again: also work out tags that are not due.

    Raises:
        UserError: ``tags.yml`` is wrong, or nothing has landed before the date.
    """
    catalogue = catalogue_of(project)
    build_features(project, day)
    tables: list[Written] = []
    notices: list[str] = []
    if catalogue.rfm is not None:
        tables.append(write_rfm(project, catalogue.rfm, day))
    if catalogue.aipl is not None:
        tables.append(write_aipl(project, catalogue.aipl, day))
    if catalogue.texts is not None:
        words = write_item_words(project, catalogue.texts, day)
        tables.append(words.written)
        notices += [words.notice] if words.notice else []
    if catalogue.tags:
        made = write_user_tags(project, catalogue.tags, day, again=again)
        tables.append(made.written)
        notices += made.notices
    return TagRun(day, tuple(tables), tuple(notices))
