"""Signatures and templates: their rules, and rendering in Python and in SQL.

The rules of texts are Aliyun's for mainland China, which are the strictest. An e-mail has none of
their lengths, no 【】, and a subject without variables. The SQL expressions read a
column ``variables MAP(VARCHAR, VARCHAR)``; a variable that is missing, NULL or empty makes them
NULL, and :func:`reason_sql` says why. They equal :func:`render` and :func:`billing.segments`.
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

from usergrowth_dagster.control.campaign import CampaignSpec
from usergrowth_dagster.control.campaign_blocks import CampaignText
from usergrowth_dagster.data.notices import HTML_CODE
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.texts.billing import (
    MAX_CHARACTERS,
    Billing,
    characters,
    characters_sql,
    segments_of_sql,
)
from usergrowth_dagster.messaging.texts.links import EXAMPLE, short_link
from usergrowth_dagster.messaging.texts.refusals import Words, built_in_words, promise_problems
from usergrowth_dagster.quoting import literal

_FOREIGN = re.compile(
    r"\{\{[^{}\n]{0,60}\}\}"  # {{name}} {{ user.name }}
    r"|\{\w{1,40}\}"  # {code} {0} {姓名}
    r"|(?<!\d)%[^\W\d]\w{0,39}%"  # %name%, but not 50%off20%
    r"|%\(\w{1,40}\)[sd]"  # %(name)s
    r"|<%=?[^<>%\n]{1,60}%>"  # <%= name %>
    r"|\[\[\s*\w{1,40}\s*\]\]"  # [[name]]
    r"|(?<![\w$])\$[a-z_][a-z0-9_]{1,39}\b"  # $name
)
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_]+")
_HTML_CODE = re.compile(HTML_CODE)

EMAIL_OPT_OUT = re.compile("unsubscribe|退订", re.IGNORECASE)
"""What says how to refuse in an e-mail, beside the texts of the setting ``opt_out_texts``."""
MAX_VALUE = 35
MAX_VARIABLES = 10
_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")


def pieces(content: str) -> list[tuple[str, bool]]:
    """A template as its texts (False) and variable names (True), in order, none empty.

    >>> pieces("Hi ${name}!")
    [('Hi ', False), ('name', True), ('!', False)]
    """
    parts: list[tuple[str, bool]] = []
    for index, part in enumerate(_VARIABLE.split(content)):
        if part or index % 2:
            parts.append((part, bool(index % 2)))
    return parts


@lru_cache(maxsize=256)
def _pieces(content: str) -> tuple[tuple[str, bool], ...]:
    """The pieces of a template that is rendered for one recipient after another."""
    return tuple(pieces(content))


def variables(content: str) -> list[str]:
    """Names of a template's variables, in order."""
    return [part for part, is_variable in pieces(content) if is_variable]


def signature_problems(name: str) -> list[str]:
    """The rules that a signature breaks, each as a clause of a sentence."""
    problems = []
    if not 2 <= characters(name) <= 12:
        problems.append(f"a signature has 2 to 12 characters, this one {characters(name)}")
    if bad := sorted(set(name) & set("【】()[]")):
        problems.append(f"a signature holds no 【】()[], this one has {' '.join(bad)}")
    if any(ord(letter) < 32 for letter in name):
        problems.append("a signature holds no line breaks or control characters")
    return problems


def tells_how_to_refuse(content: str, opt_out_texts: Sequence[str], channel: str) -> bool:
    """Whether a text says how to get no more of them."""
    if channel == "email" and EMAIL_OPT_OUT.search(content):
        return True
    return any(text in content for text in opt_out_texts)


def template_problems(
    name: str,
    content: str,
    kind: str,
    opt_out_texts: Sequence[str],
    channel: str = "sms",
    words: Words | None = None,
) -> list[str]:
    """The rules that a template breaks, each as a clause of a sentence.

    Args:
        name: the template's name.
        content: its text with ``${variables}``.
        kind: ``code``, ``notification`` or ``promotion``.
        opt_out_texts: a promotion must hold one of them (the setting of that name).
        channel: ``sms`` or ``email``.
        words: those that are recognized as refusals; default: the built-in ones.
    """
    problems = []
    if not 1 <= characters(name) <= 30:
        problems.append(f"a template's name has 1 to 30 characters, this one {characters(name)}")
    if any(ord(letter) < 32 and letter not in "\n\r" for letter in content):
        problems.append("a template holds no control characters")
    if channel == "sms":
        if not 1 <= characters(content) <= MAX_CHARACTERS:
            problems.append(f"a template has 1 to 500 characters, this one {characters(content)}")
        if "【" in content or "】" in content:
            problems.append("a template holds no 【】: they are put around the signature")
    problems += _variable_problems(content, channel)
    if kind == "promotion" and not tells_how_to_refuse(content, opt_out_texts, channel):
        listed = " or ".join(repr(text) for text in opt_out_texts)
        problems.append(f"a promotion template must say how to refuse: add {listed}")
    return problems + promise_problems(content, words or built_in_words())


def _variable_problems(content: str, channel: str) -> list[str]:
    problems = []
    parts = pieces(content)
    names = variables(content)
    if "${" in "".join(part for part, is_variable in parts if not is_variable):
        problems.append("a variable is written ${name}; one is not closed")
    problems += _placeholder_problems(
        "\n".join(part for part, is_variable in parts if not is_variable)
    )
    for name in names:
        if not _NAME.fullmatch(name):
            problems.append(
                f"a variable's name is up to 40 of A-Z a-z 0-9 _ and no digit first, not {name!r}"
            )
    if channel == "email":
        return problems  # the rules from here on are those of the networks
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"each variable stands once, but {', '.join(repeated)} is repeated")
    if len(names) > MAX_VARIABLES:
        problems.append(f"a template has at most {MAX_VARIABLES} variables, this one {len(names)}")
    for (first, a), (second, b) in itertools.pairwise(parts):
        if a and b:
            problems.append(f"variables need text between them: ${{{first}}}${{{second}}}")
    if names and not "".join(part for part, is_variable in parts if not is_variable).strip():
        problems.append("a template of variables only is refused: add text")
    return problems


def subject_problems(subject: str) -> list[str]:
    """The rules that an e-mail's subject breaks, each as a clause of a sentence."""
    problems = []
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in subject):
        problems.append("a subject holds no line breaks or control characters")
    if "${" in subject:
        problems.append("a subject is the same for everybody and holds no variables")
    elif _placeholder_problems(subject):
        problems.append("a subject is the same for everybody and holds no variables, in no form")
    return problems


def check_content(
    spec: CampaignSpec,
    source: str,
    opt_out_texts: Sequence[str],
    words: Words | None = None,
    link_domain: str | None = None,
) -> None:
    """Refuse a campaign whose signature, or any of whose texts, breaks a rule.

    Args:
        spec: the campaign.
        source: its file, which begins the sentence.
        opt_out_texts: the setting of that name.
        words: those that are recognized as refusals; default: the built-in ones.
        link_domain: the setting of that name.

    Raises:
        UserError: names ``source``, the key path and the rule, and how many more are broken.
    """
    problems = [("signature.name", text) for text in signature_problems(spec.signature.name)]
    for text in spec.template.texts:
        problems += _text_problems(spec, text, opt_out_texts, words)
        problems += [(f"{text.key}.link", rule) for rule in _link_problems(spec, text, link_domain)]
    if problems:
        key, rule = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(f"{source}: {key}: {rule}{more}", code="text.unsendable")


def _link_problems(spec: CampaignSpec, text: CampaignText, root: str | None) -> list[str]:
    """What stands in the way of a text's short link, each as a clause of a sentence."""
    if text.link is None:
        return []
    if root is None:
        return [
            "a short link needs the setting link_domain, such as https://s.example.com, which "
            "leads to `usergrowth serve`"
        ]
    length = characters(short_link(root, EXAMPLE))
    if spec.channel_of(text) == "sms" and length > MAX_VALUE:
        return [
            f"a short link below {root} (setting link_domain) has {length} characters, and a "
            f"variable of a text at most {MAX_VALUE}: use a shorter domain"
        ]
    return []


def _text_problems(
    spec: CampaignSpec, text: CampaignText, opt_out_texts: Sequence[str], words: Words | None
) -> list[tuple[str, str]]:
    """Key paths and broken rules of one of a campaign's texts."""
    channel = spec.channel_of(text)
    name_key = f"{text.key}.name" if text.key == "template" else text.key
    problems = [
        (name_key if "name has" in rule else f"{text.key}.content", rule)
        for rule in template_problems(
            text.name, text.content, spec.template.type, opt_out_texts, channel, words
        )
    ]
    problems += [(f"{text.key}.subject", rule) for rule in subject_problems(text.subject or "")]
    fixed = characters(f"【{spec.signature.name}】") + sum(
        characters(part) if not is_variable else 1 for part, is_variable in pieces(text.content)
    )
    if not problems and fixed > MAX_CHARACTERS and channel == "sms":
        problems.append((f"{text.key}.content", "no message fits into 500 characters: shorten it"))
    return problems


def render(
    content: str, values: Mapping[str, str | None], signature: str | None = None
) -> str | None:
    """The text as sent; None when a variable is missing, None or empty.

    A value is put in as it is: ``${x}`` inside a value is not rendered again.

    Args:
        content: the template.
        values: the variables of one recipient.
        signature: put before it in 【】 when given.
    """
    parts = [f"【{signature}】"] if signature is not None else []
    for part, is_variable in _pieces(content):
        value = values.get(part) if is_variable else part
        if not value:
            return None
        parts.append(value)
    return "".join(parts)


def shown_signature(channel: str, signature: str) -> str | None:
    """The signature that stands in 【】 before a text; an e-mail has a sender instead."""
    return None if channel == "email" else signature


def reason(
    content: str,
    values: Mapping[str, str | None],
    signature: str | None = None,
    billing: Billing = Billing.MAINLAND,
) -> str | None:
    """Why no text can be sent: missing_variable, variable_too_long or message_too_long."""
    text = render(content, values, signature)
    if text is None:
        return "missing_variable"
    if billing is Billing.EMAIL:
        return None
    if any(characters(values[name] or "") > MAX_VALUE for name in variables(content)):
        return "variable_too_long"
    return "message_too_long" if characters(text) > MAX_CHARACTERS else None


def _value_sql(name: str, column: str) -> str:
    return f"nullif({column}[{literal(name)}], '')"


def render_sql(content: str, signature: str | None = None, column: str = "variables") -> str:
    """DuckDB expression of :func:`render`."""
    parts = [literal(f"【{signature}】")] if signature is not None else []
    parts += [
        _value_sql(part, column) if is_variable else literal(part)
        for part, is_variable in pieces(content)
    ]
    return f"({' || '.join(parts)})"


def length_sql(content: str, signature: str | None = None, column: str = "variables") -> str:
    """DuckDB expression of the text's characters; the fixed part is counted once, here."""
    fixed = characters(f"【{signature}】") if signature is not None else 0
    fixed += sum(characters(part) for part, is_variable in pieces(content) if not is_variable)
    values = [characters_sql(_value_sql(name, column)) for name in variables(content)]
    return f"({' + '.join([str(fixed), *values])})"


def segments_sql(
    content: str,
    signature: str | None = None,
    billing: Billing = Billing.MAINLAND,
    column: str = "variables",
) -> str:
    """DuckDB INTEGER expression: messages the text is billed as; NULL: a variable is missing."""
    return segments_of_sql(
        length_sql(content, signature, column), render_sql(content, signature, column), billing
    )


def reason_sql(
    content: str,
    signature: str | None = None,
    billing: Billing = Billing.MAINLAND,
    column: str = "variables",
) -> str:
    """DuckDB expression of :func:`reason`; NULL: the text can be sent."""
    names = list(dict.fromkeys(variables(content)))
    cases = []
    if names:
        missing = " or ".join(f"{_value_sql(name, column)} is null" for name in names)
        long = " or ".join(
            f"{characters_sql(_value_sql(name, column))} > {MAX_VALUE}" for name in names
        )
        cases = [f"when {missing} then 'missing_variable'"]
        if billing is not Billing.EMAIL:
            cases.append(f"when {long} then 'variable_too_long'")
    if billing is not Billing.EMAIL:
        length = length_sql(content, signature, column)
        cases.append(f"when {length} > {MAX_CHARACTERS} then 'message_too_long'")
    return f"case {' '.join(cases)} end" if cases else "cast(null as varchar)"


def _params_sql(content: str, column: str = "variables") -> str:
    """DuckDB expression of the template's own variables as one JSON object (VARCHAR)."""
    names = dict.fromkeys(variables(content))
    pairs = ", ".join(f"{literal(n)}, {_value_sql(n, column)}" for n in names)
    return f"cast(json_object({pairs}) as varchar)"


def message_columns_sql(
    content: str,
    signature: str | None = None,
    billing: Billing = Billing.MAINLAND,
    column: str = "variables",
) -> str:
    """The select list ``params, segments, reason`` that :func:`plan.plan_send` reads."""
    return (
        f"{_params_sql(content, column)} as params, "
        f"{segments_sql(content, signature, billing, column)} as segments, "
        f"{reason_sql(content, signature, billing, column)} as reason"
    )


Text = TypeVar("Text")


def by_variant_sql(
    contents: Mapping[str, Text], of: Callable[[Text], str], variant: str = "variant"
) -> str:
    """A DuckDB expression by the text of each row; NULL where the text is none of these.

    Args:
        contents: the texts by name; of a single one no name is asked for.
        of: the expression of one text, all of one type.
        variant: the SQL expression of a row's name of text.
    """
    if len(contents) == 1:
        return of(next(iter(contents.values())))
    cases = " ".join(f"when {literal(name)} then {of(one)}" for name, one in contents.items())
    return f"case {variant} {cases} end"


def message_columns_by_variant_sql(
    contents: Mapping[str, str],
    signature: str | None = None,
    billing: Billing | Mapping[str, Billing] = Billing.MAINLAND,
    column: str = "variables",
    variant: str = "variant",
) -> str:
    """The select list ``params, segments, reason`` of people of several texts.

    As :func:`usergrowth_dagster.messaging.texts.content.message_columns_sql`, whose equal it is for
    a single text. ``billing`` is that of all texts, or of each by its name.
    """
    texts = {
        name: (one, billing if isinstance(billing, Billing) else billing[name])
        for name, one in contents.items()
    }
    columns: dict[str, Callable[[tuple[str, Billing]], str]] = {
        "params": lambda one: _params_sql(one[0], column),
        "segments": lambda one: segments_sql(one[0], signature, one[1], column),
        "reason": lambda one: reason_sql(one[0], signature, one[1], column),
    }
    return ", ".join(
        f"{by_variant_sql(texts, of, variant)} as {name}" for name, of in columns.items()
    )


def _placeholder_problems(fixed: str) -> list[str]:
    """A clause for each variable of another form in a template's fixed text.

    >>> _placeholder_problems("Hi {{name}}!")
    ['a variable is written ${name}, not {{name}}']
    """
    forms = dict.fromkeys(match.group() for match in _FOREIGN.finditer(fixed))
    return [f"a variable is written ${{{_name(form)}}}, not {form}" for form in forms]


def _name(form: str) -> str:
    inner = re.sub(r"^%\((\w+)\)[sd]$", r"\1", form)
    name = _NOT_A_NAME.sub("_", inner).strip("_")
    return name if name and not name[0].isdigit() else "name"


def html_codes(text: str) -> list[str]:
    """The HTML codes in a text, such as ``&#39;``, in order and once each."""
    return list(dict.fromkeys(match.group() for match in _HTML_CODE.finditer(text)))
