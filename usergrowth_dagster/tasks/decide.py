"""Step 3 of a task: decide every row, record the decision, write output.csv."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usergrowth_dagster.audience.decisions import decide
from usergrowth_dagster.audience.output import OutputFile, write_output
from usergrowth_dagster.audience.records import (
    TABLE,
    State,
    bind_decisions,
    decision_fingerprint,
    decision_state,
    read_decisions,
    write_decisions,
)
from usergrowth_dagster.audience.summary import Spend, spend, summarize
from usergrowth_dagster.control.jobs import task_succeeded
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.messaging.texts.billing import billing_of, price_of
from usergrowth_dagster.tasks.candidates import bind_candidates
from usergrowth_dagster.tasks.choice import Choice, choice_of, scored_by_uplift
from usergrowth_dagster.tasks.each import NotReadyError
from usergrowth_dagster.tasks.people import bind_attributes, bind_barred
from usergrowth_dagster.tasks.pins import pin_decision
from usergrowth_dagster.tasks.project import Project
from usergrowth_dagster.tasks.score import bind_population, bind_scores, feature_version, is_scored
from usergrowth_dagster.tasks.strata_known import require_known_strata
from usergrowth_dagster.tasks.variants import texts_mark
from usergrowth_dagster.warehouse.engine import Engine, open_engine

if TYPE_CHECKING:
    import pyarrow as pa

_BARRED = "."
"""In a decision's fingerprint, before the hash of those whom the contact policy barred, if any."""


@dataclass(frozen=True)
class Decided:
    """A decision: what became of it, rows by outcome, and what the texts would cost.

    ``note`` is a sentence when the campaign's fallback decided, for want of an uplift model.
    """

    state: State
    message: str
    outcomes: dict[str, int]
    spend: Spend
    version: int | None
    note: str = ""


def _inputs_mark(engine: Engine, project: Project, task: Task) -> str:
    """Hash of what a decision is made from, but for who is barred by the contact policy.

    Binds ``task_population``, ``task_scores`` and ``user_attributes``.

    Raises:
        NotReadyError: the population has not been scored as it is now.
    """
    population = bind_population(engine, project, task)
    scores = bind_scores(engine, project, task)
    if not is_scored(project, task, population) and not task.frozen:
        raise NotReadyError(task.task_id)
    attributes = bind_attributes(engine, project, task)
    choice = _choice(engine, project, task)
    consent = task.spec.contact.require_consent
    return decision_fingerprint(
        population="\n".join(sorted(population)),
        features=scores,
        model="",  # named by the score files
        policy=choice.policy,
        holdout=choice.holdout,
        global_holdout=choice.global_holdout,
        extra={
            "template": texts_mark(task),
            "signature": task.spec.signature.name,
            "price": repr(price_of(project.settings, task.spec.channel)),
            "billing": billing_of(project.settings, task.spec.channel),
            "consent": "\n".join([consent, *sorted(attributes)]) if consent else "",
            "active_days": str(project.settings.active_days),
            "campaign": task.campaign,
            "strata": _strata_mark(project, task, attributes) if choice.holdout.strata else "",
        },
    )


def _strata_mark(project: Project, task: Task, attributes: list[str]) -> str:
    """The files that strata are read from: features and attributes of the date."""
    day = task.execution_date
    features = project.warehouse.files("user_features", first=day, last=day).get(day, [])
    return "\n".join(sorted([*features, *attributes]))


def bind_standing_decision(engine: Engine, project: Project, task: Task) -> None:
    """Make the views ``task_population`` and ``decisions`` of a task that is decided.

    Raises:
        NotReadyError: the decision that stands was made from other inputs than the present ones.
    """
    warehouse, day = project.warehouse, task.execution_date
    made_from = warehouse.fingerprint(TABLE, day, {"task_id": task.task_id})
    if made_from is None:
        raise NotReadyError(task.task_id)
    mark = _inputs_mark(engine, project, task)
    # A refusal since then is no reason to decide anew: planning and sending ask again.
    if not (task.frozen or made_from.split(_BARRED)[0] == mark):
        raise NotReadyError(task.task_id)
    bind_decisions(engine, warehouse, day, task.task_id)


def decide_task(project: Project, task: Task) -> Decided:
    """Decide a task; a decision from the same inputs stands, and one that is sent is not remade.

    Raises:
        NotReadyError: the population has not been scored as it is now.
        UserError: a stratum of the control group that nobody has.
    """
    warehouse, day = project.warehouse, task.execution_date
    with open_engine(project.settings) as engine:
        mark = _inputs_mark(engine, project, task)
        state = decision_state(warehouse, day, task.task_id, mark, frozen=task.frozen)
        if state != "frozen" and (barred := bind_barred(engine, project, task)):
            mark = f"{mark}{_BARRED}{hashlib.sha256(barred.encode()).hexdigest()[:16]}"
            state = decision_state(warehouse, day, task.task_id, mark, frozen=task.frozen)
        if state in ("new", "changed"):
            require_known_strata(engine, task)
            table = decide_rows(engine, project, task)
            note = pin_decision(engine, project, task, table)
        else:
            note = None
            table = read_decisions(engine, warehouse, day, task.task_id)
        written = write_decisions(
            warehouse,
            table,
            execution_date=day,
            task_id=task.task_id,
            fingerprint=mark,
            frozen=task.frozen,
            note=note,
        )
        choice_note = _choice(engine, project, task).note
    return Decided(
        written.state,
        written.message,
        summarize(table),
        spend(table),
        written.version,
        choice_note,
    )


def decide_rows(engine: Engine, project: Project, task: Task) -> "pa.Table":
    """Decide what is bound: ``task_population``, ``task_scores``, ``user_attributes``, ``barred``.

    A replay asks this again, with what was bound then.
    """
    return _decide(engine, project, task, _choice(engine, project, task))


def _choice(engine: Engine, project: Project, task: Task) -> Choice:
    """How a task is decided, by the view ``task_scores``."""
    return choice_of(project.settings, task, by_uplift=scored_by_uplift(engine))


def _decide(engine: Engine, project: Project, task: Task, choice: Choice) -> "pa.Table":
    return decide(
        engine,
        bind_candidates(engine, project, task),
        task_id=task.task_id,
        execution_date=task.execution_date,
        campaign=task.campaign,
        policy=choice.policy,
        holdout=choice.holdout,
        global_holdout=choice.global_holdout,
        channel=task.spec.channel,
        feature_version=feature_version(project),
        population_version=project.warehouse.version("population"),
    )


def write_task_output(project: Project, task: Task) -> OutputFile:
    """Write output.csv from a task's decision; the task has succeeded then.

    Raises:
        UserError: the output folder holds something foreign.
        NotReadyError: the task is not decided on its present inputs.
    """
    with open_engine(project.settings) as engine:
        bind_standing_decision(engine, project, task)
        output = write_output(
            engine,
            project.landing,
            task.output,
            state=project.state,
            task_id=task.task_id,
            execution_date=task.execution_date,
            population="task_population",
            for_spreadsheets=project.settings.output_for_spreadsheets,
        )
        rows = engine.value("select count(*) from decisions")
        note = _choice(engine, project, task).note
    if not task.frozen:
        task_succeeded(
            project.store, task.task_id, population=rows, selected=output.rows, note=note
        )
    return output
