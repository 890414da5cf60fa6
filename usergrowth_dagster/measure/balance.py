"""Whether the arms of an experiment were alike before it: what was known of people on their day.

A fair draw leaves differences that chance explains. Each feature as of the day has its standardized
mean difference, the gap of the arms' means over the root of their mean variance (Austin 2009,
Statistics in Medicine 28: 3083-3107), rows weighted by the inverse chance of their arm. All
features together are tested by whether they foretell the arm of unseen people
(:mod:`usergrowth_dagster.learning.uplift.assignment`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.uplift.assignment import Foretold
from usergrowth_dagster.learning.uplift.gates import FORETOLD_FLOOR, FORETOLD_P
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.build import Builder
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.relation import Relation, bind_days, bind_query

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from usergrowth_dagster.learning.encoding import FeatureSpec

    Floats = NDArray[np.float64]

LARGE = 0.1  # above it a difference is usually called one (Austin 2009)
_FEATURES = "user_features"
_SHOWN = 10


@dataclass(frozen=True)
class Difference:
    """One feature in both arms, as of the day before the treatment.

    ``treated`` and ``control`` are weighted means; ``standardized`` is their gap over the root of
    the arms' mean variance.
    """

    feature: str
    treated: float
    control: float
    standardized: float


@dataclass(frozen=True)
class Balance:
    """Whether the arms were alike before.

    Attributes:
        people: rows of people with features as of their day.
        features: how many features were compared.
        differences: the largest, by absolute value.
        large: how many are above :data:`LARGE`.
        foretold: how well all features together foretell the arm; None without features, or
            where all these people were in one arm.
    """

    people: int
    features: int
    differences: tuple[Difference, ...]
    large: int
    foretold: Foretold | None

    @property
    def passed(self) -> bool:
        """Whether nothing known before foretells the arm."""
        tested = self.foretold
        return tested is None or tested.p >= FORETOLD_P or tested.correlation < FORETOLD_FLOOR

    @property
    def sentence(self) -> str:
        """The balance in one sentence."""
        tested = self.foretold
        if tested is None and self.people:
            return f"all {self.people:,} people were in one arm, so nothing can be compared"
        if tested is None:
            return "nothing was known of the people before, so nothing can be compared"
        text = (
            f"{self.features} feature{'s' if self.features != 1 else ''} of {self.people:,} people "
            f"as of the day before: {self.large} differ by more than {LARGE:g} standard deviations"
        )
        if self.differences:
            worst = self.differences[0]
            text += f", {worst.feature} most ({worst.standardized:+.3f})"
        if self.passed:
            return f"{text}; nothing known before foretells the arm (p = {tested.p:.3f})"
        return (
            f"{text}; {tested.feature} foretells the arm of unseen people (p = {tested.p:.4f}), so "
            "people were not assigned by the chances that are recorded, and the effect is not that "
            "of the treatment alone"
        )


def balance_of(engine: Engine, project: Project, people: Relation, days: Sequence[date]) -> Balance:
    """Compare the arms of an experiment by what was known before.

    Args:
        engine: holds the relation.
        project: the home; the features of the days are made where they are missing.
        people: ds, user_id, arm and propensity (of the own arm), one row a person.
        days: the days on which people took part.
    """
    from usergrowth_dagster.learning.encoding import fit_spec
    from usergrowth_dagster.learning.uplift.assignment import foretold, touch_features

    builder = Builder(project.settings, project.warehouse)
    for model in load_graph().chain(_FEATURES):
        builder.build(model, list(days), progress=project.progress)
    columns = load_graph().types(_FEATURES)
    features = bind_days(engine, project.warehouse, _FEATURES, days, columns)
    sql = (
        f"select f.*, p.arm as _arm, p.propensity as _chance from {people} as p "
        f"inner join {features} as f using (ds, user_id)"
    )
    most = project.settings.max_training_rows
    joined = bind_query(
        engine, "balance", f"{sql} order by md5(user_id) limit {most}", of=[people], keep=True
    )
    if not engine.value(f"select count(*) from {joined}"):
        return Balance(0, 0, (), 0, None)
    try:
        spec = fit_spec(
            engine,
            str(joined),
            exclude=(*touch_features(), "_arm", "_chance"),
            top_n=project.settings.top_n,
        )
    except UserError:  # nothing varies
        return Balance(0, 0, (), 0, None)
    x, names, treated, chance, users = _matrix(engine, joined, spec)
    if len(set(treated)) == 1:
        return Balance(len(treated), 0, (), 0, None)
    test = foretold(x, treated, chance, users, names, threads=project.settings.threads)
    differences = sorted(
        _differences(x, names, treated, chance), key=lambda one: -abs(one.standardized)
    )
    return Balance(
        people=len(treated),
        features=len(names),
        differences=tuple(differences[:_SHOWN]),
        large=sum(abs(one.standardized) > LARGE for one in differences),
        foretold=test,
    )


def _matrix(
    engine: Engine, joined: Relation, spec: "FeatureSpec"
) -> "tuple[Floats, list[str], Floats, Floats, NDArray[Any]]":
    """Features (n, columns) and their names; treated, chance of treatment and user, each (n,)."""
    import numpy as np

    from usergrowth_dagster.learning.encoding import flat_frame
    from usergrowth_dagster.learning.estimators import matrix_columns
    from usergrowth_dagster.learning.uplift.model import matrix
    from usergrowth_dagster.learning.uplift.training import column_label

    table = engine.arrow(
        "select user_id as _user, cast(_arm = 'treatment' as double) as _treated, "
        "case when _arm = 'treatment' then _chance else 1 - _chance end as _of_treatment, "
        f"{spec.projection(joined.columns)} from {joined} order by ds, user_id"
    )
    frame = flat_frame(table, spec)
    columns = matrix_columns(spec).fit(frame)
    names = [column_label(spec, name) for name in columns.get_feature_names_out()]
    treated, chance = (
        np.asarray(table.column(name).to_numpy(), dtype=np.float64)
        for name in ("_treated", "_of_treatment")
    )
    return matrix(columns, frame), names, treated, chance, table.column("_user").to_numpy()


def _differences(
    x: "Floats", names: Sequence[str], treated: "Floats", chance: "Floats"
) -> list[Difference]:
    """The standardized mean difference of each feature; a value that is unknown is left out.

    So is a feature of which nothing is known in one of the arms.
    """
    import numpy as np

    weight = np.where(treated == 1, 1 / chance, 1 / (1 - chance))
    differences = []
    for column, name in enumerate(names):
        known = np.isfinite(x[:, column])
        means, variances = [], []
        for arm in (1, 0):
            keep = known & (treated == arm)
            if not keep.any():
                break
            total = float(weight[keep].sum())
            mean = float(weight[keep] @ x[keep, column]) / total
            means.append(mean)
            variances.append(float(weight[keep] @ (x[keep, column] - mean) ** 2) / total)
        if len(means) < 2:
            continue
        root = float(np.sqrt(sum(variances) / 2))
        gap = (means[0] - means[1]) / root if root else 0.0
        differences.append(Difference(name, means[0], means[1], gap))
    return differences
