"""Short links: ``<link_domain>/<token>``, where the token is made of a message's id.

A token is 13 of A-Z a-z 0-9, whatever the id: the lowest 36 bits of the id, and 41 bits of a keyed
hash of all of it. A ledger begins at an id of its own, from which the higher bits follow. The hash
makes the token of another home, or one with a changed character, worth nothing; one
guess in 2^41 is right. The id is hidden by a second hash, keyed by the first (as in SIV, RFC 5297),
so that a token says neither how many messages there are nor what its neighbour's is. No row is
kept for a token, and its length is known before there is a message, so plans count exactly.

The key is derived from that of the hashes of addresses, which a rotation of the secret keeps.
"""

import hmac
import string

from usergrowth_dagster.control.campaign import CampaignSpec
from usergrowth_dagster.control.campaign_blocks import LINK
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.people.phones import PhoneVault
from usergrowth_dagster.settings import Settings

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
LENGTH = 13
"""Characters of a token."""

_ID_BITS, _MAC_BITS = 36, 41
_ID_MASK = (1 << _ID_BITS) - 1
_MAC_MASK = (1 << _MAC_BITS) - 1
_VALUES = {letter: value for value, letter in enumerate(ALPHABET)}
EXAMPLE = ALPHABET[-1] * LENGTH
"""A token that no message has: its number is above the largest of any."""

NAME = "link"
"""The variable of a text that is its short link."""


class LinkTokens:
    """Makes and reads the tokens of a home.

    Args:
        vault: the home's keys.
    """

    def __init__(self, vault: PhoneVault) -> None:
        self._key = vault.key_for(b"links")

    def token(self, message_id: int) -> str:
        """The token of a message."""
        mac = self._mac(message_id)
        number = ((message_id & _ID_MASK) ^ self._mask(mac)) << _MAC_BITS | mac
        letters = []
        for _ in range(LENGTH):
            number, place = divmod(number, len(ALPHABET))
            letters.append(ALPHABET[place])
        return "".join(reversed(letters))

    def message_id(self, token: str, first: int) -> int | None:
        """The message of a token; None: no token of this ledger.

        Args:
            token: what stands in the path.
            first: an id of the ledger that is not above the message's, and less than 2^36 below.
        """
        if len(token) != LENGTH or not _VALUES.keys() >= set(token):
            return None
        number = 0
        for letter in token:
            number = number * len(ALPHABET) + _VALUES[letter]
        if number >> (_ID_BITS + _MAC_BITS):
            return None
        mac = number & _MAC_MASK
        lowest = (number >> _MAC_BITS) ^ self._mask(mac)
        found = first + ((lowest - first) & _ID_MASK)
        same = hmac.compare_digest(mac.to_bytes(8), self._mac(found).to_bytes(8))
        return found if same else None

    def _mac(self, message_id: int) -> int:
        digest = hmac.digest(self._key, b"mac" + message_id.to_bytes(8), "sha256")
        return int.from_bytes(digest[:8]) & _MAC_MASK

    def _mask(self, mac: int) -> int:
        digest = hmac.digest(self._key, b"mask" + mac.to_bytes(8), "sha256")
        return int.from_bytes(digest[:8]) >> (64 - _ID_BITS)


def short_link(root: str, token: str) -> str:
    """A short link.

    >>> short_link("https://s.example.com", "0123456789ABC")
    'https://s.example.com/0123456789ABC'
    """
    return f"{root}/{token}"


def link_root(settings: Settings, spec: CampaignSpec) -> str | None:
    """The root of a campaign's short links; None: no text has one.

    Raises:
        UserError: a text has a link, and the setting ``link_domain`` is missing.
    """
    linked = [text for text in spec.template.texts if text.link is not None]
    if not linked:
        return None
    if settings.link_domain is None:
        raise UserError(
            f"campaign {spec.name!r}: {linked[0].key}.link: the setting link_domain is missing, "
            'such as link_domain = "https://s.example.com", which leads to `usergrowth serve`',
            code="setting.missing",
        )
    return settings.link_domain


def with_example(content: str, link: str | None, root: str | None) -> str:
    """A text with an example in the place of its short link, of the length that all have.

    Args:
        content: the template.
        link: where its short link leads; None: it has none, and stays as it is.
        root: of the short links.
    """
    if link is None or root is None:
        return content
    return content.replace(LINK, short_link(root, EXAMPLE))
