"""How long a text is and how many messages it is billed as.

Mainland China (Aliyun's public price rules): the signature with its 【】 and the rendered text, up
to 70 characters one message, above that one a 67; at most 500 characters.
International (3GPP TS 23.038): texts in the GSM 7-bit alphabet 160, then 153, where nine characters
count twice; all others UCS-2, 70, then 67.

A character is a UTF-16 code unit everywhere: that is what a UCS-2 message carries. An emoji or a
rare Chinese character outside the basic plane counts as 2, so a bill is never larger than said.
Whether a provider counts it as 1 is not documented.

An e-mail is one message, however long it is.
"""

import re
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


def characters(text: str) -> int:
    """Length in UTF-16 code units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _parts(length: int, single: int, joined: int) -> int:
    return 1 if length <= single else -(-length // joined)


def segments(text: str, billing: Billing = Billing.MAINLAND) -> int:
    """Messages that a whole text (signature with 【】 included) is billed as, at least 1.

    >>> [segments("字" * n) for n in (70, 71, 134, 135, 160)]
    [1, 2, 2, 3, 3]
    >>> [segments("a" * n, Billing.INTERNATIONAL) for n in (160, 161, 306, 307)]
    [1, 2, 2, 3]
    """
    if billing is Billing.EMAIL:
        return 1
    if billing is Billing.INTERNATIONAL and not _NOT_GSM.search(text):
        return _parts(len(text) + len(_TWICE.findall(text)), 160, 153)
    return _parts(characters(text), 70, 67)


def characters_sql(text: str) -> str:
    """DuckDB expression of :func:`characters` over a VARCHAR expression."""
    # length() counts code points; those outside the basic plane take two units
    wide = rf"length(regexp_replace({text}, '[^\x{{10000}}-\x{{10FFFF}}]', '', 'g'))"
    return f"(length({text}) + {wide})"


def _parts_sql(length: str, single: int, joined: int) -> str:
    return f"case when {length} <= {single} then 1 else (({length}) + {joined - 1}) // {joined} end"


def _class(letters: str) -> str:
    return "".join(rf"\x{{{ord(letter):04x}}}" for letter in letters)


def segments_of_sql(length: str, text: str, billing: Billing = Billing.MAINLAND) -> str:
    """DuckDB INTEGER expression of :func:`segments`; NULL where its inputs are.

    Args:
        length: expression of the text's length as :func:`characters_sql` counts it.
        text: expression of the whole text; only international rules read it.
        billing: whose rules.
    """
    if billing is Billing.EMAIL:
        return f"cast(case when {length} is not null then 1 end as integer)"
    plain = f"case when {length} is not null then {_parts_sql(length, 70, 67)} end"
    if billing is Billing.MAINLAND:
        return f"cast({plain} as integer)"
    units = f"length({text}) + length(regexp_replace({text}, '[^{_class(GSM_TWICE)}]', '', 'g'))"
    fits = f"regexp_full_match({text}, '[{_class(GSM_BASIC + GSM_TWICE)}]*')"
    gsm = _parts_sql(f"({units})", 160, 153)
    return f"cast(case when {fits} then {gsm} else {plain} end as integer)"
