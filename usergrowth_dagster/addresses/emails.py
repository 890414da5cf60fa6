"""E-mail addresses: the form that is sent to, or why a text is none."""

import re

BLANKS = " \t\r\n"
"""Characters that may stand around an address."""
PATTERN = (
    r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}"
    r"@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){1,8}$"
)
"""Addresses that are sent to, as a regular expression of Python and of DuckDB."""
BAD_EMAIL = "bad_email"
"""Reason code of a text that is no address."""

_PATTERN = re.compile(PATTERN)
_FOREIGN = re.compile(r"[^@\s]{1,64}@[^@\s]{1,253}")


def read_email(text: str) -> str | None:
    """An address as it was written, without blanks around it; None when it cannot be sent to.

    >>> read_email(" Li@shop.example "), read_email("li@shop")
    ('Li@shop.example', None)
    """
    address = text.strip(BLANKS)
    return address if _PATTERN.fullmatch(address) else None


def may_be_email(text: str) -> bool:
    """Whether a text may be the address of somebody, whoever could send to it.

    A refusal may come from an address that a mail server writes in another alphabet.

    >>> may_be_email("李@例子.example"), may_be_email("li at shop")
    (True, False)
    """
    return _FOREIGN.fullmatch(text) is not None
