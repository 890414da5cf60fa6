"""Where a recipient is: an attribute, else the region of the phone number, else nothing.

A number tells a zone only when it has its country code. Fixed lines tell it by their area; a mobile
number does so in a few countries (North America, mainland China, Brazil …) and elsewhere means the
whole country. Of a country with many zones the outermost are kept, in winter and in summer: when a
window is open in those, it is open in those between. A number that could be almost anywhere (a
toll-free one of North America, from Guam to Newfoundland) tells nothing.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

JOIN = "|"
MAX_LENGTH = 96
"""Characters of ``message.zone``."""

_PREFIX = 9
_SHORT_PREFIX = 7
"""Digits that tell the region: the longest prefixes in the data of phonenumbers, and those of the
countries 1 and 86, whose numbers would be the most to look up."""
_WIDEST = timedelta(hours=10)
_SEASONS = (datetime(2025, 1, 15, tzinfo=UTC), datetime(2025, 7, 15, tzinfo=UTC))


def recipient_zone(attribute: str | None, phone: str | None) -> str | None:
    """The zone of a ledger row; None: not known, so the business time zone holds.

    Args:
        attribute: what the population or the user's attributes say, if anything; no known IANA
            name counts as nothing.
        phone: a clean phone number, with its country code where it has one.
    """
    if attribute and (named := known_zone(attribute)):
        return named
    return phone_zone(phone) if phone else None


@lru_cache(maxsize=4096)
def known_zone(name: str) -> str | None:
    """An IANA zone name without blanks around it; None when there is no such zone."""
    name = name.strip()
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None
    return name if len(name) <= MAX_LENGTH else None


def phone_zone(phone: str) -> str | None:
    """The zone, or the outermost ones joined by ``|``, of a number with its country code.

    A number without ``+`` or ``00`` has none, and tells nothing.

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
    told = _SHORT_PREFIX if digits.startswith(("1", "86")) else _PREFIX
    return _zone_of_prefix(digits[:told], len(digits))


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
