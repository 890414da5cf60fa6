"""The relation that a decision is made from: a population with its scores, its texts and the rest.

One view, ``candidates``, with the columns that
:func:`usergrowth_dagster.audience.decisions.decide` asks for. Each group of columns has a function
of its own, which says what views it reads by these aliases: ``p`` is ``task_population``, ``s``
``task_scores``, ``f`` ``user_features``, ``a`` ``user_attributes`` and ``b`` ``barred``.
"""

from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.messaging.texts.billing import billing_of, price_of
from usergrowth_dagster.messaging.texts.content import reason_sql, segments_sql
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.tasks.features import bind_table
from usergrowth_dagster.tasks.people import address_column_sql, consent_sql
from usergrowth_dagster.tasks.project import Project
from usergrowth_dagster.warehouse.engine import Engine

CANDIDATES = "candidates"


def bind_candidates(engine: Engine, project: Project, task: Task) -> str:
    """Make the view ``candidates`` over views that are bound already; returns its name.

    Bound must be ``task_population``, ``task_scores``, ``user_attributes`` and ``barred``; the
    features of the date are bound here.
    """
    bind_table(engine, project, "user_features", [task.execution_date])
    engine.run(f"create or replace view {CANDIDATES} as {candidates_sql(project.settings, task)}")
    return CANDIDATES


def candidates_sql(settings: Settings, task: Task) -> str:
    """The query of the view ``candidates``."""
    columns = [
        'p."row", p.user_id, p.item_id',
        f"{address_column_sql(task.spec.channel)} as phone",
        "s.score, s.model_name, s.model_version",
        *_text_columns(settings, task),
        "coalesce(b.reason = 'suppressed', false) as suppressed, b.reason",
    ]
    return (
        f"select {', '.join(columns)} "
        'from task_population as p inner join task_scores as s using ("row") '
        "left join user_features as f on p.user_id = f.user_id "
        "left join user_attributes as a on p.user_id = a.user_id "
        'left join barred as b on p."row" = b."row"'
    )


def _text_columns(settings: Settings, task: Task) -> list[str]:
    """The columns messages, cost and content_problem: what the row's text takes, or why none."""
    spec = task.spec
    billing = billing_of(settings, spec.channel)
    text = (spec.template.content, spec.signature.name, billing, "p.variables")
    segments = segments_sql(*text)
    # A churn model learns from active users; of the others it has nothing to say.
    silent = (
        f"coalesce(f.recency_days > {settings.active_days}, true)"
        if spec.algorithm.kind == "churn"
        else "false"
    )
    return [
        f"{segments} as messages",
        f"{segments} * {price_of(settings, spec.channel)!r} as cost",
        f"case when not {consent_sql(spec.contact.require_consent)} then 'no_consent' "
        f"when {silent} then 'not_active' else {reason_sql(*text)} end as content_problem",
    ]
