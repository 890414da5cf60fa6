"""What each round came to: by the world's truth for both policies, and as our campaign measured it.

The truth of a text is the exact difference that it makes to its user's chance of a return, in the
state that the user was in. A policy's *value per message* is the sum over its texts, the explored
ones included, times the worth of a return, over the messages that they took. *Best possible* is
the same of whoever knows every user's effect and has as many messages.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.audience.decisions import DECISION_COLUMNS
from usergrowth_dagster.audience.records import TABLE as DECISIONS
from usergrowth_dagster.effects.result import Contrast, Effect, Estimate
from usergrowth_dagster.examples.rounds.plan import VALUE_PER_RETURN
from usergrowth_dagster.examples.rounds.side import Side, sent_texts
from usergrowth_dagster.learning.problems.uplift import Uplift
from usergrowth_dagster.quoting import literals
from usergrowth_dagster.warehouse.engine import Engine, open_engine

if TYPE_CHECKING:
    from usergrowth_dagster.project import Project


@dataclass(frozen=True)
class Truth:
    """A policy's round, by the truth; sums and means of exact effects.

    ``effect`` is the mean over those chosen, texted or held out: what a measurement with a control
    group estimates. ``returns`` are the incremental returns of all texts, ``explored`` how many of
    the texts went to people below the cut, ``explored_returns`` their part.
    """

    population: int
    chosen: int
    texted: int
    explored: int
    messages: int
    cost: float
    effect: float | None
    returns: float
    explored_returns: float
    best_returns: float

    @property
    def value(self) -> float:
        """Incremental value of the round's texts, in currency."""
        return self.returns * VALUE_PER_RETURN

    @property
    def per_message(self) -> float | None:
        """Incremental value a message, in currency."""
        return self.value / self.messages if self.messages else None

    @property
    def best_per_message(self) -> float | None:
        """The same of the best possible choice of so many texts."""
        return self.best_returns * VALUE_PER_RETURN / self.messages if self.messages else None

    @property
    def profit(self) -> float:
        """Incremental value less cost, in currency."""
        return self.value - self.cost


@dataclass(frozen=True)
class Round:
    """A round: how it was chosen, both policies by the truth, and our own measurement."""

    number: int
    day: str
    chosen_by: str
    ranking: str
    ours: Truth
    fixed: Truth
    measured: Estimate | None
    adjusted: Estimate | None
    verdict: str

    @property
    def covered(self) -> bool | None:
        """Whether the measured interval holds the true effect; None without an interval."""
        measured, true = self.measured, self.ours.effect
        if measured is None or measured.low is None or measured.high is None or true is None:
            return None
        return measured.low <= true <= measured.high

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        more = {
            name: {
                "value": side.value,
                "value_per_message": side.per_message,
                "best_value_per_message": side.best_per_message,
                "profit": side.profit,
            }
            for name, side in (("ours", self.ours), ("fixed", self.fixed))
        }
        document = asdict(self)
        for name, values in more.items():
            document[name] |= values
        return document | {"interval_holds_truth": self.covered}


@dataclass(frozen=True)
class Trend:
    """Whether our lead a message over the fixed policy rises from round to round.

    ``tau`` is Kendall's rank correlation of the lead with the round's number, ``p_value`` its
    one-sided p-value (Kendall 1938), exact unless two leads are equal; None with fewer than four
    rounds. The means are of value a message over the first and the last half of the rounds, ours
    and the fixed policy's, each over all its messages.
    """

    tau: float | None
    p_value: float | None
    ours_first: float
    ours_last: float
    fixed_first: float
    fixed_last: float
    rises: bool


@dataclass(frozen=True)
class Learned:
    """A training of effects: the ranking that won, and whether its version may choose."""

    day: str
    version: int
    ranking: str
    status: str
    failed: str
    sentence: str


def true_rounds(side: Side) -> list[Truth]:
    """A policy's rounds, by the truth of the world that it lived in."""
    project = side.project()
    plan = side.plan
    texts = sent_texts(project, plan.day(1), plan.day(plan.campaigns + 1))
    with open_engine(project.settings) as engine:
        _bind_decided(engine, project, side)
        asked = engine.arrow(
            "select distinct user_id, ds, item_id, "
            "if(messages = 1, 'short', 'long') as copy from decided where rank is not null"
        )
        engine.bind_arrow("truth", side.world(project).chances(asked, texts))
        engine.bind_arrow("sent", texts)
        rows = engine.rows(
            """
            with known as (
                select d.*, t.effect, s.user_id is not null as sent,
                    sum(if(s.user_id is null, 0, d.messages)) over (partition by d.task_id)
                        as budget,
                    sum(d.messages) over (
                        partition by d.task_id order by t.effect / d.messages desc, d."row"
                    ) as spent
                from decided as d
                join truth as t using (user_id, ds, item_id)
                left join sent as s using (user_id, ds)
            )
            select count(*), count(*) filter (where outcome in ('selected', 'holdout')),
                count(*) filter (where sent),
                count(*) filter (where sent and outcome = 'explored'),
                coalesce(sum(messages) filter (where sent), 0),
                coalesce(sum(cost) filter (where sent), 0),
                avg(effect) filter (where outcome in ('selected', 'holdout')),
                coalesce(sum(effect) filter (where sent), 0),
                coalesce(sum(effect) filter (where sent and outcome = 'explored'), 0),
                coalesce(sum(effect) filter (where spent <= budget), 0)
            from known group by task_id order by task_id
            """
        )
    return [Truth(*(int(n) for n in row[:5]), *row[5:]) for row in rows]


def _bind_decided(engine: Engine, project: "Project", side: Side) -> None:
    """Make the view ``decided``: the decisions of all rounds."""
    names = ("task_id", "ds", "row", "user_id", "item_id", "rank", "messages", "cost", "outcome")
    files = [file for of_day in project.warehouse.files(DECISIONS).values() for file in of_day]
    engine.bind_files("_decided", files, {name: DECISION_COLUMNS[name] for name in names})
    tasks = literals(side.plan.task(number) for number in side.plan.numbers)
    engine.run(
        f"create or replace view decided as select * from _decided where task_id in ({tasks})"
    )


def measured_rounds(side: Side, ours: list[Truth], fixed: list[Truth]) -> list[Round]:
    """The rounds of our policy as its campaign measured them, beside the truth."""
    from usergrowth_dagster.control.tasks import task
    from usergrowth_dagster.learning.store import versions
    from usergrowth_dagster.measure.effects import measure

    project = side.project()
    rankings = {str(ref.version): ref.champion for ref in versions(project.settings, Uplift.name)}
    chosen_by = _chosen_by(project, side)
    rounds = []
    for number, mine, theirs in zip(side.plan.numbers, ours, fixed, strict=True):
        name = side.plan.task(number)
        effect = measure(project, task(project.store, name))
        lift = lift_of(effect)
        version = chosen_by.get(name)
        rounds.append(
            Round(
                number=number,
                day=side.plan.day(number).isoformat(),
                chosen_by=f"uplift version {version}" if version else "threshold",
                ranking=rankings.get(version, "") if version else "",
                ours=mine,
                fixed=theirs,
                measured=lift.absolute if lift else None,
                adjusted=lift.adjusted if lift else None,
                verdict=effect.verdict,
            )
        )
    return rounds


def learned_models(side: Side) -> list[Learned]:
    """The models of effects that were trained, oldest first."""
    from usergrowth_dagster.learning.artifacts import read_artifacts
    from usergrowth_dagster.learning.store import versions

    return [
        Learned(
            day=ref.execution_date.isoformat(),
            version=ref.version,
            ranking=ref.champion,
            status=str(ref.status),
            failed=", ".join(ref.failed_gates),
            sentence=str(read_artifacts(ref)[0]["sentence"]),
        )
        for ref in versions(side.project().settings, Uplift.name)
    ]


def _chosen_by(project: "Project", side: Side) -> dict[str, str]:
    """Version of the model of effects by task, where that chose."""
    names = ("task_id", "uplift_version", "net_value")
    files = [file for of_day in project.warehouse.files(DECISIONS).values() for file in of_day]
    with open_engine(project.settings) as engine:
        engine.bind_files("_decided", files, {name: DECISION_COLUMNS[name] for name in names})
        return dict(
            engine.rows(
                "select task_id, any_value(uplift_version) from _decided "
                "group by task_id having count(net_value) > 0"
            )
        )


def lift_of(effect: Effect) -> Contrast | None:
    """The contrast of all texted against the control group, by intention to treat."""
    for contrast in effect.contrasts:
        if contrast.view == "intention_to_treat" and contrast.treated == "treatment":
            return contrast
    return None


def trend_of(rounds: list[Round]) -> Trend:
    """How our lead over the fixed policy developed."""
    from scipy.stats import kendalltau

    leads = [(r.ours.per_message or 0.0) - (r.fixed.per_message or 0.0) for r in rounds]
    half = (len(rounds) + 1) // 2
    means = [
        _per_message([getattr(r, name) for r in part])
        for name in ("ours", "fixed")
        for part in (rounds[:half], rounds[-half:])
    ]
    tau = p_value = None
    if len(rounds) >= 4 and len(set(leads)) > 1:
        test = kendalltau(range(len(leads)), leads, alternative="greater")
        tau, p_value = float(test.statistic), float(test.pvalue)
    lead_first, lead_last = means[0] - means[2], means[1] - means[3]
    rises = lead_last > lead_first and p_value is not None and p_value < 0.05
    return Trend(tau, p_value, means[0], means[1], means[2], means[3], rises)


def _per_message(truths: list[Truth]) -> float:
    messages = sum(one.messages for one in truths)
    return sum(one.value for one in truths) / messages if messages else 0.0
