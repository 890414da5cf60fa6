"""A decision whose rows were changed by another program, and one that forgot a person."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chain_world import World, copy_home, rows, world
from test_report_chain import WINDOW, later

from usergrowth_dagster.control.tasks import task
from usergrowth_dagster.effects.result import Effect
from usergrowth_dagster.measure.effects import measure
from usergrowth_dagster.measure.period import measure_all
from usergrowth_dagster.measure.report import report_task
from usergrowth_dagster.people.forget import forget
from usergrowth_dagster.pipeline.provenance import read_provenance
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings

__all__ = ["world"]
MINE = "task_id = 'comeback'"


@pytest.fixture
def project(world: World, tmp_path: Path) -> Iterator[Project]:
    """D is decided and sent, and the window of ``comeback`` has landed."""
    made = copy_home(world.decided, tmp_path / "home")
    later(made, 1, WINDOW)
    yield Project(load_settings(made))


def measured(project: Project) -> Effect:
    return measure(project, task(project.store, "comeback"))


def standing(project: Project, arm: str) -> list[tuple[str, int]]:
    return sorted(
        rows(
            project.settings.home,
            "decisions",
            f"{MINE} and arm = '{arm}'",
            'user_id, cast("row" as bigint)',
        )
    )


def test_deleted_rows_block_the_verdict(project: Project) -> None:
    """A lift of whoever another program left in the table, by a split that still looks even."""
    before = measured(project)
    assert before.verdict != "uneven_split", before.sentence
    treated = standing(project, "treatment")
    lost = treated[: len(treated) // 20 + 1]
    table = project.warehouse.open("decisions")
    numbers = ", ".join(str(row) for _, row in lost)
    table.delete(f"{MINE} and \"row\" in ({numbers}) and arm = 'treatment'")
    effect = measured(project)
    sentence = (
        f"the decision held {len(treated):,} texted users when it was made and holds "
        f"{len(treated) - len(lost):,} now"
    )
    assert effect.verdict == "uneven_split" and sentence in effect.sentence
    assert effect.sample_ratio is not None and effect.sample_ratio.off == "treatment"
    assert all(policy.refused for policy in effect.policies)
    day = effect.execution_date
    period = measure_all(project, day, day)
    assert period.verdict == "uneven_split" and f"task comeback: {sentence}" in period.sentence
    page = report_task(project, task(project.store, "comeback")).page.read_text(encoding="utf-8")
    assert "Do not use the lift" in page and "The decision was altered" in page


def test_changed_rows_block_the_verdict(project: Project) -> None:
    """As many rows as before, whose scores or arms are others."""
    (_, one), (_, other) = standing(project, "treatment")[0], standing(project, "control")[0]
    table = project.warehouse.open("decisions")
    table.update(
        {"arm": "case when arm = 'control' then 'treatment' else 'control' end"},
        predicate=f'{MINE} and "row" in ({one}, {other})',
    )
    effect = measured(project)
    assert effect.verdict == "uneven_split" and "their hash is another" in effect.sentence


def test_forgotten_persons_may_leave(project: Project) -> None:
    """A person's right to be forgotten makes a campaign's effect unreadable."""
    people = {arm: standing(project, arm) for arm in ("treatment", "control")}
    for arm in ("treatment", "treatment", "control"):
        forget(project, people[arm].pop()[0], actor="ann")
    effect = measured(project)
    assert effect.verdict != "uneven_split", effect.sentence
    assert [arm.users for arm in effect.arms[:2]] == [len(p) for p in people.values()]
    pins = read_provenance(project.warehouse, "comeback")[effect.execution_date]
    assert pins.erased["treatment"] == 2 and pins.erased["control"] == 1
    project.warehouse.open("decisions").delete(f'{MINE} and "row" = {people["control"][0][1]}')
    effect = measured(project)
    assert "(without 1 of persons forgotten since)" in effect.sentence
    assert effect.sample_ratio is not None and effect.sample_ratio.off == "control"
