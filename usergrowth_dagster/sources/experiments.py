"""Past randomized experiments: who was treated, who was held out, and by what chance.

An entry of ``sources.yml`` that fills ``experiment`` lands as rows of the table ``operation``: a
treated person as a touch of the channel, everybody else as a row with the target ``holdout``, each
with the chance of the own arm. So a model of effects learns from a past test as it learns from the
campaigns sent since.

    sources:
      - name: spring_offer
        fills: experiment
        from: exports/spring_offer.csv
        day: {time: enrolled_at}
        columns: {user_id: customer, treated: "variant <> 'none'", share: 0.5, cost: 0.15}
        effect: {return_days: 14, return_behaviors: [buy], value_per_return: 10}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from usergrowth_dagster.data.contracts import Column, Contract
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.sources.expressions import Expressions

EXPERIMENT = "experiment"
"""What such a source fills, and the key in ``kvs_str`` that names the source of a row."""

HOLDOUT = "holdout"
"""Target of a row of somebody who was not treated."""

LANDS_IN = "operation"

CONTRACT = Contract(
    EXPERIMENT,
    (
        Column("user_id", "VARCHAR", False, "the user who took part", "id"),
        Column("treated", "BOOLEAN", True, "whether the user was treated"),
        Column("arm", "VARCHAR", True, "name of the user's arm; with control, instead of treated"),
        Column("share", "DOUBLE", True, "chance of being treated, above 0 and below 1"),
        Column("propensity", "DOUBLE", True, "chance of the user's own arm; instead of share"),
        Column("item_id", "VARCHAR", True, "the item that the treatment was about", "id"),
        Column("cost", "DOUBLE", True, "price of the treatment of a treated user, in currency"),
        Column("channel", "VARCHAR", True, "kind of touch; default: sms", "id"),
    ),
    (),
    "one user of a past randomized experiment",
)
"""The columns that an experiment is described by."""


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class EffectKeys(BaseModel):
    """What counts as the outcome of a past experiment, as ``effect`` of a campaign file does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    return_days: int = Field(28, ge=1, le=365, description="days after the own day that count")
    return_behaviors: Annotated[
        tuple[str, ...],
        BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...]),
    ] = Field((), description="behaviors that count as a return; default: any")
    return_on_item: bool = Field(False, description="only behaviors on the row's item count")
    same_day: bool = Field(False, description="behavior on the own day counts too")
    amount: str | None = Field(
        None, min_length=1, description="kvs_num key of behaviors whose sum is the value"
    )
    value_per_return: float | None = Field(
        None, gt=0, description="worth of one return, in currency"
    )
    margin: float = Field(1.0, gt=0, le=1, description="share of the amount that is profit")
    pre_days: int = Field(28, ge=1, le=365, description="days before the own day, as covariates")


@dataclass(frozen=True)
class ExperimentSql:
    """How rows of an experiment become rows of ``operation``.

    Attributes:
        treated: whether the row's user was treated (BOOLEAN); NULL where nothing says so.
        target: its target.
        chance: chance of its own arm (DOUBLE).
        cost: price of its treatment; NULL where it has none.
        texts: expressions of the texts, by key in ``kvs_str``.
        refusals: by column, the condition of rows that no experiment can have, and what they have.
        not_numbers: by column, the condition that a text in it is no number.
    """

    treated: str
    target: str
    chance: str
    cost: str | None
    texts: Mapping[str, str]
    refusals: Mapping[str, tuple[str, str]]
    not_numbers: Mapping[str, str]


def check_columns(columns: Mapping[str, str], control: str | None) -> str:
    """Why the columns of an experiment do not describe one; empty when they do.

    Args:
        columns: the expressions by column.
        control: name of the arm that was not treated.
    """
    if ("treated" in columns) == (control is not None):
        return "needs columns.treated, or columns.arm and control, the name of the arm held out"
    if control is not None and "arm" not in columns:
        return "control is the name of an arm, and columns.arm is missing"
    if ("share" in columns) == ("propensity" in columns):
        return (
            "needs columns.share, the chance of being treated such as 0.5, or columns.propensity, "
            "the chance of the row's own arm; one of them"
        )
    return ""


def experiment_sql(
    expressions: Expressions, name: str, columns: Mapping[str, str], control: str | None
) -> ExperimentSql:
    """Check the expressions of an experiment and write what its rows land as.

    Args:
        expressions: checks them.
        name: of the source.
        columns: the expressions by column.
        control: name of the arm that was not treated; None: ``treated`` says so.

    Raises:
        UserError: an expression breaks a rule; names the source, the key and the rule.
    """
    place = f"source {name}: columns"

    not_numbers = {}

    def number(column: str) -> str:
        sql = expressions.sql(columns[column], f"{place}.{column}", number=True)
        if condition := expressions.not_a_number(sql):
            not_numbers[column] = condition
        return f"cast({sql} as double)"

    arm, neither = None, "false"
    if "arm" in columns:
        arm = f"cast({expressions.sql(columns['arm'], f'{place}.arm')} as varchar)"
    if control is not None:
        treated = f"({arm} <> {literal(control)})"
    else:
        treated, neither = _boolean(expressions, columns["treated"], f"{place}.treated")
    chance_column = "share" if "share" in columns else "propensity"
    given = number(chance_column)
    chance = f"(case when {treated} then {given} else 1 - {given} end)"
    if "propensity" in columns:
        chance = given
    channel = literal("sms")
    if "channel" in columns:
        channel = f"cast({expressions.sql(columns['channel'], f'{place}.channel')} as varchar)"
    texts = {"channel": channel, "campaign": literal(name), EXPERIMENT: literal(name)}
    if arm is not None:
        named = f"case when {treated} then {arm} end"
        texts |= {"copy": named, "variant": named}
    return ExperimentSql(
        treated=treated,
        target=f"case when {treated} is null then null when {treated} then {channel} "
        f"else '{HOLDOUT}' end",
        chance=chance,
        cost=f"case when {treated} then {number('cost')} end" if "cost" in columns else None,
        texts=texts,
        refusals={
            chance_column: (
                f"({treated} is not null and coalesce({given} <= 0 or {given} >= 1, true))",
                "no chance above 0 and below 1; write 0.5 for 50 %",
            ),
            **({} if control else {"treated": (neither, "neither true nor false")}),
        },
        not_numbers=not_numbers,
    )


def _boolean(expressions: Expressions, text: str, place: str) -> tuple[str, str]:
    """An expression as true, false or NULL, and the condition that its value is none of these.

    Raises:
        UserError: it is neither a condition, a number nor a text.
    """
    sql = expressions.sql(text, place)
    kind = expressions.kind(sql)
    if kind == "BOOLEAN":
        return f"({sql})", "false"
    if kind == "VARCHAR":
        value = f"try_cast(trim({sql}) as boolean)"
        return value, f"({sql} is not null and {value} is null)"
    if kind in {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}:
        return f"(case {sql} when 1 then true when 0 then false end)", f"({sql} not in (0, 1))"
    raise UserError(
        f"{place}: {text!r} is a {kind}, not true or false; write a condition such as "
        f"{text} = 'yes'",
        code="source.invalid",
    )
