"""How providers of mainland China write numbers: mobile numbers of the mainland without 86, all
others without ``+``.
"""

import re

_MAINLAND = re.compile(r"1[0-9]{10}")


def to_mainland(number: str) -> str | None:
    """A number in E.164 as such a provider takes it; None when it would be another person's there.

    Eleven digits that begin with 1 are a mainland number there, so a number of another country that
    has such digits (+1 385 555 0111) cannot be sent to.

    >>> to_mainland("+8613855550111"), to_mainland("+447700900108"), to_mainland("+13855550111")
    ('13855550111', '447700900108', None)
    """
    if not number.startswith("+"):
        return number  # an earlier version sent it so
    mainland = number.removeprefix("+86")
    if mainland != number and _MAINLAND.fullmatch(mainland):
        return mainland
    return None if _MAINLAND.fullmatch(number[1:]) else number[1:]


def from_mainland(text: str) -> str:
    """A number of a report or a reply with its country.

    >>> from_mainland("13855550111"), from_mainland("8613855550111"), from_mainland("447700900108")
    ('+8613855550111', '+8613855550111', '+447700900108')
    """
    digits = text.strip()
    if _MAINLAND.fullmatch(digits):
        return f"+86{digits}"
    return digits if digits.startswith(("+", "00")) else f"+{digits}"
