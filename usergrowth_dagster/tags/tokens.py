"""The words of an item's text.

A word has two letters or digits at least and one letter, in lower case. The underscore separates
words too, since it stands for a space in the attributes of landing files. Chinese is cut by
jieba-rs; other languages by what is no letter or digit.
"""

import re
from collections.abc import Callable, Sequence

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.tags.definition import FILE_NAME
from usergrowth_dagster.tags.text_keys import ItemTexts

LONGEST = 40
"""Characters of a word at most; what is longer is an address or an id."""

Analyzer = Callable[[str], Sequence[str]]
"""The words of a text, in its order and as often as it has them."""

_CHINESE = """
一个 一些 一种 一样 一直 不是 不会 不能 什么 他们 以及 以后 但是 你们
这个 这些 这样 这种 那个 那些 那么 因为 所以 如果 而且 或者 还是 还有
就是 只是 只有 可以 可能 我们 她们 它们 它的 他的 我的 你的 自己 没有
已经 进行 通过 对于 关于 为了 之间 之后 之前 其中 其他 非常 比较 并且
虽然 然后 由于 以上 以下 怎么 如何 这里 那里 现在 时候 the and for
with
"""
CHINESE_STOP_WORDS = frozenset(_CHINESE.split())
"""Words of sentences that say nothing of an item."""

_WORD = re.compile(r"[^\W_]{2,}")


def analyzer_of(texts: ItemTexts) -> Analyzer:
    """What takes a text apart.

    Raises:
        UserError: the language needs a package that is not installed.
    """
    stop = _stop_words(texts)
    cut = _chinese() if texts.language == "chinese" else _WORD.findall

    def analyze(text: str) -> list[str]:
        return [
            word
            for piece in cut(text.lower())
            for word in _WORD.findall(piece)
            if len(word) <= LONGEST and not word.isnumeric() and word not in stop
        ]

    return analyze


def _stop_words(texts: ItemTexts) -> frozenset[str]:
    further = frozenset(word.lower() for word in texts.stop_words)
    if texts.language == "english":
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        return further.union(ENGLISH_STOP_WORDS)
    return further | CHINESE_STOP_WORDS if texts.language == "chinese" else further


def _chinese() -> Callable[[str], list[str]]:
    try:
        import rjieba
    except ImportError:
        raise UserError(
            f"{FILE_NAME}: texts.language: chinese needs the package rjieba: "
            "pip install 'usergrowth-dagster[chinese]'",
            code="tag.invalid",
        ) from None
    cut: Callable[[str], list[str]] = rjieba.cut
    return cut


def cutter_version(texts: ItemTexts) -> str:
    """Version of what cuts words, since another one may give other words."""
    from importlib.metadata import version

    return f"rjieba {version('rjieba')}" if texts.language == "chinese" else ""
