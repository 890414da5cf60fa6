"""SQL and Python read every text as the same address, and hashes keep their form."""

from collections.abc import Callable

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from usergrowth_dagster.addresses.emails import BAD_EMAIL, BLANKS, read_email
from usergrowth_dagster.addresses.identity import identity
from usergrowth_dagster.addresses.mainland import from_mainland, to_mainland
from usergrowth_dagster.addresses.numbers import Problem, parse
from usergrowth_dagster.addresses.sql import (
    add_number_function,
    email_or_problem_sql,
    email_sql,
    number_or_problem_sql,
    number_sql,
)
from usergrowth_dagster.messaging.people.phones import E164, PhoneVault

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NEAR_NUMBERS = st.text(st.sampled_from("0123456789+ ()-./\t０１２٣−\u200b\u00a0xX"), max_size=24)
NEAR_EMAILS = st.builds(
    "{}{}@{}.{}{}".format,
    st.text(st.sampled_from(" \t\n\u00a0"), max_size=2),
    st.text(st.sampled_from("abZ09.'+é@ "), max_size=8),
    st.text(st.sampled_from("abZ09-.中 "), max_size=8),
    st.text(st.sampled_from("comX0-"), max_size=4),
    st.text(st.sampled_from(" \t\r\n\v\u00a0"), max_size=2),
)
TEXTS = st.lists(ANY | NEAR_NUMBERS | NEAR_EMAILS, min_size=1, max_size=30)
COUNTRIES = (None, "CN", "US", "IT", "MX")


def in_sql(
    expression: Callable[[str], str], texts: list[str], country: str | None, fictional: bool
) -> list[str | None]:
    """What an expression makes of texts, each in a row of its own."""
    with duckdb.connect(config={"threads": 1}) as connection:
        add_number_function(connection, country, fictional=fictional)
        connection.register(
            "uploaded", pa.table({"place": range(len(texts)), "text": pa.array(texts, pa.string())})
        )
        rows = connection.execute(
            f"select {expression('text')} from uploaded order by place"
        ).fetchall()
    return [row[0] for row in rows]


@given(texts=TEXTS, country=st.sampled_from(COUNTRIES), fictional=st.booleans())
@example(texts=["13855550111", "+9990000000001", "+999 000", " ", "\0", "+1 212 555 0123\n"],
         country="US", fictional=True)  # fmt: skip
def test_sql_and_python_read_the_same_numbers(
    texts: list[str], country: str | None, fictional: bool
) -> None:
    """Guards against a decision that counts a person whom the plan then cannot send to."""
    read = [parse(text, country, fictional=fictional) if text.strip() else None for text in texts]
    numbers = [None if isinstance(one, Problem) else one for one in read]
    assert in_sql(number_sql, texts, country, fictional) == numbers
    assert in_sql(number_or_problem_sql, texts, country, fictional) == read


@given(texts=TEXTS)
@example(
    texts=["Li@Shop.example", " li@shop.example\r\n", "\u00a0li@shop.example", "o'li@a.b", "@", ""]
)
def test_sql_and_python_read_the_same_e_mail_addresses(texts: list[str]) -> None:
    """Guards against an address that is chosen by the decision and dropped by the plan."""
    read = [read_email(text) for text in texts]
    lower = [address and address.lower() for address in read]
    assert in_sql(email_sql, texts, None, False) == lower
    assert in_sql(email_or_problem_sql, texts, None, False) == [
        None if not text.strip(BLANKS) else address or BAD_EMAIL
        for text, address in zip(texts, lower, strict=True)
    ]


@given(text=ANY | NEAR_NUMBERS | NEAR_EMAILS, country=st.sampled_from(COUNTRIES))
def test_what_is_read_is_the_same_person(text: str, country: str | None) -> None:
    """Guards against somebody who refused in one spelling and is texted in another."""
    number, email = parse(text, country), read_email(text)
    if not isinstance(number, Problem):
        assert identity(text, country) == identity(number)
        assert identity(number).text == number and identity(number).is_e164
    if email is not None:
        assert identity(text) == identity(email) == identity(email.upper())


@pytest.mark.parametrize(
    ("address", "country", "digest"),
    [
        ("+1 212 555 0123", None, "025fc3d2ef318a3c1588be978e3132cb3b"),
        ("(212) 555-0123", "US", "025fc3d2ef318a3c1588be978e3132cb3b"),
        ("Li@Shop.example ", None, "33a7404f949d02ee4addb242088a0c95"),
        ("138 5555-0101", None, "f39d156815dfb4675b5ad6138337e898"),
        ("+99 12", None, "800a58dd65638ce0b6c9b54a06953c0d"),
    ],
)
def test_stored_hashes_keep_their_form(address: str, country: str | None, digest: str) -> None:
    """Guards against another form of an address, by which no earlier refusal would be found."""
    vault = PhoneVault.from_secret(b"0123456789abcdef", country)
    assert vault.digest(address).hex() == digest


def test_only_numbers_with_their_country_are_marked_so() -> None:
    """Guards against a hash of an earlier version that is taken for one of a number in E.164."""
    vault = PhoneVault.from_secret(b"0123456789abcdef")
    assert vault.digest("+12125550123")[:1] == E164 and len(vault.digest("+12125550123")) == 17
    assert len(vault.digest("13855550101")) == len(vault.digest("li@shop.example")) == 16


@given(digits=st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True))
def test_numbers_come_back_from_providers_of_the_mainland(digits: str) -> None:
    """Guards against a report about another person's number."""
    sent = to_mainland(digits)
    assert sent is None or from_mainland(sent) == digits
