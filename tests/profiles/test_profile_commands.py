"""The commands about groups of people on a small world, and the page in a browser."""

import json
from pathlib import Path

import pytest
from chain_world import D, World, cli, copy_home, errors, rows, succeeded
from support.browser import Browser, console

from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.tags.run import run_tags

TAGS = """
tags:
  - {key: recency, rule: recency_days}
  - {key: often, rule: active_days_30d >= 4}
  - {key: secret, rule: recency_days > 3, sensitivity: sensitive}
rfm: {orders: [buy], amount: pay}
aipl: {purchase: [{behavior: [buy]}]}
"""


@pytest.fixture(scope="module")
def home(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decided home with tags of D."""
    made = copy_home(world.decided, tmp_path_factory.mktemp("profiles") / "home")
    (made / "tags.yml").write_text(TAGS)
    run_tags(Project(load_settings(made)), D)
    return made


@pytest.mark.chromium
def test_profile_and_its_page(home: Path, browser: Browser) -> None:
    """A sensitive tag on a page, a page that asks the network or breaks, a count that is off."""
    shown = json.loads(
        succeeded(cli(home, "profile", "show", "aipl:P", "--step", "login", "--json"))
    )
    buyers = {user for (user,) in rows(home, "aipl", f"ds = '{D}' and stage = 'P'", "user_id")}
    assert f"{len(buyers):,} of" in shown["notes"][0]
    assert "secret is not compared" in " ".join(shown["notes"])
    assert {"recency", "often"} == {line["tag"] for line in shown["values"]}
    page = Path(shown["notes"][-1])
    text = page.read_text(encoding="utf-8")
    assert "secret" not in text and "<svg" in text and "Who came back" in text
    done = browser.run(page, "--dump-dom")
    assert not console(done) and not browser.of_pages()


@pytest.mark.chromium
def test_overlap_funnel_and_retention(home: Path, browser: Browser) -> None:
    """Commands that answer of other people than those of the group."""
    made = json.loads(succeeded(cli(home, "profile", "overlap", "aipl:P", "task:care", "--json")))
    chosen = {
        user
        for (user,) in rows(
            home,
            "decisions",
            "task_id = 'care' and arm = 'treatment' and outcome = 'selected'",
            "user_id",
        )
    }
    assert {line["group"]: line["people"] for line in made["groups"]}["task:care"] == len(chosen)
    done = browser.run(Path(made["notes"][-1]), "--dump-dom")
    assert "aipl:P + task:care" in done.stdout and "<svg" in done.stdout
    assert not console(done) and not browser.of_pages()
    funnel = json.loads(
        succeeded(cli(home, "profile", "funnel", "task:care", "--step", "login", "--json"))
    )
    (step,) = next(v for k, v in funnel.items() if k == "funnel")
    assert 0 < step["people"] <= len(chosen)
    assert "week 0" in succeeded(cli(home, "profile", "retention", "everyone", "--weeks", "4"))


def test_groups_that_are_not_there(home: Path) -> None:
    """A misspelled group that is an empty one."""
    for name, sentence in {
        "rfm:best": "choose high_value",
        "vip": "choose everyone, rfm:GROUP",
        "task:none": "no task is called",
    }.items():
        assert sentence in errors(cli(home, "profile", "show", name))[0]
    early = cli(home, "profile", "show", "rfm:potential", "--date", "2017-03-01")
    assert "has not been worked out" in errors(early)[0]


def test_a_snapshot_is_a_group(home: Path) -> None:
    """A segment whose profile is of other people than its snapshot, or of a later one."""
    (home / "segments").mkdir()
    (home / "segments" / "regulars.yml").write_text(
        "where: {tag: {key: often, cmp: eq, value: true}}"
    )
    assert "no snapshot up to" in errors(cli(home, "profile", "retention", "segment:regulars"))[0]
    succeeded(cli(home, "segment", "refresh", "regulars", "--date", str(D)))
    made = json.loads(
        succeeded(cli(home, "profile", "overlap", "segment:regulars", "everyone", "--json"))
    )
    regulars = rows(home, "user_tags", f"ds = '{D}' and often", "user_id")
    sizes = {line["group"]: line["people"] for line in made["groups"]}
    assert sizes["segment:regulars"] == len(regulars) > 0
