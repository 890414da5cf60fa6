"""Variables of other systems' templates, and HTML codes, which would be sent as they stand."""

import re

from usergrowth_dagster.data.notices import HTML_CODE

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


def placeholder_problems(fixed: str) -> list[str]:
    """A clause for each variable of another form in a template's fixed text.

    >>> placeholder_problems("Hi {{name}}!")
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
