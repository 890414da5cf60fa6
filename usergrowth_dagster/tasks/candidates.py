"""The relation that a decision is made from: a population with its scores, its texts and the rest.

One view, ``candidates``, with the columns that
:func:`usergrowth_dagster.audience.decisions.decide` asks for. Each group of columns has a function
of its own, which says what views it reads by these aliases: ``p`` is ``task_population``, ``s``
``task_scores``, ``f`` ``user_features``, ``a`` ``user_attributes`` and ``b`` ``barred``. Time zones
that nobody knows are in ``unknown_zones``.
"""

from collections.abc import Container

from usergrowth_dagster.audience.variants import chance_sql
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.messaging.policy.zones import UNKNOWN_ZONE
from usergrowth_dagster.messaging.texts.billing import billing_of, price_of
from usergrowth_dagster.messaging.texts.by_variant import by_variant_sql
from usergrowth_dagster.messaging.texts.content import reason_sql, segments_sql
from usergrowth_dagster.ranks import EFFECT_COLUMNS
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.tasks.features import bind_table
from usergrowth_dagster.tasks.people import (
    address_column_sql,
    consent_sql,
)
from usergrowth_dagster.tasks.project import Project
from usergrowth_dagster.tasks.questions import question_of
from usergrowth_dagster.tasks.strata import stratum_sql
from usergrowth_dagster.tasks.variants import contents_of, people_sql, variant_draw
from usergrowth_dagster.tasks.zones import bind_unknown_zones, unknown_zone_sql
from usergrowth_dagster.warehouse.engine import Engine

CANDIDATES = "candidates"


def bind_candidates(engine: Engine, project: Project, task: Task) -> str:
    """Make the view ``candidates`` over views that are bound already; returns its name.

    Bound must be ``task_population``, ``task_scores``, ``user_attributes`` and ``barred``; the
    features of the date and ``unknown_zones`` are bound here.
    """
    bind_unknown_zones(engine, project.settings)
    bind_table(engine, project, "user_features", [task.execution_date])
    scored = engine.describe("select * from task_scores")
    sql = candidates_sql(project.settings, task, scored)
    engine.run(f"create or replace view {CANDIDATES} as {sql}")
    return CANDIDATES


def candidates_sql(settings: Settings, task: Task, scored: Container[str]) -> str:
    """The query of the view ``candidates``; ``scored`` are the columns of ``task_scores``."""
    strata = task.spec.holdout.strata
    columns = [
        'p."row", p.user_id, p.item_id',
        f"{address_column_sql(task.spec.channel)} as phone",
        "s.score, s.model_name, s.model_version",
        *(f"s.{name}" for name in EFFECT_COLUMNS if name in scored),
        *([f"{stratum_sql(strata)} as stratum"] if strata else []),
        *_text_columns(settings, task),
        "coalesce(b.reason = 'suppressed', false) as suppressed, b.reason",
    ]
    return (
        f"select {', '.join(columns)} "
        f'from {people_sql(task)} as p inner join task_scores as s using ("row") '
        "left join user_features as f on p.user_id = f.user_id "
        "left join user_attributes as a on p.user_id = a.user_id "
        'left join barred as b on p."row" = b."row"'
    )


def _text_columns(settings: Settings, task: Task) -> list[str]:
    """The columns messages, cost and content_problem: what the row's text takes, or why none.

    Also which text that is, and its chance, where the campaign has several.
    """
    spec, texts, draw = task.spec, contents_of(task), variant_draw(task)
    text = (spec.signature.name, billing_of(settings, spec.channel), "p.variables")
    segments = by_variant_sql(texts, lambda one: segments_sql(one, *text), "p.variant")
    problem = by_variant_sql(texts, lambda one: reason_sql(one, *text), "p.variant")
    # A model that learned from active users has nothing to say of the others.
    within = question_of(settings, spec).active_within(settings.active_days)
    silent = "false" if within is None else f"coalesce(f.recency_days > {within}, true)"
    return [
        f"{segments} as messages",
        f"{segments} * {price_of(settings, spec.channel)!r} as cost",
        f"case when not {consent_sql(spec.contact.require_consent)} then 'no_consent' "
        f"when {silent} then 'not_active' "
        f"when {unknown_zone_sql(settings)} then '{UNKNOWN_ZONE}' "
        f"else {problem} end as content_problem",
        *(["p.variant", f"{chance_sql(draw, 'p.variant')} as variant_propensity"] if draw else []),
    ]
