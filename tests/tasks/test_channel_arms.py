"""Channels as arms from the campaign file to the report: texts, letters and a control group."""

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from chain_world import (
    D,
    World,
    approve,
    cli,
    copy_home,
    day,
    outbox,
    people_of,
    rows,
    succeeded,
    write_campaign,
    write_people,
)

from usergrowth_dagster.audience.holdout import epoch_in_force
from usergrowth_dagster.audience.variants import VariantDraw, variant
from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import load_campaign
from usergrowth_dagster.control.tasks import Task, task
from usergrowth_dagster.explain.replay import replay_task
from usergrowth_dagster.intake.touches import export_touches
from usergrowth_dagster.measure.report import report_task
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.policy.suppression import suppress
from usergrowth_dagster.messaging.schedules.occurrences import business_now
from usergrowth_dagster.pipeline.decide import decide_task
from usergrowth_dagster.pipeline.output import write_task_output
from usergrowth_dagster.pipeline.populate import load_population
from usergrowth_dagster.pipeline.score import score_task
from usergrowth_dagster.pipeline.send import plan_task
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings

PEOPLE = 300
TEMPLATE = (
    "{name: spring, content: 'Hello ${name}, come back. ${link} 拒收请回复R', "
    "link: 'https://shop.example/offer', variants: {letter: {channel: email, subject: Spring, "
    "content: 'Dear ${name}, come back: ${link} 回T退订'}}}"
)
DRAW = VariantDraw(
    campaign="spring", epoch=epoch_in_force("1", 7, day(0)), weights={"spring": 1, "letter": 1}
)
ROOT = "https://s.example.com"


def upload(home: Path) -> list[str]:
    """People with phone and e-mail; some lack one of them. Returns the users in order."""
    header, *cells = people_of(home)[: PEOPLE + 1]
    people = [line[0] for line in cells]
    mails = ["" if n % 10 == 3 else f"{user}@shop.example" for n, user in enumerate(people)]
    mails[20] = mails[21].upper()
    phone = header.index("phone")
    for n in range(7, PEOPLE, 50):
        cells[n][phone] = ""
    write_people(
        home,
        "spring",
        [
            ",".join([*header, "email"]),
            *(",".join([*line, mail]) for line, mail in zip(cells, mails, strict=True)),
        ],
    )
    return people


def decided(home: Path, project: Project, people: list[str]) -> Task:
    """The campaign, applied, approved and decided; two people have refused one channel each."""
    changes = {
        "selection": "{threshold: 0.02}",
        "holdout": "{share: 0.3}",
        "template": TEMPLATE,
        "contact": "{cap_messages: 50}",
        "effect": "{return_behaviors: [buy]}",
    }
    path = write_campaign(home, "spring", **changes)
    apply_campaign(project.store, load_campaign(path), "ann")
    approve(home, "spring", "letter")
    vault, now = open_vault(home), business_now(project.settings)
    for n, channel in ((1, "sms"), (2, "email")):
        suppress(
            project.store, vault, user_id=people[n], channel=channel, reason="by_hand",
            source="test", now=now,
        )  # fmt: skip
    one = task(project.store, "spring")
    load_population(project, one)
    score_task(project, one)
    decide_task(project, one)
    write_task_output(project, one)
    return task(project.store, "spring")


def decisions(home: Path) -> dict[str, dict[str, Any]]:
    names = ("user_id", "arm", "outcome", "variant", "messages", "cost")
    lines = rows(home, "decisions", "task_id = 'spring'", ", ".join(names))
    return {row[0]: dict(zip(names, row, strict=True)) for row in lines}


def test_arms_of_two_channels_from_the_file_to_the_report(world: World, tmp_path: Path) -> None:
    """Guards against arms that differ by more than the channel, and figures of the other one."""
    home = copy_home(world.decided, tmp_path / "home")
    people = upload(home)
    project = Project(load_settings(home, link_domain=ROOT))
    one = decided(home, project, people)
    by_user = decisions(home)
    check_eligible(by_user, people)
    check_prices(project, by_user)
    assert [done.state for done in replay_task(project, "spring")] == ["equal"]

    printed = succeeded(cli(home, "preview", "spring", USERGROWTH_LINK_DOMAIN=ROOT))
    assert all(word in printed for word in ("letter", "email", "sms"))
    before = len(outbox(home))
    planned = plan_task(project, one)
    texted = {user: row for user, row in by_user.items() if row["outcome"] == "selected"}
    assert planned.cost == pytest.approx(sum(row["cost"] for row in texted.values()))
    assert dispatch(project.store, project.settings).accepted == len(texted) == planned.people
    lines = [json.loads(line) for line in outbox(home)[before:]]
    assert Counter(line["user_id"] for line in lines) == dict.fromkeys(texted, 1)
    for line in lines:
        mail = texted[line["user_id"]]["variant"] == "letter"
        assert line["channel"] == ("email" if mail else "sms")
        assert ("@" in line["phone"]) == mail and ROOT in line["text"]
    check_touches(project, by_user)
    check_report(project, one, texted)
    why = succeeded(cli(home, "why", people[7]))
    assert "has a phone number" in why and "no_phone" in json.dumps(by_user[people[7]])
    letter = next(user for user, row in texted.items() if row["variant"] == "letter")
    why = succeeded(cli(home, "why", letter, "--json"))
    assert '"channel": "email"' in why and f"{letter}@shop" not in why
    project.store.close()


def check_eligible(by_user: dict[str, dict[str, Any]], people: list[str]) -> None:
    """A row needs both addresses, and a refusal of either excludes, whatever its own text."""
    for n, user in enumerate(people):
        outcome = by_user[user]["outcome"]
        if outcome in ("duplicate", "no_features", "not_in_segment"):
            continue
        if n % 50 == 7:
            assert outcome == "no_phone"
        elif n % 10 == 3:
            assert outcome == "no_email"
        elif n in (1, 2):
            assert outcome == "suppressed"
        else:
            assert outcome not in ("no_phone", "no_email")
    chosen = Counter(
        (row["arm"], row["variant"]) for row in by_user.values() if row["arm"] != "none"
    )
    assert set(chosen) == {(a, v) for a in ("treatment", "control") for v in ("spring", "letter")}
    both = [by_user[people[n]] for n in (20, 21)]
    assert sum(row["arm"] != "none" for row in both) <= 1


def check_prices(project: Project, by_user: dict[str, dict[str, Any]]) -> None:
    """What a row costs is what its own text costs on its own channel."""
    prices = {"spring": project.settings.message_price, "letter": project.settings.email_price}
    for user, row in by_user.items():
        assert row["variant"] == variant(DRAW, user)
        if row["arm"] != "none":
            assert row["cost"] == pytest.approx(row["messages"] * prices[row["variant"]])
    assert prices["spring"] != prices["letter"]


def check_touches(project: Project, by_user: dict[str, dict[str, Any]]) -> None:
    """A touch lands with the channel of its text, and a held-out row with that of the one drawn."""
    export_touches(project, [D])
    (path,) = (
        entry.path
        for entry in project.landing.files("operation", deep=True)
        if entry.path.endswith("usergrowth-touches.csv") and f"{D:%Y%m%d}" in entry.path
    )
    landed = csv.DictReader(io.StringIO(project.landing.read_bytes(path).decode()))
    seen = Counter()
    for row in landed:
        if "campaign:spring" not in row["kvs_str"]:
            continue
        channel = "email" if by_user[row["user_id"]]["variant"] == "letter" else "sms"
        assert f"channel:{channel}" in row["kvs_str"]
        assert row["target"] in (channel, "holdout")
        seen[row["target"]] += 1
    assert min(seen[name] for name in ("sms", "email", "holdout")) > 5


def check_report(project: Project, one: Task, texted: dict[str, dict[str, Any]]) -> None:
    """The report names the channel of each arm, and counts its people and cost."""
    report = report_task(project, task(project.store, one.task_id))
    assert report.effect.clicks is not None
    paths = {path.name: path for path in report.effect.clicks.arms}
    assert {name: path.channel for name, path in paths.items()} == {
        "letter": "email",
        "spring": "sms",
        "control": None,
    }
    for name in ("letter", "spring"):
        mine = [row for row in texted.values() if row["variant"] == name]
        assert paths[name].steps["planned"] == paths[name].steps["sent"] == len(mine)
    spent = sum(row["cost"] for row in texted.values())
    assert report.effect.cost_in_all == pytest.approx(spent)
    page = report.page.read_text("utf-8")
    assert "letter (email)" in page and "spring (sms)" in page
    assert "people with an address of each channel" in page
