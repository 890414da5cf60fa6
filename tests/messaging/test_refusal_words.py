"""Which replies refuse, and which words a text promises as refusals."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from usergrowth_dagster.control.campaign import parse_campaign
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.texts.content import check_content, template_problems
from usergrowth_dagster.messaging.texts.refusals import (
    VARIABLE,
    Action,
    Words,
    action_of,
    built_in_words,
    promise_problems,
    promised_words,
    words_of,
)
from usergrowth_dagster.settings import OPT_IN_WORDS, OPT_OUT_WORDS, load_settings

WORDS = built_in_words()
MARKS = [
    "!",
    "。",
    "…",
    "“",
    "”",
    "🛑",
    "🙏🏽",
    "\ufe0f",
    "\u200b",
    "\u2060",
    "\u00ad",
    "\n",
    " ",
    "　",
]


def full_width(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


CASES = [str.upper, str.lower, str.title, str.swapcase, full_width]


@profile(max_examples=300, deadline=None)
@given(
    word=st.sampled_from(OPT_OUT_WORDS),
    case=st.sampled_from(CASES),
    before=st.lists(st.sampled_from(MARKS), max_size=3),
    between=st.sampled_from(["", " ", "\u200d", ".", "\u0336", "\ufe0f\u20e3", "-", "　"]),
    after=st.lists(st.sampled_from(MARKS), max_size=3),
    contained=st.booleans(),
)
def test_every_word_in_every_dress(
    word: str, case: object, before: list[str], between: str, after: list[str], contained: bool
) -> None:
    """Guards against a refusal that is missed for its case, width, marks, emoji or spaces."""
    dressed = between.join(case(word))  # type: ignore[operator]
    reply = "".join(before) + dressed + "".join(after)
    words = Words(WORDS.refuse, WORDS.lift, contained)
    assert action_of(reply, words) is Action.OPT_OUT


@profile(max_examples=200, deadline=None)
@given(
    word=st.sampled_from(OPT_OUT_WORDS),
    courtesy=st.sampled_from(
        ["{} please", "Please {}!", "{}. Thank you", "{} {}", "{}，谢谢", "请{}"]
    ),
)
def test_every_word_with_courtesy(word: str, courtesy: str) -> None:
    """Guards against "Stop. Thank you", which refuses and is more than a word."""
    assert action_of(courtesy.format(word, word), WORDS) is Action.OPT_OUT


@pytest.mark.parametrize(
    "content",
    [
        *("REVOKE", "OPT OUT", "OPTOUT", "拒收", "R退订", "回T", "Stop. Thank you", "please stop"),
        *("STOP STOP", "STOPSTOP", "t d", "TDTD", "ARRÊT", "0️⃣0️⃣0️⃣0️⃣", "Ⓢⓣⓞⓟ", "S.T.O.P."),
        *("请回复TD退订", "我要退订", "拒收请回复R", "退订退订", "怎么退订", "你们怎么还发TD"),
        *(
            "别再发了",
            "不要给我发短信了",
            "请不要发给我",
            "停止发送",
            "不要发广告",
            "为什么不退订",
            "取消订阅谢谢",
            "TD please",
        ),
        *("stop sending me texts at night", "Why don’t you stop", "why do not stop??"),
        *("Don't text me again", "unsubscribe me from this list", "please remove me"),
        *("Quit texting me", "please cancel my subscription", "UNSUBSCRIBE\n> you wrote"),
        *("START? no, stop", "don't stop. No wait: STOP", "I opt-out of all of this"),
    ],
)
def test_refusals(content: str) -> None:
    """Guards against a clear refusal that is taken for talk."""
    assert action_of(content, WORDS) is Action.OPT_OUT


@pytest.mark.parametrize(
    "content",
    [
        *("don't stop sending", "Please do not stop", "dont unsubscribe me", "不要退订", "别退订"),
        *("when does the offer end?", "see you at the end", "can I cancel my order?", "取消订单"),
        *("STOPPED", "nonstop fun", "restart", "unstop please", "N95 口罩有吗", "T恤多少钱"),
        *("R u there", "r you", "is TD a bank?", "size T or N", "I quit smoking", "no thanks"),
        *(
            "thank you",
            "谢谢",
            "好的",
            "回复",
            "ok",
            "yes",
            "1",
            "help",
            "你好，在吗",
            "!!",
            "",
            "🙏",
        ),
        *("不要发票", "别发货了", "停止发货", "不要发到公司", "别发给我妈", "要T码"),
        *("where is order 00001", "电话 10000", "请给我发票", "我不会取消"),
    ],
)
def test_ordinary_replies(content: str) -> None:
    """Guards against people who are suppressed for a letter or a word by the way."""
    assert action_of(content, WORDS) is Action.NONE


@pytest.mark.parametrize("word", OPT_IN_WORDS)
@pytest.mark.parametrize("case", CASES)
def test_lifting_words(word: str, case: object) -> None:
    """Guards against a START that is overridden by a looser rule, or read out of a sentence."""
    assert action_of(f" {case(word)}! ", WORDS, promised={"start"}) is Action.OPT_IN  # type: ignore[operator]
    assert action_of(f"when does it {word}", WORDS) is Action.NONE


def test_words_by_setting(tmp_path: Path) -> None:
    """Guards against a setting that takes a built-in word away, or is not heard."""
    home = load_settings(tmp_path, opt_out_words=["BAJA", "start"], opt_out_contained=False)
    words = words_of(home)
    assert [str(action_of(text, words)) for text in ("baja!", "STOP", "Start", "unstop")] == [
        *("opt_out", "opt_out", "opt_out", "opt_in")
    ]
    assert action_of("please stop sending", words) is Action.NONE
    assert action_of("por favor baja", words) is Action.NONE


@pytest.mark.parametrize(
    "unit",
    [
        "\u0315\u0300",
        "a\u0315\u0300\u0345",
        "ﷺ",
        "ΐ",
        "가",
        "退",
        "stop ",
        "不要退订",
        "\U0001f6d1",
        "'",
    ],
)
def test_long_replies_cost_little(unit: str) -> None:
    """Guards against marks whose ordering takes time by the square of their number."""
    reply = unit * (2_000_000 // len(unit))
    began = time.process_time()
    action_of(reply, WORDS)
    assert time.process_time() - began < 1.0


PROMISES = [
    ("拒收请回复R", ["R"]),
    ("礼券已到账，拒收请回复R", ["R"]),
    ("回T退订", ["T"]),
    ("退订请回复 TD", ["TD"]),
    ("拒收回复“R”", ["R"]),
    ("回复TD或T退订", ["TD", "T"]),
    ("退订回TD/T", ["TD", "T"]),
    ("回复1领取，退订回T", ["T"]),
    ("回复Y 退订回Ｔ", ["T"]),
    ("回7即可退订", ["7"]),
    ("回复${code}退订", [VARIABLE]),
    ("Reply STOP to opt out", ["STOP"]),
    ("Text QUIT to end", ["QUIT"]),
    ("Txt STOP2END", ["STOP"]),
    ("Reply with Q to unsubscribe", ["Q"]),
    ("To end messages text 'BYE'", ["BYE"]),
    ("To opt out, reply STOP or HELP for help", ["STOP"]),
    ("STOP to opt-out, HELP for info", ["STOP"]),
    ("Text STOP to 12345 to cancel.", ["STOP"]),
    ("WANT TO OPT OUT? REPLY STOP", ["STOP"]),
    ("Reply YES to stop overpaying", []),
    ("Reply C2 to cancel your order", []),
    ("回复1领取礼券", []),
    ("Want to opt out? Go to shop.example", []),
]


@pytest.mark.parametrize(("content", "words"), PROMISES)
def test_promised_words(content: str, words: list[str]) -> None:
    """Guards against a word that a text names as a refusal and that nobody looks for."""
    assert promised_words(content) == words


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("回7退订", "'7' as the word that refuses, but such a reply is not recognized"),
        ("Reply START to opt out", "'START' as the word that refuses, but that word lifts"),
        ("回复${code}退订", "cannot be a variable"),
    ],
)
def test_template_whose_word_would_not_be_heard(content: str, rule: str) -> None:
    """Guards against a text that is sent with a promise which is not kept."""
    (problem,) = promise_problems(content, WORDS)
    assert rule in problem
    for kind in ("promotion", "notification"):
        assert problem in template_problems("offer", f"您好。{content}", kind, [content[:2]])


def test_promise_heard_by_setting(tmp_path: Path) -> None:
    """Guards against a word that was added to the settings and is refused all the same."""
    spec = parse_campaign(CAMPAIGN)
    with pytest.raises(UserError, match=r"x.yaml: template.content: it names '7'"):
        check_content(spec, "x.yaml", ["回7退订"])
    words = words_of(load_settings(tmp_path, opt_out_words=["7"]))
    check_content(spec, "x.yaml", ["回7退订"], words)


CAMPAIGN = """
name: offer
algorithm: churn
training: {window_days: 180}
population: population/offer
execution_date: 2017-12-28
selection: {threshold: 0.5}
signature: {name: 示例商店}
template: {name: offer, content: "礼券已到账。回7退订"}
schedule: {name: send}
"""
