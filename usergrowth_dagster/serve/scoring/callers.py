"""Who may call: tokens by service, and how often."""

import base64
import binascii
import hmac
import time
from collections.abc import Callable, Mapping, Sequence

from usergrowth_dagster.control.service_tokens import ServiceToken, digest_of
from usergrowth_dagster.serve.scoring.exchange import Refusal


class Tokens:
    """The tokens that are valid now; replaced as a whole when they are read again."""

    def __init__(self) -> None:
        self._digests: Mapping[str, Sequence[str]] = {}

    def replace(self, tokens: Sequence[ServiceToken]) -> None:
        """Let these be valid, and no others."""
        digests: dict[str, list[str]] = {}
        for token in tokens:
            digests.setdefault(token.service, []).append(token.digest)
        self._digests = digests

    def require(self, service: str, header: str | None) -> None:
        """Refuse a caller who shows no valid token of a service.

        Raises:
            Refusal: with 401.
        """
        if not self._is_of(service, digest_of(shown(header))):
            raise _stranger(header)

    def service_of(self, header: str | None) -> str:
        """The service whose token a caller shows.

        Raises:
            Refusal: with 401, of none.
        """
        digest = digest_of(shown(header))
        mine = [service for service in self._digests if self._is_of(service, digest)]
        if not mine:
            raise _stranger(header)
        return mine[0]

    def _is_of(self, service: str, digest: str) -> bool:
        kept = self._digests.get(service, ())
        return sum(hmac.compare_digest(digest, one) for one in kept) > 0  # all, whichever it is


def _stranger(header: str | None) -> Refusal:
    if header is None:
        return Refusal(401, "the header Authorization must hold a token of the service")
    return Refusal(401, "the token is none of the service's")


def shown(header: str | None) -> str:
    """The token in a header: bare, behind ``Bearer``, or as the password of ``Basic``.

    A client of Amazon's SDK sends it as its access key id. Its signature is not checked: the token
    itself is what is secret, as at the other doors.
    """
    kind, _, rest = (header or "").strip().partition(" ")
    if kind.lower() == "bearer":
        return rest.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(rest, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    if kind.upper() == "AWS4-HMAC-SHA256":
        _, _, scope = rest.partition("Credential=")
        return scope.partition("/")[0]
    return kind


class Pace:
    """At most so many requests a second to each service, and as many at once after a pause.

    Args:
        most: requests a second; 0: no limit.
        clock: seconds that only rise.
    """

    def __init__(self, most: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._left: dict[str, tuple[float, float]] = {}

    def require(self, service: str) -> None:
        """Count a request.

        Raises:
            Refusal: with 429, of one too many.
        """
        if not self._most:
            return
        now = self._clock()
        left, then = self._left.get(service, (self._most, now))
        left = min(max(self._most, 1.0), left + (now - then) * self._most)
        if left < 1:
            self._left[service] = left, now
            raise Refusal(429, f"more than {self._most:g} requests a second", after=1)
        self._left[service] = left - 1, now
