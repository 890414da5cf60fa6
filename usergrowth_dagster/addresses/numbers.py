"""One spelling for a phone number, or why a text is none.

Everything that stores, compares or sends a number goes through :func:`parse`. The result is in
E.164: ``+``, the country code and the national number. A text without a country code is a number
only together with a default country; no country is ever guessed.

A number counts when it has a length and a shape that the numbering plan of its country allows. That
the range is also assigned to an operator is not asked: regulators keep fictional ranges unassigned
(+44 7700 900xxx), and new ranges open sooner than this library is upgraded.

Some countries write one number in two ways, and these become one:

* Mexico: the 1 after +52, once dialled to mobile numbers, is dropped.
* Brazil: a mobile number of eight digits gets its ninth.
* Argentina: a number of an area gets the 9 of mobile numbers, and loses the domestic 15. Fixed and
  mobile lines of an area share their digits, so this joins no two subscribers.
* Italy: the leading 0 is part of a fixed line's number, and never of a mobile number.
"""

import re
import unicodedata
from collections.abc import Iterator
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from phonenumbers import PhoneMetadata

Number = NewType("Number", str)
"""A phone number in E.164, such as ``+12125550123``."""

FICTIONAL = re.compile(r"\+999[0-9]{10}")
"""Numbers of the example worlds. No country has the code 999, so nobody is ever reached by them."""


class Problem(StrEnum):
    """Why a text is no number; the reason codes of rows that have it."""

    NO_COUNTRY = "no_country"
    """It may be a national number, and no default country is set."""
    BAD_PHONE = "bad_phone"
    """No numbering plan allows it."""


_CLEAN = re.compile(r"\+[1-9][0-9]{6,14}")
_NATIONAL = re.compile(r"[0-9 ()-]{7,24}")
_FOLDED = re.compile(r"(\+|00)?([0-9]{2,20})")
_SEPARATORS = re.compile(r"[\s().\-/]+")
_FLOAT = re.compile(r"\+?[0-9]{5,}\.0*")  # a spreadsheet's number, whose last zero is no digit
_TRUNK_ZERO = re.compile(r"^(\(?(?:\+|00)[0-9]{1,3}\)?\s*)\(0\)")  # +44 (0)7700 …
_LONGEST = 64
_SHORTEST = 7
"""Digits of the shortest text that may be a national number of some country."""

_MEXICO = re.compile(r"(?:1|01|04[45])([0-9]{10})")
_BRAZIL = re.compile(r"([1-9][0-9])([6-9][0-9]{7})")
_ARGENTINA = re.compile(r"11[0-9]{8}|[23][0-9]{9}")
_ITALY = 39


@lru_cache(maxsize=10_000)
def parse(text: str, country: str | None = None, *, fictional: bool = True) -> Number | Problem:
    """Read a phone number in any spelling.

    Spaces, parentheses, dots, dashes and slashes separate digits. Digits of any script and width
    count. Letters, extensions and a number's exponent or decimal point make it no number.

    Args:
        text: the number as somebody wrote it.
        country: ISO code of the country that a number without ``+`` or ``00`` belongs to.
        fictional: whether :data:`FICTIONAL` numbers count.

    >>> parse("0044 (0)7700 900108"), parse("(212) 555-0105", "US")
    ('+447700900108', '+12125550105')
    >>> str(parse("(212) 555-0105")), str(parse("+0791112345"))
    ('no_country', 'bad_phone')
    """
    if _CLEAN.fullmatch(text):
        if FICTIONAL.fullmatch(text):
            return Number(text) if fictional else Problem.BAD_PHONE
        if _is_plain(text):
            return Number(text)
    elif country and _NATIONAL.fullmatch(text) and (number := _plain_national(text, country)):
        return number
    spellings = list(_folded(text))
    if not spellings:
        return Problem.BAD_PHONE
    for prefix, digits in spellings:
        if prefix:
            whole = f"+{digits}"
            if FICTIONAL.fullmatch(whole):
                return Number(whole) if fictional else Problem.BAD_PHONE
            if number := _canonical(whole, None):
                return number
        if country and prefix != "+" and (number := _canonical(prefix + digits, country)):
            return number
    prefix, digits = spellings[0]
    if not prefix and not country and _SHORTEST <= len(digits) <= 15:
        return Problem.NO_COUNTRY
    return Problem.BAD_PHONE


def readings(text: str, country: str | None = None) -> list[Number]:
    """The numbers that a provider may mean, the likeliest first; often one, at times none.

    Providers leave out ``+`` and mean the country code, or leave out the country too.

    >>> readings("13855550111", "CN"), readings("447700900108")
    (['+8613855550111', '+13855550111'], ['+447700900108'])
    """
    first, second = parse(text, country), parse(f"+{text.strip()}")
    numbers = [one for one in (first, second) if not isinstance(one, Problem)]
    return list(dict.fromkeys(numbers))


def every_reading(text: str) -> list[Number]:
    """The numbers of all countries that a text without a country code may be.

    >>> "+8613855550111" in every_reading("13855550111")
    True
    """
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

    digits = next((digits for prefix, digits in _folded(text) if not prefix), "")
    spellings = dict.fromkeys((digits, digits.removeprefix("0")))
    codes = sorted(COUNTRY_CODE_TO_REGION_CODE) if len(digits) >= _SHORTEST else []
    numbers = (parse(f"+{code}{one}") for code in codes for one in spellings)
    return [one for one in dict.fromkeys(numbers) if not isinstance(one, Problem)]


def old_keys(number: Number) -> set[str]:
    """The forms by which earlier versions identified a number.

    They compared the digits as uploaded, without ``+``, ``00``, and 86 before a mobile number, so
    one form may belong to numbers of several countries.
    """
    code, digits = _split(number[1:])
    spellings = {number[1:], digits}
    metadata = _metadata(code)
    trunk = (metadata[0].national_prefix if metadata else None) or "0"
    for local in _older_spellings(code, digits):
        spellings |= {f"{code}{local}", local, f"{trunk}{local}", f"{code}{trunk}{local}"}
    if metadata:
        spellings.add(_national(number))
    return {old_key(one) for one in spellings}


def _national(number: Number) -> str:
    """The digits of a number as its country writes it."""
    import phonenumbers

    style = phonenumbers.PhoneNumberFormat.NATIONAL
    return re.sub("[^0-9]", "", phonenumbers.format_number(phonenumbers.parse(number), style))


def old_key(text: str) -> str:
    """The form by which earlier versions identified a number written without separators."""
    digits = text.removeprefix("+").removeprefix("00")
    return digits[2:] if len(digits) == 13 and digits.startswith("861") else digits


def _older_spellings(code: int, digits: str) -> Iterator[str]:
    yield digits
    match code:
        case 52:
            yield from (f"{dialled}{digits}" for dialled in ("1", "044", "045"))
        case 55 if len(digits) == 11 and digits[2] == "9":
            yield digits[:2] + digits[3:]
        case 54 if digits.startswith("9"):
            yield digits[1:]
            yield from (f"{digits[1:end]}15{digits[end:]}" for end in (3, 4, 5))
        case 39:
            yield digits.removeprefix("0") if digits.startswith("0") else f"0{digits}"


def _folded(text: str) -> Iterator[tuple[str, str]]:
    """A text as ``+``, ``00`` or nothing, and digits; with and without a trunk zero in brackets."""
    if len(text) > _LONGEST:
        return
    marks = (c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    plain = "".join(map(_plain, marks)).strip()
    if _FLOAT.fullmatch(plain):
        return
    for spelling in dict.fromkeys((plain, _TRUNK_ZERO.sub(r"\1", plain))):
        match = _FOLDED.fullmatch(_SEPARATORS.sub("", spelling))
        if match:
            yield match[1] or "", match[2]


def _plain(character: str) -> str:
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    return "-" if unicodedata.category(character) == "Pd" or character == "\u2212" else character


def _canonical(text: str, country: str | None) -> Number | None:
    """A number of digits alone, by the library and the rules of this module."""
    import phonenumbers

    try:
        read = phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException:
        return None
    code = read.country_code or 0
    digits = _one_spelling(code, phonenumbers.national_significant_number(read))
    whole = f"+{code}{digits}"
    return Number(whole) if _CLEAN.fullmatch(whole) and _in_plan(code, digits) else None


def _one_spelling(code: int, digits: str) -> str:
    if code == 52 and (match := _MEXICO.fullmatch(digits)):
        return str(match[1])
    if code == 55 and (match := _BRAZIL.fullmatch(digits)):
        return f"{match[1]}9{match[2]}"
    if code == 54 and _ARGENTINA.fullmatch(digits):
        return f"9{digits}"
    if code == _ITALY:
        return _italian(digits)
    return digits


def _italian(digits: str) -> str:
    if not _in_plan(_ITALY, digits):
        return f"0{digits}"
    mobile = digits.removeprefix("0")
    if digits.startswith("03") and _is_valid(_ITALY, mobile) and not _is_valid(_ITALY, digits):
        return mobile
    return digits


def _is_valid(code: int, digits: str) -> bool:
    """Whether the range is assigned."""
    import phonenumbers

    return phonenumbers.is_valid_number(phonenumbers.parse(f"+{code}{digits}"))


def _is_plain(text: str) -> bool:
    """Whether a text such as ``+12125550123`` is in one spelling already, without the library.

    Then the library would change nothing: its country has the number in its plan, no prefix of
    domestic calls begins it, and no rule of :func:`_one_spelling` changes it.
    """
    code, digits = _split(text[1:])
    if not _in_plan(code, digits):
        return False
    prefixes = _domestic(code)
    if prefixes is not None and prefixes.match(digits):
        return False
    return not (code == _ITALY and digits.startswith("03")) and (
        _one_spelling(code, digits) == digits
    )


def _plain_national(text: str, country: str) -> Number | None:
    """A national number that begins with no prefix at all, without the library; None: ask it."""
    code, prefixes = _beginnings(country)
    digits = _SEPARATORS.sub("", text)
    whole = f"+{code}{digits}"
    if prefixes.match(digits) or not _CLEAN.fullmatch(whole) or not _is_plain(whole):
        return None
    return Number(whole)


@lru_cache(maxsize=512)
def _beginnings(country: str) -> tuple[int, re.Pattern[str]]:
    """The code of a country, and what may stand before its national numbers: that code, and the
    prefixes of domestic and of international calls."""
    from phonenumbers import PhoneMetadata, country_code_for_region

    code = country_code_for_region(country)
    kinds: list[str | None] = ["00", str(code)]
    if metadata := PhoneMetadata.metadata_for_region(country, None):
        kinds += [metadata.international_prefix, metadata.national_prefix_for_parsing]
    return code, re.compile("|".join(f"(?:{kind})" for kind in kinds if kind), re.ASCII)


@lru_cache(maxsize=4096)
def _code_of(beginning: str) -> int:
    """The country code that three digits begin with; 0: none does. No code begins another."""
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

    return next(
        (code for n in (1, 2, 3) if (code := int(beginning[:n])) in COUNTRY_CODE_TO_REGION_CODE), 0
    )


def _split(digits: str) -> tuple[int, str]:
    code = _code_of(digits[:3])
    return code, digits[len(str(code)) :]


def _in_plan(code: int, digits: str) -> bool:
    """Whether the plan of a country code has numbers of such a length and shape."""
    plan = _plan(code)
    return plan is not None and plan.fullmatch(digits) is not None


@lru_cache(maxsize=512)
def _plan(code: int) -> re.Pattern[str] | None:
    """All numbers of a country code: for each of its regions, the lengths and the shape."""
    shapes = []
    for metadata in _metadata(code):
        shape = metadata.general_desc
        if shape is None or not shape.national_number_pattern:
            continue
        lengths = "|".join(f"[0-9]{{{n}}}" for n in shape.possible_length if n > 0)
        ahead = f"(?=(?:{lengths})$)" if lengths else ""
        shapes.append(f"{ahead}(?:{shape.national_number_pattern})")
    return re.compile("|".join(shapes), re.ASCII) if shapes else None


@lru_cache(maxsize=512)
def _domestic(code: int) -> re.Pattern[str] | None:
    """The prefixes of domestic calls that the library takes from a number's beginning."""
    metadata = _metadata(code)
    prefixes = metadata[0].national_prefix_for_parsing if metadata else None
    return re.compile(prefixes, re.ASCII) if prefixes else None


@lru_cache(maxsize=512)
def _metadata(code: int) -> "tuple[PhoneMetadata, ...]":
    """The regions of a country code, the main one first."""
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

    metadata = []
    for region in COUNTRY_CODE_TO_REGION_CODE.get(code, ()):
        if region == "001":
            metadata.append(PhoneMetadata.metadata_for_nongeo_region(code, None))
        else:
            metadata.append(PhoneMetadata.metadata_for_region(region, None))
    return tuple(one for one in metadata if one is not None)
