"""What a task is decided from is one value: bound once, alike now and from what was written down."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from chain_world import D, World, copy_home
from support.decided import decided_table

from usergrowth_dagster.control.tasks import Task, task
from usergrowth_dagster.pipeline.candidates import candidates
from usergrowth_dagster.pipeline.decide import decide_rows
from usergrowth_dagster.pipeline.each import NotReadyError
from usergrowth_dagster.pipeline.inputs import (
    DecisionInputs,
    decision_inputs,
    inputs_as_decided,
    recorded_inputs,
    with_exclusions,
)
from usergrowth_dagster.pipeline.provenance import read_provenance, relative
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import open_engine


def open_home(world: World, tmp_path: Path) -> Project:
    return Project(load_settings(copy_home(world.decided, tmp_path / "home")))


def paths_of(inputs: DecisionInputs, of_task: str) -> set[str]:
    storage = inputs.project.warehouse.storage
    paths = {relative(storage, path) for one in inputs.relations for path in one.files}
    return {path for path in paths if "task_id=" not in path or f"task_id={of_task}/" in path}


def test_two_tasks_share_an_engine(world: World, tmp_path: Path) -> None:
    """The inputs of the task that is bound last are read by the one that was bound before."""
    project = open_home(world, tmp_path)
    with open_engine(project.settings) as engine:
        care, comeback = (
            with_exclusions(decision_inputs(engine, project, task(project.store, name)))
            for name in ("care", "comeback")
        )
        for inputs in (care, comeback):
            table = decided_table(inputs.engine, decide_rows(inputs))
            assert set(table.column("task_id").to_pylist()) == {inputs.task.task_id}
            wanted = engine.value(f"select count(*) from {inputs.population}")
            assert table.num_rows == wanted > 0
        models = [
            engine.rows(f"select distinct model_name from {one.scores}") for one in (care, comeback)
        ]
    assert models == [[("churn",)], [("winback",)]]


def test_the_inputs_of_then_are_those_that_were_written_down(world: World, tmp_path: Path) -> None:
    """A replay reads other files, another moment or another choice than the decision did."""
    project = open_home(world, tmp_path)
    provenance = read_provenance(project.warehouse, "care")[D]
    with open_engine(project.settings) as engine:
        now = with_exclusions(decision_inputs(engine, project, task(project.store, "care")))
        then = recorded_inputs(engine, project, provenance)
        assert paths_of(then, "care") == set(provenance.files)
        assert then.contact_moment == datetime.fromisoformat(provenance.contact["moment"])
        assert then.scored == now.scored == provenance.scored is not None
        assert then.choice == now.choice
        assert set(candidates(then).files) == {
            path for relation in then.relations for path in relation.files
        }


def test_a_decision_stands_while_its_inputs_do(world: World, tmp_path: Path) -> None:
    """A refusal makes a decision that stands look stale, or another policy leaves it standing."""
    project = open_home(world, tmp_path)
    open_task = replace(task(project.store, "care"), frozen=False)
    frozen: Task = replace(open_task, frozen=True)
    fewer = open_task.spec.selection.model_copy(update={"top_n": 3})
    other_policy = replace(open_task, spec=open_task.spec.model_copy(update={"selection": fewer}))
    with open_engine(project.settings) as engine:
        inputs = decision_inputs(engine, project, open_task)
        changed = decision_inputs(engine, project, other_policy)
        with pytest.raises(ValueError, match="who is excluded"):
            candidates(inputs)
        assert inputs_as_decided(engine, project, frozen).stands
        with pytest.raises(NotReadyError):  # its data files lie in another folder than then
            inputs_as_decided(engine, project, open_task)
    decided = replace(inputs, standing=inputs.fingerprint)
    assert decided.stands and decided.state == "unchanged"
    refused = replace(decided, fingerprint=f"{inputs.fingerprint}.0123456789abcdef")
    assert refused.stands and refused.state == "changed"
    changed = replace(changed, standing=inputs.fingerprint)
    assert not changed.stands and changed.state == "changed"
    assert replace(changed, task=frozen).stands
    assert replace(changed, task=frozen).state == "frozen"
    new = replace(inputs, standing=None)
    assert new.state == "new" and not new.stands and not replace(new, task=frozen).stands
