"""Tokens of short links, and the keys of a campaign file that ask for them."""

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usergrowth_dagster.control.campaign import CampaignSpec, parse_campaign
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.people.phones import PhoneVault, Ring
from usergrowth_dagster.messaging.texts.billing import characters
from usergrowth_dagster.messaging.texts.content import MAX_VALUE, check_content
from usergrowth_dagster.messaging.texts.links import (
    ALPHABET,
    EXAMPLE,
    LENGTH,
    LinkTokens,
    short_link,
    with_example,
)
from usergrowth_dagster.settings import load_settings

RING = Ring.of_secret(b"a secret of the home")
TOKENS = LinkTokens(PhoneVault(RING))
OTHERS = LinkTokens(PhoneVault.from_secret(b"a secret of another home"))
ROOT = "https://s.example.com"
FIRST = 7_821_509_108_170_753
IDS = st.integers(FIRST, FIRST + 2**36 - 1)
YAML = """\
name: winter
algorithm: churn
training: {window_days: 180}
population: population/winter-2017
execution_date: 2017-12-28
selection: {threshold: 0.12}
signature: {name: Example}
template:
  name: offer
  content: "Hi ${name}, see ${link} Reply STOP"
  link: https://shop.example/offer?from=text
schedule: {name: winter send}
effect: {return_behaviors: [buy]}
"""
PLAIN = (
    YAML.replace("see ${link} ", "")
    .replace("  link: https://shop.example/offer?from=text\n", "")
    .replace("effect: {return_behaviors: [buy]}\n", "")
)


@settings(max_examples=300, deadline=None)
@given(IDS, IDS)
def test_a_token_is_one_messages_own(first: int, second: int) -> None:
    """Guards against two messages with one link, and links whose length a plan cannot know."""
    token = TOKENS.token(first)
    assert len(token) == LENGTH and set(token) <= set(ALPHABET)
    assert TOKENS.message_id(token, FIRST) == first
    assert TOKENS.message_id(token, first) == first
    assert TOKENS.message_id(token, first + 1) is None  # of a ledger that began later
    assert (TOKENS.token(second) == token) == (first == second)


@settings(max_examples=300, deadline=None)
@given(IDS, st.integers(0, LENGTH - 1), st.sampled_from(ALPHABET))
def test_a_changed_token_is_nobodys(message_id: int, place: int, letter: str) -> None:
    """Guards against a link that leads to another person's message by one changed character."""
    token = TOKENS.token(message_id)
    changed = token[:place] + letter + token[place + 1 :]
    assert TOKENS.message_id(changed, FIRST) == (message_id if changed == token else None)
    assert OTHERS.message_id(token, FIRST) is None
    for odd in (token[:-1], token + "0", f" {token[1:]}", token[:-1] + "é", "", EXAMPLE):
        assert TOKENS.message_id(odd, FIRST) is None


def test_neighbours_say_nothing_of_each_other() -> None:
    """Guards against tokens by which somebody counts messages, or tries the next one."""
    tokens = [TOKENS.token(number) for number in range(FIRST, FIRST + 2000)]
    assert len(set(tokens)) == 2000
    alike = [sum(a == b for a, b in zip(*pair, strict=True)) for pair in itertools.pairwise(tokens)]
    assert sum(alike) / len(alike) < 1.5  # of 13; by chance about 1/62 each, the first letter more


def test_a_rotation_keeps_links_that_are_out() -> None:
    """Guards against links in texts on people's phones that die with an old secret."""
    token = TOKENS.token(FIRST + 77)
    rotated = RING.with_new()
    assert LinkTokens(PhoneVault(rotated)).message_id(token, FIRST) == FIRST + 77
    assert LinkTokens(PhoneVault(rotated.newest_alone())).message_id(token, FIRST) == FIRST + 77


def test_the_example_is_as_long_as_any_link() -> None:
    """Guards against a plan that counts other messages than are billed."""
    shown = with_example("go ${link}!", "https://shop.example", ROOT)
    assert shown == f"go {short_link(ROOT, EXAMPLE)}!"
    assert characters(shown) == characters(f"go {short_link(ROOT, TOKENS.token(5))}!")
    assert characters(short_link(ROOT, EXAMPLE)) <= MAX_VALUE
    assert with_example("go ${link}!", None, ROOT) == "go ${link}!"  # a column of the upload


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("see ${link} ", "", "template.link: no text has ${link}"),
        ("  link: https://shop.example/offer?from=text\n", "", "template.content: ${link} needs"),
        ("https://shop.example/offer?from=text", "shop.example/offer", "template.link: must be an"),
        ("https://shop.example/offer?from=text", "javascript:alert(1)", "template.link: must be"),
        (
            "https://shop.example/offer?from=text",
            "https://user@shop.example",
            "template.link: must",
        ),
        (
            "https://shop.example/offer?from=text",
            '"https://shop.example/a b"',
            "template.link: must",
        ),
        ("https://shop.example/offer?from=text", '"https://a.example/${x}"', "no variables"),
        (
            "schedule:",
            "  variants: {gift: {content: Hi. Reply STOP, link: https://shop.example/x}}\nschedule:",
            "template.variants.gift.link: its text has no ${link}",
        ),
    ],
)
def test_half_a_link_is_refused(old: str, new: str, said: str) -> None:
    """Guards against a text that goes out with a hole in it, or a link that leads nowhere."""
    assert old in YAML
    with pytest.raises(UserError) as caught:
        parse_campaign(YAML.replace(old, new, 1), "winter.yml")
    assert said in str(caught.value) and str(caught.value).startswith("winter.yml")


def test_a_link_needs_its_domain() -> None:
    """Guards against an applied campaign that can never be sent, or that the network refuses."""
    spec = parse_campaign(YAML)
    check_content(spec, "f", ["Reply STOP"], link_domain=ROOT)
    with pytest.raises(UserError, match=r"f: template\.link: .*setting link_domain"):
        check_content(spec, "f", ["Reply STOP"])
    long = "https://links.the-long-shop.example.com"
    with pytest.raises(UserError, match="53 characters, and a variable of a text at most 35"):
        check_content(spec, "f", ["Reply STOP"], link_domain=long)


@pytest.mark.parametrize(
    "root", ["s.example.com", "https://s.example.com/x", "ftp://s.example.com"]
)
def test_a_domain_is_a_root(tmp_path: Path, root: str) -> None:
    """Guards against short links that no receiver answers."""
    with pytest.raises(UserError, match="is not a root URL"):
        load_settings(tmp_path, link_domain=root)


def test_variants_have_the_links_of_their_own() -> None:
    """Guards against a text that leads to another text's page."""
    more = """\
  variants:
    gift: {content: "${link} Reply STOP"}
    book: {content: "A book ${link} Reply STOP", link: "https://shop.example/book"}
    none: {content: "Hi. Reply STOP"}
schedule:"""
    texts = parse_campaign(YAML.replace("schedule:", more)).template.texts
    offer = "https://shop.example/offer?from=text"
    assert {text.name: text.link for text in texts} == {
        "offer": offer,
        "gift": offer,
        "book": "https://shop.example/book",
        "none": None,
    }


def test_a_campaign_without_links_is_as_before() -> None:
    """Guards against old campaigns that are decided, reviewed or replayed anew."""
    spec = parse_campaign(PLAIN)
    dumped = json.dumps(spec.model_dump(mode="json"))
    assert '"link"' not in dumped
    assert spec.digest == "d83f69eead4f2e528610178343b68f4cf881f2ddc005d226c0f115810fee4b4f"
    assert "link_domain" not in load_settings("x").model_dump()
    # on record, and sent with a column of the upload in this place
    old = json.loads(dumped.replace("Hi ${name}", "Hi ${name} ${link}"))
    assert CampaignSpec.model_validate(old).template.texts[0].link is None


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (("effect: {return_behaviors: [buy]}\n", ""), "effect.return_behaviors"),
        (("[buy]", "[buy, click]"), "effect.return_behaviors"),
        (("algorithm: churn", "algorithm: {kind: winback}"), "algorithm.return_behaviors"),
    ],
)
def test_a_click_is_no_return(change: tuple[str, str], key: str) -> None:
    """An effect that is the click itself: the control group gets no link to click on."""
    parse_campaign(YAML)
    parse_campaign(PLAIN)  # without a link any behavior may be a return
    with pytest.raises(UserError, match=f"campaign: {key}: "):
        parse_campaign(YAML.replace(*change))


def test_winback_with_a_link_names_its_returns() -> None:
    """A sound campaign that is refused."""
    named = "algorithm: {kind: winback, return_behaviors: [buy]}"
    for text in (YAML, YAML.replace("effect: {return_behaviors: [buy]}\n", "")):
        parse_campaign(text.replace("algorithm: churn", named))
