"""Dates and names of a campaign file stay within what every later step can work with."""

import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from usergrowth_dagster.control.campaign import parse_campaign
from usergrowth_dagster.control.tasks import load_spec
from usergrowth_dagster.days import FIRST_DAY, LAST_DAY
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import load_settings

GOOD = """\
name: spring
algorithm: {kind: winback}
training: {start_date: 2017-03-01, end_date: 2017-12-27}
population: population/spring
execution_date: 2017-12-28
selection: {threshold: 0.12}
signature: {name: Example}
template: {name: hello, content: "Hi ${name}. 拒收请回复R", variants: {bye: {content: "x 拒收请回复R"}}}
schedule: {name: spring, execute_time: 2017-12-28 10:00:00, end_time: 2017-12-29 10:00:00}
output: population_output/spring
"""
SMART = GOOD.replace(
    "execute_time: 2017-12-28 10:00:00, end_time: 2017-12-29 10:00:00",
    "smart_send: {start_date: 2017-12-28, end_date: 2017-12-30}",
)
DATES = [
    (GOOD, "execution_date: 2017-12-28", "execution_date"),
    (GOOD, "start_date: 2017-03-01", "training.start_date"),
    (GOOD, "end_date: 2017-12-27", "training.end_date"),
    (GOOD, "execute_time: 2017-12-28", "schedule.execute_time"),
    (GOOD, "end_time: 2017-12-29", "schedule.end_time"),
    (SMART, "start_date: 2017-12-28", "schedule.smart_send.start_date"),
    (SMART, "end_date: 2017-12-30", "schedule.smart_send.end_date"),
]


@pytest.mark.parametrize("day", ["0001-01-01", "1969-12-31", "2200-01-01", "9999-12-31"])
@pytest.mark.parametrize(("text", "line", "key"), DATES, ids=[key for _, _, key in DATES])
def test_dates_have_bounds(text: str, line: str, key: str, day: str) -> None:
    """A date at the end of the calendar is taken, and every later calculation overflows."""
    parse_campaign(text)
    written = f"{line.partition(':')[0]}: {day}"
    with pytest.raises(UserError) as caught:
        parse_campaign(text.replace(line, written), "spring.yaml")
    sentence = str(caught.value)
    assert sentence.startswith(f"spring.yaml: {key}: ")
    assert f"from {FIRST_DAY} to {LAST_DAY}, not {day}" in sentence


@pytest.mark.parametrize("name", ["start_date", "today"])
def test_settings_have_the_same_bounds(name: str) -> None:
    """A pinned day of the year 1 breaks every command instead of being refused."""
    with pytest.raises(UserError, match=f"setting '{name}'.* from {FIRST_DAY} to {LAST_DAY}"):
        load_settings("/nowhere", **{name: "0001-01-01"})


def test_a_record_from_before_the_bounds_is_still_read() -> None:
    """An existing campaign with such a date makes every command fail, also those that mend it."""
    stored = parse_campaign(GOOD).model_dump(mode="json")
    assert load_spec({**stored, "execution_date": "0001-01-01"}).execution_date.year == 1  # type: ignore[union-attr]


NAMES = [
    ("signature: {name: Example}", "signature: {name: %s}", "signature.name"),
    ("template: {name: hello", "template: {name: %s", "template.name"),
    ("variants: {bye:", "variants: {%s:", "template.variants."),
    ("schedule: {name: spring", "schedule: {name: %s", "schedule.name"),
    ("output: population_output/spring", "output: %s", "output"),
]


@pytest.mark.parametrize(("old", "new", "key"), NAMES, ids=[key for *_, key in NAMES])
@given(data=st.data())
def test_names_have_no_unseen_characters(old: str, new: str, key: str, data: st.DataObject) -> None:
    """A name that reorders the line it stands in, or holds an escape sequence, is taken."""
    unseen = st.characters(categories=["Cc", "Cf", "Zl", "Zp"], exclude_characters="\u200c\u200d")
    character = data.draw(unseen)
    written = f'"a\\U{ord(character):08X}b"'
    with pytest.raises(UserError) as caught:
        parse_campaign(GOOD.replace(old, new % written))
    sentence = str(caught.value)
    assert f"{key}" in sentence and f"character 2 is U+{ord(character):04X}" in sentence


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]), min_size=1))
def test_names_may_be_of_any_script(text: str) -> None:
    """A name in another script, with marks or emoji, is refused with the unseen ones."""
    name = " ".join(text.split())[:20].strip()
    assume(name and unicodedata.category(name[0]) != "Zs")
    escaped = "".join(f"\\U{ord(character):08X}" for character in name)
    spec = parse_campaign(GOOD.replace("{name: Example}", f'{{name: "{escaped}"}}'))
    assert spec.signature.name == name


@pytest.mark.parametrize(("name", "value"), [("engine", "presto"), ("keep_days", 0)])
def test_a_setting_out_of_bounds_names_its_value(name: str, value: object) -> None:
    """Guards against a sentence that leaves the reader to look for what is wrong."""
    with pytest.raises(UserError, match=f"setting '{name}'.*, not {value!r}$"):
        load_settings("/nowhere", **{name: value})
