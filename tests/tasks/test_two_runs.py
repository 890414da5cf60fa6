"""Two runs of one execution date at once: they take turns at each task."""

import subprocess
import sys
from pathlib import Path

from chain_world import (
    D,
    World,
    approve,
    cli,
    copy_home,
    environment,
    ledger,
    outbox,
    output,
    rows,
    succeeded,
    write_campaign,
    write_people,
)

from usergrowth_dagster.control.codes import JobStatus
from usergrowth_dagster.control.tasks import task as one_task
from usergrowth_dagster.control.tasks import tasks_for
from usergrowth_dagster.pipeline.decide import decide_task
from usergrowth_dagster.pipeline.each import Outcome, each_task
from usergrowth_dagster.pipeline.output import write_task_output
from usergrowth_dagster.pipeline.populate import load_population
from usergrowth_dagster.pipeline.score import score_task
from usergrowth_dagster.pipeline.send import plan_task
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings

STEPS = (load_population, score_task, decide_task, write_task_output)


def with_upload(world: World, home: Path) -> Path:
    """A home with a new upload of a campaign that is decided on arrival."""
    copy_home(world.decided, home)
    path = write_campaign(
        home,
        "fresh",
        population="population/fresh-*",
        execution_date="on upload",
        selection="{top_n: 20}",
    )
    succeeded(cli(home, "apply", "-f", str(path)))
    approve(home, "fresh")
    write_people(home, "fresh-1")
    return home


def test_two_runs_at_once(world: World, tmp_path: Path) -> None:
    """Both score and decide the new upload, one replaces the other's decision, or one fails."""
    home = with_upload(world, tmp_path / "home")
    before = ledger(home)
    command = [sys.executable, "-m", "usergrowth_dagster", "run", "--date", str(D)]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, env=environment(home), stdout=log, stderr=log) as one,
        subprocess.Popen(command, env=environment(home), stdout=log, stderr=log) as other,
    ):
        codes = (one.wait(300), other.wait(300))
    assert codes == (0, 0), (tmp_path / "log").read_text()
    texted = [row for row in ledger(home) if row[0] == "fresh-1"]
    assert len(texted) == len({row[1] for row in texted}) == 20
    assert {(row[2], row[4]) for row in texted} == {("accepted", 1)}
    assert len(outbox(home)) == len(before) + 20
    assert len(output(home, "fresh-1").splitlines()) == 20
    chosen = rows(home, "decisions", "task_id = 'fresh-1' and outcome = 'selected'", "user_id")
    assert {user for (user,) in chosen} == {row[1] for row in texted}


def test_any_order_of_two_runs(world: World, tmp_path: Path, here: None) -> None:
    """A run that finds its task decided, planned or begun anew by another one fails the task.

    Every step of the first run is followed by the same step, or by all steps, of a second one.
    """
    home = with_upload(world, tmp_path / "home")
    first, second = (Project(load_settings(home)) for _ in range(2))
    from usergrowth_dagster.intake.uploads import register_uploads

    assert register_uploads(first, D).registered == ["fresh-1"]
    assert register_uploads(second, D).registered == []

    def step(project: Project, place: int) -> Outcome[object]:
        return each_task(project, D, STEPS[place], include_failed=place == 0)

    for place in range(len(STEPS)):
        for project in (first, second):
            assert step(project, place).failures == {}
    assert one_task(first.store, "fresh-1").status is JobStatus.SUCCESS
    decided = rows(home, "decisions", "task_id = 'fresh-1'")
    assert step(second, 0).failures == {}  # begun anew: the first one's plan is left to it
    assert each_task(first, D, plan_task, fails_task=False).left == [
        task.task_id for task in tasks_for(first.store, D) if not task.frozen
    ]
    for place in range(1, len(STEPS)):
        assert step(second, place).failures == {}
    planned = each_task(second, D, plan_task, fails_task=False)
    assert planned.failures == {} and planned.results["fresh-1"].people == 20
    assert each_task(first, D, plan_task, fails_task=False).results["fresh-1"].created is False
    assert rows(home, "decisions", "task_id = 'fresh-1'") == decided
    for project in (first, second):
        project.store.close()
