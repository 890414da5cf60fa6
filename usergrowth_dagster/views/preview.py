"""What a campaign would send, to how many, when and for how much."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime

from usergrowth_dagster.control.review import Review
from usergrowth_dagster.explain.preview import Preview, preview_task, tasks_of
from usergrowth_dagster.messaging.plans.forecast import Forecast, Sample
from usergrowth_dagster.pipeline.attributes import unknown_zones_sentence
from usergrowth_dagster.pipeline.choice import variant_draw
from usergrowth_dagster.project import Project


@dataclass(frozen=True)
class HourView:
    """People of a zone whose messages may go from a local hour on."""

    zone: str
    hour: datetime
    people: int


@dataclass(frozen=True)
class TextView:
    """What one of several texts comes to.

    ``share`` is the chance of being drawn, None where the draw does not know the text any more;
    ``messages`` are billed segments; ``longest`` is in characters, None where nobody gets it;
    ``channel`` is how the text goes.
    """

    variant: str | None
    template_code: str
    share: float | None
    people: int
    messages: int
    cost: float
    longest: int | None
    content: str
    channel: str


@dataclass(frozen=True)
class ForecastView:
    """What a plan comes to, or would.

    Attributes:
        due: when it begins; UTC.
        send_by: when it ends; UTC.
        people: who get messages.
        considered: who were looked at, those that are skipped included.
        messages: billed segments.
        cost: of the messages.
        currency: of all amounts.
        selection_limit: what the selection may spend; None: no limit.
        schedule_limit: what the schedule may cost in all; None: no limit.
        committed: what the schedule's other occurrences cost.
        states: people by state of their message.
        standing: people by what became of their message, in words.
        skipped: people by reason.
        sizes: people by billed segments each.
        hours: in order of time.
        texts: each text with its share.
        several_texts: whether the text was drawn.
        longest: the longest message; None: there is none.
        samples: some messages, with addresses masked.
    """

    due: datetime
    send_by: datetime
    people: int
    considered: int
    messages: int
    cost: float
    currency: str
    selection_limit: float | None
    schedule_limit: float | None
    committed: float
    states: dict[str, int]
    standing: dict[str, int]
    skipped: dict[str, int]
    sizes: dict[int, int]
    hours: tuple[HourView, ...]
    texts: tuple[TextView, ...]
    several_texts: bool
    longest: Sample | None
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class PreviewView:
    """What is known of a task before its texts go out.

    Attributes:
        task: the task.
        campaign: its campaign.
        execution_date: its date.
        planned: whether its send plan is made.
        decided: rows of the population by outcome; empty: not decided.
        reviews: of its signature and texts.
        unknown_zones: rows by a time zone that names none for certain.
        notices: sentences about what would look odd in the texts.
        problems: sentences about why it would not be sent.
        forecast: None while the task is not decided, or cannot be planned.
        zone: name of the business time zone.
    """

    task: str
    campaign: str
    execution_date: date
    planned: bool
    decided: dict[str, int]
    reviews: tuple[Review, ...]
    unknown_zones: dict[str, int]
    notices: tuple[str, ...]
    problems: tuple[str, ...]
    forecast: ForecastView | None
    zone: str

    @property
    def unknown_zones_sentence(self) -> str:
        """How many people are held for their time zone; empty: nobody."""
        return unknown_zones_sentence(self.unknown_zones) if self.unknown_zones else ""


def read_previews(
    project: Project, campaign: str, day: date | None, samples: int
) -> Iterator[PreviewView]:
    """What each task of a campaign and date would send; nothing is changed.

    Args:
        project: the home.
        campaign: its name.
        day: the execution date; None: the campaign's newest.
        samples: messages to render.

    Raises:
        UserError: the campaign has no task on the date.
    """
    for task in tasks_of(project, campaign, day):
        yield view_preview(project, preview_task(project, task, samples))


def view_preview(project: Project, preview: Preview) -> PreviewView:
    """A task's preview as what people look at."""
    forecast = preview.forecast
    return PreviewView(
        preview.task.task_id,
        preview.task.campaign,
        preview.task.execution_date,
        preview.planned,
        preview.decided,
        tuple(preview.reviews),
        preview.unknown_zones,
        tuple(preview.notices),
        tuple(preview.problems),
        None if forecast is None else _forecast(preview, forecast),
        project.settings.zone.key,
    )


def _forecast(preview: Preview, forecast: Forecast) -> ForecastView:
    spec, plan = preview.task.spec, forecast.plan
    return ForecastView(
        due=plan.occurrence.due,
        send_by=plan.occurrence.send_by,
        people=plan.people,
        considered=sum(plan.states.values()),
        messages=plan.messages,
        cost=plan.cost,
        currency=plan.currency,
        selection_limit=spec.selection.spending_limit,
        schedule_limit=spec.schedule.max_cost,
        committed=float(preview.committed),
        states=plan.states,
        standing=plan.standing,
        skipped=plan.reasons,
        sizes=forecast.sizes,
        hours=tuple(
            HourView(zone, hour, people) for (zone, hour), people in forecast.hours.items()
        ),
        texts=_texts(preview, forecast),
        several_texts=bool(plan.occurrence.variants),
        longest=forecast.longest,
        samples=tuple(forecast.samples),
    )


def _texts(preview: Preview, forecast: Forecast) -> tuple[TextView, ...]:
    draw = variant_draw(preview.task)
    chances = draw.chances if draw else {}
    return tuple(
        TextView(
            name,
            one.template_code,
            None if name is None else chances.get(name),
            one.people,
            one.messages,
            one.cost,
            one.longest,
            one.content,
            one.channel,
        )
        for name, one in forecast.texts.items()
    )
