"""A campaign with several texts from its file to what is sent, with its control group."""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from chain_world import (
    approve,
    cli,
    day,
    errors,
    outbox,
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
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.explain.preview import preview_task
from usergrowth_dagster.messaging.dispatching.dispatch import dispatch
from usergrowth_dagster.messaging.texts.billing import segments
from usergrowth_dagster.messaging.texts.content import reason, render
from usergrowth_dagster.pipeline.decide import decide_task
from usergrowth_dagster.pipeline.output import write_task_output
from usergrowth_dagster.pipeline.populate import load_population
from usergrowth_dagster.pipeline.score import score_task
from usergrowth_dagster.pipeline.send import plan_task
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings

TEXTS = {
    "spring": "Hello ${name}, come back. 拒收请回复R",
    "gift": "${name}, ${gift} waits for you. 拒收请回复R",
    "long": f"Hello ${{name}}, {'come back ' * 8}. 拒收请回复R",
}
SHARES = {"spring": 1.0, "gift": 2.0, "long": 1.0}
TEMPLATE = (
    f"{{name: spring, content: '{TEXTS['spring']}', variants: {{"
    f"gift: {{content: '{TEXTS['gift']}', share: 2, code: SMS_77}}, "
    f"long: {{content: '{TEXTS['long']}'}}}}}}"
)
DRAW = VariantDraw(campaign="spring", epoch=epoch_in_force("1", 7, day(0)), weights=SHARES)
PEOPLE = 300


def upload(home: Path) -> dict[str, dict[str, str]]:
    """The variables of the people; every seventh has no gift, one has a gift that is too long."""
    source = home / "landing" / "population" / "care" / "population.csv"
    header, *lines = source.read_text("utf-8").splitlines()[: PEOPLE + 1]
    gifts = {
        n: "" if n % 7 == 0 else "x" * 36 if n % 50 == 3 else f"tea {n}" for n in range(PEOPLE)
    }
    write_people(
        home,
        "spring",
        [f"{header},gift", *(f"{line},{gifts[n]}" for n, line in enumerate(lines))],
    )
    name = header.split(",").index("name")
    return {
        line.split(",")[0]: {"name": line.split(",")[name], "gift": gifts[n]}
        for n, line in enumerate(lines)
    }


def applied(home: Path, project: Project, **changes: str) -> Task:
    given = {"selection": "{threshold: 0.02}", "holdout": "{share: 0.3}", "template": TEMPLATE}
    more = {"contact": "{cap_messages: 50}", **changes}
    apply_campaign(
        project.store, load_campaign(write_campaign(home, "spring", **given | more)), "ann"
    )
    return task(project.store, "spring")


def decided(project: Project) -> str:
    """Decide the task; what became of the decision."""
    load_population(project, task(project.store, "spring"))
    score_task(project, task(project.store, "spring"))
    decision = decide_task(project, task(project.store, "spring"))
    write_task_output(project, task(project.store, "spring"))
    return decision.state


NAMES = "user_id, arm, outcome, variant, variant_propensity, messages, cost, propensity"


def decisions(home: Path) -> list[dict[str, Any]]:
    names = NAMES.split(", ")
    decided_rows = rows(home, "decisions", "task_id = 'spring'", NAMES)
    return [dict(zip(names, row, strict=True)) for row in decided_rows]


def given_texts(home: Path) -> dict[str, str]:
    """Code and text by user, of what was sent."""
    with closing(sqlite3.connect(home / "control.db")) as connection:
        return dict(
            connection.execute(
                "select m.user_id, m.variant from message m join occurrence o "
                "on o.id = m.occurrence_id where o.task_id = 'spring'"
            ).fetchall()
        )


def test_each_person_has_a_text_and_each_text_its_own_control(home: Path) -> None:
    """Guards against cost or reasons of another text, and control people without a text."""
    people = upload(home)
    project = Project(load_settings(home))
    applied(home, project)
    assert decided(project) == "new"
    rows_by_user = decisions(home)
    arms: Counter[tuple[str, str]] = Counter()
    for row in rows_by_user:
        name = variant(DRAW, row["user_id"])
        assert (row["variant"], row["variant_propensity"]) == (name, SHARES[name] / 4)
        values = people[row["user_id"]]
        text = render(TEXTS[name], values, "Example")
        assert row["messages"] == (None if text is None else segments(text))
        if text is not None:
            assert row["cost"] == pytest.approx(row["messages"] * project.settings.message_price)
        why = reason(TEXTS[name], values, "Example")
        if row["outcome"] in ("missing_variable", "variable_too_long", "message_too_long"):
            assert row["outcome"] == why
        elif row["arm"] != "none":
            assert why is None
            arms[name, row["arm"]] += 1
    assert {row["outcome"] for row in rows_by_user} >= {"missing_variable", "selected", "holdout"}
    assert all(arms[name, arm] > 5 for name in TEXTS for arm in ("treatment", "control"))
    for arm in ("treatment", "control"):
        of_arm = sum(arms[name, arm] for name in TEXTS)
        for name in ("spring", "long"):
            assert abs(arms[name, arm] - of_arm / 4) < 4 * (of_arm * 3 / 16) ** 0.5
    project.store.close()


def test_deciding_again_keeps_everyones_text(home: Path) -> None:
    """Guards against people who move to the other text in the middle of a test of both."""
    upload(home)
    project = Project(load_settings(home))
    applied(home, project)
    decided(project)
    first = {row["user_id"]: row["variant"] for row in decisions(home)}
    assert decided(project) == "unchanged"
    edited = TEMPLATE.replace("waits", "is here")
    other = {"selection": "{top_n: 20}", "holdout": "{share: 0.5}"}
    applied(home, project, template=edited, **other)
    assert decided(project) == "changed"
    assert {row["user_id"]: row["variant"] for row in decisions(home)} == first
    applied(home, project, template=edited.replace("share: 2", "share: 3"), **other)
    assert decided(project) == "changed"  # a share is an input of the decision
    assert {row["user_id"]: row["variant"] for row in decisions(home)} != first
    project.store.close()


def test_planned_and_sent_as_decided(home: Path) -> None:
    """Guards against a preview, plan or text that differs from the decision's."""
    people = upload(home)
    project = Project(load_settings(home))
    applied(home, project)
    decided(project)
    approve(home, "spring", "gift")
    with pytest.raises(UserError, match="template 'long' is reviewing"):
        plan_task(project, task(project.store, "spring"))
    shown = preview_task(project, task(project.store, "spring"), 3).forecast
    assert shown is not None
    printed = succeeded(cli(home, "preview", "spring"))
    assert "template 'long': reviewing" in printed
    assert all(part in printed for part in ("variant", "50.0%", "${gift} waits"))

    approve(home, "long")
    planned = plan_task(project, task(project.store, "spring"))
    texted = {r["user_id"]: r for r in decisions(home) if r["arm"] == "treatment"}
    assert given_texts(home) == {user: row["variant"] for user, row in texted.items()}
    assert shown.plan.states == planned.states
    assert sum(one.messages for one in shown.texts.values()) == planned.messages
    of_text = Counter(row["variant"] for row in texted.values())
    assert {name: one.people for name, one in shown.texts.items()} == of_text
    before = len(outbox(home))
    assert dispatch(project.store, project.settings).accepted == planned.people > 50
    for line in map(json.loads, outbox(home)[before:]):
        row = texted.pop(line["user_id"])
        values = people[line["user_id"]]
        assert line["text"] == render(TEXTS[row["variant"]], values, "Example")
        assert line["segments"] == row["messages"]
        assert (line["template_code"] == "SMS_77") == (row["variant"] == "gift")
    assert not texted
    project.store.close()


def test_smart_send_and_a_budget_go_by_the_persons_text(home: Path) -> None:
    """Guards against a budget that counts one text for all, and hours that forget the text."""
    upload(home)
    project = Project(load_settings(home))
    price = project.settings.message_price
    window = f"smart_send: {{start_date: {day(0)}, end_date: {day(-2)}}}"
    applied(
        home,
        project,
        selection=f"{{budget: {round(60 * price, 3)}}}",
        schedule=f"{{name: spring, {window}}}",
    )
    decided(project)
    approve(home, *TEXTS)
    planned = plan_task(project, task(project.store, "spring"))
    texted = {r["user_id"]: r["variant"] for r in decisions(home) if r["arm"] == "treatment"}
    assert given_texts(home) == texted and set(texted.values()) == set(TEXTS)
    assert 57 <= planned.messages <= 60 and planned.people == len(texted) < 57
    project.store.close()


def test_a_mistake_in_a_variant_is_one_sentence(home: Path) -> None:
    """Guards against a traceback, or a campaign applied in part, for a bad second text."""
    bad = TEMPLATE.replace(" waits for you. 拒收请回复R", " waits for you.")
    path = write_campaign(home, "spring", template=bad)
    (sentence,) = errors(cli(home, "apply", "-f", str(path)))
    assert "template.variants.gift.content: a promotion template must say how to refuse" in sentence
