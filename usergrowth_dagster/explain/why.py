"""Why a person got a message, or did not: from the decision down to the receipt.

Which features mattered for a row's score is read from what the score was made from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date, datetime
from typing import Any

from usergrowth_dagster.audience.decisions import DECISION_COLUMNS
from usergrowth_dagster.audience.eligibility import OUTCOMES as OUTCOMES_IN_ORDER
from usergrowth_dagster.audience.records import TABLE as DECISIONS
from usergrowth_dagster.control.codes import JobStatus
from usergrowth_dagster.control.tasks import Task, all_tasks
from usergrowth_dagster.effects.outcomes import OUTCOME_COLUMNS
from usergrowth_dagster.effects.outcomes import TABLE as OUTCOMES
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.explain.story import (
    Asking,
    Cut,
    Story,
    Why,
    sending_step,
    steps_of,
    task_sentence,
)
from usergrowth_dagster.learning.problems import problem_called, problems
from usergrowth_dagster.learning.targets import target_called
from usergrowth_dagster.messaging.people.forget import forgotten_since
from usergrowth_dagster.messaging.people.person import Contact, Record, read_person
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.schedules.occurrences import business_now
from usergrowth_dagster.pipeline.decide import Decision, read_decision
from usergrowth_dagster.pipeline.provenance import (
    Provenance,
    recorded_project,
    recorded_task,
)
from usergrowth_dagster.pipeline.score import RESPONSE
from usergrowth_dagster.pipeline.scoring_rows import bind_population, bind_scoring_rows
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import identifier
from usergrowth_dagster.ranks import UPLIFT
from usergrowth_dagster.training.questions import question_of
from usergrowth_dagster.training.train import training_config
from usergrowth_dagster.warehouse.columns import types_of
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.population import POPULATION
from usergrowth_dagster.warehouse.relation import bind_days, bind_files

FEATURE_TABLES = ("user_features", "user_item_features")

_PEOPLE = {
    "ds": "DATE",
    "task_id": "VARCHAR",
    "row": "BIGINT",
    "user_id": "VARCHAR",
    "item_id": "VARCHAR",
    "phone": "VARCHAR",
    "variables": "MAP(VARCHAR, VARCHAR)",
}
_DECISION = (
    *("row", "item_id", "outcome", "score", UPLIFT, "net_value", "rank", "arm", "propensity"),
    *("holdout", "users", "stratum", "variant", "variant_propensity", "messages", "cost"),
    *("model_name", "model_version", "uplift_version", "policy_hash"),
)
_OUTCOME = types_of(OUTCOME_COLUMNS)
_AFTER = ("returned", "days_to_return", "amount", "window_last", "counted_until", "sent")
_FIRST_CHOSEN = OUTCOMES_IN_ORDER.index("below_threshold")
_LANDED_TABLES = ("population", "raw_user", "raw_behavior", "raw_operation")
_MATTERED = 3  # tasks, the newest, whose models are asked: each has to be loaded


def why(
    project: Project, user_id: str, *, campaign: str | None = None, day: date | None = None
) -> Why:
    """Describe what became of a person.

    Args:
        project: the home.
        user_id: the user.
        campaign: only tasks of this campaign.
        day: only tasks of this execution date.

    Raises:
        UserError: no such campaign, no task of that date, or nothing is known of the user.
    """
    tasks = _asked(project, campaign, day)
    vault = open_vault(project.settings.home, project.settings.default_country)
    days = sorted({task.execution_date for task in tasks})
    with open_engine(project.settings) as engine:
        people = _rows(engine, project, POPULATION, _PEOPLE, days, user_id)
        decided = _rows(engine, project, DECISIONS, DECISION_COLUMNS, days, user_id)
        measured = _rows(engine, project, OUTCOMES, _OUTCOME, days, user_id)
        known = _feature_days(engine, project, days, user_id)
    addresses = {row["phone"] for row in people if row["phone"]}
    addresses |= {e for row in people if (e := (row["variables"] or {}).get("email"))}
    now = business_now(project.settings)
    record = read_person(project.store, project.settings, vault, user_id, addresses, now)
    stories = [_story(task, people, decided, record, known) for task in tasks]
    inside = [s for s in stories if s.rows or s.decisions or s.messages]
    zone = project.settings.zone
    by_name = {task.task_id: task for task in tasks}
    for place, story in enumerate(inside):
        story.sentence = task_sentence(story, record.contact, zone)
        if story.decisions:
            _explain(project, by_name[story.task_id], story, measured, place < _MATTERED)
    forgotten = forgotten_since(project.store, vault, user_id)
    contact = record.contact
    known_elsewhere = forgotten or record.messages or contact.suppressed or contact.lifted
    if not (inside or known_elsewhere):
        _require_known(project, user_id)
    return Why(
        user_id,
        _answer(user_id, inside, forgotten, contact, len(tasks), project),
        forgotten,
        inside,
        len(stories) - len(inside),
        contact,
    )


def _asked(project: Project, campaign: str | None, day: date | None) -> list[Task]:
    every = all_tasks(project.store)
    if campaign is not None and campaign not in {task.campaign for task in every}:
        names = ", ".join(sorted({task.campaign for task in every})) or "none"
        raise UserError(
            f"no task belongs to a campaign {campaign!r}; campaigns with tasks: {names}",
            code="campaign.unknown",
        )
    chosen = [
        task
        for task in every
        if campaign in (None, task.campaign) and day in (None, task.execution_date)
    ]
    if day is not None and not chosen:
        days = ", ".join(sorted({str(task.execution_date) for task in every})) or "none"
        raise UserError(
            f"no task has the execution date {day}; dates with tasks: {days}",
            code="date.out_of_range",
        )
    return sorted(chosen, key=lambda task: (task.execution_date, task.task_id), reverse=True)


def _rows(
    engine: Engine,
    project: Project,
    table: str,
    kinds: Mapping[str, str],
    days: Sequence[date],
    user_id: str,
) -> list[dict[str, Any]]:
    """A user's rows of some days of a table."""
    rows = bind_days(engine, project.warehouse, table, days, kinds)
    listed = ", ".join(map(identifier, kinds))
    mine = engine.rows(
        f'select {listed} from {rows} where user_id = ? order by ds, task_id, "row"', [user_id]
    )
    return [dict(zip(kinds, row, strict=True)) for row in mine]


def _feature_days(
    engine: Engine, project: Project, days: Sequence[date], user_id: str
) -> set[date]:
    kinds = {"ds": "DATE", "user_id": "VARCHAR"}
    features = bind_days(engine, project.warehouse, "user_features", days, kinds)
    return {
        day for (day,) in engine.rows(f"select ds from {features} where user_id = ?", [user_id])
    }


def _require_known(project: Project, user_id: str) -> None:
    """Refuse a user id that stands in no population and in nothing that has landed, on any day.

    Raises:
        UserError: it does not.
    """
    with open_engine(project.settings) as engine:
        for table in _LANDED_TABLES:
            files = [name for names in project.warehouse.files(table).values() for name in names]
            rows = bind_files(engine, table, files, {"user_id": "VARCHAR"})
            if engine.rows(f"select 1 from {rows} where user_id = ? limit 1", [user_id]):
                return
    raise UserError(
        f"no user is called {user_id!r}: the id stands in no population, message, suppression, or "
        "landed user, behavior or operation; give the user_id as it is written there",
        code="person.unknown",
    )


def _story(
    task: Task,
    people: Sequence[dict[str, Any]],
    decided: Sequence[dict[str, Any]],
    record: Record,
    known: set[date],
) -> Story:
    def mine(row: dict[str, Any]) -> bool:
        return bool(row["task_id"] == task.task_id and row["ds"] == task.execution_date)

    rows = [row["row"] for row in people if mine(row)]
    decisions = [{name: row[name] for name in _DECISION} for row in decided if mine(row)]
    decisions.sort(key=lambda row: OUTCOMES_IN_ORDER.index(row["outcome"]), reverse=True)
    return Story(
        task_id=task.task_id,
        campaign=task.campaign,
        execution_date=task.execution_date,
        status=JobStatus(task.status).name.lower(),
        rows=rows,
        features=task.execution_date in known if rows else None,
        decisions=decisions,
        messages=[m for m in record.messages if m["task_id"] == task.task_id],
        stays=problem_called(task.spec.algorithm.kind).staying,
    )


def _asking(project: Project, decision: Decision) -> Asking:
    """The users that a decision could be about."""
    days = project.settings.active_days
    if decision.provenance is not None:
        days = decision.provenance.settings.get("active_days", days)
    question = question_of(project.settings, decision.spec)
    return Asking(question.active_within(days), question.about())


def _explain(
    project: Project,
    task: Task,
    story: Story,
    measured: Sequence[dict[str, Any]],
    deep: bool,
) -> None:
    """Describe what the decision that counts was asked, what moved its score, and what came after.

    Args:
        project: the home.
        task: the task.
        story: of the person in the task; completed here.
        measured: the person's rows of the outcomes.
        deep: whether the model is asked.
    """
    row = story.decisions[0]
    story.eligible = OUTCOMES_IN_ORDER.index(row["outcome"]) >= _FIRST_CHOSEN
    with open_engine(project.settings) as engine:
        decision = read_decision(engine, project, task)
        cut = _cut(engine, decision)
    asked = _asking(project, decision)
    story.steps = steps_of(row, decision.spec, decision.provenance, cut, asked)
    if row["arm"] == "treatment":
        story.steps.append(sending_step(story.messages))
    if row["score"] is None:
        story.mattered_note = "there is no score"
    elif deep:
        story.mattered, story.mattered_note = what_mattered(
            project, decision.provenance, row["row"]
        )
    else:
        story.mattered_note = "ask with --campaign or --date for the features of this task"
    for outcome in measured:
        if (outcome["task_id"], outcome["ds"], outcome["row"]) == (
            task.task_id,
            task.execution_date,
            row["row"],
        ):
            story.outcome = {name: outcome[name] for name in _AFTER}


def _cut(engine: Engine, decision: Decision) -> Cut:
    """Where the task's choice ended."""
    rank, score = engine.rows(
        f"select max(rank), arg_max(score, rank) from {decision.rows} "
        "where outcome in ('selected', 'holdout')"
    )[0]
    return Cut(rank, score)


def _answer(
    user_id: str,
    inside: Sequence[Story],
    forgotten: datetime | None,
    contact: Contact,
    asked: int,
    project: Project,
) -> str:
    """The sentence at the top."""
    if forgotten is not None:
        day = forgotten.astimezone(project.settings.zone).date()
        return (
            f"{user_id} was forgotten on {day}: nothing that names the person is kept, and "
            "nothing is sent to them"
        )
    if inside:
        newest = inside[0]
        others = len(inside) - 1
        more = f" ({others} more task{'s' if others > 1 else ''} below)" if others else ""
        return (
            f"{user_id} {newest.sentence} (campaign {newest.campaign}, task {newest.task_id}, "
            f"{newest.execution_date}){more}"
        )
    where = "there is no task yet" if not asked else f"in the population of none of {asked} tasks"
    suppressed = ", and suppressed" if contact.suppressed else ""
    return f"{user_id} got nothing: {where}{suppressed}"


def what_mattered(
    project: Project, provenance: Provenance | None, row: int, *, top: int = 6
) -> tuple[list[dict[str, Any]], str]:
    """The features that moved a row's score most, and why there are none, if so.

    Each has ``feature``, ``meaning``, ``value``, ``usual`` and ``odds``, see
    :class:`usergrowth_dagster.learning.contributions.Contribution`.

    Args:
        project: the home.
        provenance: the provenance of the decision; None where it was not kept.
        row: the row's place in the upload.
        top: how many at most.
    """
    from usergrowth_dagster.learning.artifacts import load
    from usergrowth_dagster.learning.contributions import contributions
    from usergrowth_dagster.learning.store import versions

    if provenance is None or provenance.scored is None or RESPONSE not in provenance.scored.models:
        return [], "what the score was made from was not written down then"
    storage = project.warehouse.storage
    if not all(storage.exists(path) for path in provenance.scored.files):
        return [], "features that the score was made from are gone"
    scored_by = provenance.scored.models[RESPONSE]
    problem = problems().get(scored_by.name)
    if problem is not None and not target_called(problem.target).contributes:
        return [], "the score is an amount, which is no sum of parts of the features"
    every = versions(project.settings, scored_by.name)
    ref = next((one for one in every if one.version == scored_by.version), None)
    if ref is None:
        return [], f"{scored_by.name} version {scored_by.version} is not in MLflow any more"
    try:
        model = load(replace(ref, digest=scored_by.digest))
    except UserError as error:
        return [], str(error)
    then, task = recorded_project(project, provenance, as_scored=True), recorded_task(provenance)
    with open_engine(then.settings) as engine:
        population = bind_population(engine, then, task)
        rows = bind_scoring_rows(engine, then, task, population, training_config(then, task.spec))
        parts = contributions(engine, model, str(rows.response), row, top=top)
    features = [{**asdict(one), "meaning": meaning_of(one.column, one.key)} for one in parts]
    return features, "" if features else "no feature of this user differs from those of the others"


def meaning_of(column: str, key: str | None) -> str:
    """What a feature says, in words."""
    graph = load_graph()
    meanings = {
        one.name: one.description
        for table in FEATURE_TABLES
        for one in graph.columns(table).values()
    }
    meaning = meanings.get(column, column.replace("_", " "))
    short = meaning.split(", 1 = ")[0].split("; ")[0]
    return short if key is None else f"{short}: {key}"
