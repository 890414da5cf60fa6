"""The report of a task's effect: measured, with its funnel, written as a page and as JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.codes import JobStatus
from usergrowth_dagster.control.tasks import Task, all_tasks
from usergrowth_dagster.effects.analysis import as_dry_run
from usergrowth_dagster.effects.report.basis import Basis, basis_of
from usergrowth_dagster.effects.report.funnel import Fate, build_funnel
from usergrowth_dagster.effects.report.page import render_json, render_page
from usergrowth_dagster.effects.report.words import day as day_words
from usergrowth_dagster.effects.result import Effect, Funnel
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.measure.clicked import click_paths
from usergrowth_dagster.measure.effects import BEHAVIOR, measure, window_of
from usergrowth_dagster.measure.period import Part, measure_all, parts_of
from usergrowth_dagster.measure.policies import written_outcomes
from usergrowth_dagster.messaging.texts.billing import price_of
from usergrowth_dagster.pipeline.choice import choice_of
from usergrowth_dagster.pipeline.decide import read_decision
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings.gateways import DRY_RUN
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.landing import QUARANTINE
from usergrowth_dagster.warehouse.population import quarantine_name
from usergrowth_dagster.warehouse.relation import Relation


@dataclass(frozen=True)
class Report:
    """A report that is written; ``changed``: its files are not as they were."""

    effect: Effect
    basis: Basis
    page: Path
    data: Path
    changed: bool


def report_task(project: Project, task: Task) -> Report:
    """Measure a task and write its report.

    Files are written only when what they say has changed.

    Raises:
        UserError: the task has not been decided.
    """
    effect = measure(project, task)
    with open_engine(project.settings) as engine:
        measured = written_outcomes(engine, project, task)
        effect = replace(
            effect,
            funnel=_funnel(engine, project, task, measured, effect),
            clicks=click_paths(engine, project, task, measured, effect),
        )
        basis = _basis(engine, project, task)
    if _is_dry_run(project, _gateways(project, [task])):
        effect = as_dry_run(effect)
    return write_report(project, task.task_id, effect, basis)


def report_tasks(project: Project, tasks: Sequence[Task], failures: list[str]) -> Iterator[Report]:
    """Measure tasks and write their reports, one after the other.

    Args:
        project: the home.
        tasks: what to report.
        failures: gets a sentence for each task that has no report.
    """
    for task in tasks:
        try:
            yield report_task(project, task)
        except UserError as error:
            failures.append(str(error))


def decided_tasks(
    project: Project, *, campaign: str | None = None, day: date | None = None
) -> list[Task]:
    """Tasks that are decided and can be reported, by date.

    Args:
        project: the home.
        campaign: only tasks of this one.
        day: only tasks of this execution date.

    Raises:
        UserError: the campaign has no task, or none is decided.
    """
    tasks = all_tasks(project.store)
    if campaign is not None:
        names = sorted({task.campaign for task in tasks})
        tasks = [t for t in tasks if t.campaign == campaign and day in (None, t.execution_date)]
        if not tasks:
            when = f" of {day}" if day else ""
            raise UserError(
                f"campaign {campaign!r} has no task{when}; campaigns with tasks: "
                f"{', '.join(names) or 'none'}",
                code="campaign.unknown",
            )
    decided = [task for task in tasks if task.status == JobStatus.SUCCESS]
    if not decided:
        raise UserError(
            "no task has been decided yet; run its date first (usergrowth run --date)",
            code="task.undecided",
        )
    return sorted(decided, key=lambda task: (task.execution_date, task.task_id))


def report_period(project: Project, first: date, last: date) -> list[Report]:
    """Measure all campaigns of a period by the global control group, and write the report.

    Where the group was drawn afresh within the period there is one report for each draw.

    Args:
        project: the home.
        first: first execution date.
        last: last execution date.

    Raises:
        UserError: no task of the period has been decided.
    """
    return [_report_part(project, part) for part in parts_of(project, first, last)]


def _report_part(project: Project, part: Part) -> Report:
    """The report of a period within one draw."""
    first, last = part.first, part.last
    effect = measure_all(project, first, last)
    tasks = [task for task in all_tasks(project.store) if first <= task.execution_date <= last]
    campaigns = sorted({task.campaign for task in tasks})
    if _is_dry_run(project, _gateways(project, tasks)):
        effect = as_dry_run(effect)
    share = project.settings.global_holdout_share
    since = f", drawn on {day_words(part.drawn)}" if part.drawn else ""
    basis = Basis(
        [
            ("Execution dates", f"{day_words(first)} to {day_words(last)}"),
            ("Campaigns", f"{', '.join(campaigns)}; {len(tasks)} tasks"),
            ("Held out", f"{100 * share:g} % of all users, whom no campaign texts{since}"),
            ("Counts as a return", "any behavior in the window"),
        ]
    )
    return write_report(project, f"all_{first:%Y%m%d}_{last:%Y%m%d}", effect, basis)


def write_report(project: Project, name: str, effect: Effect, basis: Basis) -> Report:
    """Write the page and the JSON of an effect, each only when what it says has changed."""
    page, data = project.report_paths(name)
    changed = [
        _write(page, render_page(effect, basis)),
        _write(data, render_json(effect, basis)),
    ]
    return Report(effect, basis, page, data, any(changed))


def reports_due(project: Project) -> list[Task]:
    """Decided tasks of which more is known than their report says.

    Those whose window has begun and that have no report, or one from before the newest landed day
    of behavior; until the window has closed and late files and receipts had ``catch_up_days`` days
    to come. What the reports say is read from their JSON, so this costs next to nothing.
    """
    days = project.warehouse.days(BEHAVIOR) if project.warehouse.exists(BEHAVIOR) else []
    newest = max(days, default=None)
    if newest is None:
        return []
    return [
        task
        for task in all_tasks(project.store)
        if task.status == JobStatus.SUCCESS
        and task.execution_date < newest
        and _gained(project, task, newest)
    ]


def _gained(project: Project, task: Task, newest: date) -> bool:
    report = read_report(project, task.task_id)
    if report is None or report.get("landed_until") is None:
        return True
    seen = date.fromisoformat(report["landed_until"])
    last = window_of(task.spec, task.execution_date).last
    closed = last + timedelta(days=project.settings.catch_up_days)
    return seen != newest and seen < closed


def read_report(project: Project, task_id: str) -> dict[str, Any] | None:
    """What a task's report says, as its JSON has it; None when there is none that can be read."""
    path = project.report_paths(task_id)[1]
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report


def _write(path: Path, text: str) -> bool:
    """Write a file at once, unless it says so already; whether it was written."""
    content = text.encode()
    if path.is_file() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(content)
    fresh.replace(path)
    return True


def _funnel(
    engine: Engine, project: Project, task: Task, measured: Relation, effect: Effect
) -> Funnel:
    """The funnel, from the task's decision, its texts in the ledger, and its outcomes."""
    day = task.execution_date
    decided = engine.rows(f"select outcome, count(*) from {measured} group by outcome")
    fates = engine.rows(
        "select message_state, message_reason, sent, count(*), "
        f"count(*) filter (where returned) from {measured} "
        "where arm = 'treatment' group by all order by all"
    )
    held_out = f"select count(*) from {measured} where outcome = 'holdout' and holdout = 'global'"
    rejects = {"table_name": quarantine_name(task.task_id)}
    return build_funnel(
        {str(outcome): int(rows) for outcome, rows in decided},
        [Fate(*fate) for fate in fates],
        unreadable=project.warehouse.row_counts(QUARANTINE, rejects, first=day, last=day).get(
            day, 0
        ),
        held_globally=int(engine.value(held_out)),
        complete=effect.complete,
        landed=effect.counted_until is not None,
    )


def _basis(engine: Engine, project: Project, task: Task) -> Basis:
    settings = project.settings
    decision = read_decision(engine, project, task)
    models = engine.rows(
        f"select distinct model_name, model_version from {decision.rows} "
        "where model_name is not null order by all"
    )
    uplift = engine.rows(
        f"select distinct uplift_version from {decision.rows} "
        "where uplift_version is not null order by 1"
    )
    provenance = decision.provenance
    stands = "stands, since its send plan is made" if task.frozen else "may still be remade"
    if provenance is not None:
        note = str(provenance.choice.get("note") or "")
        share = float(provenance.choice["global_holdout"]["share"])
        stands += f"; usergrowth replay {task.task_id} makes it again (hash {provenance.hash[:12]})"
    else:
        choice = choice_of(settings, task, by_uplift=bool(uplift))
        note, share = choice.note, choice.global_holdout.share
    return basis_of(
        task.spec,
        models=[(str(name), str(version)) for name, version in models],
        uplift_versions=[str(version) for (version,) in uplift],
        global_share=share,
        note=note,
        prices={channel: price_of(settings, channel) for channel in task.spec.channels},
        currency=settings.currency,
        stands=stands,
        gateways=_gateways(project, [task]),
    )


def _is_dry_run(project: Project, gateways: list[str]) -> bool:
    """Whether texts went to files alone, and nobody can have read them."""
    return gateways == [DRY_RUN] and not project.settings.simulated_people


def _gateways(project: Project, tasks: Sequence[Task]) -> list[str]:
    """Names of the gateways that texts of some tasks were given to."""
    used, made = schema.batch, schema.occurrence
    query = (
        select(used.c.gateway)
        .join(made, made.c.id == used.c.occurrence_id)
        .where(made.c.task_id.in_([task.task_id for task in tasks]))
        .distinct()
        .order_by(used.c.gateway)
    )
    with project.store.read() as connection:
        return list(connection.scalars(query))
