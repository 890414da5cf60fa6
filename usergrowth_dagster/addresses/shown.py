"""What is shown of an address: pages, logs and messages hold no whole one."""

import re

_NUMBER = re.compile(r"\+?\d(?:[\s().-]{0,2}\d){5,}")
_EMAIL = re.compile(r"[^\s@\"'<>]{1,64}@[^\s@\"'<>]{1,253}")


def mask(phone: str | None) -> str:
    """A number for display: the first four and last two characters.

    >>> mask("+9991234567812")
    '+999********12'
    """
    if not phone:
        return ""
    head = 4 if len(phone) > 8 else 0
    return phone[:head] + "*" * max(len(phone) - head - 2, 0) + phone[-2:]


def hide_numbers(text: str, digits: int = 6) -> str:
    """A text whose numbers of so many digits or more, and e-mail addresses, are masked.

    >>> hide_numbers("call +1 212 555 0128 or li@shop.example")
    'call +1 2*********28 or li@s*********le'
    """
    hidden = _EMAIL.sub(lambda m: mask(m.group()), text)
    return _NUMBER.sub(
        lambda m: mask(m.group()) if sum(map(str.isdigit, m.group())) >= digits else m.group(),
        hidden,
    )
