"""The words by which people refuse texts: in a reply, and as a text promises them.

Replies are compared without regard to case, width, marks, emoji, accents and spaces. Stricter wins:

* a reply that is one of the words refuses (``ＳＴＯＰ！``, ``S T O P``, ``Opt-out``, ``回T``);
* so does one that adds nothing but courtesy or repeats the word (``Stop. Thank you``, ``end pls``);
* so does a longer one that holds an unambiguous word or phrase (``please stop sending these``,
  ``我要退订``), unless the word is directly negated (``don't stop``, ``不要退订``). ``T``, ``N``,
  ``END`` or ``CANCEL`` inside an ordinary sentence do not refuse ("when does the offer end?").

The last two are switched by the setting ``opt_out_contained``. A word that lifts a refusal counts
only when it is the whole reply, and then no looser rule overrides it.
"""

import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from usergrowth_dagster.settings import OPT_IN_WORDS, OPT_OUT_WORDS, Settings

LONGEST = 1_000
"""Characters of a reply that are looked at. Texts are cut before they are normalized, since the
ordering of combining marks takes time by the square of their number."""

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_HAN}]+|[^\W_{_HAN}]+")
_INVISIBLE = "\u115f\u1160\u3164"  # fillers that Unicode counts among the letters
_APOSTROPHES = dict.fromkeys(map(ord, "'’‘`´ʼ"), None)

_COURTESY = frozenset(
    {"please", "pls", "plz", "you", "thankyou", "thanks", "thx", "ty", "now", "asap"}
    | {"immediately", "all", "me", "it", "this", "these", "sending", "texting", "sms"}
    | {"message", "messages", "msg", "msgs", "text", "texts"}
)
_ALONE = frozenset({"you", "me", "it", "this", "all"})
"""Courtesies that are too common beside a single letter: "R you", "me N"."""
_HAN_POLITE = (
    "(?:麻烦|请|您|你|我|要|想|需要|回复|回覆|回|发送|短信|谢谢|感谢|多谢|好|了|吧|啊|呀|哦|啦|的|"
    "直接|立即|马上|给|帮|全部|所有)+"
)
_HAN_COURTESY = re.compile(f"^{_HAN_POLITE}|{_HAN_POLITE}$")
_UNAMBIGUOUS = (
    "stop",
    "stopall",
    "unsubscribe",
    "unsub",
    "optout",
    "opt out",
    "opt me out",
    "arret",
    "remove me",
    "take me off",
    "leave me alone",
    "no more texts",
    "no more messages",
    "do not text",
    "dont text",
    "do not message",
    "dont message",
    "do not contact",
    "dont contact",
    "quit texting",
    "cancel my subscription",
    "revoke consent",
    "revoke my consent",
)
_NEGATED = re.compile(r" (?:dont|do not|don t) (?:please )?$")
_WHY = " why "
_HAN_UNAMBIGUOUS = re.compile(
    "(?:退订|退訂|拒收|取消订阅|取消訂閱|取消关注)|"
    "(?:不要|别|不许|停止|勿)再?(?:给我)?(?:推送|骚扰|[发發]"
    "(?:$|了|送|来|短信|信息|消息|广告|垃圾|这|啦|吧|给我(?:$|了|短信|消息|信息|广告)))"
)
_HAN_NEGATED = re.compile("(?:不要|别|不想|不用|不会|不必|无需|不)$")
_HAN_WHY = re.compile("为什么|怎么|为何|干嘛")
_HAN_WORDS = frozenset({"td", "tdtd"})  # stand for 退订 inside a Chinese sentence


class Action(StrEnum):
    """What a reply does."""

    OPT_OUT = "opt_out"
    OPT_IN = "opt_in"
    NONE = "none"


_RULES = 1  # to be raised when a rule here changes: what was kept before is then read again


@dataclass(frozen=True)
class Words:
    """Normal forms of the words that refuse, and of those that lift a refusal."""

    refuse: frozenset[str]
    lift: frozenset[str]
    contained: bool = True

    @property
    def digest(self) -> str:
        """Changes whenever a reply may come to refuse that did not before."""
        about = (_RULES, sorted(self.refuse), sorted(self.lift), self.contained)
        return hashlib.sha256(repr(about).encode()).hexdigest()[:32]


def words_of(settings: Settings) -> Words:
    """The words of a home. The built-in ones refuse whatever the settings say."""
    return _words(
        tuple(settings.opt_out_words), tuple(settings.opt_in_words), settings.opt_out_contained
    )


@lru_cache(maxsize=16)
def _words(out: tuple[str, ...], back: tuple[str, ...], contained: bool) -> Words:
    refuse = normal_forms((*OPT_OUT_WORDS, *out))
    return Words(refuse, normal_forms(back) - refuse, contained)


def built_in_words() -> Words:
    """The words of a home without settings."""
    return _words((), tuple(OPT_IN_WORDS), True)


def normal_forms(words: Iterable[str]) -> frozenset[str]:
    """Normal forms of words, without those that have none."""
    return frozenset(form for word in words if (form := normal_word(word)))


def normal_word(text: str) -> str:
    """A word, or a whole reply, as it is compared.

    >>> [normal_word(text) for text in (" ＴＤ！ ", "退订。", "Opt-out 🛑", "ARRÊT")]
    ['td', '退订', 'optout', 'arret']
    """
    return "".join(_tokens(text))


def _tokens(text: str) -> list[str]:
    """Runs of Chinese characters and of other letters and digits, in lower case, unaccented."""
    plain = unicodedata.normalize("NFKD", text[:LONGEST].translate(_APOSTROPHES))
    kept = plain.translate(_DROPPED).casefold()
    return _TOKEN.findall(unicodedata.normalize("NFKD", kept).translate(_DROPPED))


class _Dropped(dict[int, int | None]):
    """Marks and what cannot be seen are dropped without parting what stands around them."""

    def __missing__(self, code: int) -> int | None:
        letter = chr(code)
        drop = unicodedata.category(letter) in ("Mn", "Me", "Cf", "Cc") and not letter.isspace()
        kept = None if drop or letter in _INVISIBLE or code in _APOSTROPHES else code
        self[code] = kept
        return kept


_DROPPED = _Dropped()


def action_of(content: str, words: Words, promised: Collection[str] = ()) -> Action:
    """What a reply does.

    Args:
        content: the reply.
        words: see :func:`words_of`.
        promised: further words that refuse, in normal form: those that texts to this person named.
    """
    tokens = _tokens(content)
    whole = "".join(tokens)
    if not whole:
        return Action.NONE
    if whole in words.refuse:
        return Action.OPT_OUT
    if whole in words.lift:
        return Action.OPT_IN
    refuse = words.refuse.union(promised)
    if whole in refuse:
        return Action.OPT_OUT
    if words.contained and (_is_courteous(tokens, refuse) or _holds_refusal(tokens)):
        return Action.OPT_OUT
    return Action.NONE


def _is_courteous(tokens: list[str], refuse: Collection[str]) -> bool:
    """Whether a reply is words that refuse, and courtesies around them."""
    tokens = f" {' '.join(tokens)} ".replace(" thank you ", " thanks ").split()
    rest = [
        bare
        for token in tokens
        if token not in _COURTESY
        and (bare := token if token in refuse else _HAN_COURTESY.sub("", token))
    ]
    whole = "".join(rest)
    if not whole:
        return False
    if whole in refuse or all(token in refuse for token in rest):
        return len(whole) > 1 or not _ALONE.intersection(tokens)
    return any(
        whole == word * (len(whole) // len(word)) for word in refuse if 1 < len(word) < len(whole)
    )


def _holds_refusal(tokens: list[str]) -> bool:
    """Whether a word that nobody writes by the way stands in a reply, and is not negated."""
    line = f" {' '.join(tokens)} "
    for phrase in _UNAMBIGUOUS:
        start = line.find(f" {phrase} ")
        while start >= 0:
            if _WHY in line[:start] or not _NEGATED.search(line[: start + 1]):
                return True
            start = line.find(f" {phrase} ", start + 1)
    chinese = [token for token in tokens if token[0] >= "\u3400"]
    if chinese and _HAN_WORDS.intersection(tokens):
        return True
    return any(_refuses_in_chinese(token) for token in chinese)


def _refuses_in_chinese(text: str) -> bool:
    return any(
        _HAN_WHY.search(text, 0, match.start()) or not _HAN_NEGATED.search(text[: match.start()])
        for match in _HAN_UNAMBIGUOUS.finditer(text)
    )


_QUOTED = r"[\"'“”‘’「『《(<\[]\s*[^\"'“”‘’」』》)>\]\n]{1,12}?\s*[\"'“”‘’」』》)>\]]"
_ONE = rf"(?:{_QUOTED}|(?:[A-Za-z0-9]{{1,16}}|\ufffc)(?![A-Za-z0-9]))"
_OR = r"\s*(?:或者?|、|/|,?\s*\bor\b)\s*"
_WORD = rf"({_ONE}(?:{_OR}{_ONE})*)"
_EDGES = "\"'“”‘’「」『』《》()<>[] \t"
_NO_REFUSALS = frozenset({"help", "info", "帮助"})
_CAPITALS = r"(?<![A-Za-z0-9])(?-i:([A-Z][A-Z0-9]{0,11}?|[0-9]{1,6}))"
_SAY = "(?:回复|回覆|回|发送|發送|发|發|编辑)(?:短信|信息)?[:：]?\\s*"
_REFUSE = "(?:退订|退訂|拒收|取消订阅|取消訂閱|屏蔽|谢绝)"
_REPLY = r"\b(?:reply|text|txt|send|respond|answer)\b(?:\s+(?:with|back|the|word))*\s*:?\s*"
_OUT = (
    r"(?:opt[\s-]?out|unsubscribe|unsub\b|be removed|(?:stop|end|cancel|quit|leave)\b"
    r"(?=\W*$|\s*[.,;:!?)\]/|\n]|\s+(?:\w+\s+)?(?:messages?|msgs?|texts?|sms|receiving|getting|"
    r"alerts?|promos?|promotions?|marketing|notifications?|updates?|subscription|all|these|now|"
    r"at)\b))"
)
_PROMISES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_SAY}{_WORD}\s*(?:即可|可以|可|以|就|来|则)?\s*{_REFUSE}(?!\s*请?(?:回|发|發|编辑))",
        rf"{_REFUSE}[^。！!.;；,，\n]{{0,6}}?(?:回复|回覆|回|发送|發送|发|發|编辑)(?:短信|信息)?"
        rf"[:：]?\s*{_WORD}",
        rf"{_REPLY}{_WORD}(?:\s+to\s+\d{{3,}})?\s*(?:here\s*)?(?:\bto|2|\bfor|=|:)\s*{_OUT}",
        rf"(?:\bto|\b2)\s*{_OUT}[^.;!\n]{{0,40}}?{_REPLY}{_WORD}",
    )
)
_BARE_PROMISE = re.compile(rf"{_CAPITALS}\s*(?:\bto|2|=)\s*{_OUT}", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{[^{}]*\}")
VARIABLE = "\ufffc"
"""What :func:`promised_words` returns for a word that is a variable of the template."""


def promised_words(content: str) -> list[str]:
    """The words that a text names as ways to refuse, as it writes them, each once.

    >>> [promised_words(t) for t in ("拒收请回复R", "回T退订", "Reply Q to opt out", "Hi!")]
    [['R'], ['T'], ['Q'], []]
    """
    text = unicodedata.normalize("NFKC", _VARIABLE.sub(VARIABLE, content[:20_000]))
    named = [match.group(1) for pattern in _PROMISES for match in pattern.finditer(text)]
    if not named:
        named = [match.group(1) for match in _BARE_PROMISE.finditer(text)]
    words = [word.strip(_EDGES) for some in named for word in re.split(_OR, some)]
    return [word for word in dict.fromkeys(words) if normal_word(word) not in _NO_REFUSALS]


def promise_problems(content: str, words: Words) -> list[str]:
    """What is wrong with the ways to refuse that a text names, each as a clause of a sentence."""
    problems = []
    for word in promised_words(content):
        if word == VARIABLE:
            problems.append("the word that refuses cannot be a variable: write it out")
        elif normal_word(word) in words.lift:
            problems.append(
                f"it names {word!r} as the word that refuses, but that word lifts refusals "
                "(setting opt_in_words): name another, such as STOP or TD"
            )
        elif action_of(word, words) is not Action.OPT_OUT:
            problems.append(
                f"it names {word!r} as the word that refuses, but such a reply is not recognized: "
                f"add {word!r} to the setting opt_out_words, or name a word such as STOP or TD"
            )
    return problems
