"""The question of lifetime values beside what needs no model, and beside BG/NBD x Gamma-Gamma.

All are compared on the same rows of the test slice: the amounts of the last 90 days, the number of
days with an amount, and the buy-till-you-die model, fitted on the histories as of the last day that
the product's model learns from. Takes a home whose days are landed; prints one table.
"""

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import gammaln, hyp2f1

from usergrowth_dagster.learning.amounts.metrics import evaluate_amounts
from usergrowth_dagster.learning.amounts.training import TrainedAmounts, train_amounts
from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.training.features import bind_table, build_training_set, training_days
from usergrowth_dagster.warehouse.engine import Engine, open_engine

Floats = NDArray[np.float64]
SHOWN = ("gini", "spearman", "decile_error", "bias", "capture_10", "capture_20", "capture_40")
RANKING = ("gini", "spearman", "capture_10", "capture_20", "capture_40")
RESAMPLES = 300


@dataclass(frozen=True)
class Histories:
    """What BG/NBD x Gamma-Gamma knows of users as of a day, each of shape (n,).

    Attributes:
        repeats: days with an amount after the first one.
        last: days from the first one to the last.
        age: days from the first one to the day.
        mean: mean amount of the repeats; 0 where there is none.
    """

    repeats: Floats
    last: Floats
    age: Floats
    mean: Floats


def histories(engine: Engine, key: str, day: date) -> tuple[list[str], Histories]:
    """The users with an amount before a day, and their histories."""
    rows = engine.rows(
        "with days as (select user_id, ds, amounts[?] as amount from user_day where ds < ? "
        "and amounts[?] > 0), firsts as (select *, min(ds) over (partition by user_id) as first "
        "from days) select user_id, count(*) - 1, date_diff('day', first, max(ds)), "
        "date_diff('day', first, ?::date), coalesce(avg(amount) filter (where ds > first), 0) "
        "from firsts group by user_id, first order by user_id",
        [key, day, key, day],
    )
    users = [row[0] for row in rows]
    return users, Histories(*np.array([row[1:] for row in rows], dtype=np.float64).T)


@dataclass(frozen=True)
class BuyTillYouDie:
    """BG/NBD (Fader, Hardie & Lee 2005) times Gamma-Gamma (Fader & Hardie 2013), by likelihood.

    Attributes:
        r, alpha, a, b: of the purchases.
        p, q, v: of the amount of one.
    """

    r: float
    alpha: float
    a: float
    b: float
    p: float
    q: float
    v: float

    @classmethod
    def fitted(cls, past: Histories) -> "BuyTillYouDie":
        """The likeliest parameters for some histories."""
        some = past.repeats > 0
        scale = float(past.mean[some].mean())

        def fit(loss: Any, start: tuple[float, ...]) -> list[float]:
            best = minimize(lambda z: loss(*np.exp(z)), np.log(start), method="L-BFGS-B")
            return [float(one) for one in np.exp(best.x)]

        purchases = fit(lambda *z: -float(_purchases(past, *z).mean()), (1, 10, 1, 3))
        x, mean = past.repeats[some], past.mean[some] / scale
        p, q, v = fit(lambda *z: -float(_amounts(x, mean, *z).mean()), (2, 3, 1))
        return cls(*purchases, p, q, v * scale)

    def amounts(self, past: Histories, days: int) -> Floats:
        """Expected amounts of the next days, shape (n,)."""
        x, t_x, age = past.repeats, past.last, past.age
        a, b, alpha, r = self.a, self.b, self.alpha, self.r
        end = alpha + age + days
        series = hyp2f1(r + x, b + x, a + b + x - 1, days / end)
        grown = 1 - ((alpha + age) / end) ** (r + x) * series
        dead = np.where(x > 0, a / (b + np.maximum(x, 1) - 1), 0)
        dead = dead * ((alpha + age) / (alpha + t_x)) ** (r + x)
        purchases = (a + b + x - 1) / (a - 1) * grown / (1 + dead)
        each = self.p * (self.v + x * past.mean) / (self.p * x + self.q - 1)
        return np.asarray(np.maximum(purchases * each, 0))


def _purchases(past: Histories, r: float, alpha: float, a: float, b: float) -> Floats:
    """The log-likelihood of each history, by BG/NBD."""
    x, t_x, age = past.repeats, past.last, past.age
    head = gammaln(r + x) - gammaln(r) + r * math.log(alpha)
    head = head + gammaln(a + b) + gammaln(b + x) - gammaln(b) - gammaln(a + b + x)
    alive = -(r + x) * np.log(alpha + age)
    gone = math.log(a) - np.log(b + np.maximum(x, 1) - 1) - (r + x) * np.log(alpha + t_x)
    return np.asarray(head + np.logaddexp(alive, np.where(x > 0, gone, -np.inf)))


def _amounts(x: Floats, mean: Floats, p: float, q: float, v: float) -> Floats:
    """The log-likelihood of each mean amount of x repeats, by Gamma-Gamma."""
    known = gammaln(p * x + q) - gammaln(p * x) - gammaln(q) + q * math.log(v)
    spread = (p * x - 1) * np.log(mean) + p * x * np.log(x)
    return np.asarray(known + spread - (p * x + q) * np.log(x * mean + v))


def rivals(engine: Engine, model: TrainedAmounts, key: str, days: int) -> Mapping[str, Floats]:
    """Scores of the test rows by what needs no model of many features."""
    fit = max(model.split.calibrate or model.split.train)
    fitted = BuyTillYouDie.fitted(histories(engine, key, fit)[1])
    test = model.test
    scores = {name: np.zeros(len(test.label)) for name in ("frequency", "BG/NBD x Gamma-Gamma")}
    for day in np.unique(test.day):
        users, past = histories(engine, key, day.astype(object))
        place = {user: n for n, user in enumerate(users)}
        amounts = fitted.amounts(past, days)
        for row in np.flatnonzero(test.day == day):
            known = place.get(str(test.user[row]))
            if known is not None:
                scores["frequency"][row] = past.repeats[known] + 1
                scores["BG/NBD x Gamma-Gamma"][row] = amounts[known]
    return scores


def main() -> None:
    """Train on a landed home, and print the figures of the candidates and their rivals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--date", type=date.fromisoformat, required=True)
    parser.add_argument("--amount", required=True)
    parser.add_argument("--days", type=int, choices=(30, 90, 180), default=90)
    parser.add_argument("--every-days", type=int, default=7)
    asked = parser.parse_args()
    project = Project(load_settings(asked.home))
    chosen = {"algorithm": "ltv", "amount": asked.amount, "days": asked.days, "discount": 0.0}
    config = TrainingConfig.model_validate({**chosen, "every_days": asked.every_days})
    snapshots, _ = training_days(project, config, asked.date)
    build_training_set(project, config, snapshots)
    table = config.problem.training_table()
    with open_engine(project.settings) as engine:
        bind_table(engine, project, table, snapshots)
        bind_table(engine, project, "user_day", project.warehouse.days("user_day"))
        model = train_amounts(engine, table, config, asked.date, project.settings)
        test = model.test
        scores = {str(kind): one.model.score(test.frame) for kind, one in model.models.items()}
        others = rivals(engine, model, asked.amount, asked.days)
    evaluation = evaluate_amounts(test.label, {**scores, **others}, test.user, resamples=RESAMPLES)
    print(f"{len(test.label):,} rows of {', '.join(map(str, model.split.test))}")
    print(f"mean {test.label.mean():,.2f}; {model.split.as_dict()}")
    for name, figures in evaluation.metrics.items():
        shown = RANKING if name == "frequency" else SHOWN
        line = "  ".join(f"{one} {figures[one]}" for one in shown)
        print(f"{name}{' (champion)' * (name == model.champion)}: {line}")
    for name in ("past_average", *others):
        gini = evaluation.difference("gini", model.champion, name)
        print(f"{model.champion} less {name}, normalized Gini: {gini}")


if __name__ == "__main__":
    main()
