"""Which questions a campaign asks, and with what settings."""

from usergrowth_dagster.control.campaign import CampaignSpec
from usergrowth_dagster.effects.returns import return_rule
from usergrowth_dagster.learning.problems import problem_called
from usergrowth_dagster.learning.problems.base import Asked, Problem, Returns
from usergrowth_dagster.settings import Settings


def asked_of(spec: CampaignSpec) -> Asked:
    """What a campaign says that its questions are made from."""
    rule = return_rule(spec)
    return Asked(
        block=spec.algorithm,
        returns=Returns(rule.days, rule.behaviors, rule.on_item, rule.same_day),
        channel=spec.channel,
        by_effect=spec.selection.by_uplift,
    )


def question_of(settings: Settings, spec: CampaignSpec) -> Problem:
    """The question that a campaign's people are scored by.

    Raises:
        ValidationError: a setting that no label can have.
    """
    return problem_called(spec.algorithm.kind).of(asked_of(spec), settings)
