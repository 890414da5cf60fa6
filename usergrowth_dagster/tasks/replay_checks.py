"""The checks of a replay: each part of a decision, then and now."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from usergrowth_dagster.audience.hashing import differing_columns, relation_hash
from usergrowth_dagster.audience.records import TABLE, bind_decisions
from usergrowth_dagster.control.audit import entries
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.ranks import UPLIFT
from usergrowth_dagster.tasks.choice import choice_of, scored_by_uplift
from usergrowth_dagster.tasks.decide import decide_rows
from usergrowth_dagster.tasks.pinned import pinned_task
from usergrowth_dagster.tasks.pins import BARRED, ModelPin, Pins, part_marks
from usergrowth_dagster.tasks.project import Project
from usergrowth_dagster.tasks.provenance import code_version, file_hash, table_of
from usergrowth_dagster.tasks.score import (
    RESPONSE,
    bind_population,
    bind_scores,
    bind_scoring_rows,
    make_scores,
)
from usergrowth_dagster.tasks.train import training_config
from usergrowth_dagster.warehouse.engine import Engine, open_engine

if TYPE_CHECKING:
    from usergrowth_dagster.learning.store import ModelRef

PARTS = (
    *("population", "attributes", "features", "model", "uplift model", "scores", "barred"),
    *("policy", "holdout", "template", "price", "settings", "code", "decision"),
)
"""What a decision is made from, in the order in which it goes in."""

_PART_OF = {
    "population": "population",
    "stg_user": "attributes",
    "scores": "scores",
    BARRED: "barred",
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


def file_checks(project: Project, pins: Pins) -> Iterator[Check]:
    """Whether every data file that was read is there, with the content that it had."""
    storage = project.warehouse.storage
    wanted = {**(pins.scored.files if pins.scored else {}), **pins.files}
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


def model_checks(project: Project, pins: Pins, models: "dict[str, ModelRef]") -> Iterator[Check]:
    """Whether the model versions have the files that scored; those that do go into ``models``."""
    if pins.scored is None:
        yield Check("model", "unknown", "the scores are from before they kept what made them")
        return
    for kind, pin in pins.scored.models.items():
        yield _model_check(project, kind, pin, models)


def _model_check(
    project: Project, kind: str, pin: ModelPin, models: "dict[str, ModelRef]"
) -> Check:
    from usergrowth_dagster.learning.digest import model_digest
    from usergrowth_dagster.learning.store import versions

    part, named = _MODELS.get(kind, "model"), f"{pin.name} version {pin.version}"
    found = [ref for ref in versions(project.settings, pin.name) if ref.version == pin.version]
    if not found:
        return Check(part, "gone", f"{named} is not in MLflow any more")
    try:
        digest = model_digest(found[0])
    except UserError as error:
        return Check(part, "gone", str(error))
    if digest != pin.digest:
        return Check(part, "differs", f"the files of {named} are not those that scored")
    models[kind] = replace(found[0], digest=pin.digest)
    status = found[0].status.replace("_", " ")
    return Check(part, "same", named + ("" if status == "approved" else f" ({status} now)"))


def score_check(
    scored: Project, decided: Project, pins: Pins, models: "Mapping[str, ModelRef]"
) -> Check:
    """Score again with the versions that scored then, on the features that they read."""
    if "response" not in models:
        return Check("scores", "unknown", "not made again")
    task, effects = pinned_task(pins), models.get(UPLIFT)
    with open_engine(scored.settings) as engine:
        bind_population(engine, scored, task)
        config = training_config(scored, task.spec)
        try:
            bind_scoring_rows(engine, scored, task, config, effects=effects is not None)
            level = pins.scored.level if pins.scored else 0.0
            make_scores(engine, scored.settings, task, models["response"], effects, level)
        except UserError as error:
            return Check("scores", "differs", f"they cannot be made again: {error}")
        bind_scores(engine, decided, task)
        names = ("score",) if effects is None else ("score", UPLIFT)
        told = [_compare(engine, name) for name in names]
    for rows, other, largest in told:
        if other:
            return Check(
                "scores",
                "differs",
                f"{other} of {rows} are not what the model gives (largest difference "
                f"{largest or 0:.2g})",
            )
    largest = max(found or 0.0 for _, _, found in told)
    exact = f"equal within {largest:.1g}" if largest else "equal to the last digit"
    return Check("scores", "same", f"{told[0][0]} made again, {exact}")


def _compare(engine: Engine, column: str) -> tuple[int, int, float | None]:
    """Rows, those whose score or uplift is another than in ``_scores``, the largest difference."""
    rows, other, largest = engine.rows(
        f"select count(*), "
        f"count(*) filter (where (a.{column} is null) is distinct from (b.{column} is null) "
        f"or abs(a.{column} - b.{column}) > {_ROUNDING} "
        'or a."row" is null or b."row" is null), '
        f"max(abs(a.{column} - b.{column})) "
        'from task_scores as a full join _scores as b on a."row" = b."row"'
    )[0]
    return int(rows), int(other), largest


def decide_again(engine: Engine, then: Project, task: Task, pins: Pins) -> str:
    """Decide what is bound into the table ``rebuilt``; its hash."""
    engine.bind_arrow("rebuilt", decide_rows(engine, then, task))
    return relation_hash(engine, "rebuilt", pins.columns)[0]


def mark_checks(engine: Engine, then: Project, task: Task, pins: Pins) -> Iterator[Check]:
    """Whether policy, holdout, template, price and settings are those that were written down."""
    choice = choice_of(then.settings, task, by_uplift=scored_by_uplift(engine))
    now = part_marks(pins.spec, pins.settings, choice)
    told = {
        "policy": json.dumps(pins.choice["policy"]),
        "holdout": f"{pins.choice['holdout']['share']:g} of the campaign's people, "
        f"{pins.choice['global_holdout']['share']:g} of all",
    }
    for part, mark in pins.marks.items():
        if part in PARTS and now.get(part) != mark:
            yield Check(part, "differs", "it is not what the decision wrote down of it")
        elif part in PARTS:
            yield Check(part, "same", told.get(part, ""))


def decision_checks(engine: Engine, project: Project, pins: Pins, rebuilt: str) -> Iterator[Check]:
    """Compare the rebuilt rows, and those that stand, with what was decided."""
    bind_decisions(engine, project.warehouse, pins.execution_date, pins.task_id, "standing")
    standing, _ = relation_hash(engine, "standing", pins.columns)
    now = code_version()
    other = ", ".join(
        f"{name} {pins.code.get(name)} became {version}"
        for name, version in now.items()
        if version != pins.code.get(name)
    )
    if rebuilt == pins.hash:
        yield Check("code", "same", other)
    else:
        told = _difference(engine, pins) if standing == pins.hash else "rows come out otherwise"
        yield Check("code", "differs", f"{told}, from the same inputs; {other or 'no version'}")
    if standing == pins.hash:
        yield Check("decision", "same", f"{pins.rows} rows with the hash {pins.hash}")
    else:
        told = _difference(engine, pins) if rebuilt == pins.hash else "they have another hash"
        yield Check(
            "decision", "differs", f"rows were altered after the decision: {told}{_by(project)}"
        )


def _difference(engine: Engine, pins: Pins) -> str:
    rows, columns = differing_columns(engine, "rebuilt", "standing", pins.columns)
    return f"{_count(rows, 'row')} of {pins.rows} in {', '.join(columns[:5])}"


def _by(project: Project) -> str:
    """The newest commit of the table that this product did not make."""
    for entry in project.warehouse.open(TABLE).history(200):
        if "usergrowth" not in entry:
            return f" (version {entry['version']} of the table is by another program)"
    return ""
