"""The sizes of a segment where several users are one person."""

from support.segment_world import D, people

from usergrowth_dagster.audience.holdout import arm
from usergrowth_dagster.control.store import utc_now
from usergrowth_dagster.identity.run import identify, land_identity
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.policy.suppression import BY_HAND, suppress
from usergrowth_dagster.pipeline.choice import global_holdout
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.views.segments import size_segment


def test_a_person_counts_with_all_users(world: Project) -> None:
    """Guards against a size that promises people that a decision leaves out, since another user of
    theirs refused or is held out."""
    home = world.settings.home
    users = [one.user for one in people()]
    folder = home / "landing/identity/ds=20240301"
    folder.mkdir(parents=True)
    pairs = list(zip(users[::2], [f"x{user}" for user in users[::2]], strict=True))
    lines = [f"{user},member_id,m{n},crm,\\N" for n, pair in enumerate(pairs) for user in pair]
    text = "\n".join(["user_id,id_type,id_value,source,time", *lines]) + "\n"
    (folder / "part.csv").write_text(text, encoding="utf-8")
    (home / "identity.yml").write_text("{}", encoding="utf-8")
    (home / "segments").mkdir(exist_ok=True)
    (home / "segments/all.yml").write_text(
        "where: {not: {sample: {salt: x, share: 0.000000001}}}\n", encoding="utf-8"
    )
    project = Project(load_settings(home, global_holdout_share=0.3))
    land_identity(project, D)
    identify(project, D)
    vault = open_vault(home)
    for user in (pairs[3][1], users[5]):
        suppress(
            project.store,
            vault,
            user_id=user,
            channel="*",
            reason=BY_HAND,
            source="test",
            now=utc_now(),
        )
    sizes = size_segment(project, "all", D).sizes
    draw = global_holdout(project.settings, D)
    persons = dict(pairs)
    held = {u for u in users if "control" in {arm(draw, u), arm(draw, persons.get(u, u))}}
    assert len(held) > sum(arm(draw, user) == "control" for user in users)
    assert (sizes.matches, sizes.not_refused) == (len(users), len(users) - 2)
    assert sizes.not_held_out == len(users) - len(held)
