"""Rebuild a decision from what it was made from, and compare it with what was decided.

Every input is looked at in the order in which it went in (:data:`PARTS`); scores are made again by
the version that scored. Then the rows are decided anew by the present code. A decision is replayed
when the hash of the rebuilt rows, and that of the rows that stand in the table, are the hash that
its commit wrote down, and no input is another one.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Literal

from usergrowth_dagster.audience.hashing import differing_columns, relation_hash
from usergrowth_dagster.audience.records import TABLE, decided_rows
from usergrowth_dagster.control.audit import entries
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.pipeline.decide import decide_rows
from usergrowth_dagster.pipeline.inputs import DecisionInputs, recorded_inputs
from usergrowth_dagster.pipeline.provenance import (
    EXCLUSIONS,
    ModelProvenance,
    Provenance,
    code_version,
    file_hash,
    part_hashes,
    read_provenance,
    recorded_project,
    recorded_task,
    table_of,
)
from usergrowth_dagster.pipeline.score import RESPONSE, bind_scores, make_scores
from usergrowth_dagster.pipeline.scoring_rows import bind_population, bind_scoring_rows
from usergrowth_dagster.project import Project
from usergrowth_dagster.ranks import UPLIFT
from usergrowth_dagster.segments.snapshots import MEMBERS
from usergrowth_dagster.training.train import training_config
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.relation import Relation

if TYPE_CHECKING:
    from usergrowth_dagster.learning.store import ModelRef

PARTS = (
    *("population", "attributes", "features", "model", "uplift model", "scores", "exclusions"),
    "segment",
    *("policy", "holdout", "template", "price", "settings", "code", "decision"),
)
"""What a decision is made from, in the order in which it goes in."""

_PART_OF = {
    "population": "population",
    "stg_user": "attributes",
    "scores": "scores",
    EXCLUSIONS: "exclusions",
    MEMBERS: "segment",
}
_MODELS = {RESPONSE: "model", UPLIFT: "uplift model"}
_ROUNDING = 1e-9
"""Scores that differ by less were made by another machine, not from other inputs."""


@dataclass(frozen=True)
class Check:
    """What became of one part of a decision: the same as then, another, gone, or not known."""

    part: str
    state: Literal["same", "differs", "gone", "unknown"]
    detail: str = ""

    @property
    def bad(self) -> bool:
        """Whether the decision is not replayed because of it."""
        return self.state in ("differs", "gone")


@dataclass(frozen=True)
class Replayed:
    """What came of replaying one decision.

    ``state`` is ``equal``, ``different``, ``gone`` (an input is no longer there) or ``unpinned``
    (it was decided before decisions kept their inputs); ``first`` is the first part that differs.
    """

    task_id: str
    execution_date: date
    state: Literal["equal", "different", "gone", "unpinned"]
    sentence: str
    first: str | None = None
    rows: int | None = None
    decided_hash: str | None = None
    replayed_hash: str | None = None
    checks: tuple[Check, ...] = ()


def decided_tasks(project: Project) -> dict[str, list[date]]:
    """Every task with a decision, and the dates of its decisions."""
    state = project.warehouse.state(TABLE)
    days: dict[str, set[date]] = {}
    for file in state.files if state is not None else ():
        days.setdefault(file.partition["task_id"], set()).add(file.day)
    return {name: sorted(of_task) for name, of_task in sorted(days.items())}


def replay_tasks(project: Project, task_id: str | None) -> Iterator[Replayed]:
    """Replay the decisions of one task, or of all tasks, one after the other.

    Raises:
        UserError: the task has no decision.
    """
    for name in decided_tasks(project) if task_id is None else [task_id]:
        yield from replay_task(project, name)


def replay_task(project: Project, task_id: str) -> list[Replayed]:
    """Replay each decision of a task that stands, oldest first.

    Raises:
        UserError: the task has no decision.
    """
    decided = decided_tasks(project)
    if task_id not in decided:
        names = ", ".join(decided) or "none"
        raise UserError(
            f"task {task_id!r} has no decision to replay; tasks with one: {names}",
            code="task.undecided",
        )
    recorded = read_provenance(project.warehouse, task_id)
    return [
        replay(project, recorded[day]) if day in recorded else _unpinned(task_id, day)
        for day in decided[task_id]
    ]


def replay(project: Project, provenance: Provenance) -> Replayed:
    """Replay one decision."""
    of_models, models = model_checks(project, provenance)
    checks = [*file_checks(project, provenance), *of_models]
    rebuilt = None
    if not any(check.bad for check in checks):
        checks.append(score_check(project, provenance, models))
    if not any(check.state == "gone" for check in checks):
        with open_engine(recorded_project(project, provenance).settings) as engine:
            inputs = recorded_inputs(engine, project, provenance)
            rows = decide_rows(inputs)
            rebuilt, _ = relation_hash(engine, rows.name, provenance.columns)
            checks += part_checks(inputs, provenance)
            checks += decision_checks(engine, project, provenance, rows, rebuilt)
    checks.sort(key=lambda check: PARTS.index(check.part))
    return _judged(provenance, tuple(checks), rebuilt)


def _unpinned(task_id: str, day: date) -> Replayed:
    return Replayed(
        task_id,
        day,
        "unpinned",
        f"task {task_id} of {day} cannot be replayed: it was decided before decisions kept what "
        "they were made from",
    )


def _judged(provenance: Provenance, checks: tuple[Check, ...], rebuilt: str | None) -> Replayed:
    named = f"task {provenance.task_id} of {provenance.execution_date}"
    first = next((check for check in checks if check.bad), None)
    if first is None:
        code = next((c.detail for c in checks if c.part == "code"), "")
        sentence = (
            f"{named}: equal; {provenance.rows} rows replayed to the hash {provenance.hash}"
            f"{f', by other code: {code}' if code else ''}"
        )
    elif first.state == "gone":
        sentence = f"{named} cannot be replayed, {first.part}: {first.detail}"
    else:
        same = rebuilt == provenance.hash and first.part != "decision"
        sentence = f"{named} differs, first in {first.part}: {first.detail}" + (
            " (the rows come out as decided all the same)" if same else ""
        )
    return Replayed(
        task_id=provenance.task_id,
        execution_date=provenance.execution_date,
        state="equal" if first is None else "gone" if first.state == "gone" else "different",
        sentence=sentence,
        first=first.part if first else None,
        rows=provenance.rows,
        decided_hash=provenance.hash,
        replayed_hash=rebuilt,
        checks=checks,
    )


def file_checks(project: Project, provenance: Provenance) -> Iterator[Check]:
    """Whether every data file that was read is there, with the content that it had."""
    storage = project.warehouse.storage
    wanted = {**(provenance.scored.files if provenance.scored else {}), **provenance.files}
    parts: dict[str, list[str]] = {}
    for path in wanted:
        parts.setdefault(_PART_OF.get(table_of(path), "features"), []).append(path)
    for part, paths in parts.items():
        gone = [path for path in paths if not storage.exists(path)]
        other = [] if gone else [p for p in paths if file_hash(storage, p) != wanted[p]]
        if gone:
            yield Check(part, "gone", f"{_file(gone[0])} is gone; {_why_gone(project)}")
        elif other:
            yield Check(part, "differs", f"{_file(other[0])} has another content now")
        else:
            yield Check(part, "same", _count(len(paths), "data file"))


def _file(path: str) -> str:
    day = next(part for part in path.split("/") if part.startswith("ds="))[3:]
    return f"a data file of {table_of(path)} of {day} ({path.rsplit('/', 1)[-1][:19]}…)"


def _why_gone(project: Project) -> str:
    forgets = [entry.time for entry in entries(project.store) if entry.action == "forget"]
    if not forgets:
        return "nobody was forgotten, so it was removed by hand"
    day = max(forgets).astimezone(project.settings.zone).date()
    return f"files that held a forgotten person are removed, and one was forgotten on {day}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def model_checks(
    project: Project, provenance: Provenance
) -> "tuple[list[Check], dict[str, ModelRef]]":
    """Whether the model versions have the files that scored, and those that do, by what they say.

    The keys are ``response`` and ``uplift``.
    """
    if provenance.scored is None:
        return [
            Check("model", "unknown", "the scores are from before they kept what made them")
        ], {}
    checks, models = [], {}
    for kind, version in provenance.scored.models.items():
        check, model = _model_check(project, kind, version)
        checks.append(check)
        if model is not None:
            models[kind] = model
    return checks, models


def _model_check(
    project: Project, kind: str, scored_by: ModelProvenance
) -> "tuple[Check, ModelRef | None]":
    from usergrowth_dagster.learning.artifacts import model_digest
    from usergrowth_dagster.learning.store import versions

    part, named = _MODELS.get(kind, "model"), f"{scored_by.name} version {scored_by.version}"
    every = versions(project.settings, scored_by.name)
    model = next((ref for ref in every if ref.version == scored_by.version), None)
    if model is None:
        return Check(part, "gone", f"{named} is not in MLflow any more"), None
    try:
        digest = model_digest(model)
    except UserError as error:
        return Check(part, "gone", str(error)), None
    if digest != scored_by.digest:
        return Check(part, "differs", f"the files of {named} are not those that scored"), None
    status = model.status.replace("_", " ")
    named += "" if status == "approved" else f" ({status} now)"
    return Check(part, "same", named), replace(model, digest=scored_by.digest)


def score_check(
    project: Project, provenance: Provenance, models: "Mapping[str, ModelRef]"
) -> Check:
    """Score again with the versions that scored then, on the features that they read."""
    if RESPONSE not in models:
        return Check("scores", "unknown", "not made again")
    scored, decided = (
        recorded_project(project, provenance, as_scored=kind) for kind in (True, False)
    )
    task, effects = recorded_task(provenance), models.get(UPLIFT)
    with open_engine(scored.settings) as engine:
        population = bind_population(engine, scored, task)
        config = training_config(scored, task.spec)
        try:
            rows = bind_scoring_rows(
                engine, scored, task, population, config, effects=effects is not None
            )
            level = provenance.scored.level if provenance.scored else 0.0
            made = make_scores(
                engine, scored.settings, task, rows, models[RESPONSE], effects, level
            )
        except UserError as error:
            return Check("scores", "differs", f"they cannot be made again: {error}")
        standing = bind_scores(engine, decided, task)
        names = ("score",) if effects is None else ("score", UPLIFT)
        compared = [_compare(engine, standing, made.scores, name) for name in names]
    for rows_in_all, other, largest in compared:
        if other:
            return Check(
                "scores",
                "differs",
                f"{other} of {rows_in_all} are not what the model gives (largest difference "
                f"{largest or 0:.2g})",
            )
    largest = max(difference or 0.0 for _, _, difference in compared)
    exact = f"equal within {largest:.1g}" if largest else "equal to the last digit"
    return Check("scores", "same", f"{compared[0][0]} made again, {exact}")


def _compare(
    engine: Engine, standing: Relation, made: Relation, column: str
) -> tuple[int, int, float | None]:
    """Rows, those whose score or uplift was made another, and the largest difference."""
    rows, other, largest = engine.rows(
        f"select count(*), "
        f"count(*) filter (where (a.{column} is null) is distinct from (b.{column} is null) "
        f"or abs(a.{column} - b.{column}) > {_ROUNDING} "
        'or a."row" is null or b."row" is null), '
        f"max(abs(a.{column} - b.{column})) "
        f'from {standing} as a full join {made} as b on a."row" = b."row"'
    )[0]
    return int(rows), int(other), largest


def part_checks(inputs: DecisionInputs, provenance: Provenance) -> Iterator[Check]:
    """Whether policy, holdout, template, price and settings are those that were written down."""
    now = part_hashes(provenance.spec, provenance.settings, inputs.choice)
    details = {
        "policy": json.dumps(provenance.choice["policy"]),
        "holdout": f"{provenance.choice['holdout']['share']:g} of the campaign's people, "
        f"{provenance.choice['global_holdout']['share']:g} of all",
    }
    for part, noted in provenance.marks.items():
        if part in PARTS and now.get(part) != noted:
            yield Check(part, "differs", "it is not what the decision wrote down of it")
        elif part in PARTS:
            yield Check(part, "same", details.get(part, ""))


def decision_checks(
    engine: Engine, project: Project, provenance: Provenance, rebuilt: Relation, digest: str
) -> Iterator[Check]:
    """Compare the rebuilt rows, whose hash is given, and those in the table with the decision."""
    day = provenance.execution_date
    standing = decided_rows(engine, project.warehouse, day, provenance.task_id)
    standing_digest, _ = relation_hash(engine, standing.name, provenance.columns)
    other = ", ".join(
        f"{name} {provenance.code.get(name)} became {version}"
        for name, version in code_version().items()
        if version != provenance.code.get(name)
    )
    if digest == provenance.hash:
        yield Check("code", "same", other)
    else:
        difference = "rows come out otherwise"
        if standing_digest == provenance.hash:
            difference = _difference(engine, rebuilt, standing, provenance)
        yield Check(
            "code", "differs", f"{difference}, from the same inputs; {other or 'no version'}"
        )
    if standing_digest == provenance.hash:
        yield Check("decision", "same", f"{provenance.rows} rows with the hash {provenance.hash}")
    else:
        difference = "they have another hash"
        if digest == provenance.hash:
            difference = _difference(engine, rebuilt, standing, provenance)
        yield Check(
            "decision",
            "differs",
            f"rows were altered after the decision: {difference}{_by(project)}",
        )


def _difference(
    engine: Engine, rebuilt: Relation, standing: Relation, provenance: Provenance
) -> str:
    rows, columns = differing_columns(engine, rebuilt.name, standing.name, provenance.columns)
    return f"{_count(rows, 'row')} of {provenance.rows} in {', '.join(columns[:5])}"


def _by(project: Project) -> str:
    """The newest commit of the table that this product did not make."""
    for entry in project.warehouse.open(TABLE).history(200):
        if "usergrowth" not in entry:
            return f" (version {entry['version']} of the table is by another program)"
    return ""
