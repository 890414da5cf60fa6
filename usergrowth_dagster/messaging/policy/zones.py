"""Where a recipient is: an attribute, else the region of the phone number, else nothing.

An attribute that is there but names no zone for certain (``London``, ``UTC+1``) is never replaced
by a guess: the person is held with the reason :data:`UNKNOWN_ZONE`.

A number gives a zone only when it has its country code. Fixed lines give it by their area; a mobile
number does so in a few countries (North America, mainland China, Brazil …) and elsewhere means the
whole country. Of a country with many zones the outermost are kept, in winter and in summer: when a
window is open in those, it is open in those between. A number that could be almost anywhere (a
toll-free one of North America, from Guam to Newfoundland) gives none.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from zoneinfo import ZoneInfo

JOIN = "|"
MAX_LENGTH = 96
"""Characters of ``message.zone``."""
UNKNOWN_ZONE = "unknown_zone"
"""Reason code of a person whose time zone attribute names no zone for certain."""

_PREFIX = 9
_SHORT_PREFIX = 7
"""Digits that give the region: the longest prefixes in the data of phonenumbers, and those of the
countries 1 and 86, whose numbers would be the most to look up."""
_WIDEST = timedelta(hours=10)
_SEASONS = (datetime(2025, 1, 15, tzinfo=UTC), datetime(2025, 7, 15, tzinfo=UTC))
_NOT_PLACES = ("Factory", "localtime")
_AMBIGUOUS = ("EST", "MST")
"""IANA has them as offsets without summer time (Panama, Phoenix). People who write them mostly mean
New York or Denver, where it is an hour later in summer; Sydney and Kuala Lumpur use them too."""


class UnknownZoneError(ValueError):
    """A time zone attribute is there and names no zone for certain."""


def recipient_zone(attribute: str | None, phone: str | None) -> str | None:
    """The zone of a ledger row; None: not known, so the business time zone holds.

    Args:
        attribute: what the population or the user's attributes say; None or blank: nothing.
        phone: a clean phone number, with its country code where it has one.

    Raises:
        UnknownZoneError: the attribute names no zone for certain.
    """
    if is_unknown(attribute):
        raise UnknownZoneError(attribute)
    if attribute and (named := known_zone(attribute)):
        return named
    return phone_zone(phone) if phone else None


def is_unknown(attribute: str | None) -> bool:
    """Whether a time zone attribute is there and names no zone for certain."""
    return bool(attribute and attribute.strip()) and known_zone(attribute) is None


@lru_cache(maxsize=4096)
def known_zone(name: str) -> str | None:
    """The IANA name of the one zone that a name means; None: it means none, or one of several.

    Known are IANA names in any case, with blanks or underscores, and the names that Windows gives
    to zones, by the Unicode CLDR.

    >>> known_zone("europe/london"), known_zone("GMT Standard Time"), known_zone("London")
    ('Europe/London', 'Europe/London', None)
    """
    key = name.strip().casefold()
    return _iana_names().get(key.replace(" ", "_")) or _windows_names().get(key)


@cache
def _iana_names() -> Mapping[str, str]:
    """Zones by their name in lower case; those of the package tzdata, on every machine alike."""
    from importlib.resources import files

    names = (files("tzdata") / "zones").read_text("utf-8").split()
    left_out = {*_NOT_PLACES, *_AMBIGUOUS}
    return {name.casefold(): name for name in names if name not in left_out}


@cache
def _windows_names() -> Mapping[str, str]:
    """Zones by what Windows calls them, in lower case.

    ``UTC-08`` and the like are left out: an offset does not say whether there is summer time.
    """
    from tzlocal.windows_tz import win_tz

    return {
        name.casefold(): zone
        for name, zone in win_tz.items()
        if not name.startswith(("UTC+", "UTC-"))
    }


def phone_zone(phone: str) -> str | None:
    """The zone, or the outermost ones joined by ``|``, of a number with its country code.

    A number without ``+`` or ``00`` has none, and gives no zone.

    >>> phone_zone("+12125550123"), phone_zone("2125550123")
    ('America/New_York', None)
    """
    if phone.startswith("+"):
        digits = phone[1:]
    elif phone.startswith("00"):
        digits = phone[2:]
    else:
        return None
    if not digits.isdecimal():
        return None
    length = _SHORT_PREFIX if digits.startswith(("1", "86")) else _PREFIX
    return _zone_of_prefix(digits[:length], len(digits))


@lru_cache(maxsize=100_000)
def _zone_of_prefix(prefix: str, length: int) -> str | None:
    """The zone of all numbers of a length that begin alike; so many are known, not each number."""
    import phonenumbers
    from phonenumbers import timezone

    try:
        number = phonenumbers.parse("+" + prefix.ljust(length, "0"))
    except phonenumbers.NumberParseException:
        return None
    kind = phonenumbers.number_type(number)
    if not phonenumbers.is_number_type_geographical(kind, number.country_code or 0):
        number = phonenumbers.PhoneNumber(country_code=number.country_code, national_number=0)
    return _outermost(tuple(timezone.time_zones_for_geographical_number(number)))


@lru_cache(maxsize=4096)
def _outermost(names: tuple[str, ...]) -> str | None:
    zones = {name: ZoneInfo(name) for name in names if known_zone(name) and "Unknown" not in name}
    if not zones:
        return None
    kept = set()
    for season in _SEASONS:
        offsets = {name: _offset(zone, season) for name, zone in sorted(zones.items())}
        low, high = min(offsets, key=offsets.__getitem__), max(offsets, key=offsets.__getitem__)
        if offsets[high] - offsets[low] > _WIDEST:
            return None
        kept |= {low} if offsets[low] == offsets[high] else {low, high}
    joined = JOIN.join(sorted(kept))
    return joined if len(joined) <= MAX_LENGTH else None


def _offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)
