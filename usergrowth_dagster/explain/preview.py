"""What a task would send, before anything is sent.

A task without a plan is planned in a throw-away copy of the database, by the code that will plan
it: so the figures are those of the plan, and nothing is changed.
"""

from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal

from usergrowth_dagster.audience.eligibility import OUTCOMES
from usergrowth_dagster.audience.records import decided_rows
from usergrowth_dagster.control.codes import JobStatus, OccurrenceState
from usergrowth_dagster.control.review import Review, reviews
from usergrowth_dagster.control.tasks import Task, all_tasks
from usergrowth_dagster.control.wall_clock import shown_moment
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.explain.rehearse import rehearsal
from usergrowth_dagster.explain.text_notices import notices_of_population, notices_of_texts
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.people.phones import PhoneVault, open_vault
from usergrowth_dagster.messaging.plans.forecast import Forecast, forecast
from usergrowth_dagster.messaging.plans.plan import committed
from usergrowth_dagster.messaging.policy.checks import check_fresh
from usergrowth_dagster.messaging.schedules.occurrences import (
    Occurrence,
    business_now,
    find_occurrence,
)
from usergrowth_dagster.pipeline.attributes import count_unknown_zones
from usergrowth_dagster.pipeline.each import NotReadyError
from usergrowth_dagster.pipeline.inputs import inputs_as_decided
from usergrowth_dagster.pipeline.send import plan_task
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import Engine, open_engine

_ANY_AGE = 36_500


@dataclass(frozen=True)
class Preview:
    """What is known of a task before its texts go out.

    ``decided`` counts population rows by outcome, empty while the task is not decided;
    ``forecast`` is None then, or when it cannot be planned; ``problems`` are sentences that say
    why it would not be sent. ``committed`` is what the schedule's other occurrences cost;
    ``unknown_zones`` counts rows by a time zone that names none for certain; ``notices`` are
    sentences about what would look odd in the texts.
    """

    task: Task
    planned: bool
    decided: dict[str, int]
    forecast: Forecast | None
    reviews: list[Review]
    committed: Decimal = Decimal(0)
    problems: list[str] = field(default_factory=list)
    unknown_zones: dict[str, int] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)


def tasks_of(project: Project, campaign: str, day: date | None) -> list[Task]:
    """A campaign's tasks of a date; without one, those of its newest date.

    Raises:
        UserError: there are none; the sentence says what to do.
    """
    mine = [task for task in all_tasks(project.store) if task.campaign == campaign]
    if not mine:
        raise UserError(
            f"campaign {campaign!r} has no task yet: apply its file, or upload its population",
            code="campaign.unknown",
        )
    wanted = day or max(task.execution_date for task in mine)
    of_date = [task for task in mine if task.execution_date == wanted]
    if not of_date:
        days = ", ".join(sorted({str(task.execution_date) for task in mine}))
        raise UserError(
            f"campaign {campaign!r} has no task on {wanted}; it has some on {days}",
            code="campaign.unknown",
        )
    return of_date


def preview_task(project: Project, task: Task, samples: int) -> Preview:
    """Look at a task: its plan, or else what its decision would be planned as."""
    with open_engine(project.settings) as engine:
        preview = _of_decision(engine, project, task)
        opened = find_occurrence(project.store, task)
        if opened is not None and opened.state is not OccurrenceState.PLANNING:
            planned = _forecast(project, engine, opened, samples)
            paid = _committed(project, opened)
            return replace(preview, planned=True, forecast=planned, committed=paid)
        if not preview.decided:
            return preview
        with rehearsal(project, task) as rehearsed:
            try:
                plan = plan_task(rehearsed, _any_age(task))
            except UserError as error:
                return replace(preview, problems=[str(error)])
            return replace(
                preview,
                forecast=_forecast(rehearsed, engine, plan.occurrence, samples),
                committed=_committed(rehearsed, plan.occurrence),
                problems=_problems(project, task, plan.occurrence),
            )


def _of_decision(engine: Engine, project: Project, task: Task) -> Preview:
    """What is known from the decision that stands, if there is one, and from the texts."""
    notices = notices_of_texts(task.spec)
    bare = Preview(task, False, {}, None, reviews(project.store, task.campaign), notices=notices)
    try:
        inputs = inputs_as_decided(engine, project, task)
    except NotReadyError:
        return bare
    decision = decided_rows(engine, project.warehouse, task.execution_date, task.task_id)
    counts = dict(engine.rows(f"select outcome, count(*) from {decision} group by 1 order by 1"))
    decided = {name: counts[name] for name in sorted(counts, key=_place)}
    if not decided:
        return bare
    return replace(
        bare,
        decided=decided,
        unknown_zones=count_unknown_zones(
            engine, project.settings, inputs.population, inputs.attributes
        ),
        notices=[*notices, *notices_of_population(engine, inputs.population)],
    )


def _place(outcome: str) -> int:
    return OUTCOMES.index(outcome) if outcome in OUTCOMES else len(OUTCOMES)


def _any_age(task: Task) -> Task:
    """The task, as if its output were written and its audience could not grow too old."""
    contact = task.spec.contact.model_copy(update={"max_audience_days": _ANY_AGE})
    spec = task.spec.model_copy(update={"contact": contact})
    return replace(task, spec=spec, status=JobStatus.SUCCESS)


def _problems(project: Project, task: Task, opened: Occurrence) -> list[str]:
    now = business_now(project.settings)
    if opened.send_by <= now:
        last = shown_moment(opened.send_by, project.settings.zone)
        return [
            f"task {task.task_id}: its texts had to go out by {last}; planned now, every one "
            f"expires at once. See usergrowth run --date {task.execution_date} --rehearse"
        ]
    try:
        check_fresh(project.settings, task, opened.due)
    except UserError as error:
        return [str(error)]
    return []


def _forecast(project: Project, engine: Engine, opened: Occurrence, samples: int) -> Forecast:
    ledger = Ledger(project.store, _vault(project))
    return forecast(ledger, engine, opened, project.settings.zone, samples)


def _committed(project: Project, opened: Occurrence) -> Decimal:
    with project.store.read() as connection:
        return committed(connection, opened)


def _vault(project: Project) -> PhoneVault:
    return open_vault(project.settings.home, project.settings.default_country)
