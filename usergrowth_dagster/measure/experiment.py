"""The effect of a past randomized experiment that a source has landed, measured like a campaign's.

A person is one unit: the first day, and where the outcome is one of the item, the first of each
item. Whoever took part in both arms stays in the first one (intention to treat) and is counted.
Each person's window is that of the own day.
"""

from dataclasses import dataclass, replace
from datetime import date, timedelta

from usergrowth_dagster.effects.analysis import analyse
from usergrowth_dagster.effects.outcomes import OUTCOME_COLUMNS, Window, bind_outcomes
from usergrowth_dagster.effects.report.funnel import Fate, build_funnel
from usergrowth_dagster.effects.result import Effect
from usergrowth_dagster.effects.rows import Plan
from usergrowth_dagster.effects.texts import LedgerTexts
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.measure.balance import Balance, balance_of
from usergrowth_dagster.measure.effects import BEHAVIOR, drawn_sql
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import identifier, literal
from usergrowth_dagster.ranks import UPLIFT
from usergrowth_dagster.sources.definition import FILE_NAME, Source, read_sources
from usergrowth_dagster.sources.experiments import EXPERIMENT, HOLDOUT, EffectKeys
from usergrowth_dagster.sources.land import landed_days
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.relation import Relation, bind_days, bind_query

TOUCHES = "stg_operation"


@dataclass(frozen=True)
class PastExperiment:
    """A past experiment as it has landed.

    Attributes:
        source: its source.
        days: the days on which people took part, in order; none: it has not landed.
    """

    source: Source
    days: tuple[date, ...]

    @property
    def name(self) -> str:
        """Name of its source."""
        return self.source.name

    @property
    def keys(self) -> EffectKeys:
        """What counts as its outcome."""
        return self.source.effect or EffectKeys()


@dataclass(frozen=True)
class MeasuredExperiment:
    """What a past experiment came to.

    Attributes:
        experiment: which.
        effect: as that of a campaign.
        balance: whether the arms were alike before.
        lowest_chance, highest_chance: of being treated.
        in_both: people who took part in both arms.
        again: rows of people who had taken part before; they are not counted.
    """

    experiment: PastExperiment
    effect: Effect
    balance: Balance
    lowest_chance: float
    highest_chance: float
    in_both: int
    again: int


def past_experiments(project: Project) -> list[PastExperiment]:
    """The experiments that the sources of a home describe, in the order of the file."""
    path = project.settings.home / FILE_NAME
    sources = read_sources(path) if path.exists() else ()
    return [
        PastExperiment(source, tuple(landed_days(project.state, source.name)))
        for source in sources
        if source.is_experiment
    ]


def experiment_called(project: Project, name: str) -> PastExperiment:
    """The experiment of a source.

    Raises:
        UserError: there is none of that name.
    """
    known = {one.name: one for one in past_experiments(project)}
    if name not in known:
        raise UserError(
            f"{FILE_NAME} has no source {name!r} that fills {EXPERIMENT}; it has "
            f"{', '.join(known) or 'none'}",
            code="source.unknown",
        )
    return known[name]


def measure_experiment(project: Project, experiment: PastExperiment) -> MeasuredExperiment:
    """Measure a past experiment from the behavior that has landed.

    Raises:
        UserError: it has not landed, or its days are not in the tables yet.
    """
    _require_landed(project, experiment)
    window = _window(project, experiment)
    landed = project.warehouse.days(BEHAVIOR)
    with open_engine(project.settings) as engine:
        rows = _rows(engine, project, experiment)
        people, in_both, again = _first_rows(engine, rows, experiment)
        read = window.days(landed)
        behavior = bind_days(
            engine, project.warehouse, BEHAVIOR, read, load_graph().types(BEHAVIOR)
        )
        inside = [day for day in landed if window.first <= day <= window.counted]
        outcomes = bind_outcomes(
            engine,
            window,
            len(inside),
            decisions=people,
            behavior=behavior,
            texts=_treatments(engine, people),
        )
        gaps = window.counted_days - len(inside)
        plan = _plan(project, experiment, window, landed, gaps)
        effect = analyse(engine.arrow(drawn_sql(outcomes)), plan)
        # the plan knows one day, and the window of those who came last ends later
        effect = replace(effect, window_last=window.last)
        effect = _with_funnel(engine, outcomes, effect)
        low, high = engine.rows(
            "select min(chance), max(chance) from (select case when arm = 'treatment' "
            f"then propensity else 1 - propensity end as chance from {people})"
        )[0]
        balance = balance_of(engine, project, people, experiment.days)
    return MeasuredExperiment(experiment, effect, balance, low, high, in_both, again)


def _require_landed(project: Project, experiment: PastExperiment) -> None:
    if not experiment.days:
        raise UserError(
            f"experiment {experiment.name!r} has not landed; run usergrowth sources land "
            f"{experiment.name}, which says why a day waits",
            code="source.not_landed",
        )
    missing = sorted(set(experiment.days) - set(project.warehouse.days(TOUCHES)))
    if missing:
        first, last = experiment.days[0], experiment.days[-1]
        raise UserError(
            f"experiment {experiment.name!r}: {len(missing)} of its days are not in the tables, "
            f"{missing[0]} first; run usergrowth backfill --from {first} --to {last} "
            "--only-ingest, and bring in the behavior of the days after them",
            code="source.not_landed",
        )


def _window(project: Project, experiment: PastExperiment) -> Window:
    """What counts as the outcome, and until when it has landed."""
    keys = experiment.keys
    first, last = experiment.days[0], experiment.days[-1]
    end = last + timedelta(days=keys.return_days)
    start = first if keys.same_day else first + timedelta(days=1)
    inside = [day for day in project.warehouse.days(BEHAVIOR) if start <= day]
    # A past test has no more days to wait for than those that are over.
    over = project.settings.current_date() > end
    until = end if over else max(inside, default=None)
    return Window(
        first,
        keys.return_days,
        keys.return_behaviors,
        keys.return_on_item,
        keys.amount,
        keys.pre_days,
        until,
        keys.same_day,
        last,
    )


def _rows(engine: Engine, project: Project, experiment: PastExperiment) -> Relation:
    """The rows of ``stg_operation`` that the source has landed."""
    columns = load_graph().types(TOUCHES)
    touches = bind_days(engine, project.warehouse, TOUCHES, experiment.days, columns)
    sql = (
        f"select * from {touches} where kvs_str[{literal(EXPERIMENT)}] = {literal(experiment.name)}"
    )
    return bind_query(engine, "experiment_rows", sql, of=[touches])


def _first_rows(
    engine: Engine, rows: Relation, experiment: PastExperiment
) -> tuple[Relation, int, int]:
    """One row a person with the columns of a decision; people in both arms; rows left out."""
    unit = "user_id, item_id" if experiment.keys.return_on_item else "user_id"
    treated = f"target <> '{HOLDOUT}'"
    values = {
        "ds": "ds",
        "task_id": literal(experiment.name),
        "campaign": literal(experiment.name),
        "row": "row_number() over (order by ds, user_id, item_id)",
        "user_id": "user_id",
        "item_id": "item_id",
        "arm": f"case when {treated} then 'treatment' else 'control' end",
        "outcome": f"case when {treated} then 'selected' else '{HOLDOUT}' end",
        "propensity": "kvs_num['propensity']",
        "variant": "kvs_str['variant']",
        # which treatment a treated person got has no chance on record: its share stands for it
        "variant_propensity": f"cast(count(*) over (partition by {treated}, kvs_str['variant']) "
        f"as double) / count(*) over (partition by {treated})",
        "cost": "coalesce(kvs_num['cost'], 0)",
    }
    empty = ("holdout", "stratum", "score", UPLIFT)
    values |= {name: f"cast(null as {OUTCOME_COLUMNS[name][0]})" for name in empty}
    listed = ", ".join(f"{sql} as {identifier(name)}" for name, sql in values.items())
    people = bind_query(
        engine,
        "experiment_people",
        f"select {listed} from (select * from {rows} qualify row_number() over "
        f"(partition by {unit} order by ds, target, item_id) = 1)",
        of=[rows],
        keep=True,
    )
    if not engine.value(f"select count(*) from {people}"):
        raise UserError(
            f"experiment {experiment.name!r}: none of its rows is in {TOUCHES}; bring its days up "
            f"to date (usergrowth backfill --from {experiment.days[0]} --to {experiment.days[-1]} "
            "--only-ingest), and see usergrowth quarantine for rows that were refused",
            code="source.not_landed",
        )
    in_both = engine.value(
        f"select count(*) from (select {unit} from {rows} group by {unit} "
        f"having count(distinct {treated}) > 1)"
    )
    in_all = engine.value(f"select count(*) from {rows}")
    return people, int(in_both), int(in_all) - int(engine.value(f"select count(*) from {people}"))


def _treatments(engine: Engine, people: Relation) -> LedgerTexts:
    """What the treated got, as the ledger would say it of texts."""
    own = bind_query(
        engine,
        "experiment_treatments",
        "select user_id, 'accepted' as state, cast(null as varchar) as reason, 1 as messages, "
        "avg(cost) as cost, true as sent, false as delivered, false as later, "
        "false as clicked, false as seen_by_bots "
        f"from {people} where arm = 'treatment' group by user_id",
        of=[people],
    )
    others = bind_query(
        engine, "experiment_others", "select '' as user_id, 0 as texts where false", of=[]
    )
    return LedgerTexts(own, others, people.fingerprint)


def _plan(
    project: Project,
    experiment: PastExperiment,
    window: Window,
    landed: list[date],
    gaps: int,
) -> Plan:
    keys = experiment.keys
    newest = max(landed, default=None)
    return Plan(
        task_id=experiment.name,
        campaign=experiment.name,
        execution_date=experiment.days[0],
        return_days=keys.return_days,
        same_day=keys.same_day,
        landed_until=newest,
        counted_until=window.until and window.counted,
        complete=window.counted == window.last,
        currency=project.settings.currency,
        margin=keys.margin,
        has_amount=keys.amount is not None,
        value_per_return=keys.value_per_return,
        gaps=gaps,
    )


def _with_funnel(engine: Engine, outcomes: Relation, effect: Effect) -> Effect:
    decided = {
        str(outcome): int(rows)
        for outcome, rows in engine.rows(
            f"select outcome, count(*) from {outcomes} group by outcome"
        )
    }
    fates = engine.rows(
        "select message_state, message_reason, sent, count(*), count(*) filter (where returned) "
        f"from {outcomes} where arm = 'treatment' group by all order by all"
    )
    funnel = build_funnel(
        decided,
        [Fate(*fate) for fate in fates],
        complete=effect.complete,
        landed=effect.counted_until is not None,
    )
    return replace(effect, funnel=funnel)
