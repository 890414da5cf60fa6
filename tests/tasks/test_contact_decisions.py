"""Who is excluded before anyone is chosen, and what a preview says of a plan to come."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from chain_world import (
    PHONE,
    D,
    approve,
    cli,
    control_dump,
    ledger,
    people_of,
    refuse,
    rows,
    succeeded,
    write_campaign,
    write_people,
)

from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import load_campaign
from usergrowth_dagster.control.tasks import task
from usergrowth_dagster.explain.preview import Preview, preview_task
from usergrowth_dagster.pipeline.decide import Decided, decide_task
from usergrowth_dagster.pipeline.output import write_task_output
from usergrowth_dagster.pipeline.populate import load_population
from usergrowth_dagster.pipeline.score import score_task
from usergrowth_dagster.pipeline.send import plan_task
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings

ZONES = ["America/New_York", "Europe/London", "", "china standard time"]


def upload(home: Path) -> list[list[str]]:
    """The people of the world with a zone, a consent, two shared phones, and a name missing."""
    header, *people = people_of(home)
    people[1][2] = people[0][2]
    people[11][2] = people[10][2]
    people[20][3] = r"\N"
    lines = [[*header, "timezone", "ok", "email"]]
    for place, person in enumerate(people):
        consent = "yes" if place % 5 else "no"
        lines.append([*person, ZONES[place % 4], consent, f"{person[0]}@example.com"])
    write_people(home, "spring", [",".join(line) for line in lines])
    return people


def project_of(home: Path, **changes: object) -> Project:
    return Project(load_settings(home, **changes))


def decide(project: Project) -> Decided:
    the_task = task(project.store, "spring")
    if not the_task.frozen:
        load_population(project, the_task)
        score_task(project, task(project.store, "spring"))
    decision = decide_task(project, task(project.store, "spring"))
    write_task_output(project, task(project.store, "spring"))
    return decision


def outcomes(home: Path) -> dict[str, tuple[str, str, float | None]]:
    """Outcome, arm and propensity of the rows of the task, by user."""
    decided = rows(home, "decisions", "task_id = 'spring'", "user_id, outcome, arm, propensity")
    return {user: (outcome, arm, chance) for user, outcome, arm, chance in decided}


def test_the_excluded_are_left_out_before_anyone_is_chosen(home: Path) -> None:
    """Guards against a treatment group with fewer reachable people than the control group has."""
    people = upload(home)
    # what the others sent to the chosen, or would have sent to those whom they held out
    had = Counter(user for _, user, state, *_ in ledger(home) if state == "accepted")
    had.update(user for (user,) in rows(home, "decisions", "arm = 'control'", "user_id"))
    full = {user for user, number in had.items() if number >= 2}
    project = project_of(home, cap_messages=2)
    path = write_campaign(
        home, "spring", selection="{threshold: 0.05}", contact="{require_consent: ok}"
    )
    apply_campaign(project.store, load_campaign(path), "ann")
    refuse(project, user_id=people[0][0])
    refuse(project, phone=people[30][2].replace("+", "00"))
    refuse(project, user_id=people[31][0], channel="email")
    refuse(project, phone=people[32][2], scope="Another")
    first = decide(project)
    assert first.state == "new"
    decided = outcomes(home)
    suppressed = {user for user, (outcome, *_) in decided.items() if outcome == "suppressed"}
    assert suppressed == {people[n][0] for n in (0, 1, 30)}  # 1 has the phone of 0
    capped = {user for user, (outcome, *_) in decided.items() if outcome == "capped"}
    by_phone = {people[n][0] for n in (10, 11) if {people[10][0], people[11][0]} & full}
    assert len(full) > 30 and capped - by_phone == full - suppressed - by_phone
    refused = {person[0] for person in people[::5]}
    assert not {u for u, (_, arm, _) in decided.items() if arm != "none"} & (refused | suppressed)
    assert {u for u, (outcome, *_) in decided.items() if outcome == "no_consent"} <= refused
    assert Counter(outcome for outcome, *_ in decided.values()) == first.outcomes
    arms = Counter(arm for _, arm, _ in decided.values())
    assert arms["treatment"] == first.outcomes["selected"] > 10
    chances = {(arm, round(chance, 12)) for _, arm, chance in decided.values()}
    # 0.1 are held out by the campaign, 0.02 for all campaigns
    assert chances == {("treatment", 0.882), ("control", 0.118), ("none", 1)}
    groups = rows(home, "decisions", "task_id = 'spring' and arm = 'control'", "holdout")
    assert {group for (group,) in groups} == {"campaign", "global"}
    assert 0.02 < arms["control"] / (arms["control"] + arms["treatment"]) < 0.25

    assert decide(project).state == "unchanged"
    chosen = sorted(user for user, (outcome, *_) in decided.items() if outcome == "selected")
    refuse(project, user_id=chosen[0])
    # the decision stands for output and plan, though it would be made anew
    approve(home, "spring")
    planned = plan_task(project, task(project.store, "spring"))
    assert planned.reasons["suppressed"] == 1
    assert decide(project).state == "frozen"
    project.store.close()


def test_a_refusal_makes_an_unplanned_decision_anew(home: Path) -> None:
    """Guards against somebody who is chosen again after a refusal, though there was time."""
    upload(home)
    project = project_of(home)
    path = write_campaign(home, "spring", selection="{top_n: 30}", channel="email")
    apply_campaign(project.store, load_campaign(path), "ann")
    assert decide(project).outcomes["selected"] == 30
    chosen = sorted(user for user, (outcome, *_) in outcomes(home).items() if outcome == "selected")
    refuse(project, phone=f"{chosen[0].upper()}@example.COM", channel="email")
    refuse(project, phone="nobody@example.com", channel="email")
    again = decide(project)
    assert again.state == "changed"
    assert (again.outcomes["suppressed"], again.outcomes["selected"]) == (1, 30)
    assert again.spend.cost == 0  # e-mails are free by default
    refuse(project, user_id="somebody else")
    assert decide(project).state == "unchanged"
    assert not outcomes(home).keys() & {"shared_phone"}
    project.store.close()


def figures(previewed: Preview) -> tuple[object, ...]:
    forecast = previewed.forecast
    assert forecast is not None
    plan = forecast.plan
    return (
        plan.states,
        plan.reasons,
        plan.messages,
        plan.cost,
        forecast.sizes,
        forecast.hours,
        forecast.longest,
        forecast.samples,
        (plan.occurrence.due, plan.occurrence.send_by),
    )


def test_a_preview_says_what_is_then_planned(home: Path) -> None:
    """Guards against figures that a person relies on and that come out otherwise."""
    people = upload(home)
    project = project_of(home)
    path = write_campaign(
        home,
        "spring",
        selection="{threshold: 0.1}",
        schedule="{name: spring, max_cost: 2.7}",
        contact="{cap_messages: 2}",
        template="{name: spring, content: 'Hello ${name} of ${phone2}, come back. 拒收请回复R'}",
    )
    file = home / "landing" / "population" / "spring" / "population.csv"
    header, *lines = file.read_text("utf-8").splitlines()
    lines = [f"{header},phone2", *(f"{line},{line.split(',')[2]}" for line in lines)]
    write_people(home, "spring", lines)
    succeeded(cli(home, "apply", "-f", str(path)))
    waiting = succeeded(cli(home, "preview", "spring"))
    assert "not decided yet" in waiting and "template 'spring': reviewing" in waiting
    decide(project)
    chosen = [user for user, (outcome, *_) in outcomes(home).items() if outcome == "selected"]
    for user in chosen[:3]:
        refuse(project, user_id=user)

    before = control_dump(home)
    previewed = preview_task(project, task(project.store, "spring"), 4)
    assert not previewed.planned and not previewed.problems
    printed = succeeded(cli(home, "preview", "spring", "--samples", "4"))
    assert control_dump(home) == before
    assert not PHONE.search(re.sub(r"\s", "", printed).encode())
    assert "+999****" in printed and "reviewing" in printed and "拒收请回复R" in printed
    assert not list(home.rglob("rehearsal*"))

    approve(home, "spring")
    plan_task(project, task(project.store, "spring"))
    planned = preview_task(project, task(project.store, "spring"), 4)
    assert planned.planned
    assert figures(planned) == figures(previewed)
    forecast = planned.forecast
    assert forecast is not None
    plan, reasons = forecast.plan, forecast.plan.reasons
    assert reasons["suppressed"] == 3 and reasons["over_budget"] > 0
    assert plan.messages == 60 and plan.cost == pytest.approx(2.7)  # at 0.045
    assert {zone for zone, _ in forecast.hours} == {*ZONES[:2], "Asia/Shanghai"}
    assert all(8 <= hour.hour < 22 for _, hour in forecast.hours)
    assert sum(forecast.hours.values()) == sum(forecast.sizes.values()) == plan.people
    assert forecast.longest is not None
    assert forecast.longest.length == max(
        [forecast.longest.length, *(one.length for one in forecast.samples)]
    )
    assert people[0][2] not in str([one.text for one in forecast.samples])
    project.store.close()


def test_people_whose_zone_is_not_understood_are_held_and_counted(home: Path) -> None:
    """A zone such as ``London`` counted as none: texted by another clock, and nothing said so."""
    zones = ["London", "europe/london", "UTC+1", "GMT Standard Time", ""]
    header, *people = people_of(home)[:61]
    lines = [[*header, "timezone"], *([*p, zones[n % 5]] for n, p in enumerate(people))]
    write_people(home, "spring", [",".join(line) for line in lines])
    path = write_campaign(home, "spring", selection="{top_n: 50}", holdout="{share: 0}")
    printed = succeeded(cli(home, "apply", "-f", str(path)))
    sentence = "24 people are held, since no time zone is known by the name that is given for them"
    assert f"population/spring: {sentence} ('London' 12, 'UTC+1' 12)" in printed
    project = project_of(home)
    approve(home, "spring")
    decide(project)
    waiting = {u for u, (outcome, *_) in outcomes(home).items() if outcome == "unknown_zone"}
    named = {person[0]: zones[n % 5] for n, person in enumerate(people)}
    assert waiting and {named[user] for user in waiting} == {"London", "UTC+1"}
    chosen = {u for u, (outcome, *_) in outcomes(home).items() if outcome == "selected"}
    assert chosen and not {named[user] for user in chosen} & {"London", "UTC+1"}
    shown = succeeded(cli(home, "preview", "spring"))
    assert sentence in shown and re.search(rf"unknown_zone +{len(waiting)} ", shown)
    printed = succeeded(cli(home, "why", min(waiting)))
    assert "the time zone given for the user is not known" in printed.splitlines()[0]
    planned = plan_task(project, task(project.store, "spring"))
    assert planned.people == len(chosen) and "unknown_zone" not in planned.reasons
    project.store.close()


def test_an_upload_that_cannot_be_read_does_not_hold_up_its_campaign(home: Path) -> None:
    """Counting time zones at apply refused a campaign for the header of its upload."""
    write_people(home, "spring", ["user_id,item,phone,timezone", "u1,none,+447700900141,London"])
    printed = succeeded(cli(home, "apply", "-f", str(write_campaign(home, "spring"))))
    assert "created campaign 'spring'" in printed and "held" not in printed


def test_a_preview_says_why_nothing_would_go_out(home: Path) -> None:
    """Guards against a preview that is well, of a campaign that is then refused."""
    upload(home)
    project = project_of(home)
    late = f"{{name: spring, execute_time: {D.replace(day=20)} 10:00:00}}"
    path = write_campaign(home, "spring", selection="{top_n: 9}", schedule=late)
    apply_campaign(project.store, load_campaign(path), "ann")
    decide(project)
    previewed = preview_task(project, task(project.store, "spring"), 0)
    assert "would be 16 days old" in previewed.problems[0]
    assert previewed.forecast is not None and previewed.forecast.plan.people == 9
    assert previewed.forecast.samples == []
    strict = replace(project, settings=project.settings.model_copy(update={"opt_out_texts": ["x"]}))
    previewed = preview_task(strict, task(project.store, "spring"), 1)
    assert previewed.forecast is None and "how to refuse" in previewed.problems[0]
    strict.store.close()
    project.store.close()
