"""How long a text is and how many messages it is billed as.

Mainland China (Aliyun's public price rules): the signature with its 【】 and the rendered text, up
to 70 characters one message, above that one a 67; at most 500 characters.
International (3GPP TS 23.038): texts in the GSM 7-bit alphabet 160, then 153, where nine characters
count twice; all others UCS-2, 70, then 67.

A character is a UTF-16 code unit everywhere: that is what a UCS-2 message carries. What takes two
units (a GSM extension character; an emoji or a rare Chinese character outside the basic plane) is
never split between two messages: where one unit is left, the message ends and the rest moves on.
Mainland prices do not document how such a character counts. There it takes two units and is not
split either, which is the most that any of the rules can come to, so a bill is never larger than
said.

An e-mail is one message, however long it is.
"""

import re
from collections.abc import Iterable
from enum import StrEnum

from usergrowth_dagster.settings import Settings

MAX_CHARACTERS = 500
GSM_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_TWICE = "\f^{}\\[~]|€"
_NOT_GSM = re.compile(f"[^{re.escape(GSM_BASIC + GSM_TWICE)}]")
_TWICE = re.compile(f"[{re.escape(GSM_TWICE)}]")
_WIDE_CLASS = r"\x{10000}-\x{10FFFF}"
_WIDE = re.compile("[\U00010000-\U0010ffff]")


class Billing(StrEnum):
    """Whose rules count a text's messages."""

    MAINLAND = "mainland"
    INTERNATIONAL = "international"
    EMAIL = "email"


def billing_of(settings: Settings, channel: str) -> Billing:
    """The rules that count a channel's messages."""
    return Billing.EMAIL if channel == "email" else Billing(settings.billing)


def price_of(settings: Settings, channel: str) -> float:
    """Price of one message of a channel, in currency."""
    return settings.email_price if channel == "email" else settings.message_price


def other_price(settings: Settings, channel: str, used: Iterable[str]) -> float | None:
    """Price of one message of the channel that is used beside another; None: none is."""
    others = [one for one in used if one != channel]
    return price_of(settings, others[0]) if others else None


def characters(text: str) -> int:
    """Length in UTF-16 code units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _parts(text: str, wide: re.Pattern[str], single: int, joined: int) -> int:
    """Messages of a text in which the characters of ``wide`` take two units, the others one."""
    sizes = [2 if wide.match(letter) else 1 for letter in text]
    if sum(sizes) <= single:
        return 1
    parts, used = 1, 0
    for size in sizes:
        if used + size > joined:
            parts, used = parts + 1, 0
        used += size
    return parts


def segments(text: str, billing: Billing = Billing.MAINLAND) -> int:
    """Messages that a whole text (signature with 【】 included) is billed as, at least 1.

    >>> [segments("字" * n) for n in (70, 71, 134, 135, 160)]
    [1, 2, 2, 3, 3]
    >>> [segments("a" * n, Billing.INTERNATIONAL) for n in (160, 161, 306, 307)]
    [1, 2, 2, 3]
    >>> segments("]" * 153, Billing.INTERNATIONAL), segments("字" * 66 + "😀" + "字" * 66)
    (3, 3)
    """
    if billing is Billing.EMAIL:
        return 1
    if billing is Billing.INTERNATIONAL and not _NOT_GSM.search(text):
        return _parts(text, _TWICE, 160, 153)
    return _parts(text, _WIDE, 70, 67)


def characters_sql(text: str) -> str:
    """DuckDB expression of :func:`characters` over a VARCHAR expression."""
    # length() counts code points; those outside the basic plane take two units
    return f"(length({text}) + {_count_sql(text, _WIDE_CLASS)})"


def _count_sql(text: str, letters: str) -> str:
    return f"length(regexp_replace({text}, '[^{letters}]', '', 'g'))"


def _parts_sql(length: str, text: str, wide: str, single: int, joined: int) -> str:
    """:func:`_parts` by the text's units; ``wide`` is a class of characters without brackets.

    Where there are any, each unit becomes an e, or an x when the next one may not be parted from
    it. A message is then as many units as there is room for, the last of which is an e.
    """
    units = f"regexp_replace(regexp_replace({text}, '[^{wide}]', 'e', 'g'), '[^e]', 'xe', 'g')"
    split = f"length(regexp_replace({units}, '.{{0,{joined - 1}}}e', 'm', 'g'))"
    return (
        f"case when {length} <= {single} then 1 "
        f"when {length} = length({text}) then (({length}) + {joined - 1}) // {joined} "
        f"else {split} end"
    )


def _class(letters: str) -> str:
    return "".join(rf"\x{{{ord(letter):04x}}}" for letter in letters)


def segments_of_sql(length: str, text: str, billing: Billing = Billing.MAINLAND) -> str:
    """DuckDB INTEGER expression of :func:`segments`; NULL where its inputs are.

    Args:
        length: expression of the text's length as :func:`characters_sql` counts it.
        text: expression of the whole text; mainland rules read it of long texts only.
        billing: whose rules.
    """
    if billing is Billing.EMAIL:
        return f"cast(case when {length} is not null then 1 end as integer)"
    parts = _parts_sql(length, text, _WIDE_CLASS, 70, 67)
    plain = f"case when {length} is not null then {parts} end"
    if billing is Billing.MAINLAND:
        return f"cast({plain} as integer)"
    twice = _class(GSM_TWICE)
    fits = f"regexp_full_match({text}, '[{_class(GSM_BASIC + GSM_TWICE)}]*')"
    gsm = _parts_sql(f"(length({text}) + {_count_sql(text, twice)})", text, twice, 160, 153)
    return f"cast(case when {fits} then {gsm} else {plain} end as integer)"
