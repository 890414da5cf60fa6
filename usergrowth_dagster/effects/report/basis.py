"""What was decided and why, in the words that stand beside an effect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from usergrowth_dagster.control.campaign import CampaignSpec
from usergrowth_dagster.control.campaign_blocks import FallbackSpec, SelectionSpec
from usergrowth_dagster.effects.returns import return_rule
from usergrowth_dagster.learning.problems import problem_called
from usergrowth_dagster.ranks import SCORE, UPLIFT
from usergrowth_dagster.settings.gateways import DRY_RUN


@dataclass(frozen=True)
class Basis:
    """What a task's decision was made by; ``facts`` are terms with their plain text.

    ``heading`` stands above the report of what is no task; empty: the campaign and the task do.
    """

    facts: list[tuple[str, str]] = field(default_factory=list)
    heading: str = ""


def basis_of(
    spec: CampaignSpec,
    *,
    models: Sequence[tuple[str, str]],
    uplift_versions: Sequence[str],
    global_share: float,
    note: str,
    prices: Mapping[str, float],
    currency: str,
    stands: str,
    gateways: Sequence[str] = (),
) -> Basis:
    """Describe what a decision was made by.

    Args:
        spec: the campaign's settings of the task.
        models: name and version of the models of the decision's rows.
        uplift_versions: versions of the uplift model of the decision's rows; empty: none.
        global_share: share of all users in the global control group.
        note: a sentence when another policy decided than the campaign asks for.
        prices: of one message segment, by channel.
        currency: of money.
        stands: whether the decision may still change, and how it can be made again.
        gateways: names of those that took texts of the task.
    """
    selection, effect = spec.selection, spec.effect
    scored = ", ".join(f"{name} version {version}" for name, version in models)
    facts = [
        ("Question of the model", problem_called(spec.algorithm.kind).words.asks),
        ("Model", scored or "no row was scored"),
        ("Chosen", policy_words(selection, currency)),
    ]
    if selection.by_uplift:
        versions = ", ".join(f"uplift version {version}" for version in uplift_versions)
        facts.append(("Uplift model", versions or "none might be used"))
    if note:
        by = f": {policy_words(selection.fallback, currency)}" if selection.fallback else ""
        facts.append(("Decided otherwise", f"{note}{by}"))
    if selection.explore:
        facts.append(
            (
                "Texted at random",
                f"{_share(selection.explore)} of those not chosen, so that other policies can be "
                "judged; they do not count for the lift",
            )
        )
    facts += [
        ("Held out", _holdout(spec, global_share)),
        ("Counts as a return", _returns(spec)),
        ("A return is worth", _worth(spec, currency)),
        *_channels(spec, prices, currency),
        *([("Sent through", ", ".join(map(_gateway, gateways)))] if gateways else []),
        ("The decision", stands),
    ]
    if effect.looks > 1:
        facts.append(("Planned analyses", f"{effect.looks}, the last when the window is complete"))
    return Basis(facts)


def _channels(
    spec: CampaignSpec, prices: Mapping[str, float], currency: str
) -> list[tuple[str, str]]:
    """How the texts go: the channel, or each with its texts."""
    if len(spec.channels) == 1:
        return [("Channel", f"{spec.channel}, {prices[spec.channel]:g} {currency} a message")]
    texts = {
        channel: ", ".join(name for name, by in spec.channel_by_text.items() if by == channel)
        for channel in spec.channels
    }
    said = [
        f"{channel} ({names}), {prices[channel]:g} {currency} a message"
        for channel, names in texts.items()
    ]
    return [
        ("Channels", "; ".join(said)),
        ("Who could be texted", "people with an address of each channel who refuse none of them"),
    ]


def _gateway(name: str) -> str:
    return "a dry run: texts were written to files and reached nobody" if name == DRY_RUN else name


def _share(share: float) -> str:
    return f"{100 * share:g} %"


def policy_words(selection: SelectionSpec | FallbackSpec, currency: str = "") -> str:
    """A selection policy in words."""
    rank = "expected uplift" if getattr(selection, "rank_by", SCORE) == UPLIFT else "score"
    money = getattr(selection, "money", None)
    if money is not None:
        limit = f", within {money.budget:g} {currency}" if money.budget is not None else ""
        return (
            f"everybody whose text is worth more than {money.min_profit:g} {currency} above its "
            f"cost, best return on spend first{limit}"
        )
    if selection.threshold is not None:
        return f"everybody whose score is above {selection.threshold:g}"
    if selection.top_n is not None:
        return f"the {selection.top_n:,} with the highest {rank}"
    return f"by highest {rank}, as long as {selection.budget:g} {currency} last".replace("  ", " ")


def _holdout(spec: CampaignSpec, global_share: float) -> str:
    holdout = spec.holdout
    parts = []
    if holdout.share:
        strata = f" within {', '.join(holdout.strata)}" if holdout.strata else ""
        parts.append(
            f"{_share(holdout.share)} of the chosen{strata} as this campaign's control group"
        )
    if global_share:
        parts.append(f"{_share(global_share)} of all users as the control group of all campaigns")
    return "; ".join(parts) or "nobody, so no effect can be measured"


def _returns(spec: CampaignSpec) -> str:
    rule = return_rule(spec)
    what = " or ".join(rule.behaviors) or "any behavior"
    where = " on the item of the text" if rule.on_item else ""
    when = f"within {rule.days} days after the execution date"
    if rule.same_day:
        when = f"on the execution date or within {rule.days} days after it"
    return f"{what}{where} {when}"


def _worth(spec: CampaignSpec, currency: str) -> str:
    effect = spec.effect
    parts = []
    if effect.value_per_return is not None:
        parts.append(f"{effect.value_per_return:g} {currency}")
    if effect.amount is not None:
        share = "" if effect.margin == 1 else f", {_share(effect.margin)} of it profit"
        parts.append(f"the sum of {effect.amount} in the window{share}")
    return "; measured as ".join(parts) or "not said (effect.value_per_return, effect.amount)"
