"""What would be odd in a campaign's texts though it can be sent: before it is planned, in words."""

from fnmatch import fnmatchcase

from usergrowth_dagster.control.campaign import CampaignSpec
from usergrowth_dagster.control.tasks import all_tasks
from usergrowth_dagster.data.contracts import CONTRACTS, Reading
from usergrowth_dagster.data.loader import Loader
from usergrowth_dagster.data.notices import html_codes
from usergrowth_dagster.data.population import FOLDER, population_files, population_uploads
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.texts import content
from usergrowth_dagster.pipeline.attributes import unknown_zones_loaded, unknown_zones_sentence
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.relation import Relation


def notices_of_texts(spec: CampaignSpec) -> list[str]:
    """A sentence for each text of a campaign that has HTML codes."""
    return [
        f"{text.key}.content: {', '.join(codes)} is shown as it stands, since a text is no HTML; "
        "write the characters themselves"
        for text in spec.template.texts
        if (codes := content.html_codes(text.content))
    ]


def notices_of_uploads(project: Project, spec: CampaignSpec) -> list[str]:
    """What is odd about the uploads of a campaign that are there and not yet planned.

    For one that cannot be read that is the reason: its task fails with it, unless it is mended.
    """
    planned = {task.upload for task in all_tasks(project.store) if task.frozen}
    reading, notices = Reading.of(project.settings), []
    for name in population_uploads(project.landing):
        if name in planned or not fnmatchcase(f"{FOLDER}/{name}", spec.population):
            continue
        try:
            notices += _notices_of_upload(project, name, reading)
        except UserError as error:
            notices.append(str(error))
    return notices


def _notices_of_upload(project: Project, name: str, reading: Reading) -> list[str]:
    day = project.settings.current_date()
    with open_engine(project.settings) as engine:
        loader = Loader(engine.connection, project.landing, CONTRACTS[FOLDER], None, reading)
        loader.load(day, population_files(project.landing, name, reading).files)
        loader.finish()
        zones = unknown_zones_loaded(engine, project.settings)
        zone_notices = [f"{FOLDER}/{name}: {unknown_zones_sentence(zones)}"] if zones else []
        return [*loader.notices[day], *zone_notices]


def notices_of_population(engine: Engine, population: Relation) -> list[str]:
    """What is odd about the values of a task's population."""
    return [sentence for _, sentence in html_codes(engine.connection, str(population), "ds")]
