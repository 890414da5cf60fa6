"""The demo: an example data set through the whole chain, with a summary of what came out.

The summary is read back from the tables, the models and the ledger.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from usergrowth_dagster.audience.eligibility import TEXTED_OUTCOMES
from usergrowth_dagster.audience.records import decided_rows, spend, summarize
from usergrowth_dagster.campaigns.files import apply_files
from usergrowth_dagster.control.audit import whoami
from usergrowth_dagster.control.campaign_schema import FILE_NAME, write_schema
from usergrowth_dagster.control.tasks import Task, tasks_for
from usergrowth_dagster.data.contracts import LANDING_TABLES
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.examples.datasets import Example, example
from usergrowth_dagster.examples.kannel import await_receipts, demo_gateway
from usergrowth_dagster.examples.screen import Screen
from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.plans.plan import read_plan
from usergrowth_dagster.messaging.schedules.occurrences import occurrences_of
from usergrowth_dagster.pipeline.score import scoring_model
from usergrowth_dagster.project import Project
from usergrowth_dagster.recommend.definition import FILE_NAME as RECOMMEND_FILE
from usergrowth_dagster.recommend.nightly import recommend_day
from usergrowth_dagster.runs.execute import execute
from usergrowth_dagster.runs.reports import RunReport
from usergrowth_dagster.runs.training import train_models
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.landing import QUARANTINE

_FIGURES = {
    "auc": "AUC",
    "pr_auc": "PR-AUC",
    "log_loss": "log-loss",
    "ece": "calibration error",
    "gini": "normalized Gini",
    "spearman": "rank correlation",
    "decile_error": "decile error",
    "capture_40": "capture at 40 %",
}
"""Names of figures; a model has those of a chance or those of an amount."""

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
        from usergrowth_dagster.defs.resources import report_progress

        project.progress = report_progress
        chosen.write(project)
    with stages.stage("land and make facts", "Land every day through its contract, make facts"):
        ingest(chosen)
    write_home_files(project, chosen)
    if RECOMMEND_FILE in chosen.home_files:
        with stages.stage("recommend", "Recommend items to every user"):
            recommend_day(project, chosen.execution_date)
    with stages.stage("apply campaigns", "Apply the campaigns and approve their texts"):
        apply_campaigns(project, chosen)
    with stages.stage("train", "Train and evaluate the models on what was known before the date"):
        train_models(settings, chosen.execution_date)
    with stages.stage("decide and batch", "Score, decide, write output.csv, batch and dispatch"):
        decide(chosen.execution_date)
    if reports:
        with stages.stage("delivery reports", "Wait for the delivery reports"):
            await_receipts(project.store, screen.say)
    with stages.stage("report", "Write the reports of what the texts brought back"):
        execute("measure", partition=chosen.execution_date.isoformat(), config=MEASURE_ALL)
    summary = read_summary(project, chosen, stages.seconds)
    path = settings.home / "demo" / "summary.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _show_summary(summary, screen)
    screen.say(f"\nSummary: {path}")
    for task_id in summary["tasks"]:
        screen.say(f"Report: {project.report_paths(task_id)[0]}")
    screen.say("Look around in the UI: make dev")


def ingest(chosen: Example) -> RunReport:
    """Land every day of an example before its execution date, and make the facts."""
    from usergrowth_dagster.defs.jobs import INGEST, range_tags

    last = chosen.execution_date - timedelta(days=1)
    return execute(INGEST, tags=range_tags(chosen.first_day, last))


def write_home_files(project: Project, chosen: Example) -> None:
    """Write the further files of an example's home; one that is there is the user's."""
    for name, text in chosen.home_files.items():
        path = project.settings.home / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")


def apply_campaigns(project: Project, chosen: Example) -> None:
    """Write an example's campaign files into the home, apply them, and approve their texts."""
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


def decide(day: date) -> None:
    """Score, decide and dispatch the tasks of an execution date that have no send plan yet.

    Raises:
        UserError: a task failed.
    """
    report = execute("decide", partition=day.isoformat())
    if report.failures:
        raise UserError("; ".join(report.failures), code="run.failed")


def read_summary(project: Project, chosen: Example, seconds: dict[str, float]) -> dict[str, Any]:
    """Everything the demo's summary holds, as JSON-ready values."""
    tasks = tasks_for(project.store, chosen.execution_date)
    models: dict[str, Any] = {}
    for task in tasks:
        models.setdefault(task.spec.algorithm.kind, _model(project, task))
    return {
        "dataset": chosen.name,
        "execution_date": chosen.execution_date.isoformat(),
        "rows": _rows(project),
        "models": models,
        "tasks": {task.task_id: _task(project, task) for task in tasks},
        "seconds": seconds,
    }


def _rows(project: Project) -> dict[str, dict[str, int]]:
    rejected = dict.fromkeys(LANDING_TABLES, 0)
    files = [f for names in project.warehouse.files(QUARANTINE).values() for f in names]
    if files:
        with open_engine(project.settings) as engine:
            engine.bind_files(QUARANTINE, files, {"table_name": "VARCHAR", "ds": "DATE"})
            counted = engine.rows(f"select table_name, count(*) from {QUARANTINE} group by 1")
        rejected |= {str(name): int(count) for name, count in counted}
    landed = {
        name: sum(project.warehouse.row_counts(f"raw_{name}").values()) for name in LANDING_TABLES
    }
    landed["population"] = sum(project.warehouse.row_counts("population").values())
    return {
        name: {"landed": landed.get(name, 0), "quarantined": rejected.get(name, 0)}
        for name in {**landed, **rejected}
    }


def _model(project: Project, task: Task) -> dict[str, Any]:
    from usergrowth_dagster.learning.artifacts import read_artifacts

    ref = scoring_model(project, task)
    summary, _ = read_artifacts(ref)
    return {
        "version": ref.version,
        "champion": summary["champion"],
        "gain": summary["sentence"],
        "rows": summary["rows"],
        "slices": summary["slices"],
        "metrics": summary["metrics"],
        "paired": summary["paired"],
        "gates": summary["gates"],
    }


def _task(project: Project, task: Task) -> dict[str, Any]:
    with open_engine(project.settings) as engine:
        rows = decided_rows(engine, project.warehouse, task.execution_date, task.task_id)
        outcomes, paid = summarize(engine, rows), spend(engine, rows)
        held_globally = int(engine.value(f"select count(*) from {rows} where holdout = 'global'"))
    ledger = Ledger(
        project.store, open_vault(project.settings.home, project.settings.default_country)
    )
    sent: dict[str, int] = {}
    for occurrence in occurrences_of(project.store, task.task_id):
        for state, people in read_plan(ledger, occurrence).states.items():
            sent[state] = sent.get(state, 0) + people
    population = sum(outcomes.values())
    blocked = {"duplicate", "no_features", "no_phone", "bad_phone", "no_country"}
    blocked |= {"no_email", "bad_email", "suppressed", "capped", "no_consent", "not_active"}
    blocked |= {"unknown_zone", "not_in_segment", "not_in_question", "many_users"}
    return {
        "campaign": task.campaign,
        "population": population,
        "eligible": population - sum(outcomes.get(name, 0) for name in blocked),
        "selected": sum(outcomes.get(name, 0) for name in TEXTED_OUTCOMES),
        "explored": outcomes.get("explored", 0),
        "held_out": outcomes.get("holdout", 0),
        "held_out_globally": held_globally,
        "skipped": {
            name: count
            for name, count in outcomes.items()
            if count and name not in (*TEXTED_OUTCOMES, "holdout")
        },
        "messages": paid.messages,
        "cost": round(paid.cost, 6),
        "currency": project.settings.currency,
        "ledger": sent,
        "output": f"{task.output}/output.csv",
    }


def _figure(figure: dict[str, Any] | None) -> str:
    if not figure or figure["value"] is None:
        return ""
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def model_figures(model: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of a model's figures, a row a scorer; figures that none has are left out."""
    by_scorer = {
        scorer: {key: _figure(metrics.get(key)) for key in _FIGURES}
        for scorer, metrics in model["metrics"].items()
    }
    shown = [key for key in _FIGURES if any(row[key] for row in by_scorer.values())]
    rows = [
        (scorer + (" *" if scorer == model["champion"] else ""), *(row[key] for key in shown))
        for scorer, row in by_scorer.items()
    ]
    return ("", *(_FIGURES[key] for key in shown)), rows


def _show_summary(summary: dict[str, Any], screen: Screen) -> None:
    """Print the summary for a person."""
    say, show_table = screen.say, screen.table
    say("")
    show_table(
        "Landed",
        ("table", "rows", "quarantined"),
        [(n, f"{r['landed']:,}", f"{r['quarantined']:,}") for n, r in summary["rows"].items()],
    )
    for name, model in summary["models"].items():
        say("")
        show_table(f"Model {name}, version {model['version']}", *model_figures(model))
        say(model["gain"])
    say("")
    show_table(
        f"Tasks of {summary['execution_date']}",
        ("task", "population", "eligible", "selected", "held out", "messages", "cost", "ledger"),
        [
            (
                name,
                f"{t['population']:,}",
                f"{t['eligible']:,}",
                f"{t['selected']:,}" + (f" ({t['explored']:,} at random)" if t["explored"] else ""),
                f"{t['held_out']:,} ({t['held_out_globally']:,} for all campaigns)",
                f"{t['messages']:,}",
                f"{t['cost']:.2f} {t['currency']}",
                ", ".join(f"{state} {people}" for state, people in t["ledger"].items()),
            )
            for name, t in summary["tasks"].items()
        ],
    )
    for name, task in summary["tasks"].items():
        skipped = ", ".join(f"{reason} {count:,}" for reason, count in task["skipped"].items())
        say(f"{name}: not selected because {skipped or 'nothing'}")
    say("")
    show_table("Seconds", ("stage", "seconds"), [(n, s) for n, s in summary["seconds"].items()])
