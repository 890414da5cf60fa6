"""Whatever a provider returns becomes text, numbers and times that the product can hold."""

import math
import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usergrowth_dagster.messaging.gateways import cleaning
from usergrowth_dagster.messaging.gateways.cleaning import (
    clean_code,
    clean_finding,
    clean_id,
    clean_number,
    clean_receipt,
    clean_reply,
    clean_result,
    clean_text,
    clean_time,
    one_answer_each,
    one_finding_each,
)
from usergrowth_dagster.messaging.gateways.protocol import (
    Answer,
    Finding,
    Found,
    Receipt,
    Reply,
    Result,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**400, max_value=10**401)
    | st.floats()
    | st.binary(max_size=40)
    | st.text(max_size=40)
    | st.text(st.characters(categories=["Cs", "Cc", "Cf", "Zl", "Zp"]), max_size=20)
    | st.datetimes()
    | st.sampled_from([*Answer, *Found, object(), 10**4000, "9" * 6000, "1e999", "nan"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)


@given(VALUES, st.integers(1, 50), st.booleans())
def test_every_value_becomes_a_text_that_is_fit(value: Any, size: int, lines: bool) -> None:
    """Guards against a character or a type in a provider's field that ends the dispatcher."""
    text = clean_text(value, size, lines=lines)
    assert len(text) <= size
    text.encode()
    allowed = "\n\t" if lines else ""
    unfit = [c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert not set(unfit) - set(allowed)
    assert not set(text) & set("\u202e\u2066\u200f\ufeff")
    assert clean_text(text, size, lines=lines) == text


@given(st.text(st.characters(max_codepoint=0x7F), max_size=12), st.integers(1, 12))
def test_the_short_way_of_plain_texts_changes_nothing(text: str, size: int) -> None:
    """Guards against a shortcut for plain texts that lets through what cleaning takes out."""
    given = text.encode()  # bytes always go the long way
    assert clean_text(text, size) == clean_text(given, size)
    assert clean_code(text) == clean_code(given)
    if not set(text) - set(map(chr, range(0x21, 0x7F))):
        assert clean_id(text, size) == clean_id(given, size)


@given(VALUES)
def test_every_value_becomes_a_number_within_bounds(value: Any) -> None:
    """Guards against NaN, infinity and numbers beyond any float in a wait."""
    number = clean_number(value, 1.0, 60.0, 30.0)
    assert isinstance(number, float)
    assert 1.0 <= number <= 60.0


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *((5, 5.0), ("7", 7.0), (0, 1.0), (-3.5, 1.0), (1e9, 60.0), (10**400, 60.0)),
        *((-(10**400), 1.0), (math.inf, 60.0), ("1e999", 60.0), (math.nan, 30.0), ("NaN", 30.0)),
        *(
            (True, 30.0),
            (None, 30.0),
            ([5], 30.0),
            ("soon", 30.0),
            pytest.param("9" * 5000, 30.0, id="long"),
        ),
    ],
)
def test_numbers(value: Any, number: float) -> None:
    """Guards against a wait that is not what the provider asked for, within reason."""
    assert clean_number(value, 1.0, 60.0, 30.0) == number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *(("OK", "OK"), (" 拒收 ", "拒收"), ("a\0b", "ab"), ("\ud83d", "\ufffd"), ("😀", "😀")),
        *(("a\r\nb\tc", "a b c"), ("\x1b[31mred", "[31mred"), ("x\u202egnp", "xgnp")),
        *((30034, "30034"), (2.5, "2.5"), (True, ""), (None, ""), ({"a": 1}, ""), (["a"], "")),
        *(
            (b"caf\xc3\xa9\xff", "café\ufffd"),
            pytest.param(10**5000, "", id="huge"),
            (math.nan, ""),
            ("x" * 999, "x" * 128),
        ),
    ],
)
def test_texts(value: Any, text: str) -> None:
    """Guards against codes that are changed although nothing is wrong with them, and the others
    that are kept."""
    assert clean_text(value, 128) == text


def test_times() -> None:
    """Guards against times that no database holds, and a missing zone that shifts a report."""
    moment = datetime(2026, 1, 2, 3, 4, 5)
    east = timezone(timedelta(hours=8))
    assert clean_time(moment) == moment.replace(tzinfo=UTC)
    assert clean_time(moment.replace(tzinfo=east)) == datetime(2026, 1, 1, 19, 4, 5, tzinfo=UTC)
    odd: list[Any] = [None, "2026-01-01", 5, datetime.min, datetime.max, math.nan]
    assert [clean_time(one) for one in odd] == [None] * len(odd)


@given(VALUES, VALUES, VALUES, VALUES, VALUES)
def test_records_with_any_values_are_cleaned(a: Any, b: Any, c: Any, d: Any, e: Any) -> None:
    """Guards against a gateway that hands a provider's field on as it came."""
    result = clean_result(Result(a, b, c, d, e, opted_out=a))
    assert result.answer in Answer
    assert result.retry_after is None or 0 < result.retry_after < 1e7
    finding = clean_finding(Finding(a, b, c, d))
    receipt = clean_receipt(Receipt(a, b, c, d, e, a, b))
    reply = clean_reply(Reply(a, b, c, d, e))
    for text in (result.code, result.out_id, finding.code, receipt.code, reply.content):
        text.encode()
        assert "\0" not in text
    assert receipt.phone is None or receipt.phone.encode()


def result(out_id: Any, answer: Answer, request_id: str | None = None) -> Result:
    return Result(out_id, answer, "X", request_id)


@pytest.mark.parametrize(
    ("results", "answers"),
    [
        ([], [Answer.IN_DOUBT, Answer.IN_DOUBT]),
        (None, [Answer.IN_DOUBT, Answer.IN_DOUBT]),
        ("accepted", [Answer.IN_DOUBT, Answer.IN_DOUBT]),
        ([None, 5, {}], [Answer.IN_DOUBT, Answer.IN_DOUBT]),
        (
            [result("1", Answer.ACCEPTED), result("2", Answer.DEFERRED)],
            [Answer.ACCEPTED, Answer.DEFERRED],
        ),
        (
            [result("1", Answer.ACCEPTED), result("1", Answer.ACCEPTED)],
            [Answer.ACCEPTED, Answer.IN_DOUBT],
        ),
        *(
            ([result(one, first), result(other, second)], [Answer.IN_DOUBT, Answer.IN_DOUBT])
            for first in Answer
            for second in Answer
            for one, other in (("1", "1"), ("1", "01"), (1, " 1 "), ("+1", "1"))
            if first is not second
        ),
        ([result("3", Answer.ACCEPTED), result("x", Answer.ACCEPTED)], [Answer.IN_DOUBT] * 2),
        ([result("1", "eaten"), result("2", ["accepted"])], [Answer.IN_DOUBT] * 2),  # type: ignore[arg-type]
    ],
)
def test_one_answer_for_each_message(results: Any, answers: list[Answer]) -> None:
    """Guards against contrary answers of which one is believed, so that a text goes out twice."""
    cleaned = one_answer_each(["1", "2"], results)
    assert list(cleaned) == ["1", "2"]
    assert [one.out_id for one in cleaned.values()] == ["1", "2"]
    assert [one.answer for one in cleaned.values()] == answers
    assert all(one.code for one in cleaned.values())


FIELDS = (
    st.sampled_from(["1", "2", "3", "01", "+1", "1 ", 1, "٣", ""]),
    st.sampled_from([*Answer, "accepted", 1]),
    st.sampled_from(["", "OK", "12345678", "a@b", "long-code", "x\n", 7, None]),
    st.sampled_from([None, "", "r1", "r 1", "r" * 129, 5]),
    st.sampled_from([None, 0.0, 1.5, 60, True, math.nan, math.inf, -1.0, "3"]),
    st.sampled_from([False, True, 1, None]),
)
"""Fields of answers as providers give them, good and bad."""


@given(st.lists(st.builds(Result, *FIELDS), max_size=4), st.permutations(["1", "2", "3"]))
def test_a_plain_answer_is_what_cleaning_makes_of_it(results: list[Any], asked: list[str]) -> None:
    """Guards against a short way for good answers that lets something else through."""
    answers = one_answer_each(asked, results)
    with patch.object(cleaning, "_is_plain", lambda _: False):
        assert repr(answers) == repr(one_answer_each(asked, results))


def test_a_contrary_answer_keeps_the_request_id() -> None:
    """Guards against a message in doubt that cannot be looked up, although its id is known."""
    both = [result("1", Answer.DEFERRED), result("1", Answer.ACCEPTED, "r1")]
    assert one_answer_each(["1"], both)["1"].request_id == "r1"


@pytest.mark.parametrize(
    ("fates", "agreed"),
    [
        ((), None),
        ((Found.NOT_FOUND,), None),
        ((Found.DELIVERED, Found.DELIVERED), Found.DELIVERED),
        ((Found.ACCEPTED, Found.DELIVERED), Found.DELIVERED),
        ((Found.UNDELIVERED, Found.ACCEPTED), Found.UNDELIVERED),
        ((Found.ACCEPTED, Found.REJECTED), None),
        ((Found.NOT_FOUND, Found.REJECTED), None),
        ((Found.DELIVERED, Found.UNDELIVERED, Found.ACCEPTED), None),
        (("eaten",), None),
    ],
)
def test_one_finding_for_each_message(fates: tuple[Any, ...], agreed: Found | None) -> None:
    """Guards against a doubt that is settled by a provider that contradicts itself."""
    findings = [Finding("7", one) for one in fates] + [Finding("8", Found.REJECTED)]
    clean = one_finding_each(["7"], findings)
    assert {out_id: one.found for out_id, one in clean.items()} == ({"7": agreed} if agreed else {})


@pytest.mark.parametrize("answers", [(Answer.ACCEPTED,) * 2, (Answer.ACCEPTED, Answer.REJECTED)])
@pytest.mark.parametrize("refusing", [0, 1])
def test_a_refusal_in_any_answer_counts(answers: tuple[Answer, ...], refusing: int) -> None:
    """A refusal in the second of two answers for one message was dropped with that answer."""
    results = [
        Result("1", answer, "x", opted_out=place == refusing)
        for place, answer in enumerate(answers)
    ]
    assert one_answer_each(["1"], results)["1"].opted_out


def test_codes_hide_addresses() -> None:
    """A number that a provider writes into its code went into the log, the alert and the ledger."""
    code = "no route to +44 7700 900108 for li@shop.example"
    kept = [
        clean_result(Result("1", Answer.REJECTED, code)).code,
        clean_receipt(Receipt(status=Found.UNDELIVERED, code=code)).code,
    ]
    assert all("900108" not in one and "shop.example" not in one for one in kept), kept
    assert clean_result(Result("1", Answer.REJECTED, "30034")).code == "30034"


@pytest.mark.parametrize(
    "between",
    [chr(n) for n in range(0xA0) if chr(n) not in "\n\t " and unicodedata.category(chr(n)) == "Cc"]
    + ["\u2028", "\u2029", "\r\n"],
)
def test_no_character_joins_two_words_of_a_reply(between: str) -> None:
    """STOP, a lone carriage return and a phone's signature became one word that refuses nothing."""
    reply = clean_reply(Reply("+12125550128", f"STOP{between}Sent from my phone", None, "1", None))
    assert reply.content.split() == ["STOP", "Sent", "from", "my", "phone"]
