"""Rules of signatures and templates, rendering, and what a text is billed as."""

import json

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from usergrowth_dagster.control.campaign import parse_campaign
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.texts.billing import (
    GSM_BASIC,
    GSM_TWICE,
    Billing,
    characters,
    characters_sql,
    segments,
    segments_of_sql,
)
from usergrowth_dagster.messaging.texts.content import (
    check_content,
    message_columns_sql,
    pieces,
    reason,
    render,
    render_sql,
    signature_problems,
    template_problems,
    variables,
)

OPT_OUT = "拒收请回复R"
REFUSALS = [OPT_OUT, "回T退订"]


@pytest.mark.parametrize(
    ("length", "parts"),
    [(1, 1), (69, 1), (70, 1), (71, 2), (134, 2), (135, 3), (160, 3), (201, 3), (202, 4), (500, 8)],
)
def test_mainland_edges(length: int, parts: int) -> None:
    """Guards against a bill that is off by one at the edges of a segment."""
    assert segments("字" * length) == parts
    assert segments("a" * length) == parts  # Latin letters are no cheaper there
    signed = render("x" * (length - 4), {}, "商店") if length > 4 else None
    if signed:
        assert segments(signed) == parts  # the signature counts with its 【】


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("a" * 158 + "€", 1),
        ("a" * 159 + "€", 2),  # counts twice
        ("{" * 80, 1),
        ("{" * 81, 2),
        ("a" * 69 + "ç", 1),  # ç is not in the alphabet, so UCS-2
        ("a" * 70 + "ç", 2),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("]" * 153, 3),  # 76 to a message, since none is split
        ("a" * 152 + "]" + "a" * 152, 3),
        ("字" * 66 + "😀" + "字" * 66, 3),
        ("a" * 66 + "😎" + "a" * 66, 3),
        ("a" * 151 + "]" + "a" * 153, 2),
        ("a" * 65 + "😎" + "a" * 67, 2),
    ],
)
def test_international_edges(text: str, parts: int) -> None:
    """Guards against counting a text in the wrong alphabet."""
    assert segments(text, Billing.INTERNATIONAL) == parts


def least_messages(sizes: list[int], single: int, joined: int) -> int:
    """The least number of messages that hold all, by trying every length of each message."""
    if sum(sizes) <= single:
        return 1
    least = [0] + [len(sizes)] * len(sizes)
    for end in range(1, len(sizes) + 1):
        for begin in range(end):
            if sum(sizes[begin:end]) <= joined:
                least[end] = min(least[end], least[begin] + 1)
    return least[-1]


RUNS = st.lists(
    st.tuples(st.sampled_from("a字😀]€𠮷\né"), st.integers(1, 80)), min_size=1, max_size=5
).map(lambda runs: "".join(letter * number for letter, number in runs)[:230])


@settings(max_examples=60, deadline=None)
@given(RUNS)
@example("]" * 153)
@example("字" * 66 + "😀" + "字" * 66)
@example("a" * 66 + "😎" + "a" * 66)
@example("a" * 152 + "]" + "a" * 152)
def test_a_bill_is_never_larger_than_said(text: str) -> None:
    """Two halves of a character cannot go into two messages: a text was billed as one more."""
    gsm = set(text) <= set(GSM_BASIC + GSM_TWICE)
    wide = [2 if (letter in GSM_TWICE if gsm else ord(letter) > 0xFFFF) else 1 for letter in text]
    operator = least_messages(wide, *((160, 153) if gsm else (70, 67)))
    assert segments(text, Billing.INTERNATIONAL) == operator
    # mainland: by units that are not split, and at least by either way to count a character
    ucs2 = [2 if ord(letter) > 0xFFFF else 1 for letter in text]
    said = segments(text)
    assert said == least_messages(ucs2, 70, 67)
    length, value = characters_sql("$1::varchar"), "$1::varchar"
    both = ", ".join(segments_of_sql(length, value, billing) for billing in list(Billing)[:2])
    assert CONNECTION.execute(f"select {both}", [text]).fetchall() == [(said, operator)]
    for size in (sum(ucs2), len(text)):
        assert said >= (1 if size <= 70 else -(-size // 67))


def test_gsm_alphabet_is_whole() -> None:
    """Guards against a letter lost from, or doubled in, the GSM 7-bit table (127 + escape, 10)."""
    assert len(set(GSM_BASIC)) == len(GSM_BASIC) == 127
    assert len(set(GSM_TWICE)) == 10
    assert not set(GSM_BASIC) & set(GSM_TWICE)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("店", "2 to 12 characters, this one 1"),
        ("示" * 13, "2 to 12 characters, this one 13"),
        ("【示例】", "holds no 【】"),
        ("示例(上海)", "has ( )"),
        ("示\n例", "line breaks"),
    ],
)
def test_signature_rules_are_named(name: str, rule: str) -> None:
    """Guards against a signature that the provider would refuse."""
    assert any(rule in problem for problem in signature_problems(name))
    assert signature_problems("示例商店") == []


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("您好", "must say how to refuse: add '拒收请回复R'"),
        ("您好${a}${b}" + OPT_OUT, "text between them: ${a}${b}"),
        ("您好${a}和${a}" + OPT_OUT, "each variable stands once, but a is repeated"),
        ("您好${a" + OPT_OUT, "one is not closed"),
        ("您好${}" + OPT_OUT, "a variable's name"),
        ("您好${姓名}" + OPT_OUT, "a variable's name"),
        ("您好{{name}}" + OPT_OUT, "a variable is written ${name}, not {{name}}"),
        (
            "您好{{ user.name }}" + OPT_OUT,
            "a variable is written ${user_name}, not {{ user.name }}",
        ),
        ("验证码{code}，" + OPT_OUT, "a variable is written ${code}, not {code}"),
        ("您好%name%，${a}" + OPT_OUT, "a variable is written ${name}, not %name%"),
        ("您好{姓名}，" + OPT_OUT, "a variable is written ${name}, not {姓名}"),
        ("您好{0}，" + OPT_OUT, "a variable is written ${name}, not {0}"),
        ("您好%(name)s，" + OPT_OUT, "a variable is written ${name}, not %(name)s"),
        ("您好[[name]]，" + OPT_OUT, "a variable is written ${name}, not [[name]]"),
        ("Hi $name, " + OPT_OUT, "a variable is written ${name}, not $name"),
        ("【店】您好" + OPT_OUT, "holds no 【】"),
        ("字" * 500 + OPT_OUT, "1 to 500 characters, this one 506"),
        ("-".join(f"${{v{i}}}" for i in range(11)) + OPT_OUT, "at most 10 variables"),
        ("a\x00b" + OPT_OUT, "control characters"),
    ],
)
def test_template_rules_are_named(content: str, rule: str) -> None:
    """Guards against a template that the provider would refuse."""
    problems = template_problems("offer", content, "promotion", REFUSALS)
    assert any(rule in problem for problem in problems), problems


def test_template_edges() -> None:
    """Guards against rules that are too strict: opt-out only where it is due, and in set words."""
    assert template_problems("offer", "${a}，您好" + OPT_OUT, "promotion", REFUSALS) == []
    for plain in ("50%off 20%more", "US$20 or $5", "{}", "[1]", "5%、10%", "a%b", "^_^ {-_-}"):
        assert template_problems("offer", plain + OPT_OUT, "promotion", REFUSALS) == []
    assert template_problems("code", "您的验证码${code}", "code", REFUSALS) == []
    assert template_problems("offer", "您好 回TD退订", "promotion", ["回TD退订"]) == []
    assert (
        template_problems("mail", "字" * 900 + "【x】 Unsubscribe: …", "promotion", [], "email")
        == []
    )
    assert "say how to refuse" in template_problems("mail", "hi", "promotion", ["回T"], "email")[0]
    assert "variables only" in template_problems("code", "${code}", "code", REFUSALS)[0]
    assert "30 characters" in template_problems("x" * 31, "您好", "code", REFUSALS)[0]


def test_campaign_content_names_file_and_key() -> None:
    """Guards against a content error that does not say where it stands."""
    text = """\
name: december
algorithm: churn
training: {window_days: 180}
population: population/december
execution_date: 2017-12-28
selection: {threshold: 0.12}
signature: {name: 店}
template: {name: offer, content: "您好"}
schedule: {name: december send}
"""
    with pytest.raises(UserError, match=r"^a.yaml: signature.name: .*this one 1 \(and 1 more\)$"):
        check_content(parse_campaign(text), "a.yaml", REFUSALS)
    with pytest.raises(UserError, match=r"^a.yaml: template.content: a promotion"):
        check_content(parse_campaign(text.replace("店", "小店")), "a.yaml", REFUSALS)
    mail = text.replace("店", "小店").replace("您好", "a letter, 退订") + "channel: email\n"
    subject = mail.replace(' 退订"', ' 退订", subject: "For ${name}"')
    check_content(parse_campaign(mail), "a.yaml", REFUSALS)
    with pytest.raises(UserError, match=r"^a.yaml: template.subject: .*no variables$"):
        check_content(parse_campaign(subject), "a.yaml", REFUSALS)


def test_values_are_not_rendered_again() -> None:
    """Guards against a customer's name that injects another variable."""
    assert render("${a}-${b}", {"a": "${b}", "b": "x"}, "店铺") == "【店铺】${b}-x"
    assert render("${a}-${b}", {"a": "", "b": "x"}) is None
    assert pieces("${a}") == [("a", True)]


LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
GSM_OR_ANY = st.one_of(
    st.text(LETTERS, max_size=40),
    st.text(st.sampled_from(GSM_BASIC + GSM_TWICE), max_size=40),
    st.text(st.sampled_from("字😀𠮷é'\\\n$"), max_size=36),
)
NAMES = st.sampled_from(["a", "b", "name_2"])


@st.composite
def templates(draw: st.DrawFn) -> str:
    names = draw(st.lists(NAMES, max_size=3, unique=True))
    text = draw(GSM_OR_ANY).replace("${", "")
    for name in names:
        text += f"${{{name}}}" + draw(GSM_OR_ANY.filter(bool)).replace("${", "-")
    return (text or "x") * draw(st.sampled_from([1, 1, 1, 12])) if not names else text


VALUES = st.dictionaries(NAMES, st.one_of(st.none(), GSM_OR_ANY))
CONNECTION = duckdb.connect(config={"threads": 1})


@settings(max_examples=150, deadline=None)
@given(templates(), VALUES, st.one_of(st.none(), st.text(LETTERS, max_size=12)))
@example("您好${a}!", {"a": "😀" * 18}, "店铺")
@example("字" * 62 + "${a}-", {"a": "😀"}, "店铺")
@example("it's ${a}\\n", {"a": "'; --"}, "o'shop")
@example("]" * 150 + "${a}", {"a": "]]]"}, None)
@example("字" * 66 + "${a}" + "字" * 66, {"a": "😀"}, None)
@example("a" * 152 + "${a}" + "a" * 152, {"a": "]"}, None)
@example("字" * 500, {}, None)
@example("字" * 497, {}, "店铺")
def test_sql_equals_python(
    content: str, values: dict[str, str | None], signature: str | None
) -> None:
    """Guards against a plan whose text, price or skips differ from what is sent."""
    row = dict(values.items())
    query = f"""
        select {render_sql(content, signature)},
            {message_columns_sql(content, signature)},
            {message_columns_sql(content, signature, Billing.INTERNATIONAL)},
            {message_columns_sql(content, signature, Billing.EMAIL)}
        from (select map_from_entries($1::struct(k varchar, v varchar)[]) as variables)
    """
    entries = [{"k": name, "v": text} for name, text in row.items()]
    by_sql = CONNECTION.execute(query, [entries]).fetchall()[0]
    text = render(content, row, signature)
    mainland = None if text is None else segments(text)
    international = None if text is None else segments(text, Billing.INTERNATIONAL)
    why = reason(content, row, signature)
    assert by_sql[0] == text
    assert by_sql[2:4] == (mainland, why)
    assert by_sql[5:7] == (international, why)
    missing = "missing_variable" if text is None else None
    assert by_sql[8:10] == (None if text is None else 1, missing)
    params = json.loads(by_sql[1])
    assert params == {name: row.get(name) or None for name in variables(content)}
    if text is not None:
        assert characters(text) == len(text) + sum(ord(letter) > 0xFFFF for letter in text)


def test_billing_doctests() -> None:
    """Guards against documentation whose figures are not what the code gives."""
    import doctest

    from usergrowth_dagster.messaging.texts import billing, content

    for module in (billing, content):
        assert doctest.testmod(module).failed == 0
