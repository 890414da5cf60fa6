"""Signature tokens: proof that what comes back is about something that we sent out.

Kannel and mail servers sign nothing, so what they are given to return holds a token that only this
home can make. The keys come from the key of the hashes, which a rotation does not change: a link
in an e-mail must work for years.
"""

import base64
import binascii
import hmac
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from usergrowth_dagster.messaging.gateways.protocol import UnsignedError
from usergrowth_dagster.messaging.people.phones import PhoneVault, open_vault

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE = 12


class SignatureTokens:
    """The signature tokens of one gateway of a home.

    Args:
        home: the home folder, whose secret key is used.
        purpose: keeps the tokens of two gateways apart.
    """

    def __init__(self, home: Path, purpose: str) -> None:
        self._home, self._purpose = home, purpose

    @cached_property
    def _vault(self) -> PhoneVault:
        return open_vault(self._home)

    @cached_property
    def _cipher(self) -> "AESGCM":
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self._vault.user_digest(f"\0{self._purpose}\0seal"))

    def sign(self, subject: str) -> str:
        """The token of a subject: 32 hexadecimal digits."""
        return self._vault.user_digest(f"\0{self._purpose}\0mark\0{subject}").hex()

    def fits(self, token: str, subject: str) -> bool:
        """Whether a token is the subject's."""
        return hmac.compare_digest(token.encode("utf-8", "replace"), self.sign(subject).encode())

    def check(self, token: str, subject: str, what: str) -> None:
        """Refuse a token that is not the subject's.

        Raises:
            UnsignedError: ``what`` names the thing that came with it.
        """
        if not self.fits(token, subject):
            raise UnsignedError(f"{what}: its signature token was not made by this home")

    def seal(self, text: str) -> str:
        """A text as an encrypted token for an address on the web; only this home can read it."""
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._cipher.encrypt(nonce, text.encode(), None)
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def open(self, token: str, what: str) -> str:
        """The text of an encrypted token.

        Raises:
            UnsignedError: it is not ours, or cut short; ``what`` names it.
        """
        from cryptography.exceptions import InvalidTag

        try:
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], None).decode()
        except (binascii.Error, ValueError, InvalidTag):
            raise UnsignedError(f"{what}: its token was not made by this home") from None
