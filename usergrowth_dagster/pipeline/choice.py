"""How a task's campaign chooses on the task's date: policy, control groups, and texts."""

import json
from dataclasses import dataclass
from datetime import date

from usergrowth_dagster.audience.holdout import Holdout, drawn_on, epoch_in_force
from usergrowth_dagster.audience.policy import Budget, Money, Policy, Threshold, TopN
from usergrowth_dagster.audience.variants import VariantDraw, variant_sql
from usergrowth_dagster.control.campaign import CampaignSpec
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.texts.billing import Billing, billing_of, price_of
from usergrowth_dagster.messaging.texts.content import by_variant_sql
from usergrowth_dagster.messaging.texts.links import link_root, with_example
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.relation import Relation


@dataclass(frozen=True)
class Choice:
    """How a task is decided; ``note`` is a sentence when that is not what the campaign asks for."""

    policy: Policy
    holdout: Holdout
    global_holdout: Holdout
    note: str = ""


def choice_of(settings: Settings, task: Task, *, by_uplift: bool) -> Choice:
    """The choice of a task's campaign; its fallback when no uplift model has scored.

    Args:
        settings: of the home; they hold the global control group.
        task: the task.
        by_uplift: whether an uplift model has scored the task too.

    Raises:
        UserError: the campaign chooses by uplift, there is none, and it names no fallback.
    """
    policy, note = _policy(task, by_uplift)
    return Choice(policy, holdout(task), global_holdout(settings, task.execution_date), note)


def holdout(task: Task) -> Holdout:
    """The control group of a task's campaign, with the epoch in force on the task's date."""
    spec = task.spec.holdout
    return Holdout(
        namespace=spec.namespace,
        epoch=epoch_in_force(spec.epoch, spec.rotate_days, task.execution_date),
        share=spec.share,
        strata=tuple(spec.strata),
    )


def global_holdout(settings: Settings, day: date) -> Holdout:
    """The control group of all campaigns that is in force on a day."""
    return Holdout(
        scope="global",
        epoch=epoch_in_force(
            settings.global_holdout_epoch, settings.global_holdout_rotate_days, day
        ),
        share=settings.global_holdout_share,
    )


def drawn_since(settings: Settings, task: Task) -> tuple[date | None, str]:
    """First day of the older of a task's two draws (None: it is kept), and the keys of both."""
    draw, days = task.spec.holdout, settings.global_holdout_rotate_days
    # With strata, each task has a draw of its own.
    lasts = [draw.rotate_days] if draw.share and not draw.strata else []
    lasts += [days] if settings.global_holdout_share else []
    starts = [drawn_on(last, task.execution_date) for last in lasts]
    rotations = [f"{name}: {_days(last)}" for name, last in (
        ("holdout.rotate_days", draw.rotate_days), ("setting global_holdout_rotate_days", days)
    )]  # fmt: skip
    known = [start for start in starts if start is not None]
    return min(known) if known and len(known) == len(starts) else None, ", ".join(rotations)


def _days(rotate_days: int | None) -> str:
    return "null" if rotate_days is None else str(rotate_days)


def selection_policy(spec: CampaignSpec) -> Policy:
    """The policy that a campaign asks for."""
    asked = spec.selection
    if asked.threshold is not None:
        return Threshold(threshold=asked.threshold, explore=asked.explore)
    if asked.top_n is not None:
        return TopN(n=asked.top_n, rank_by=asked.rank_by, explore=asked.explore)
    if asked.budget is not None:
        return Budget(budget=asked.budget, rank_by=asked.rank_by, explore=asked.explore)
    # The campaign file holds exactly one policy, and the worth of a return with this one.
    assert asked.money is not None and spec.effect.value_per_return is not None
    return Money(
        value_per_return=spec.effect.value_per_return,
        min_profit=asked.money.min_profit,
        budget=asked.money.budget,
        explore=asked.explore,
    )


def fallback_policy(spec: CampaignSpec) -> Policy | None:
    """The policy by score that a campaign names for want of an uplift model."""
    asked = spec.selection.fallback
    if asked is None:
        return None
    explore = spec.selection.explore
    if asked.threshold is not None:
        return Threshold(threshold=asked.threshold, explore=explore)
    if asked.top_n is not None:
        return TopN(n=asked.top_n, explore=explore)
    assert asked.budget is not None
    return Budget(budget=asked.budget, explore=explore)


def _policy(task: Task, by_uplift: bool) -> tuple[Policy, str]:
    policy = selection_policy(task.spec)
    if by_uplift or not policy.by_uplift:
        return policy, ""
    missing = (
        f"no approved uplift model learned from days before {task.execution_date} has scored "
        f"task {task.task_id!r}"
    )
    fallback = fallback_policy(task.spec)
    if fallback is None:
        raise UserError(
            f"campaign {task.campaign!r} chooses by uplift, but {missing}; train one (materialize "
            "uplift_model for that date), approve one that waits for review (usergrowth status "
            "names it), or name a policy by score at selection.fallback",
            code="model.none_usable",
        )
    return fallback, f"{missing}, so the campaign's fallback decided by score ({fallback.kind})"


def contents_of(task: Task, settings: Settings) -> dict[str, str]:
    """The templates of a task's campaign, by name of text.

    A short link has an example in its place: it is no value of a person, and all are of one length.

    Raises:
        UserError: a text has a link, and the setting ``link_domain`` is missing.
    """
    root = link_root(settings, task.spec)
    texts = task.spec.template.texts
    return {text.name: with_example(text.content, text.link, root) for text in texts}


@dataclass(frozen=True)
class PricedText:
    """A text, its channel's rules of billing, and the price of one message in currency."""

    content: str
    billing: Billing
    price: float


def priced_texts(task: Task, settings: Settings) -> dict[str, PricedText]:
    """The templates of a task's campaign with what each costs, by name of text.

    Raises:
        UserError: as of :func:`contents_of`.
    """
    contents = contents_of(task, settings)
    return {
        name: PricedText(contents[name], billing_of(settings, channel), price_of(settings, channel))
        for name, channel in task.spec.channel_by_text.items()
    }


def channel_sql(task: Task, variant: str) -> str:
    """DuckDB expression (VARCHAR): the channel of the text that an expression names."""
    return by_variant_sql(task.spec.channel_by_text, literal, variant)


def variant_draw(task: Task) -> VariantDraw | None:
    """How the texts are drawn on the task's date; None when there is one text only."""
    texts, control = task.spec.template.texts, task.spec.holdout
    if len(texts) == 1:
        return None
    return VariantDraw(
        campaign=task.campaign,
        epoch=epoch_in_force(control.epoch, control.rotate_days, task.execution_date),
        weights={text.name: text.share for text in texts},
    )


def people_sql(task: Task, population: Relation) -> str:
    """What stands in FROM for a task's population; with ``variant`` where texts are drawn."""
    draw = variant_draw(task)
    if draw is None:
        return str(population)
    return f"(select *, {variant_sql(draw, 'user_id')} as variant from {population})"


def texts_mark(task: Task, settings: Settings) -> str:
    """What a decision depends on of the texts: the only one's content, or all that is drawn."""
    contents = contents_of(task, settings)
    texts = task.spec.template.texts
    if len(texts) == 1:
        return contents[texts[0].name]
    marks = []
    for text in texts:
        channel = task.spec.channel_of(text)
        mark = [text.name, contents[text.name], repr(text.share)]
        # the campaign's channel is not named, so that earlier marks stay as they were
        marks.append(mark if channel == task.spec.channel else [*mark, channel])
    return json.dumps(sorted(marks))
