"""What a demo came to, read back from the tables, the models and the ledger."""

from typing import Any

from usergrowth_dagster.audience.eligibility import TEXTED_OUTCOMES
from usergrowth_dagster.audience.records import read_decisions, spend, summarize
from usergrowth_dagster.control.tasks import Task, tasks_for
from usergrowth_dagster.data.contracts import LANDING_TABLES
from usergrowth_dagster.examples.datasets import Example
from usergrowth_dagster.examples.screen import Screen
from usergrowth_dagster.messaging.ledger import Ledger
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.plans.plan import read_plan
from usergrowth_dagster.messaging.schedules.occurrences import occurrences_of
from usergrowth_dagster.pipeline.score import scoring_model
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.landing import QUARANTINE

SHOWN = {
    "auc": "AUC",
    "pr_auc": "PR-AUC",
    "log_loss": "log-loss",
    "ece": "calibration error",
    "capture_40": "capture at 40 %",
}


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
        decisions = read_decisions(engine, project.warehouse, task.execution_date, task.task_id)
    outcomes = summarize(decisions)
    paid = spend(decisions)
    ledger = Ledger(
        project.store, open_vault(project.settings.home, project.settings.default_country)
    )
    sent: dict[str, int] = {}
    for occurrence in occurrences_of(project.store, task.task_id):
        for state, people in read_plan(ledger, occurrence).states.items():
            sent[state] = sent.get(state, 0) + people
    blocked = {"duplicate", "no_features", "no_phone", "bad_phone", "no_country"}
    blocked |= {"no_email", "bad_email", "suppressed", "capped", "no_consent", "not_active"}
    blocked |= {"unknown_zone"}
    return {
        "campaign": task.campaign,
        "population": decisions.num_rows,
        "eligible": decisions.num_rows - sum(outcomes.get(name, 0) for name in blocked),
        "selected": sum(outcomes.get(name, 0) for name in TEXTED_OUTCOMES),
        "explored": outcomes.get("explored", 0),
        "held_out": outcomes.get("holdout", 0),
        "held_out_globally": decisions.column("holdout").to_pylist().count("global"),
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


def show_summary(summary: dict[str, Any], screen: Screen) -> None:
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
        rows = [
            (
                scorer + (" *" if scorer == model["champion"] else ""),
                *(_figure(metrics.get(metric)) for metric in SHOWN),
            )
            for scorer, metrics in model["metrics"].items()
        ]
        show_table(f"Model {name}, version {model['version']}", ("", *SHOWN.values()), rows)
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
