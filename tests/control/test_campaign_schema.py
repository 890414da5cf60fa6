"""The campaign file's JSON schema takes what the product takes, as far as a schema can say it."""

import json
from importlib.resources import files
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from test_campaign_file import GOOD

from usergrowth_dagster.control.campaign import parse_campaign
from usergrowth_dagster.control.campaign_schema import FILE_NAME, schema_text
from usergrowth_dagster.errors import UserError

EXAMPLES = {
    path.name: path.read_text("utf-8").replace("{day}", "2017-07-01")
    for path in (files("usergrowth_dagster.examples") / "campaigns").iterdir()
    if path.name.endswith(".yaml")
}


class EditorLoader(yaml.SafeLoader):
    """Reads YAML as an editor's schema check does: days and times stay text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:timestamp"]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def problems(text: str) -> list[str]:
    """What an editor would underline."""
    schema: Any = json.loads(schema_text())
    Draft202012Validator.check_schema(schema)
    value = yaml.load(text, EditorLoader)
    return [error.message for error in Draft202012Validator(schema).iter_errors(value)]


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_examples_fit_and_name_the_schema(name: str) -> None:
    """A schema that underlines the product's own examples, or that no editor finds."""
    assert problems(EXAMPLES[name]) == []
    assert EXAMPLES[name].startswith(f"# yaml-language-server: $schema={FILE_NAME}\n")


def test_every_key_is_described() -> None:
    """A key that an editor and the reference show without a word about it."""
    schema: Any = json.loads(schema_text())
    groups = {"campaign": schema, **schema["$defs"]}
    assert [
        f"{group}.{key}"
        for group, value in groups.items()
        for key, rule in value.get("properties", {}).items()
        if not rule.get("description") and "$ref" not in rule and key != "kind"
    ] == []


SCHEDULE = "schedule: {name: december send, execute_time: null, repeat_unit: never}"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: december-offer", "name: december-offer"),
        ("execution_date: 2017-12-28", "execution_date: on upload"),
        (
            "algorithm: {kind: winback, op_target: null, return_days: 28, return_behaviors: [redeem]}",
            "algorithm: winback",
        ),
        (
            "population: population/december-2017\nexecution_date: 2017-12-28\nselection: {",
            "execution_date: 2017-12-28\nselection: {segment: big, ",
        ),
        (SCHEDULE, "schedule: {name: now, execute_time: now}"),
        (SCHEDULE, "schedule: {name: at ten, execute_time: 2017-12-28 10:00:00}"),
        (SCHEDULE, "schedule: {name: zone, execute_time: '2017-12-28T10:00:00+01:00'}"),
    ],
)
def test_what_a_file_may_say_is_not_underlined(old: str, new: str) -> None:
    """A schema that refuses a short form or a time that the product reads."""
    text = GOOD.replace(old, new)
    assert parse_campaign(text).name == "december-offer"
    assert problems(text) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("holdout:", "hold_out:"),
        ("{threshold: 0.12}", "{threshold: 2}"),
        ("{threshold: 0.12}", "{treshold: 0.12}"),
        ("execution_date: 2017-12-28", "execution_date: soon"),
        ("population: population/december-2017\n", ""),
        ("repeat_unit: never", "repeat_unit: year"),
    ],
)
def test_a_mistake_is_underlined(old: str, new: str) -> None:
    """A schema that accepts everything."""
    text = GOOD.replace(old, new)
    assert text != GOOD
    with pytest.raises(UserError):
        parse_campaign(text)
    assert problems(text)
