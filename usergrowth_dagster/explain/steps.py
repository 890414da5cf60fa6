"""What a decision asked of one row, question by question, and the answers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from usergrowth_dagster.audience.eligibility import OUTCOMES
from usergrowth_dagster.audience.policy import Money, Policy, Threshold, parse_policy
from usergrowth_dagster.control.campaign import CampaignSpec
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.effects.policies import words
from usergrowth_dagster.explain.sentences import SKIP_WORDS
from usergrowth_dagster.explain.story import Cut, Reply, Step
from usergrowth_dagster.learning.problems import problems
from usergrowth_dagster.pipeline.provenance import Provenance
from usergrowth_dagster.ranks import UPLIFT

_CHOSEN = ("selected", "holdout")


def steps_of(
    row: Mapping[str, Any],
    spec: CampaignSpec,
    provenance: Provenance | None,
    cut: Cut,
    within: int | None,
) -> list[Step]:
    """All that was asked of a row of a decision, in order.

    Args:
        row: with the columns of the decisions table.
        spec: the campaign as the task sees it, used where nothing was kept.
        provenance: what the decision was made from, if that was kept.
        cut: of the task.
        within: days in which a user had to be active to be decided on; None: any user.
    """
    return [
        *_eligibility(row, spec, provenance, within),
        *_selection(row, provenance, cut),
        *_control(row, provenance),
    ]


def _eligibility(
    row: Mapping[str, Any], spec: CampaignSpec, provenance: Provenance | None, within: int | None
) -> Iterator[Step]:
    outcome = row["outcome"]
    reached = OUTCOMES.index(outcome) if outcome in OUTCOMES else len(OUTCOMES)
    for name, question in _questions(spec, within).items():
        place = OUTCOMES.index(name)
        answer: Reply = "yes" if place < reached else "no" if place == reached else "not asked"
        detail = ""
        if name in ("suppressed", "capped") and answer == "no" and provenance is not None:
            detail = f"by the contact policy as of {provenance.contact['moment'][:16]} UTC"
        if name == "no_features" and row["score"] is not None:
            detail = _scored(row)
        yield Step(question, answer, detail)


def _scored(row: Mapping[str, Any]) -> str:
    problem = problems().get(row["model_name"])
    quantity = problem.words.score if problem else "score"
    found = f"{quantity} {row['score']:.4f}, by {row['model_name']} version {row['model_version']}"
    if row[UPLIFT] is not None:
        found += f"; a text adds {row[UPLIFT]:+.4f}, by uplift version {row['uplift_version']}"
    return found


def _questions(spec: CampaignSpec, within: int | None) -> dict[str, str]:
    """By the outcome that a no leads to, what is asked, in order."""
    name = "phone" if spec.channel == "sms" else "email"
    article = "a" if name == "phone" else "an"
    address = "phone number" if spec.channel == "sms" else "e-mail address"
    asked = {
        "duplicate": "first row of this user and item in the upload",
        "no_features": "known well enough to be scored",
        f"no_{name}": f"has {article} {address}",
        f"bad_{name}": f"the {address} can be one",
        "no_country": "the phone number says its country, or a default country is set",
        "suppressed": "not suppressed",
        "capped": "has had fewer messages than one may get",
        "no_consent": f"has given the consent {spec.contact.require_consent!r}",
        "not_active": f"was active in the last {within} days",
        "unknown_zone": "the time zone is one that is known, or none is given",
        "missing_variable": "every variable of the text has a value",
        "too_long": "the text is short enough",
        "other_item": "best row of this user",
        f"shared_{name}": f"best user of this {address}",
    }
    if spec.channel != "sms":
        del asked["no_country"]
    if spec.contact.require_consent is None:
        del asked["no_consent"]
    if within is None:
        del asked["not_active"]
    return asked


def _selection(row: Mapping[str, Any], provenance: Provenance | None, cut: Cut) -> Iterator[Step]:
    outcome = row["outcome"]
    ranked = row["rank"] is not None
    policy = None if provenance is None else parse_policy(provenance.choice["policy"])
    if policy is None or provenance is None:
        question = "chosen by the campaign's policy"
    else:
        question = words(policy, provenance.settings.get("currency", ""))
        if provenance.choice.get("note"):
            question += " (the campaign's fallback)"
    if not ranked:
        yield Step(question, "not asked")
        return
    yield Step(question, "yes" if outcome in _CHOSEN else "no", _placed(row, policy, cut))
    if policy is not None and policy.explore > 0 and outcome not in _CHOSEN:
        explored = outcome == "explored"
        chance = row["propensity"] if explored else 1 - row["propensity"]
        yield Step(
            "drawn at random from those not chosen",
            "yes" if explored else "no",
            f"the chance was {chance:.2%}",
        )


def _placed(row: Mapping[str, Any], policy: Policy | None, cut: Cut) -> str:
    """Where the row stood."""
    if isinstance(policy, Threshold):
        return f"score {row['score']:.4f}"
    standing = f"rank {row['rank']:,}"
    if cut.rank is not None:
        standing += f"; the last one chosen has rank {cut.rank:,}"
    if isinstance(policy, Money) and row["net_value"] is not None:
        standing += f"; net value of the text {row['net_value']:.4f}"
    return standing


def _control(row: Mapping[str, Any], provenance: Provenance | None) -> Iterator[Step]:
    """Both control groups, the one of all campaigns first."""
    outcome, by = row["outcome"], row["holdout"] or "campaign"
    draws = {} if provenance is None else provenance.choice
    for kind, name, question in (
        ("global", "global_holdout", "not in the control group of all campaigns"),
        ("campaign", "holdout", "not in the campaign's control group"),
    ):
        answer: Reply = "not asked"
        if outcome in ("selected", "explored"):
            answer = "yes"
        elif outcome == "holdout":
            answer = "no" if by == kind else "yes" if kind == "global" else "not asked"
        group = draws.get(name)
        detail = ""
        if group is not None and answer != "not asked":
            drawn_from = "all" if kind == "global" else "the chosen"
            detail = f"{group['share']:.1%} of {drawn_from}, epoch {group['epoch']}"
            if kind == "campaign" and row["stratum"] is not None:
                detail += f", stratum {row['stratum']}"
        yield Step(question, answer, detail)


def sending_step(messages: Sequence[Mapping[str, Any]]) -> Step:
    """What the contact policy said when the text's turn came, by the newest message."""
    question = "the contact policy when the text's turn came"
    if not messages:
        return Step(question, "not asked", "no send plan has been made")
    newest = messages[-1]
    verdict = newest["verdict"]
    if newest["sent_time"]:
        return Step(question, "yes")
    if newest["state"] is MessageState.SKIPPED or newest["state"] is MessageState.EXPIRED:
        reason = newest["reason"] or newest["state"].value
        return Step(question, "no", SKIP_WORDS.get(reason, reason.replace("_", " ")))
    if verdict is not None:
        words = SKIP_WORDS.get(verdict["reason"], verdict["reason"].replace("_", " "))
        return Step(question, "not asked", f"now it would say: {words}")
    return Step(question, "not asked", f"the text is {newest['state'].value}")
