"""The JSON schemas of the files of a home take the examples that the guides show."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from usergrowth_dagster.cli import app

GUIDES = Path(__file__).parents[2] / "docs" / "how-to"
WHOLE = {
    "tags": "tags:",
    "identity": "types:",
    "exports": "exports:",
    "sources": "sources:",
    "rta": "salt:",
}
"""By file, how a whole example of it begins."""


class EditorLoader(yaml.SafeLoader):
    """Reads YAML as an editor's schema check does: days and times stay text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:timestamp"]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def schema_of(name: str) -> Any:
    """The schema that the command writes."""
    return json.loads(CliRunner().invoke(app, [name, "schema"]).output)


def examples(begins: str) -> list[str]:
    """Whole files among the examples of the guides."""
    blocks = [
        block
        for page in sorted(GUIDES.glob("*.md"))
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    ]
    return [block for block in blocks if block.startswith(begins)]


@pytest.mark.parametrize("name", WHOLE)
def test_examples_of_the_guides_fit(name: str) -> None:
    """A schema that underlines in an editor what the product takes, or that takes any key."""
    schema = schema_of(name)
    Draft202012Validator.check_schema(schema)
    check = Draft202012Validator(schema)
    shown = examples(WHOLE[name])
    assert shown
    for block in shown:
        assert [error.message for error in check.iter_errors(yaml.load(block, EditorLoader))] == []
    assert list(check.iter_errors({**yaml.load(shown[0], EditorLoader), "no_such_key": 1}))
