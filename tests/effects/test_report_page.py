"""The page and its JSON: what may be concluded, escaped, without a person in it."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from report_effects import BASIS, bare, works

from usergrowth_dagster.effects.report.basis import Basis
from usergrowth_dagster.effects.report.figures import arm_rows
from usergrowth_dagster.effects.report.page import render_json, render_page
from usergrowth_dagster.effects.report.words import VERDICT_WORDS, count
from usergrowth_dagster.effects.result import Estimate, SampleRatio, Verdict


class Reader(HTMLParser):
    """The tags, their attributes, and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        """All text, spaces made one."""
        return re.sub(r"\s+", " ", " ".join(self.words))


def test_page_has_every_figure() -> None:
    """A figure that is measured and not shown, or a picture without a description."""
    effect = works()
    page = render_page(effect, BASIS)
    reader = Reader(page)
    assert effect.sentence in reader.text
    for rows in [*effect.funnel.steps.values(), *(loss.rows for loss in effect.funnel.losses)]:
        assert count(rows) in reader.text
    for _, text in BASIS.facts:
        assert text in reader.text
    pictures = [attrs for tag, attrs in reader.tags if tag == "svg"]
    assert len(pictures) == 6
    assert all(attrs["role"] == "img" and len(attrs["aria-label"] or "") > 20 for attrs in pictures)
    assert page.count("<figcaption>") == 6
    for words in ("Intention to treat", "Delivered only", "with_emoji", "no answer: only 12 eff"):
        assert words in reader.text, words
    assert "Newcombe" in reader.text and "CUPED" in reader.text
    assert effect.clicks is not None
    for path in effect.clicks.arms:
        for rows in [*path.steps.values(), *(loss.rows for loss in path.losses)]:
            assert rows is None or count(rows) in reader.text
    assert "A click is no effect" in reader.text and "plain against with_emoji" in reader.text


def test_page_asks_nobody() -> None:
    """A script, a font or a picture from outside: the page is empty where it is forwarded to."""
    page = render_page(works(), BASIS)
    reader = Reader(page)
    assert "script" not in {tag for tag, _ in reader.tags}
    assert not [name for _, attrs in reader.tags for name in attrs if name.startswith("on")]
    for tag, attrs in reader.tags:
        for name in ("src", "href", "xlink:href", "action", "data"):
            target = attrs.get(name)
            assert target is None or target.startswith(("#", "data:,")), (tag, name, target)
    assert not re.findall(r"https?://|url\((?!#)|@import", page)
    named = re.findall(r'\bid="([^"]+)"', page)
    assert len(named) == len(set(named))  # pictures do not use each other's clips
    assert render_page(works(), BASIS) == page  # the same effect, the same bytes


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        ("not_yet", "Too early to conclude"),
        ("nothing_sent", "Nothing was sent"),
        ("dry_run", "Dry run: nobody was texted"),
        ("no_control", "No control group"),
        ("no_effect_shown", "No effect shown"),
        ("harms", "The texts did harm"),
    ],
)
def test_pages_name_their_verdict(verdict: str, says: str) -> None:
    """A page without a conclusion shows a lift all the same, or does not say why there is none."""
    effect = replace(works(), verdict=verdict, sentence="The one sentence")  # type: ignore[arg-type]
    text = Reader(render_page(effect, BASIS)).text
    assert says in text and "The one sentence" in text
    blocked = verdict in ("not_yet", "nothing_sent", "dry_run")
    assert ("Returns the texts brought" in text) == (verdict in ("no_effect_shown", "harms"))
    assert ("Intention to treat" in text) != blocked
    document = json.loads(render_json(effect, BASIS))
    assert bool(document["contrasts"]) != blocked  # the JSON is no way around it
    text = Reader(render_page(bare(verdict, "The one sentence"), BASIS)).text
    assert says in text and "with_emoji" in text


def test_uneven_split_blocks_and_names_the_arm() -> None:
    """A lift of arms that are not as they were drawn is forwarded as a result."""
    ratio = SampleRatio(
        False,
        1e-7,
        {"treatment": 20_608.2, "control": 2_391.8},
        {"treatment": 20_600, "control": 1_900},
        "control",
        "the arm control has 1900 users, fewer than the 2391.8 that were drawn",
    )
    effect = replace(
        works(), verdict="uneven_split", sample_ratio=ratio, sentence="Nothing can be concluded."
    )
    page = render_page(effect, BASIS)
    text = Reader(page).text
    assert 'role="alert"' in page
    assert "The arm “control” is not as large as it was drawn. Do not use the lift" in text
    assert "Returns the texts brought" not in text and "not to be used" in text
    assert '<tr class="off">' in page


_LETTERS = st.characters(codec="utf-8", exclude_categories=("C", "Z"))
_NAMES = st.text(_LETTERS, min_size=1, max_size=40).map(
    lambda name: f"<b>{name}</b>&'\"${{x}}</script>$"
)


@settings(max_examples=8, deadline=None, phases=[Phase.generate])
@given(_NAMES, _NAMES, _NAMES)
def test_names_are_escaped(campaign: str, variant: str, task: str) -> None:
    """A campaign's or a text's name becomes markup of the page, or breaks a picture's formulas."""
    effect = works()
    arms = [replace(a, name=variant) if a.name == "plain" else a for a in effect.arms]
    contrasts = [
        replace(c, treated=variant) if c.treated == "plain" else c for c in effect.contrasts
    ]
    policies = [replace(p, policy=campaign) for p in effect.policies]
    effect = replace(
        effect,
        campaign=campaign,
        task_id=task,
        arms=arms,
        contrasts=contrasts,
        policies=policies,
        sentence=f"Of {campaign}",
        notes=[task],
        crossover={variant: 3},
    )
    page = render_page(effect, Basis([(campaign, variant)]))
    reader = Reader(page)
    assert page.count("</script>") == 0
    plain = Reader(render_page(works(), BASIS))
    bold = [sum(tag == "b" for tag, _ in one.tags) for one in (reader, plain)]
    assert bold[0] == bold[1]  # those of the main figures only
    assert campaign in reader.text
    assert json.loads(render_json(effect, Basis([])))["campaign"] == campaign


def test_an_endless_or_missing_figure_says_why() -> None:
    """Too few people for an interval: the page stops with an error, or shows a bare number."""
    effect = works()
    lone = Estimate(0.01)
    first = replace(
        effect.contrasts[0],
        absolute=lone,
        relative=None,
        adjusted=lone,
        value=None,
        value_adjusted=None,
        returns=Estimate(1.0),
        worth=None,
    )
    deciles = [
        replace(effect.deciles[0], control=0, control_rate=None, lift=None, predicted_uplift=None)
    ]
    effect = replace(
        effect,
        contrasts=[first],
        deciles=deciles,
        daily=effect.daily[:1],
        money=replace(effect.money, cost_per_incremental_return=None, profit=None),
        verdict="no_effect_shown",
    )
    text = Reader(render_page(effect, BASIS)).text
    assert "too few for an interval" in text
    assert "not known" in text and "an arm is empty" in text
    assert "the campaign does not say what a return is worth" in text


def test_an_uneven_split_shows_no_profit_and_rests_on_nothing() -> None:
    """A profit with its interval, or a lift to rest on, beside the word that nothing may be used."""
    effect = replace(works(), verdict="uneven_split")
    page, document = render_page(effect, BASIS), json.loads(render_json(effect, BASIS))
    assert "conclusion rests on" not in page
    assert document["money"]["profit"] is None
    assert "nothing may be concluded about the lift" in page


def test_no_rates_before_a_day_has_landed() -> None:
    """Nobody is back because nobody can be known to be, and it reads as a rate of 0 %."""
    effect = replace(works(), verdict="not_yet", complete=False, landed_until=None)
    assert {row.cells[3] for row in arm_rows(effect)} == {""}
    assert {arm["rate"] for arm in json.loads(render_json(effect, BASIS))["arms"]} == {None}


@pytest.mark.parametrize("verdict", VERDICT_WORDS)
def test_a_churn_campaign_reports_who_stayed(verdict: Verdict) -> None:
    """A sentence that says "stayed" above tables and pictures that say "came back"."""
    back, stayed = re.compile(r"\b(come|came) back\b"), re.compile(r"\bstay(ed)?\b")
    effect = replace(works(), verdict=verdict, sentence="The one sentence")
    for stays, said, unsaid in ((False, back, stayed), (True, stayed, back)):
        mine = replace(effect, stays=stays)
        page, data = render_page(mine, BASIS), render_json(mine, BASIS)
        assert said.search(page) and not unsaid.search(page)
        assert said.search(data) and not unsaid.search(data)
        assert "{" not in page.split("</style>")[1]  # a word that was not put in its place
