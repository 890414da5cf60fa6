"""How commands show what they found: as JSON, as tables, with times that name their zone."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from chain_world import D, World, cli, copy_home, errors, succeeded
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.main import get_command

from usergrowth_dagster import __version__
from usergrowth_dagster.cli import app
from usergrowth_dagster.cli.cells import Count, Money, Share, shown
from usergrowth_dagster.cli.common import Page
from usergrowth_dagster.cli.pages.chain import show_training
from usergrowth_dagster.documents import document
from usergrowth_dagster.runs.reports import Rows, RunReport

SHOWS: dict[str, list[str]] = {
    "apply": ["-f", "{home}/campaigns/care.yaml"],
    "audit": [],
    "clicks land": [],
    "delivery": [],
    "dispatch": [],
    "doctor": [],
    "experiment list": [],
    "exports check": [],
    "exports errors": ["people"],
    "exports expire": ["--dry-run"],
    "exports list": [],
    "exports run": [],
    "held": [],
    "forget": ["--dry-run", "{user}"],
    "identity run": [],
    "identity check": [],
    "identity conflicts": [],
    "identity history": [],
    "identity show": ["{user}"],
    "identity suggestions": [],
    "maintain": ["--dry-run"],
    "models list": [],
    "models show": ["churn", "1"],
    "preview": ["care"],
    "quarantine": [],
    "reconcile": [],
    "replay": ["care"],
    "replies": [],
    "report": ["care"],
    "reviews": [],
    "segment refresh": [],
    "segment check": [],
    "segment diff": ["active", "newest"],
    "segment errors": ["listed"],
    "segment history": ["active"],
    "segment list": [],
    "segment show": ["active"],
    "segment size": ["active"],
    "sources check": [],
    "sources land": [],
    "sources presets": [],
    "sources preview": ["log"],
    "sources suggest": ["{home}/log.csv"],
    "service-token list": [],
    "status": [],
    "tables": [],
    "suppress count": [],
    "tags run": ["--date", "2017-05-04"],
    "tags check": [],
    "tags flow": ["rfm", "--from", "2017-05-04", "--to", "2017-05-04"],
    "tags groups": ["rfm"],
    "tags list": [],
    "tags show": ["{user}"],
    "profile cohorts": ["everyone"],
    "profile funnel": ["task:care", "--step", "buy"],
    "profile overlap": ["rfm:potential", "task:care"],
    "profile retention": ["everyone"],
    "profile segments": [],
    "profile show": ["rfm:potential"],
    "what-if": ["care"],
    "why": ["{user}"],
}
"""Commands that show something, with arguments for the decided world."""
RUNS = {
    *("run", "backfill", "train", "quickstart", "experiment report"),
    *(f"affinity {one}" for one in ("check", "run", "train", "segment", "export")),
    *(f"recommend {one}" for one in ("evaluate", "report", "run", "show")),
    *("interest", "tags words", "identity suggest", "rta snapshot", "rta report"),
}
"""They show something too, and are long or have tests of their own; one stands for all."""
WITHOUT = {
    **dict.fromkeys(
        ("dev", "demo", "kannel", "serve", "serve-models", "serve-rta"),
        "runs until it is interrupted",
    ),
    **dict.fromkeys(("pause", "resume", "cancel"), "changes something and says so in a sentence"),
    **dict.fromkeys(("backup", "restore"), "copies a home and says so in sentences"),
    **dict.fromkeys(("review", "init", "rotate-key", "redecide"), "changes something"),
    **dict.fromkeys(("identity approve", "identity reject"), "answers, and says so in a sentence"),
    **dict.fromkeys(("models approve", "models reject", "models rollback"), "changes a status"),
    **dict.fromkeys(("suppress add", "suppress lift", "suppress import"), "changes the list"),
    **dict.fromkeys(("recommend export", "recommend fill"), "writes a file and says so"),
    "service-token add": "prints one token",
    "service-token revoke": "changes something and says so in a sentence",
    "suppress export": "writes a file",
    "schema": "is one JSON document already",
    **dict.fromkeys(
        (
            "segment schema",
            "tags schema",
            "identity schema",
            "exports schema",
            "sources schema",
            "rta schema",
        ),
        "is one JSON document already",
    ),
    "segment upload": "writes a file and says so in a sentence",
    "sql": "has --format json",
}
"""Commands without --json, and why."""


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by its whole name."""

    def walk(group: Any, before: str) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from walk(command, f"{before}{name} ")
            else:
                yield f"{before}{name}", command

    yield from walk(get_command(app), "")


def test_every_command_that_shows_something_has_json() -> None:
    """A script had to read tables that were made for people."""
    able = {name for name, command in commands() if any("--json" in p.opts for p in command.params)}
    assert able == set(SHOWS) | RUNS
    assert {name for name, _ in commands()} - able == set(WITHOUT)


def moments(value: Any) -> Iterator[str]:
    """The strings of a document that look like a time of a day."""
    if isinstance(value, dict):
        for one in value.values():
            yield from moments(one)
    elif isinstance(value, list):
        for one in value:
            yield from moments(one)
    elif isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d", value):
        yield value


def test_each_prints_one_document(world: World, tmp_path: Path) -> None:
    """Guards against text around the JSON, numbers made for people, times without a zone, leaks."""
    home = copy_home(world.decided, tmp_path / "home")
    user = (home / "landing/population/care/population.csv").read_text("utf-8").splitlines()[1]
    values = {"home": str(home), "user": user.split(",")[0]}
    (home / "log.csv").write_text("user,at\nu1,2024-01-08T08:00:00\nu1,2024-01-09T08:00:00\nu2,\n")
    (home / "sources.yml").write_text(
        "sources: [{name: log, fills: behavior, from: log.csv, day: {time: at}, "
        "columns: {user_id: user, behavior: \"'login'\"}}]"
    )
    (home / "tags.yml").write_text(
        "{rfm: {orders: [buy]}, tags: [{key: new, rule: tenure_days < 30}]}"
    )
    (home / "segments").mkdir()
    (home / "segments/active.yml").write_text("where: {event: {within_days: 30}}")
    (home / "segments/listed.yml").write_text("source: {text: '+9990000000001'}")
    (home / "exports.yml").write_text("exports: [{name: people, audience: all, to: {files: out}}]")
    seen = home / f"landing/identity/ds={D - timedelta(days=1):%Y%m%d}/part.csv"
    seen.parent.mkdir(parents=True)
    seen.write_text(
        "user_id,id_type,id_value,source,time\n"
        f"{values['user']},phone,+9990000000001,crm,20170101\n"
    )
    calls = {
        name: [*name.split(), *(one.format(**values) for one in arguments), "--json"]
        for name, arguments in SHOWS.items()
    }
    for name, done in run_all(home, calls).items():
        assert done["code"] in (0, 2) and not done["error"], (name, done)
        printed = json.loads(done["out"], parse_constant=pytest.fail)
        assert printed or name == "replies", name
        assert not re.search(r"(?<![0-9.])999\d{10}(?!\d)", done["out"]), name
        for moment in moments(printed):
            assert datetime.fromisoformat(moment).tzinfo is not None, (name, moment)
        assert document(printed) + "\n" == done["out"], f"{name}: not in the common form"
    status = json.loads(run_all(home, {"x": ["status", "--json"]})["x"]["out"])
    assert {"tables", "models", "tasks", "deliveries", "failures", "notes"} <= status.keys()
    assert all(isinstance(row["rows"], int) for row in status["tables"])


RUNNER = """
import json, sys
__file__ = "runner"  # pyspark takes a main module without a file for a doctest of its own, and exits
from typer.testing import CliRunner
from usergrowth_dagster.cli import app
found = {}
for name, arguments in json.loads(sys.stdin.read()).items():
    done = CliRunner().invoke(app, arguments)
    error = "" if done.exception is None or isinstance(done.exception, SystemExit) else repr(done.exception)
    found[name] = {"code": done.exit_code, "out": done.stdout, "error": error}
print("\\n" + json.dumps(found))
"""


def run_all(home: Path, calls: dict[str, list[str]]) -> dict[str, dict[str, Any]]:
    """Several commands in one process, whose imports are paid for once."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("USERGROWTH_", "DAGSTER_"))}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(calls),
        env={**kept, "USERGROWTH_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return results


def test_a_run_prints_one_document_or_tables_and_no_idle_step(world: World, tmp_path: Path) -> None:
    """A run listed steps that did nothing, and printed tables as markdown."""
    home = copy_home(world.decided, tmp_path / "home")
    printed = json.loads(succeeded(cli(home, "run", "--date", str(D), "--json")))
    assert {row["task"] for row in printed["decisions"]} == {"care", "comeback"}
    # all but the features of the next date and the like is up to date
    assert all(row["rows_written"] > 0 for row in printed.get("tables", []))
    assert not {"raw_behavior", "user_day"} & {row["table"] for row in printed.get("tables", [])}


def test_a_document_is_utf8_whatever_the_terminal(capfdbinary: Any) -> None:
    """Guards against a command that ends in a traceback at a name that a terminal cannot show."""
    page = Page(True)
    page.table("Names", ("name",), [("示例",), ("half \ud83d",)])
    page.finish()
    out = capfdbinary.readouterr().out
    assert "示例".encode() in out
    assert json.loads(out)["names"] == [{"name": "示例"}, {"name": "half \ud83d"}]


def test_a_training_shows_tables_by_model_and_no_markdown() -> None:
    """Two models' figures stood in one list, and tables were printed as markdown."""
    figures = Rows(["model", "auc"], [["logistic", ".8"]])
    report = RunReport("run")
    report.metadata = {
        name: {"model": name, "evaluation": figures} for name in ("churn", "winback")
    }
    tables: dict[str, Any] = {}
    said: list[str] = []

    class Recorder:
        say = staticmethod(said.append)

        def table(self, title: str, _header: Any, lines: Any) -> None:
            tables[title] = lines

    show_training(report, Recorder())
    assert tables == {f"{name}: evaluation": [["logistic", ".8"]] for name in ("churn", "winback")}
    assert not any("|" in line for line in said)


def test_a_mistake_is_a_whole_document_without_an_answer(tmp_path: Path) -> None:
    """Guards against half a document, which a script would read as an answer."""
    done = cli(tmp_path / "none", "status", "--json")
    (sentence,) = errors(done)
    printed = json.loads(done.stdout)
    assert printed.keys() == {"errors", "failures", "notes"}
    assert [f"error: {failure}" for failure in printed["failures"]] == [sentence]
    assert not cli(tmp_path / "none", "status").stdout


def test_the_version_is_quick_and_loads_nothing() -> None:
    """Guards against a version that takes seconds since it imports the product."""
    program = (
        "import sys; sys.argv = ['usergrowth', '--version']\n"
        "from usergrowth_dagster.cli import main\n"
        "try: main()\n"
        "finally: print(sorted(m for m in ('dagster', 'duckdb', 'sqlalchemy', 'numpy', 'rich') "
        "if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines() == [f"usergrowth {__version__}", "[]"], done


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(shell: str) -> None:
    """Guards against a completion that is offered and does not complete."""
    command = shutil.which("usergrowth", path=str(Path(sys.executable).parent))
    assert command is not None
    shown_script = subprocess.run(
        [command, "--show-completion", shell],
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
    )
    assert shown_script.returncode == 0 and "_USERGROWTH_COMPLETE" in shown_script.stdout
    asked = {
        "COMP_WORDS": "usergrowth disp",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "usergrowth disp",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run(
        [command],
        env={**os.environ, **asked, "_USERGROWTH_COMPLETE": f"complete_{shell}"},
        capture_output=True,
        text=True,
    )
    assert "dispatch" in done.stdout, done


def test_dispatch_alone_sends_once(world: World, tmp_path: Path) -> None:
    """``usergrowth dispatch`` was refused for want of a word that nobody would guess."""
    home = copy_home(world.decided, tmp_path / "home")
    assert succeeded(cli(home, "dispatch")) == succeeded(cli(home, "dispatch", "--once"))
    done = cli(home, "dispatch", "--once", "--watch")
    assert done.returncode == 2 and "exclude each other" in done.stderr


SHANGHAI = timezone(timedelta(hours=8))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime(2026, 3, 4, 10, tzinfo=SHANGHAI), "2026-03-04 10:00 +08:00"),
        (datetime(2026, 3, 4, 10, 0, 7, 9, tzinfo=UTC), "2026-03-04 10:00:07 +00:00"),
        (date(2026, 3, 4), "2026-03-04"),
        (Count(1234567), "1,234,567"),
        (1234567, "1234567"),  # an id is copied, not read
        (Share(0.1234), "12.3%"),
        (Money(1234.5), "1,234.50"),
        (None, ""),
        (False, ""),
        (True, "yes"),
    ],
)
def test_values_for_a_person(value: Any, text: str) -> None:
    """Guards against a time of which nobody knows whose it is, and ids that cannot be pasted."""
    assert shown(value) == text


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.dates(),
    st.datetimes(timezones=st.just(UTC)),
    st.decimals(allow_nan=False),
    st.floats().map(Share),
    st.integers().map(Count),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_any_value_is_a_document_that_any_parser_reads(value: Any) -> None:
    """Guards against NaN, which is no JSON, and against a value that stops the command."""

    def refused(word: str) -> None:
        raise AssertionError(word)

    parsed = json.loads(document(value), parse_constant=refused)
    assert document(parsed) == document(value)
    if isinstance(value, float | Decimal):
        assert parsed is None if not math.isfinite(value) else parsed == float(value)


def test_a_new_user_gets_an_example_that_can_be_applied(tmp_path: Path) -> None:
    """Guards against a first hour spent on writing files from the documentation."""
    home = tmp_path / "my home"
    printed = succeeded(cli(home, "init", "--example"))
    file = home / "campaigns" / "example.yaml"
    assert f"usergrowth apply -f '{file}'" in printed and file.read_text("utf-8").count("#") > 10
    assert "campaign" in json.loads((home / "campaigns/campaign.schema.json").read_text())["title"]
    assert (home / "landing/population/example/population.csv").stat().st_size > 1000
    before = sorted(home.rglob("*.csv"))
    calls = {
        "again": ["init", "--example"],
        "apply": ["apply", "-f", str(file), "--json"],
        "doctor": ["doctor", "--json"],
    }
    done = run_all(home, calls)
    assert done["again"]["error"] and sorted(home.rglob("*.csv")) == before
    assert "created campaign 'example'" in str(json.loads(done["apply"]["out"])["notes"])
    landing = {row["check"]: row for row in json.loads(done["doctor"]["out"])["checks"]}
    assert landing["landing files"]["result"] == "ok"


def test_a_title_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A title that is cut into lines as narrow as the table below it."""
    Page(False).table("pairs that may be one person", ("id",), [("7",)])
    assert capsys.readouterr().out.splitlines()[0].rstrip() == "pairs that may be one person"
