"""The form of an address by which it is the same person's in every spelling.

Keyed hashes of it are stored, so it never changes: another form would find nobody who refused.
"""

import re
from dataclasses import dataclass

from usergrowth_dagster.addresses.numbers import Problem, old_key, parse

_SEPARATORS = re.compile(r"[\s-]")


@dataclass(frozen=True)
class Identity:
    """An address's form.

    Attributes:
        text: what its hash is made of.
        is_e164: it is a number with its country. The form of another text may be shared by numbers
            of several countries.
    """

    text: str
    is_e164: bool = False


def identity(address: str, country: str | None = None) -> Identity:
    """The form of an address: a number's in E.164, an e-mail address's in lower case.

    A text that is neither has the form that earlier versions gave it.

    Args:
        address: in any spelling.
        country: ISO code of the country of numbers that are written without one.

    >>> identity("+1 212 555 0123").text, identity("Li@shop.example ").text
    ('+12125550123', 'li@shop.example')
    """
    if "@" in address:
        return Identity(address.strip().lower())
    number = parse(address, country)
    if isinstance(number, Problem):
        return Identity(old_key(_SEPARATORS.sub("", address)))
    return Identity(number, is_e164=True)
