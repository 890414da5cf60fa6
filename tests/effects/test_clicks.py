"""Clicks by arm: nobody is lost without a reason, and texts are compared as they were drawn."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_effects import CLICKS, bare, works
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from usergrowth_dagster.control.codes import MessageState
from usergrowth_dagster.effects.analysis import as_dry_run
from usergrowth_dagster.effects.clicks import PATH, TextArm, TextFate, build_paths, check_path
from usergrowth_dagster.effects.report.clicks import click_tables, pair_rows, path_rows
from usergrowth_dagster.effects.report.funnel import Fate
from usergrowth_dagster.effects.report.page import concealed
from usergrowth_dagster.effects.report.words import LOSS_WORDS
from usergrowth_dagster.effects.result import Loss

ARMS = [TextArm("a", "sms", True), TextArm("b", "email", False), TextArm("control", None, False)]


@st.composite
def fates(draw: st.DrawFn) -> list[TextFate]:
    """Any states of the ledger, links and returns, in any arm."""
    made = []
    for state in draw(st.lists(st.sampled_from([None, *MessageState]), max_size=15)):
        rows = draw(st.integers(1, 10_000))
        fate = Fate(
            None if state is None else str(state),
            draw(st.sampled_from([None, "suppressed", "shared_email", "after_window"])),
            draw(st.booleans()),
            rows,
            draw(st.integers(0, rows)),
        )
        arm = draw(st.sampled_from([one.name for one in ARMS]))
        made.append(TextFate(arm, fate, draw(st.booleans()), draw(st.booleans())))
    return made


@given(fates(), st.booleans(), st.booleans())
def test_every_mixture_adds_up(mixture: list[TextFate], complete: bool, landed: bool) -> None:
    """A state or reason that no step counts: people vanish between the plan and the click."""
    built = build_paths(ARMS, mixture, complete=complete, landed=landed)
    for arm, path in zip(ARMS, built.arms, strict=True):
        mine = [one for one in mixture if one.arm == arm.name]
        assert list(path.steps) == list(PATH)
        assert path.steps["planned"] == sum(one.fate.rows for one in mine)
        assert path.returned == sum(one.fate.returned for one in mine)
        assert {name for name, rows in path.steps.items() if rows is None} == set(path.blanks)
        assert all(loss.rows > 0 and loss.reason in LOSS_WORDS for loss in path.losses)
        if arm.linked:
            clicked = [one.fate for one in mine if one.clicked]
            assert path.steps["clicked"] == sum(fate.rows for fate in clicked)
            if landed:
                assert path.steps["converted"] == sum(fate.returned for fate in clicked)
        if arm.channel is None:
            assert not path.losses and path.click_rate is None


def test_a_loss_that_nothing_explains_is_refused() -> None:
    """The check that the funnel adds up can never fail."""
    path = CLICKS.arms[0]
    with pytest.raises(
        ValueError, match=r"arm plain: delivered .* clicked .*: nothing explains 1 "
    ):
        check_path(replace(path, steps=path.steps | {"clicked": (path.steps["clicked"] or 0) - 1}))
    with pytest.raises(ValueError, match="people of arms that there are not"):
        build_paths(ARMS[:1], [TextFate("c", Fate(None, None, False, 1), False, False)],
                    complete=True, landed=True)  # fmt: skip


def test_a_click_says_that_the_text_arrived() -> None:
    """People who clicked and are lost as unreported, and bots that count as people."""
    arm = ARMS[:1]
    people = [
        TextFate("a", Fate("delivered", None, True, 10, 3), False, True),
        TextFate("a", Fate("accepted", None, True, 4, 2), True, True),
        TextFate("a", Fate("in_doubt", None, True, 1), True, False),
        TextFate("a", Fate("accepted", None, True, 7), False, False),
        TextFate("a", Fate("skipped", "shared_phone", False, 5, 1), False, False),
    ]
    (path,) = build_paths(arm, people, complete=True, landed=True).arms
    assert path.steps == dict(zip(PATH, (27, 22, 22, 15, 5, 2), strict=True))
    assert path.losses == [
        Loss("eligible", "shared_phone", 5),
        Loss("delivered", "no_report", 7),
        Loss("clicked", "only_bots", 10),
        Loss("converted", "not_returned", 3),
    ]
    assert (path.returned, path.bots) == (6, 10)
    unreported = [one for one in people if one.fate.state != "delivered"]
    (path,) = build_paths(arm, unreported, complete=True, landed=False).arms
    assert path.steps == dict(zip(PATH, (17, 12, 12, None, 5, None), strict=True))
    assert path.blanks == {"delivered": "no_reports", "converted": "not_landed"}


def test_texts_are_compared_of_everybody_planned() -> None:
    """A rate of those who got a text, or p-values and intervals that ignore the other pairs."""
    sizes = {"a": (1_000, 120), "b": (900, 70), "c": (1_100, 125)}
    people = []
    for name, (planned, clicked) in sizes.items():
        people += [
            TextFate(name, Fate("skipped", "suppressed", False, 300), False, False),
            TextFate(name, Fate("delivered", None, True, planned - 300 - clicked), False, False),
            TextFate(name, Fate("delivered", None, True, clicked, 9), True, False),
        ]
    arms = [TextArm(name, "sms", True) for name in sizes]
    built = build_paths(arms, people, complete=True, landed=True)
    for path in built.arms:
        planned, clicked = sizes[path.name]
        bounds = proportion_confint(clicked, planned, method="wilson")
        assert path.click_rate is not None
        assert (path.click_rate.low, path.click_rate.high) == pytest.approx(bounds)
        assert path.click_rate.value == clicked / planned
    plain = {}
    for pair in built.contrasts:
        (n1, k1), (n2, k2) = sizes[pair.one], sizes[pair.other]
        low, high = confint_proportions_2indep(k1, n1, k2, n2, method="newcomb", alpha=0.05 / 3)
        assert (pair.difference.low, pair.difference.high) == pytest.approx((low, high))
        assert pair.level == pytest.approx(1 - 0.05 / 3)
        one = build_paths(
            [arm for arm in arms if arm.name in (pair.one, pair.other)],
            [one for one in people if one.arm in (pair.one, pair.other)],
            complete=True, landed=True,
        )  # fmt: skip
        plain[pair.one, pair.other] = one.contrasts[0].difference.p_value
    corrected = multipletests(list(plain.values()), method="holm")[1]
    assert [pair.difference.p_value for pair in built.contrasts] == pytest.approx(list(corrected))
    assert plain["a", "b"] < corrected[0]  # type: ignore[operator]


def test_no_click_is_compared_where_nothing_may_be_concluded() -> None:
    """A pair of texts in a page that says: too early, or a click in a dry run."""
    assert pair_rows(works()) and path_rows(works())
    for verdict in ("not_yet", "nothing_sent", "uneven_split"):
        early = concealed(bare(verdict, "x"))
        assert early.clicks is not None and early.clicks.contrasts == []
        assert not pair_rows(bare(verdict, "x"))
    dry = as_dry_run(works())
    assert dry.clicks is not None
    assert {path.steps["clicked"] for path in dry.clicks.arms} == {None}
    arms, pairs = click_tables(dry)
    assert not pairs and "dry run: nobody was texted" in str(arms)
    assert click_tables(replace(works(), clicks=None)) == ((), ())


def test_the_control_group_has_a_dash_and_its_reason() -> None:
    """A zero where nobody could click, which reads as if nobody wanted to."""
    header, *lines = click_tables(works())[0]
    place = header.index("control")
    clicked = next(line for line in lines if line[0].startswith("Clicked"))
    assert clicked[place] == "– nothing was sent: held out"
    returned = next(line for line in lines if "clicked or not" in line[0])
    assert returned[place].startswith("194 ")
    lift = next(line for line in lines if "than of the control group" in line[0])
    assert lift[header.index("plain (sms)")].startswith("+9.6 ")
