"""The decisions table: written once per task and date, frozen when a person or a send relies on it.

What a decision was made from is one fingerprint, kept with the commit. The same fingerprint again
means the same decision, so nothing is written; another one replaces the decision unless the caller
says that the task is approved or sent. Then the old decision stays and is read, not remade.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal

from usergrowth_dagster.audience.decisions import DECISION_COLUMNS
from usergrowth_dagster.audience.eligibility import OUTCOMES
from usergrowth_dagster.audience.holdout import NOBODY, Holdout
from usergrowth_dagster.audience.policy import MONEY, Policy
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import (
    Relation,
    bind_days,
    bind_query,
    files_fingerprint,
)
from usergrowth_dagster.warehouse.tables import Warehouse

TABLE = "decisions"

State = Literal["new", "unchanged", "changed", "frozen"]

_TASK_ID = re.compile(r"[^\x00-\x1f'\"/\\]{1,128}")


@dataclass(frozen=True)
class Written:
    """What became of a decision.

    ``state`` is ``new`` or ``changed`` (rows were written, ``version`` is the new Delta version),
    ``unchanged`` (made from the same inputs) or ``frozen`` (made from others, but kept).
    ``message`` says it in a sentence.
    """

    state: State
    version: int | None
    rows: int
    message: str


def check_task_id(task_id: str) -> str:
    """The task id, when it can name a folder and a partition.

    Raises:
        UserError: it is empty, too long, or has a quote, slash or control character.
    """
    if not _TASK_ID.fullmatch(task_id) or task_id in {".", ".."}:
        raise UserError(
            f"task id {task_id!r}: use 1 to 128 characters without quotes, slashes and control "
            "characters",
            code="task.invalid_name",
        )
    return task_id


def decision_fingerprint(
    *,
    population: str,
    features: Sequence[str],
    model: str,
    policy: Policy,
    holdout: Holdout,
    global_holdout: Holdout = NOBODY,
    extra: Mapping[str, str] | None = None,
) -> str:
    """One hash of everything that a decision is made from.

    Args:
        population: version or content fingerprint of the population.
        features: the data files of the features that were scored, in any order.
        model: name and version of the model.
        policy: the selection policy.
        holdout: the campaign's control group, with the epoch in force and its strata.
        global_holdout: that of all campaigns, with the epoch in force.
        extra: further inputs by name, such as the template, the price and the suppressions.
    """
    parts = {
        "population": population,
        "features": sorted(features),
        "model": model,
        "policy": policy.policy_hash,
        "holdout": holdout.model_dump(),
        "global_holdout": global_holdout.model_dump(),
        "extra": dict(extra or {}),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def state_of(standing: str | None, fingerprint: str, *, frozen: bool) -> State:
    """What writing would do to the decision that stands.

    Args:
        standing: fingerprint of the decision in the table; None: there is none.
        fingerprint: of the present inputs.
        frozen: whether the task is approved or sent, so that its decision may not change.
    """
    if standing is None:
        return "new"
    if standing == fingerprint:
        return "unchanged"
    return "frozen" if frozen else "changed"


def decision_state(
    warehouse: Warehouse,
    execution_date: date,
    task_id: str,
    fingerprint: str,
    *,
    frozen: bool = False,
) -> State:
    """What writing would do: asked before the work, it saves deciding what stands already.

    Args:
        warehouse: where the decisions are.
        execution_date: D.
        task_id: the task.
        fingerprint: of the present inputs, by :func:`decision_fingerprint`.
        frozen: whether the task is approved or sent, so that its decision may not change.
    """
    scope = {"task_id": check_task_id(task_id)}
    standing = warehouse.fingerprint(TABLE, execution_date, scope)
    return state_of(standing, fingerprint, frozen=frozen)


def write_decisions(
    engine: Engine,
    warehouse: Warehouse,
    rows: Relation,
    *,
    execution_date: date,
    task_id: str,
    fingerprint: str,
    frozen: bool = False,
    note: Mapping[str, Any] | None = None,
) -> Written:
    """Record a task's decision in one commit, or leave the one that stands.

    Args:
        engine: holds the rows.
        warehouse: where the decisions are.
        rows: the result of :func:`usergrowth_dagster.audience.decisions.decide`.
        execution_date: D, the ``ds`` of all its rows.
        task_id: the task of all its rows.
        fingerprint: what it was made from, by :func:`decision_fingerprint`.
        frozen: whether the task is approved or sent.
        note: what the decision was made from, in full, kept with its commit.
    """
    state = decision_state(warehouse, execution_date, task_id, fingerprint, frozen=frozen)
    named = f"decision of task {task_id!r} on {execution_date}"
    if state == "unchanged":
        return Written(state, None, 0, f"the {named} stands: it was made from the same inputs")
    if state == "frozen":
        return Written(
            state,
            None,
            0,
            f"the {named} is approved or sent and stays as it is, although its inputs have "
            "changed since",
        )
    if engine.value(f"select count(*) from {rows} where task_id <> {literal(task_id)}"):
        raise ValueError(f"the {named} holds rows of other tasks")
    commit = warehouse.replace(
        TABLE,
        lambda: engine.stream(f'select * from {rows} order by "row"'),
        days=[execution_date],
        scope={"task_id": task_id},
        fingerprints={execution_date: fingerprint},
        notes=None if note is None else {execution_date: note},
    )
    verb = "is new" if state == "new" else "has been remade from changed inputs"
    return Written(state, commit.version, commit.rows, f"the {named} {verb}")


def decided_rows(
    engine: Engine, warehouse: Warehouse, execution_date: date, task_id: str
) -> Relation:
    """One task's decision as it stands, with :data:`DECISION_COLUMNS`; empty when there is none."""
    days = bind_days(engine, warehouse, TABLE, [execution_date], DECISION_COLUMNS)
    mine = f"select * from {days} where task_id = {literal(check_task_id(task_id))}"
    rows = bind_query(engine, "decision", mine)
    task_files = tuple(path for path in days.files if f"/task_id={task_id}/" in path)
    return replace(rows, files=task_files, fingerprint=files_fingerprint(task_files))


@dataclass(frozen=True)
class Spend:
    """What the texts take: message segments, and cost in currency."""

    messages: int
    cost: float


def summarize(engine: Engine, rows: Relation) -> dict[str, int]:
    """Rows by outcome, in the outcomes' order of precedence; those without rows are left out.

    The counts add up to the rows of the decision, which are the rows of the population.
    """
    counts = dict(engine.rows(f"select outcome, count(*) from {rows} group by outcome"))
    known = [outcome for outcome in OUTCOMES if outcome in counts]
    return {outcome: counts[outcome] for outcome in [*known, *sorted(counts.keys() - set(known))]}


def spend(engine: Engine, rows: Relation) -> Spend:
    """Expected messages and cost of the rows that are texted, rounded to 1e-9 of the currency."""
    # decimals are exact, as the budget is checked
    messages, cost = engine.rows(
        "select coalesce(sum(messages), 0), "
        f"coalesce(sum(cast(round(cost, 9) as {MONEY})), 0) from {rows} where arm = 'treatment'"
    )[0]
    return Spend(int(messages), float(cost))
