"""The demo: an example data set through the whole chain, with a summary of what came out."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from usergrowth_dagster.campaigns.files import apply_files
from usergrowth_dagster.control.audit import whoami
from usergrowth_dagster.control.campaign_schema import FILE_NAME, write_schema
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.examples.datasets import Example, example
from usergrowth_dagster.examples.kannel import await_receipts, demo_gateway
from usergrowth_dagster.examples.screen import Screen
from usergrowth_dagster.examples.summary import read_summary, show_summary
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.project import Project
from usergrowth_dagster.runs.execute import execute
from usergrowth_dagster.runs.reports import RunReport
from usergrowth_dagster.settings import Settings

MEASURE_ALL = {"ops": {"effects": {"config": {"when": "always"}}}}
"""Run config of the job ``measure``: tasks whose windows have not begun, too."""

DEFAULT_USERS = 2_000
"""Users of the synthetic world, unless asked for others."""


class Stages:
    """Times the stages of a demo and announces each."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, text: str) -> Iterator[None]:
        """One stage."""
        self.screen.say(f"{len(self.seconds) + 1}. {text}")
        began = time.perf_counter()
        with self.screen.progress():
            yield
        self.seconds[name] = round(time.perf_counter() - began, 1)


def run_demo(
    home: Path | None, dataset: str, users: int, screen: Screen, gateway: str = ""
) -> None:
    """Run the demo in a home folder; a second run finds everything up to date.

    With the gateway ``kannel`` its texts go through a Kannel on this machine, and it waits for
    their delivery reports.

    Raises:
        UserError: unknown data set, a home that holds something else, or Kannel is not installed.
    """
    chosen = example(dataset, users)
    settings = make_home(home, chosen.settings)
    screen.say(f"{dataset}: execution date {chosen.execution_date}, home {settings.home}\n")
    with demo_gateway(settings, gateway, screen.say) as reports:
        _run_stages(chosen, settings, reports, screen)


def _run_stages(chosen: Example, settings: Settings, reports: bool, screen: Screen) -> None:
    project = Project(settings)
    stages = Stages(screen)
    with stages.stage("write landing files", "Write the data set as landing files"):
        from usergrowth_dagster.defs.resources import tell

        project.progress = tell
        chosen.write(project)
    with stages.stage("land and make facts", "Land every day through its contract, make facts"):
        _ingest(chosen)
    with stages.stage("apply campaigns", "Apply the campaigns and approve their texts"):
        _apply(project, chosen)
    with stages.stage("train", "Train and evaluate the models on what was known before the date"):
        execute("train", partition=chosen.execution_date.isoformat())
    with stages.stage("decide and batch", "Score, decide, write output.csv, batch and dispatch"):
        report = execute("decide", partition=chosen.execution_date.isoformat())
    _refuse_failures(report)
    if reports:
        with stages.stage("delivery reports", "Wait for the delivery reports"):
            await_receipts(project.store, screen.say)
    with stages.stage("report", "Write the reports of what the texts brought back"):
        execute("measure", partition=chosen.execution_date.isoformat(), config=MEASURE_ALL)
    summary = read_summary(project, chosen, stages.seconds)
    path = settings.home / "demo" / "summary.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    show_summary(summary, screen)
    screen.say(f"\nSummary: {path}")
    for task_id in summary["tasks"]:
        screen.say(f"Report: {project.report_paths(task_id)[0]}")
    screen.say("Look around in the UI: make dev")


def _ingest(chosen: Example) -> RunReport:
    from usergrowth_dagster.defs.jobs import INGEST, range_tags

    last = chosen.execution_date - timedelta(days=1)
    return execute(INGEST, tags=range_tags(chosen.first_day, last))


def _apply(project: Project, chosen: Example) -> None:
    from usergrowth_dagster.control.campaign import load_campaign
    from usergrowth_dagster.control.review import review

    folder = project.settings.home / "campaigns"
    folder.mkdir(exist_ok=True)
    write_schema(folder / FILE_NAME)
    paths = []
    for name, text in chosen.campaigns.items():
        path = folder / name
        if not path.exists():  # an edited file is the user's
            path.write_text(text, encoding="utf-8")
        paths.append(path)
    list(apply_files(project, paths, whoami()))
    store = project.store
    for path in paths:
        spec = load_campaign(path)
        review(store, "signature", spec.signature.name, True, "demonstration", "demo")
        for one in spec.template.texts:
            review(store, "template", one.name, True, "demonstration", "demo")


def _refuse_failures(report: RunReport) -> None:
    if report.failures:
        raise UserError("; ".join(report.failures), code="run.failed")
