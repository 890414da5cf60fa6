"""One of the two policies: a home of its own, in a world of its own with the same luck."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.campaigns.files import apply_files
from usergrowth_dagster.control.audit import whoami
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.examples.rounds.plan import SEEN_DAYS, RoundPlan
from usergrowth_dagster.examples.worlds.living import LivingWorld
from usergrowth_dagster.examples.worlds.synthetic import write_population
from usergrowth_dagster.homes.home import make_home, open_home
from usergrowth_dagster.intake.touches import HOLDOUT, bind_touches
from usergrowth_dagster.project import Project
from usergrowth_dagster.runs.execute import execute
from usergrowth_dagster.runs.reports import RunReport
from usergrowth_dagster.settings import CONFIG_NAME
from usergrowth_dagster.warehouse.engine import open_engine

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Side:
    """A policy at work: its home, the rounds that it plays, and its campaign file by round."""

    name: str
    home: Path
    plan: RoundPlan
    campaign: Callable[[int], str]

    def project(self) -> Project:
        """The home, opened as it is today; Dagster is pointed at it."""
        from usergrowth_dagster.defs.resources import report_progress

        return Project(open_home(self.home), report_progress)

    def world(self, project: Project) -> LivingWorld:
        """The world, as it answers this policy."""
        return LivingWorld(self.plan.world(project.settings.message_price), project.landing)

    def has_sent(self, number: int) -> bool:
        """Whether a round's texts went out already."""
        from usergrowth_dagster.control.tasks import all_tasks

        tasks = {task.task_id: task for task in all_tasks(self.project().store)}
        return self.plan.task(number) in tasks and tasks[self.plan.task(number)].frozen

    def live_on(self, number: int) -> None:
        """Let the days before a round pass, with the texts of the rounds before it."""
        project = self.project()
        first, last = self.plan.stretch(number)
        world, day = self.world(project), self.plan.day(number)
        texts = sent_texts(project, self.plan.day(1), last)
        world.live_on(texts, first, last, project.progress)
        if number in self.plan.numbers:
            people = world.seen(day, SEEN_DAYS)
            write_population(world.world, project.landing, self.plan.task(number), day, people)

    def ingest(self, number: int) -> RunReport:
        """Land the days before a round; what this policy sent lands with them."""
        from usergrowth_dagster.defs.jobs import INGEST, range_tags

        turn_to(self.home, self.plan.day(number))
        self.project()
        return execute(INGEST, tags=range_tags(*self.plan.stretch(number)))

    def apply(self, number: int) -> None:
        """Apply the campaign file of a round, and approve its text."""
        from usergrowth_dagster.control.review import review

        folder = self.home / "campaigns"
        folder.mkdir(exist_ok=True)
        path = folder / "comeback.yaml"
        path.write_text(self.campaign(number), encoding="utf-8")
        project = self.project()
        list(apply_files(project, [path], whoami()))
        for kind, called in (("signature", "Example"), ("template", "short")):
            review(project.store, kind, called, True, "demonstration", "demo")

    def decide(self, number: int, config: Mapping[str, Any]) -> RunReport:
        """Score, decide and send a round.

        Raises:
            UserError: a task failed.
        """
        from usergrowth_dagster.defs.jobs import DECIDE
        from usergrowth_dagster.intake.uploads import register_uploads

        day = self.plan.day(number)
        self.apply(number)
        register_uploads(self.project(), day)
        report = execute(DECIDE, partition=day.isoformat(), config=config)
        if report.failures:
            raise UserError("; ".join(report.failures), code="run.failed")
        return report


def open_side(
    name: str, home: Path, plan: RoundPlan, campaign: Callable[[int], str], **values: Any
) -> Side:
    """Make a policy's home; one in which these rounds were begun is taken up where it stands.

    Raises:
        UserError: the home holds something else.
    """
    config = home / CONFIG_NAME
    text = config.read_text(encoding="utf-8") if config.exists() else ""
    today = re.search(r'^today = "([0-9-]+)"$', text, re.MULTILINE)
    made = {
        "today": today[1] if today else plan.day(1).isoformat(),
        "start_date": plan.first_day.isoformat(),
        "seed": plan.seed,
        "simulated_people": True,
        **values,
    }
    make_home(home, made)
    return Side(name, home, plan, campaign)


def turn_to(home: Path, day: date) -> None:
    """Set the home's business clock to 10:00 of a day."""
    path = home / CONFIG_NAME
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r'^today = ".*"$', f'today = "{day}"', text, flags=re.M), "utf-8")


def sent_texts(project: Project, first: date, last: date) -> "pa.Table":
    """What a home sent in [first, last], as texts of the living world."""
    with open_engine(project.settings) as engine:
        bind_touches(engine, project, first, max(first, last))
        return engine.arrow(
            "select user_id, day as ds, item_id, if(segments = 1, 'short', 'long') as copy "
            f"from touches where target <> '{HOLDOUT}' order by ds, user_id"
        )
