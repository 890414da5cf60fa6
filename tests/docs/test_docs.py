"""The documentation names what there is: commands, options, paths, settings, columns and codes."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from docs_site import campaign, commands, error_codes, gateways, settings, tables
from usergrowth_dagster.cli import app
from usergrowth_dagster.control.campaign import CampaignSpec
from usergrowth_dagster.error_codes import CODES
from usergrowth_dagster.settings import settings_class
from usergrowth_dagster.warehouse.models import load_graph

ROOT = Path(__file__).parents[2]
HISTORY = {"decisions.md", "CHANGELOG.md"}
"""They may name what was there once."""
PAGES = sorted(
    path
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    if path.name not in HISTORY
)
_CALL = re.compile(
    r"(?:^|`|\$ )(?:USERGROWTH_\w+=\S+ )?(?:\.venv/bin/)?usergrowth (?P<rest>[^`\n]*)"
)
_PATH = re.compile(
    r"(?<![\w/.-])((?:usergrowth_dagster|docs_site|sql|dbt_like_models|tests|benchmarks)/[\w./-]*\w)"
)


def calls(text: str) -> Iterator[str]:
    """The arguments of each call of the program in a page, without comments."""
    for line in text.splitlines():
        for match in _CALL.finditer(line.strip()):
            rest = match["rest"].split(" #")[0].strip()
            if rest and not rest.startswith(("[", "<")):
                yield rest


def options_of(command: Any) -> set[str]:
    return {name for one in command.params for name in (*one.opts, *one.secondary_opts)}


def problem(call: str) -> str | None:
    """What a call names that is not there; a trailing part in words is no argument."""
    node: Any = get_command(app)
    words = shlex.split(call.replace("…", "..."), posix=True) if call.count('"') % 2 == 0 else []
    for word in words:
        if word.startswith("--"):
            name = word.split("=")[0]
            if name not in options_of(node) | {"--help"}:
                return f"{call}: no option {name}"
        elif hasattr(node, "commands") and not word.startswith("-"):
            if word.rstrip(",.;:") not in node.commands:
                return f"{call}: no command {word}"
            node = node.commands[word.rstrip(",.;:")]
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_name_commands_that_exist(page: Path) -> None:
    """A command or an option that was renamed and stays in the documentation."""
    assert [sentence for sentence in map(problem, calls(page.read_text("utf-8"))) if sentence] == []


def test_the_check_of_commands_sees_a_wrong_one() -> None:
    """A check that accepts every call."""
    text = (
        "run `usergrowth runn --date 1`\n  usergrowth run --dat 1  # why\nusergrowth models list\n"
    )
    assert [problem(call) is not None for call in calls(text)] == [True, True, False]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_name_paths_that_exist(page: Path) -> None:
    """A file or folder that was moved and stays in the documentation."""
    paths = _PATH.findall(page.read_text("utf-8"))
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_check_of_paths_sees_a_wrong_one() -> None:
    """A check that finds no path, and so accepts every page."""
    text = "run `pytest tests/docs tests/none.py`; see `sql/` and usergrowth_dagster/errors.py."
    paths = _PATH.findall(text)
    assert paths == ["tests/docs", "tests/none.py", "usergrowth_dagster/errors.py"]
    assert [(ROOT / path).exists() for path in paths] == [True, False, True]


def test_the_readme_fits_two_hundred_lines() -> None:
    """A first page that nobody reads to its end."""
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 200


def test_the_reference_is_whole() -> None:
    """A setting, key, command, column or code that the generated reference leaves out."""
    page = settings.page()
    assert [name for name in settings_class().model_fields if f"`{name}`" not in page] == []
    page = campaign.page()
    assert [name for name in CampaignSpec.model_fields if f"`{name}`" not in page] == []
    page = error_codes.page()
    assert [name for name in CODES if f"`{name}`" not in page] == []
    page = tables.page()
    graph = load_graph()
    for name in graph.models:
        section = page.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
        assert [column for column in graph.columns(name) if f"`{column}`" not in section] == [], (
            name
        )
    page = commands.page()
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        section = page.partition(f"\n## `usergrowth {name}`\n")[2].partition("\n## ")[0]
        assert [option for option in options_of(command) if option not in section] == [], name


def test_a_table_of_the_reference_has_rows_of_one_width() -> None:
    """A description with a pipe that breaks its table."""
    for make in (settings.page, gateways.page, campaign.page, error_codes.page, tables.page):
        width = 0
        for line in make().splitlines():
            if not line.startswith("|"):
                width = 0
                continue
            cells = len(re.findall(r"(?<!\\)\|", line))
            width = width or cells
            assert cells == width, line


def test_every_generated_page_can_be_made() -> None:
    """A key whose form the generator does not know breaks the site, long after its commit."""
    made = subprocess.run(
        [
            sys.executable,
            "-c",
            "from docs_site.hook import PAGES\n"
            "print(min(len(page()) for page in PAGES.values()), len(PAGES))",
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert made.returncode == 0, made.stderr
    shortest, pages = map(int, made.stdout.split())
    assert shortest > 500 and pages >= 10
