"""Who was forgotten, as whatever takes rows in or hands them out asks for it."""

from usergrowth_dagster.data.forgotten import Forgotten
from usergrowth_dagster.messaging.people.forget import forgotten_hashes
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.project import Project


def forgotten_people(project: Project) -> Forgotten | None:
    """The people whose rows landing leaves out; None when nobody was ever forgotten."""
    hashes = forgotten_hashes(project.store)
    if not hashes:
        return None
    return Forgotten(open_vault(project.settings.home).user_pads(), hashes)
