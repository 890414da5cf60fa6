"""A rehearsal plans and sends as of a date, and leaves no trace where the real sending counts."""

import json
from pathlib import Path

from chain_world import D, World, control_dump, copy_home, ledger, outbox

from usergrowth_dagster.control.tasks import task as one_task
from usergrowth_dagster.explain.rehearse import rehearse_task
from usergrowth_dagster.messaging.people.forget import Person, erase_in_outbox
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings


def lines(path: Path | None) -> list[dict[str, str]]:
    """What a rehearsal wrote."""
    assert path is not None
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_rehearsal_leaves_no_trace(world: World, tmp_path: Path, here: None) -> None:
    """A rehearsal writes to the ledger, so that the real sending is blocked, capped or doubled.

    The same people are rehearsed as were really texted, years after the date, and again.
    """
    home = copy_home(world.decided, tmp_path / "home")
    sent = outbox(home)
    project = Project(load_settings(home, today="2026-01-01", failure_webhook="http://127.0.0.1:1"))
    one_task(project.store, "care")
    before = control_dump(home)
    for _ in range(2):
        done = rehearse_task(project, one_task(project.store, "care"), D)
        assert done.plan.states == {"accepted": 40}
        assert done.file is not None
        assert done.file.is_relative_to(home / "outbox" / "rehearsals" / f"{D:%Y%m%d}")
        texted = {line["user_id"] for line in lines(done.file)}
        assert texted == {row[1] for row in ledger(home) if row[0] == "care"}
        assert len(lines(done.file)) == 40
    assert control_dump(home) == before
    assert len(outbox(home)) == len(sent) + 40
    for folder in (home / "outbox" / "rehearsals", done.file.parent, done.file.parent.parent):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert done.file.stat().st_mode & 0o777 == 0o600
    somebody = min(texted)  # whoever is forgotten is in no rehearsal either
    assert erase_in_outbox(home, Person(somebody), open_vault(home)) >= 2
    assert f'"{somebody}"' not in done.file.read_text(encoding="utf-8")
    project.store.close()
