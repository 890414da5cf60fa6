"""A phone number has one spelling, and two numbers are never one."""

import random
import re

import phonenumbers
import pytest
from hypothesis import example as always
from hypothesis import given
from hypothesis import strategies as st

from usergrowth_dagster.addresses import numbers as phone_numbers
from usergrowth_dagster.addresses.numbers import (
    Problem,
    every_reading,
    old_key,
    old_keys,
    parse,
    readings,
)

# text, then what it is without a default country, with CN and with US
UPLOADED = [
    ("+8613855550101", *["+8613855550101"] * 3),
    ("008613855550102", *["+8613855550102"] * 3),
    ("13855550103", "no_country", "+8613855550103", "+13855550103"),
    ("2125550104", "no_country", "+862125550104", "+12125550104"),
    ("(212) 555-0105", "no_country", "+862125550105", "+12125550105"),
    ("+1 212 555 0106", *["+12125550106"] * 3),
    ("07700 900107", "no_country", "+867700900107", "bad_phone"),
    ("+44 (0)7700 900108", *["+447700900108"] * 3),
    ("00000000000", *["bad_phone"] * 3),
    ("+0791112345", *["bad_phone"] * 3),
    ("123456", *["bad_phone"] * 3),
    ("1.38E+10", *["bad_phone"] * 3),
    ("+49 170/1234567", *["+491701234567"] * 3),
    ("+39 06 1234 5614", *["+390612345614"] * 3),
]

# what is no number, whatever the default country
NONE = [
    *("", "  ", "+", "00", "++8613855550101", "+86138+55550101", "13855550101.0", "1385555010.00"),
    *("+1 212 555 0106 ext. 4", "+1 212 555 0106x4", "+1 212 555 0106;ext=4", "+1 212 555 0106 #4"),
    *("tel:+12125550106", "+1-800-FLOWERS", "+1 212 555 0106, +1 212 555 0107", "n/a", "½", "+1 123"),
    *("+99900x0001", "+1 112 555 0106", "+86 123456", "+000000000", "+" + "1" * 99, "\0", "+٠"),
]  # fmt: skip

# spellings of one person, and the default country where one is written without it
SAME = {
    "+525555550121": ["+52 1 55 5555 0121", "005215555550121", "MX 55 5555 0121",
                      "MX 044 55 5555 0121", "MX 01 55 5555 0121", "MX 1 55 5555 0121"],
    "+5511985550121": ["+55 11 8555 0121", "+55 (11) 98555-0121", "BR 011 98555-0121",
                       "BR 0 15 11 98555-0121", "BR 11 8555-0121"],
    "+5491155550121": ["+54 9 11 5555-0121", "+54 11 5555 0121", "+54 11 15 5555 0121",
                       "AR 011 15-5555-0121", "AR 11 5555 0121"],
    "+390612345614": ["+39 6 1234 5614", "+39 (0)6 1234 5614", "IT 06 1234 5614"],
    "+393471234567": ["+39 0347 1234567", "IT 347 1234567", "+39 (0)347 1234567"],
    "+447700900108": ["00447700900108", "+44 (0)7700 900108", "+44 07700 900108", "GB 07700 900108"],
    "+8613855550101": ["０５０", "＋８６　１３８５５５５０１０１", "+86‑138‑5555‑0101", "(+86) 138.5555.0101",
                       "CN 8613855550101", "CN 138 5555 0101", "US 011 86 138 5555 0101",
                       "\u202d+86 138 5555 0101\u202c", "+86\u00a0138\u00a05555\u00a00101", "+٨٦١٣٨٥٥٥٥٠١٠١"],
    "+12125550106": ["US (212) 555-0106", "US 1-212-555-0106", "001 212.555.0106", "+1 (0)212 555 0106"],
    "+9990000000001": ["+999 000 000 0001", "009990000000001"],
}  # fmt: skip
SAME["+8613855550101"].remove("０５０")

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)


def example(region: str, kind: int) -> str | None:
    """A number that the library gives for a region, in E.164 as the library writes it."""
    number = phonenumbers.example_number_for_type(region, kind)
    if number is None:
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@pytest.mark.parametrize(
    ("text", "nowhere", "china", "america"), UPLOADED, ids=range(len(UPLOADED))
)
def test_uploaded_numbers(text: str, nowhere: str, china: str, america: str) -> None:
    """Guards against guessing a country: 13852345678 as +1 385…, 2125550123 as Morocco's +212."""
    assert [parse(text, country) for country in (None, "CN", "US")] == [nowhere, china, america]


@pytest.mark.parametrize("text", NONE)
@pytest.mark.parametrize("country", [None, "CN", "US", "DE"])
def test_what_is_no_number(text: str, country: str | None) -> None:
    """Guards against texting an extension, a float, a date or a list of numbers as one number."""
    assert parse(text, country) is Problem.BAD_PHONE


@pytest.mark.parametrize(
    ("text", "number"), [(text, number) for number, texts in SAME.items() for text in texts]
)
def test_spellings_of_one_person(text: str, number: str) -> None:
    """Guards against texting somebody in one spelling who refused in another."""
    country, _, rest = text.partition(" ")
    if re.fullmatch("[A-Z]{2}", country):
        assert parse(rest, country) == number
    else:
        assert parse(text) == parse(text, "FR") == number


def test_numbers_of_the_examples_by_setting() -> None:
    """Guards against sending to numbers that nobody has when a real gateway is set."""
    assert parse("+999 0000000001", fictional=False) is Problem.BAD_PHONE
    assert parse("+999000000001") is parse("+99900000000001") is Problem.BAD_PHONE


def test_every_country_has_its_numbers() -> None:
    """Guards against a country whose numbers cannot be read: every example number of every region
    and kind is read, and read again as it is."""
    unread = []
    for region in REGIONS:
        for kind in (0, 1, 2):
            text = example(region, kind)
            number = parse(text) if text else None
            if isinstance(number, Problem) or (number and parse(number) != number):
                unread.append((region, text))
    assert unread == []


def digits_of(code: int) -> st.SearchStrategy[str]:
    return st.from_regex(r"[0-9]{4,13}", fullmatch=True).map(lambda rest: f"+{code}{rest}")


CODES = sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)
ANY = st.one_of(
    st.sampled_from(CODES).flatmap(digits_of),
    st.sampled_from([1, 7, 39, 44, 52, 54, 55, 86, 378, 379]).flatmap(digits_of),
    st.sampled_from(
        [n for region in REGIONS for kind in (0, 1, 2) if (n := example(region, kind))]
    ),
)
"""International numbers, some of which no plan allows."""


@given(ANY, st.randoms(use_true_random=False))
def test_a_spelling_changes_nothing(text: str, rng: random.Random) -> None:
    """Guards against a person who is two people because of a sign between digits."""
    number = parse(text)
    signs = rng.choices(["", " ", "-", ".", "/", "\u00a0", "–", "\u200b"], k=len(text))
    spread = "".join(
        f"{c}{sign if n else ''}" for n, (c, sign) in enumerate(zip(text, signs, strict=True))
    )
    wide = "".join(chr(ord(c) + 0xFEE0) if rng.random() < 0.5 else c for c in text)
    for other in (wide, f" {text}\t", f"00{text[1:]}", f"({text})"):
        assert parse(other) == number, other
    if not re.search(r"\.0*$", spread):
        assert parse(spread) == number
    for country in ("CN", "US", "AR", "IT"):
        assert parse(text, country) == number
    if not isinstance(number, Problem):
        assert parse(number) == number
        assert re.fullmatch(r"\+[1-9][0-9]{6,14}", number)


@given(ANY)
@always("+431000")  # in its plan, and too short for any text message
def test_the_short_way_reads_what_the_library_reads(text: str) -> None:
    """Guards against a clean number that is taken as it is though the library reads another."""
    slow = phone_numbers._canonical(text, None) or Problem.BAD_PHONE
    assert parse(text) == slow
    if phone_numbers._CLEAN.fullmatch(text) and phone_numbers._is_plain(text):
        assert slow == text


@given(ANY, st.sampled_from(["CN", "US", "GB", "DE", "MX", "BR", "AR", "IT", "KZ", "SM"]))
def test_the_short_way_of_a_national_number(text: str, country: str) -> None:
    """Guards against a national number that is read otherwise than the library reads it."""
    digits = text[3:]
    if short := phone_numbers._plain_national(digits, country):
        assert short == phone_numbers._canonical(digits, country)
        assert short == parse(f"({digits[:3]}) {digits[3:]}", country)


@given(ANY, ANY)
def test_two_countries_never_share_a_number(one: str, other: str) -> None:
    """Guards against two people of one number: the country code stays what it was."""
    first, second = parse(one), parse(other)
    for text, number in ((one, first), (other, second)):
        if not isinstance(number, Problem):
            code = phonenumbers.parse(text).country_code
            assert number.startswith(f"+{code}")
    if not isinstance(first, Problem) and first == second:
        assert phonenumbers.parse(one).country_code == phonenumbers.parse(other).country_code


@given(st.text(max_size=80), st.sampled_from([None, "CN", "US", "GB"]))
def test_any_text_is_a_number_or_none(text: str, country: str | None) -> None:
    """Guards against a text that ends the reading of an upload."""
    number = parse(text, country)
    assert isinstance(number, Problem) or re.fullmatch(r"\+[1-9][0-9]{6,14}", number)


@given(st.sampled_from(REGIONS), st.integers(0, 2))
def test_a_national_number_is_of_its_country(region: str, kind: int) -> None:
    """Guards against a default country that does not read the numbers of the country."""
    text = example(region, kind)
    if text is None:
        return
    number = phonenumbers.parse(text)
    written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
    assert parse(written, region) == parse(text)
    assert parse(written) in (Problem.NO_COUNTRY, Problem.BAD_PHONE)


@given(st.sampled_from(REGIONS), st.integers(0, 2))
def test_old_forms_include_every_way_a_number_was_kept(region: str, kind: int) -> None:
    """Guards against a refusal that was recorded before, and is not found any more."""
    text = example(region, kind)
    number = parse(text) if text else Problem.BAD_PHONE
    if isinstance(number, Problem) or text is None:
        return
    national = phonenumbers.format_number(
        phonenumbers.parse(text), phonenumbers.PhoneNumberFormat.NATIONAL
    )
    kept = re.sub(r"[^0-9]", "", national)
    for spelling in (number, number[1:], f"00{number[1:]}", text, kept):
        assert old_key(spelling) in old_keys(number)


def test_readings_of_a_providers_number() -> None:
    """Guards against a refusal of somebody whose number a provider wrote without its country."""
    assert readings("13855550111") == ["+13855550111"]
    assert readings("13855550111", "CN") == ["+8613855550111", "+13855550111"]
    assert readings("8613855550111", "CN") == ["+8613855550111"]
    assert {"+8613855550111", "+447700900108"} <= {
        *every_reading("13855550111"),
        *every_reading("07700900108"),
    }
    assert every_reading("+8613855550111") == every_reading("12345") == every_reading("TAXI") == []
