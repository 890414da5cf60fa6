"""The funnel: nobody is lost without a reason."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_effects import FUNNEL, works

from usergrowth_dagster.audience.eligibility import OUTCOMES
from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.effects.report.funnel import STEPS, TEXTED, Fate, build_funnel, check
from usergrowth_dagster.effects.report.words import LOSS_WORDS, loss_words
from usergrowth_dagster.effects.result import Funnel, Loss
from usergrowth_dagster.explain.story import SKIP_WORDS


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[dict[str, int], list[Fate], int, int]:
    """Any decision, and any states of the ledger of those who were chosen."""
    fates = []
    for state in draw(st.lists(st.sampled_from([None, *MessageState]), max_size=15)):
        rows = draw(st.integers(1, 3_000_000))
        fates.append(
            Fate(
                None if state is None else str(state),
                draw(st.sampled_from([None, "suppressed", "cancelled", "some_new_reason"])),
                draw(st.booleans()),
                rows,
                draw(st.integers(0, rows)),
            )
        )
    others = [name for name in OUTCOMES if name not in TEXTED]
    decided = draw(st.dictionaries(st.sampled_from([*others, "odd_code"]), st.integers(0, 10**6)))
    explored = draw(st.integers(0, sum(fate.rows for fate in fates)))
    decided["explored"] = explored
    decided["selected"] = sum(fate.rows for fate in fates) - explored
    held_out = draw(st.integers(0, decided.get("holdout", 0)))
    return decided, fates, draw(st.integers(0, 10_000)), held_out


@given(mixtures(), st.booleans(), st.booleans())
def test_every_mixture_adds_up(
    mixture: tuple[dict[str, int], list[Fate], int, int], complete: bool, landed: bool
) -> None:
    """A state, a reason or an outcome that no step counts: people vanish between two steps."""
    decided, fates, unreadable, held_out = mixture
    funnel = build_funnel(
        decided,
        fates,
        unreadable=unreadable,
        held_globally=held_out,
        complete=complete,
        landed=landed,
    )
    steps = list(funnel.steps.items())
    assert [name for name in STEPS if name in funnel.steps] == [name for name, _ in steps]
    assert steps[0] == ("uploaded", unreadable + sum(decided.values()))
    left = dict(steps)["uploaded"]
    for name, rows in steps[1:]:
        left -= sum(loss.rows for loss in funnel.losses if loss.step == name)
        assert left == rows >= 0, name
    assert funnel.steps["chosen"] == sum(fate.rows for fate in fates)
    taken = {"accepted", "delivered", "undelivered"}
    went = [f for f in fates if f.state in taken or (f.state == "expired" and f.handed_over)]
    assert funnel.steps["sent"] == sum(fate.rows for fate in went)
    assert ("returned" in funnel.steps) == landed
    if "delivered" in funnel.steps:
        delivered = [fate for fate in fates if fate.state == "delivered"]
        assert funnel.steps["delivered"] == sum(fate.rows for fate in delivered)
        if landed:
            assert funnel.steps["returned"] == sum(fate.returned for fate in delivered)
    elif landed:
        assert funnel.steps["returned"] == sum(fate.returned for fate in went)
    assert all(
        loss.rows > 0 and loss.reason and loss_words(loss, works()) for loss in funnel.losses
    )


def test_unexplained_loss_is_impossible() -> None:
    """Planned 2,029,871, sent 1,396,877, and nothing explains the 632,994 not sent."""
    funnel = Funnel({"planned": 2_029_871, "sent": 1_396_877}, [])
    with pytest.raises(
        ValueError, match="planned 2,029,871, sent 1,396,877: nothing explains 632,994"
    ):
        check(funnel)
    check(replace(funnel, losses=[Loss("sent", "send_by_passed", 632_994)]))
    with pytest.raises(ValueError, match="steps that the funnel does not have"):
        check(replace(funnel, losses=[Loss("sent", "x", 632_994), Loss("delivered", "y", 1)]))
    with pytest.raises(ValueError, match="100 rows were chosen, but the fate of 99 is known"):
        build_funnel({"selected": 100}, [Fate("accepted", None, True, 99)])
    with pytest.raises(ValueError, match="lost_in_space"):
        build_funnel({"selected": 1}, [Fate("lost_in_space", None, True, 1)])


def test_example_step_by_step() -> None:
    """A text that the provider refused counts as sent, or a doubtful one as not explained."""
    assert FUNNEL.steps == {
        "uploaded": 40_007,
        "eligible": 39_460,
        "chosen": 20_600,
        "planned": 20_600,
        "sent": 19_980,
        "delivered": 19_120,
        "returned": 1_840,
    }
    losses = {(loss.step, loss.reason): loss.rows for loss in FUNNEL.losses}
    assert losses["sent", "rejected"] == 40
    assert losses["sent", "in_doubt"] == 3
    assert losses["sent", "suppressed"] == 200
    assert losses["eligible", "suppressed"] == 97
    assert losses["chosen", "global_holdout"] == 380
    assert losses["delivered", "no_report"] == 350


def test_without_receipts_returns_are_of_those_sent() -> None:
    """A provider that reports nothing makes the report say that no text arrived."""
    dry = build_funnel({"selected": 50, "holdout": 5}, [Fate("accepted", None, True, 50, 7)])
    assert "delivered" not in dry.steps
    assert dry.steps["returned"] == 7
    early = build_funnel({"selected": 50}, [Fate(None, None, False, 50)], landed=False)
    assert list(early.steps)[-1] == "sent" and early.steps["planned"] == 0
    assert early.losses == [Loss("planned", "no_plan", 50)]


def test_every_known_reason_has_words() -> None:
    """A new outcome or reason shows as a code that only its author understands."""
    known = {*OUTCOMES, *SKIP_WORDS} - {*TEXTED, "unknown"}
    assert not known - set(LOSS_WORDS)
