"""The relation that a decision is made from: a population with its scores, its texts and the rest.

It has the columns that :func:`usergrowth_dagster.audience.decisions.decide` asks for. Each group of
columns has a function of its own; they read the population as ``p``, the scores as ``s``, the
features as ``f``, the users' attributes as ``a``, the excluded rows as ``x``, the people of the
campaign's segment as ``m`` and who is one person with others as ``o``.

A stratified control group is balanced by strata: bands of activity and tenure, or an attribute.
"""

from collections.abc import Sequence
from difflib import get_close_matches

from usergrowth_dagster.audience.eligibility import OTHER_ADDRESS
from usergrowth_dagster.audience.persons import MOST_USERS, USERS
from usergrowth_dagster.audience.variants import chance_sql
from usergrowth_dagster.control.campaign_blocks import Channel
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.policy.zones import UNKNOWN_ZONE
from usergrowth_dagster.messaging.texts.content import by_variant_sql, reason_sql, segments_sql
from usergrowth_dagster.pipeline.attributes import (
    address_column_sql,
    attribute_sql,
    bind_unknown_zones,
    consent_sql,
    people_from,
    unknown_zone_sql,
)
from usergrowth_dagster.pipeline.choice import people_sql, priced_texts, variant_draw
from usergrowth_dagster.pipeline.inputs import DecisionInputs
from usergrowth_dagster.ranks import EFFECT_COLUMNS
from usergrowth_dagster.training.questions import question_of
from usergrowth_dagster.warehouse.relation import Relation, bind_query

ACTIVITY = ((7, "1-7 days"), (28, "8-28 days"), (90, "29-90 days"))
"""Days since the last event, up to and with the first figure; else over 90 days, or none known."""
TENURE = ((29, "0-29 days"), (89, "30-89 days"), (364, "90-364 days"))
"""Days since registration; else a year and more, or not known."""
BANDED = ("activity", "tenure", "user_type")
"""Strata of the features as of the date; any other one is a column or an attribute."""

_LISTED = 6  # known names that a sentence lists


def candidates(inputs: DecisionInputs) -> Relation:
    """The rows that a decision chooses from, each once.

    Raises:
        ValueError: the inputs do not say who is excluded; a bug of the caller.
    """
    if inputs.exclusions is None:
        raise ValueError(f"task {inputs.task.task_id!r}: nobody has asked who is excluded")
    settings, task = inputs.project.settings, inputs.task
    unknown_zones = bind_unknown_zones(
        inputs.engine, settings, inputs.population, inputs.attributes
    )
    strata, bound = task.spec.holdout.strata, inputs.segment
    columns = [
        'p."row", p.user_id, p.item_id',
        *_addresses(task.spec.channels),
        "s.score, s.model_name, s.model_version",
        *(f"s.{name}" for name in EFFECT_COLUMNS if name in inputs.scores.columns),
        *([f"{stratum_sql(strata)} as stratum"] if strata else []),
        *_text_columns(inputs, unknown_zones),
        "coalesce(x.reason = 'suppressed', false) as suppressed, x.reason",
        *(["m.user_id is null as outside"] if bound else []),
        *([f"o.person, o.{USERS}"] if inputs.persons is not None else []),
    ]
    of_segment = f" left join {bound.members} as m on p.user_id = m.user_id" if bound else ""
    sql = (
        f"select {', '.join(columns)} from {people_sql(task, inputs.population)} as p "
        f'inner join {inputs.scores} as s using ("row") '
        f"left join {inputs.features} as f on p.user_id = f.user_id "
        f"left join {inputs.attributes} as a on p.user_id = a.user_id "
        f'left join {inputs.exclusions} as x on p."row" = x."row" '
        f"{of_segment} {_persons_join(inputs)}"
    )
    return bind_query(inputs.engine, "candidates", sql, of=inputs.relations)


def _persons_join(inputs: DecisionInputs) -> str:
    persons = inputs.persons
    return "" if persons is None else f"left join {persons} as o on p.user_id = o.user_id"


def _addresses(channels: Sequence[Channel]) -> list[str]:
    """The columns of the row's addresses, in the order of the channels."""
    names = ("phone", OTHER_ADDRESS)
    return [
        f"{address_column_sql(channel)} as {name}"
        for channel, name in zip(channels, names, strict=False)
    ]


def _text_columns(inputs: DecisionInputs, unknown_zones: Relation) -> list[str]:
    """The columns messages, cost and content_problem: what the row's text takes, or why none.

    Also which text that is, and its chance, where the campaign has several.
    """
    settings, task = inputs.project.settings, inputs.task
    spec, texts, draw = task.spec, priced_texts(task, settings), variant_draw(task)
    name, values = spec.signature.name, "p.variables"
    segments = by_variant_sql(
        texts, lambda one: segments_sql(one.content, name, one.billing, values), "p.variant"
    )
    problem = by_variant_sql(
        texts, lambda one: reason_sql(one.content, name, one.billing, values), "p.variant"
    )
    price = by_variant_sql(texts, lambda one: repr(one.price), "p.variant")
    # A model that learned from active users has nothing to say of the others.
    question = question_of(settings, spec)
    within, about = question.active_within(settings.active_days), question.about_sql("f")
    crowded = "false" if inputs.persons is None else f"len(o.{USERS}) > {MOST_USERS}"
    silent = "false" if within is None else f"coalesce(f.recency_days > {within}, true)"
    outside = "false" if about is None else f"not coalesce({about}, false)"
    return [
        f"{segments} as messages",
        f"{segments} * {price} as cost",
        f"case when {crowded} then 'many_users' "
        f"when not {consent_sql(spec.contact.require_consent)} then 'no_consent' "
        f"when {silent} then 'not_active' "
        f"when {outside} then 'not_in_question' "
        f"when {unknown_zone_sql(settings, unknown_zones)} then '{UNKNOWN_ZONE}' "
        f"else {problem} end as content_problem",
        *(["p.variant", f"{chance_sql(draw, 'p.variant')} as variant_propensity"] if draw else []),
    ]


def stratum_sql(strata: Sequence[str], features: str = "f") -> str:
    """DuckDB expression (VARCHAR, never NULL) such as ``activity=8-28 days; city=Lyon``.

    ``activity``, ``tenure`` and ``user_type`` are of the features as of the date; any other name is
    a column of the population, else an attribute of the user.

    Args:
        strata: their names, at least one.
        features: alias of ``user_features``.
    """
    known = {
        "activity": _banded(f"{features}.recency_days", ACTIVITY, "over 90 days", "never seen"),
        "tenure": _banded(f"{features}.tenure_days", TENURE, "365 days and more", "unknown"),
        "user_type": f"coalesce(nullif(trim({features}.user_type), ''), 'unknown')",
    }
    other = {name: f"coalesce({attribute_sql(name)}, 'unknown')" for name in strata}
    parts = [f"'{name}=' || {(other | known)[name]}" for name in strata]
    return " || '; ' || ".join(parts)


def _banded(column: str, bands: Sequence[tuple[int, str]], beyond: str, unknown: str) -> str:
    cases = " ".join(f"when {column} <= {last} then '{name}'" for last, name in bands)
    return f"(case {cases} when {column} is null then '{unknown}' else '{beyond}' end)"


def require_known_strata(inputs: DecisionInputs) -> None:
    """Refuse to balance a control group by an attribute that nobody in the population has.

    Everybody would be of one stratum ``name=unknown``, and nothing would be balanced. A population
    without rows is not refused.

    Raises:
        UserError: naming the key path, and attributes that there are.
    """
    task = inputs.task
    asked = [(i, name) for i, name in enumerate(task.spec.holdout.strata) if name not in BANDED]
    if not asked:
        return
    people = people_from(inputs.population, inputs.attributes)
    having = ", ".join(f"count({attribute_sql(name)})" for _, name in asked)
    rows, *counts = inputs.engine.rows(f"select count(*), {having} from {people}")[0]
    for (place, name), count in zip(asked, counts, strict=True):
        if rows and not count:
            known = [*BANDED, *_attributes_present(inputs)]
            near = get_close_matches(name, known, n=_LISTED, cutoff=0.6)
            listed = [*near, *(one for one in known if one not in near)]
            more = ", …" if len(listed) > _LISTED else ""
            raise UserError(
                f"campaign {task.campaign!r}: holdout.strata[{place}]: nobody in the population of "
                f"task {task.task_id!r} has an attribute {name!r}; known are "
                f"{', '.join(listed[:_LISTED])}{more}",
                code="campaign.invalid",
            )


def _attributes_present(inputs: DecisionInputs) -> list[str]:
    """Columns and attributes that somebody in the population has, by name."""
    people = people_from(inputs.population, inputs.attributes)
    keys = ("map_keys(p.variables)", "map_keys(a.kvs_str)", "map_keys(a.kvs_num)")
    each = " union ".join(f"select unnest({one}) as name from {people}" for one in keys)
    names = inputs.engine.rows(f"select distinct name from ({each}) order by name")
    return [name for (name,) in names]
