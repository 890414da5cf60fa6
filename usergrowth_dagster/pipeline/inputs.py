"""All that a task is decided from, as one value that is worked out once.

Deciding, the output, planning, previewing and replaying take a :class:`DecisionInputs`: the bound
relations, how the campaign chooses on the date, and what the decision in the table was made from.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from usergrowth_dagster.audience.records import TABLE, State, decision_fingerprint, state_of
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.identity.persons import (
    bind_persons,
    bind_users_of_persons,
    recorded_people,
)
from usergrowth_dagster.messaging.texts.billing import billing_of, price_of
from usergrowth_dagster.pipeline.attributes import bind_attributes
from usergrowth_dagster.pipeline.choice import Choice, choice_of, texts_mark
from usergrowth_dagster.pipeline.each import NotReadyError
from usergrowth_dagster.pipeline.exclusions import contact_moment, exclusions
from usergrowth_dagster.pipeline.provenance import (
    EXCLUSION_COLUMNS,
    EXCLUSIONS,
    Provenance,
    ScoreProvenance,
    read_provenance,
    recorded_project,
    recorded_task,
)
from usergrowth_dagster.pipeline.score import SCORES, bind_scores, is_scored
from usergrowth_dagster.pipeline.scoring_rows import bind_population
from usergrowth_dagster.pipeline.segment import BoundSegment, bind_recorded, bind_segment
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.relation import Relation, bind_days

_BEFORE_EXCLUSIONS = "."
"""In a decision's fingerprint, before that of the rows that the contact policy excluded, if any."""


@dataclass(frozen=True)
class DecisionInputs:
    """What one task is decided from, bound in one engine.

    Attributes:
        engine: holds the relations.
        project: the home; of a decision of before, with the files and settings of that time.
        task: the task.
        population: rows of the upload, with a unique ``row``.
        scores: by ``row``, what the models say.
        features: of users, as of the date.
        attributes: ``user_id``, ``kvs_str`` and ``kvs_num`` of users, as of the date.
        persons: ``user_id``, ``person`` and ``person_users`` of users who are one person with
            other users; None: the home knows no persons.
        exclusions: ``row`` and ``reason`` of those whom the contact policy excludes; None: it has
            not been asked.
        segment: people of the campaign's segment; None where it has none.
        scored: what the scores were made from; None for scores from before this was kept.
        choice: the policy and the control groups.
        contact_moment: as of when the contact policy is asked (UTC).
        fingerprint: of all of this.
        standing: fingerprint of the decision in the table; None: there is none.
    """

    engine: Engine
    project: Project
    task: Task
    population: Relation
    scores: Relation
    features: Relation
    attributes: Relation
    persons: Relation | None
    exclusions: Relation | None
    segment: BoundSegment | None
    scored: ScoreProvenance | None
    choice: Choice
    contact_moment: datetime
    fingerprint: str
    standing: str | None

    @property
    def relations(self) -> tuple[Relation, ...]:
        """All bound relations, in the order in which they go in."""
        members = None if self.segment is None else self.segment.members
        asked = (one for one in (self.persons, self.exclusions, members) if one is not None)
        return (self.population, self.attributes, self.features, self.scores, *asked)

    @property
    def state(self) -> State:
        """What deciding by these inputs does to the decision in the table."""
        return state_of(self.standing, self.fingerprint, frozen=self.task.frozen)

    @property
    def stands(self) -> bool:
        """Whether the decision in the table is the one of these inputs, or is frozen.

        A refusal since then is no reason to decide anew: planning and sending ask again.
        """
        if self.standing is None:
            return False
        decided_from, present = (
            mark.partition(_BEFORE_EXCLUSIONS)[0] for mark in (self.standing, self.fingerprint)
        )
        return self.task.frozen or decided_from == present


def decision_inputs(engine: Engine, project: Project, task: Task) -> DecisionInputs:
    """Bind what a task is decided from as of now; who is excluded is not asked.

    Raises:
        NotReadyError: the population has not been scored as it is now.
        UserError: the campaign chooses by uplift, there is none, and it names no fallback; or its
            segment has no snapshot.
    """
    population = bind_population(engine, project, task)
    if not task.frozen and not is_scored(project, task, population):
        raise NotReadyError(task.task_id)
    day, scope = task.execution_date, {"task_id": task.task_id}
    persons = bind_persons(engine, project, day)
    noted = project.warehouse.notes(SCORES, scope, first=day, last=day).get(day)
    return _bound(
        engine,
        project,
        task,
        population,
        segment=_segment(engine, project, task),
        people=None if persons is None else persons.people,
        scored=ScoreProvenance.model_validate(noted) if noted else None,
        moment=contact_moment(project.settings, task),
    )


def _segment(engine: Engine, project: Project, task: Task) -> BoundSegment | None:
    """The snapshot that a task is bound to: that of the decision where it cannot change."""
    if task.spec.selection.segment is None:
        return None
    if task.frozen:
        decided = read_provenance(project.warehouse, task.task_id).get(task.execution_date)
        if decided is not None:
            return bind_recorded(engine, project, decided.segment)
    return bind_segment(engine, project, task)


def _bound(
    engine: Engine,
    project: Project,
    task: Task,
    population: Relation,
    *,
    segment: BoundSegment | None,
    people: Relation | None,
    scored: ScoreProvenance | None,
    moment: datetime,
) -> DecisionInputs:
    day = task.execution_date
    scores = bind_scores(engine, project, task)
    columns = load_graph().types("user_features")
    inputs = DecisionInputs(
        engine=engine,
        project=project,
        task=task,
        population=population,
        scores=scores,
        features=bind_days(engine, project.warehouse, "user_features", [day], columns),
        attributes=bind_attributes(engine, project, day),
        persons=None if people is None else bind_users_of_persons(engine, people, population),
        exclusions=None,
        segment=segment,
        scored=scored,
        choice=choice_of(project.settings, task, by_uplift=_by_uplift(engine, scores)),
        contact_moment=moment,
        fingerprint="",
        standing=project.warehouse.fingerprint(TABLE, day, {"task_id": task.task_id}),
    )
    return replace(inputs, fingerprint=_fingerprint(inputs))


def with_exclusions(inputs: DecisionInputs) -> DecisionInputs:
    """The inputs with the rows that the contact policy excludes now."""
    excluded = exclusions(
        inputs.engine, inputs.project, inputs.task, inputs.population, inputs.contact_moment
    )
    mark = inputs.fingerprint
    if excluded.fingerprint:
        mark = f"{mark}{_BEFORE_EXCLUSIONS}{excluded.fingerprint}"
    return replace(inputs, exclusions=excluded, fingerprint=mark)


def inputs_as_decided(engine: Engine, project: Project, task: Task) -> DecisionInputs:
    """The inputs of a task that is decided by them, or frozen.

    Raises:
        NotReadyError: the decision that stands was made from other inputs than the present ones.
    """
    if project.warehouse.fingerprint(TABLE, task.execution_date, {"task_id": task.task_id}) is None:
        raise NotReadyError(task.task_id)
    inputs = decision_inputs(engine, project, task)
    if not inputs.stands:
        raise NotReadyError(task.task_id)
    return inputs


def recorded_inputs(engine: Engine, project: Project, provenance: Provenance) -> DecisionInputs:
    """The inputs that a decision was made from, whatever has landed or been set since.

    Args:
        engine: where they are bound.
        project: the home as it is.
        provenance: the provenance of the decision.
    """
    home, task = recorded_project(project, provenance), recorded_task(provenance)
    day = provenance.execution_date
    inputs = _bound(
        engine,
        home,
        task,
        bind_population(engine, home, task),
        segment=bind_recorded(engine, home, provenance.segment),
        people=recorded_people(engine, home),
        scored=provenance.scored,
        moment=datetime.fromisoformat(provenance.contact["moment"]),
    )
    excluded = bind_days(engine, home.warehouse, EXCLUSIONS, [day], EXCLUSION_COLUMNS)
    return replace(inputs, exclusions=excluded)


def _by_uplift(engine: Engine, scores: Relation) -> bool:
    """Whether the scores come from an uplift model too."""
    if "uplift_version" not in scores.columns:
        return False
    return bool(engine.value(f"select count(uplift_version) > 0 from {scores}"))


def _fingerprint(inputs: DecisionInputs) -> str:
    """Hash of what a decision is made from, but for who is excluded by the contact policy."""
    settings, task, choice = inputs.project.settings, inputs.task, inputs.choice
    consent = task.spec.contact.require_consent
    attributes, features = inputs.attributes.files, inputs.features.files
    strata = "\n".join(sorted([*features, *attributes])) if choice.holdout.strata else ""
    return decision_fingerprint(
        population="\n".join(sorted(inputs.population.files)),
        features=inputs.scores.files,
        model="",  # named by the score files
        policy=choice.policy,
        holdout=choice.holdout,
        global_holdout=choice.global_holdout,
        extra={
            "template": texts_mark(task, settings),
            "signature": task.spec.signature.name,
            "price": "/".join(repr(price_of(settings, one)) for one in task.spec.channels),
            "billing": "/".join(billing_of(settings, one) for one in task.spec.channels),
            "consent": "\n".join([consent, *sorted(attributes)]) if consent else "",
            "active_days": str(settings.active_days),
            "campaign": task.campaign,
            "strata": strata,
            **({"segment": inputs.segment.mark} if inputs.segment is not None else {}),
            **_persons_mark(inputs),
        },
    )


def _persons_mark(inputs: DecisionInputs) -> dict[str, str]:
    """Which users of the population are one person; nothing where all stand for themselves."""
    if inputs.persons is None:
        return {}
    count, content = inputs.engine.rows(
        "select count(*), bit_xor(md5_number_lower(concat_ws(chr(10), user_id, person, "
        f"array_to_string(person_users, chr(10))))) from {inputs.persons}"
    )[0]
    return {"persons": f"{count}:{content}"} if count else {}
