"""Users who are one person are texted once, held out together, and explained as such."""

import csv
from datetime import date
from pathlib import Path

import pytest
from chain_world import (
    D,
    approve,
    day,
    ledger,
    people_of,
    refuse,
    rows,
    write_campaign,
    write_people,
)
from sqlalchemy import select

from usergrowth_dagster.audience.holdout import arm
from usergrowth_dagster.audience.persons import MOST_USERS
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import load_campaign
from usergrowth_dagster.control.tasks import task
from usergrowth_dagster.explain.replay import replay_task
from usergrowth_dagster.explain.why import why
from usergrowth_dagster.identity.run import identify, land_identity
from usergrowth_dagster.measure.report import report_task
from usergrowth_dagster.messaging.people.forget import Person, erase_in_store
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.policy.person_keys import known_users
from usergrowth_dagster.messaging.policy.suppression import lift
from usergrowth_dagster.messaging.schedules.occurrences import business_now
from usergrowth_dagster.pipeline.choice import global_holdout, holdout
from usergrowth_dagster.pipeline.decide import decide_task
from usergrowth_dagster.pipeline.output import write_task_output
from usergrowth_dagster.pipeline.populate import load_population
from usergrowth_dagster.pipeline.score import score_task
from usergrowth_dagster.pipeline.send import dispatch_due, plan_task
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings

PAIRS, CROWD = 90, MOST_USERS + 1
PHONE = "+9990000009{:03}"


TYPES = f"""
types:
  - {{name: member, priority: 1, most: {CROWD}}}
  - {{name: phone, priority: 2, normalise: phone}}
"""


def link(home: Path, persons: list[list[str]], landed: date, *more: list[str]) -> None:
    """Land a member number for each person on a day, and let the home know persons."""
    (home / "identity.yml").write_text(TYPES, encoding="utf-8")
    folder = home / f"landing/identity/ds={landed:%Y%m%d}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "part.csv").open("w", encoding="utf-8", newline="") as handle:
        lines = csv.writer(handle, lineterminator="\n")
        lines.writerow(("user_id", "id_type", "id_value", "source", "time"))
        lines.writerows(
            (user, "member", f"m{n}", "crm", r"\N") for n, one in enumerate(persons) for user in one
        )
        lines.writerows([*one, "crm", r"\N"] for one in more)


def decided(home: Path) -> dict[str, tuple[str, str, float, int | None, str | None]]:
    """Outcome, arm, chance, ids of the person and control group of the task's rows, by user."""
    columns = "user_id, outcome, arm, propensity, users, holdout"
    return {user: rest for user, *rest in rows(home, "decisions", "task_id = 'spring'", columns)}


def choose(project: Project, name: str) -> set[str]:
    """Decide a campaign without a control group; the selected users."""
    home = project.settings.home
    path = write_campaign(home, name, selection="{threshold: 0.05}", holdout="{share: 0}")
    apply_campaign(project.store, load_campaign(path), "ann")
    load_population(project, task(project.store, name))
    score_task(project, task(project.store, name))
    decide_task(project, task(project.store, name))
    write_task_output(project, task(project.store, name))
    approve(home, name)
    selected = f"task_id = '{name}' and outcome = 'selected'"
    return {user for (user,) in rows(home, "decisions", selected, "user_id")}


def test_a_person_of_several_users(home: Path) -> None:
    """Guards against two texts to one person, a person who is held out and texted all the same, a
    chance that is not the one of the draw, and a decision that cannot be made again or explained
    once the links have changed."""
    header, *people = people_of(home)
    write_people(home, "spring", [",".join(line) for line in (header, *people)])
    users = [person[0] for person in people]
    pairs = [[users[2 * n], users[2 * n + 1]] for n in range(PAIRS - 1)]
    pairs.append([users[2 * PAIRS], "not-uploaded"])
    crowd = users[2 * PAIRS + 1 :][:CROWD]
    project = Project(load_settings(home, global_holdout_share=0.2))
    path = write_campaign(home, "spring", selection="{threshold: 0.05}", holdout="{share: 0.3}")
    apply_campaign(project.store, load_campaign(path), "ann")
    load_population(project, task(project.store, "spring"))
    score_task(project, task(project.store, "spring"))
    alone = decide_task(project, task(project.store, "spring"))
    assert not alone.outcomes.get("same_person")
    before = decided(home)

    link(home, [*pairs, crowd], day(2))
    land_identity(project, D)
    identify(project, D)
    together = decide_task(project, task(project.store, "spring"))
    assert together.state == "changed"
    after = decided(home)
    the_task = task(project.store, "spring")
    draws = (holdout(the_task), global_holdout(project.settings, D))
    stayed = 0
    for pair in pairs:
        uploaded = [user for user in pair if user in after]
        chosen = [user for user in uploaded if after[user][1] != "none"]
        assert len(chosen) <= 1
        for user in chosen:
            _, side, chance, ids, _ = after[user]
            held = any(arm(draw, one) == "control" for draw in draws for one in pair)
            assert side == ("control" if held else "treatment") and ids == 2
            assert chance == pytest.approx(
                (0.7 * 0.8) ** 2 if side == "treatment" else 1 - (0.7 * 0.8) ** 2
            )
            stayed += side == "treatment"
            # joining persons texts no user that a draw had held out before
            assert not (side == "treatment" and before[user][1] == "control")
        same = [user for user in uploaded if after[user][0] == "same_person"]
        assert not same or len(chosen) == 1
    assert stayed > 10 and together.outcomes["same_person"] > 10
    assert {after[user][0] for user in crowd} >= {"many_users"}
    assert not {after[user][1] for user in crowd} - {"none"}
    strangers = set(after) - {user for pair in pairs for user in pair} - set(crowd)
    assert {user: after[user] for user in strangers} == {user: before[user] for user in strangers}

    loser = next(user for user in users if after[user][0] == "same_person")
    story = why(project, loser, campaign="spring")
    assert "another user of the same person was chosen" in story.sentence
    kept = next(user for pair in pairs for user in pair if after.get(user, [""])[0] == "selected")
    details = [step.detail for step in why(project, kept, campaign="spring").tasks[0].steps]
    assert sum("by any of the 2 user ids of the person" in detail for detail in details) == 2
    effect = report_task(project, the_task).effect
    assert effect.sample_ratio is not None and effect.sample_ratio.passed

    # the links of later dates, and a home that knows no persons any more, change nothing
    link(home, [users], D)
    land_identity(project, day(-1))
    identify(project, day(-1))
    assert decide_task(project, the_task).state == "unchanged"
    (home / "identity.yml").unlink()
    (replayed,) = replay_task(project, "spring")
    assert replayed.state == "equal", replayed


def test_a_refusal_after_the_decision(home: Path) -> None:
    """Guards against a person who is texted although they refused with another account, or by a
    number that only links know, between the decision and the text; a refusal that goes on when it
    is lifted, or when the accounts turn out to be two persons'; and against keys that stay when
    one of the users is forgotten."""
    header, *people = people_of(home)
    users = [person[0] for person in people[:60]]
    write_people(home, "spring", [",".join(line) for line in (header, *people[:60])])
    numbers = [[user, "phone", PHONE.format(n)] for n, user in enumerate(users)]
    link(home, [[user, f"other-{user}"] for user in users], day(2), *numbers)
    project = Project(load_settings(home))
    land_identity(project, D)
    identify(project, D)
    chosen = sorted(choose(project, "spring"))
    early, late, lifted, apart, forgotten, number, *others = chosen
    place = {user: n for n, user in enumerate(users)}
    refuse(project, user_id=f"other-{early}")
    plan_task(project, task(project.store, "spring"))
    refuse(project, user_id=f"other-{late}")
    refuse(project, user_id=f"other-{lifted}")
    refuse(project, phone=PHONE.format(place[number]))
    vault = open_vault(home)
    lift(project.store, vault, user_id=f"other-{lifted}", now=business_now(project.settings))
    keys = vault.user_digest(f"other-{apart}")
    with project.store.read() as connection:
        known = connection.execute(select(schema.person_key)).all()
    assert len(known) == 2 * len(chosen) and keys in {row.key_hash for row in known}
    gone = Person(f"other-{forgotten}")
    assert erase_in_store(project.store, vault, gone, dry_run=True)["person_key"] == 1
    erase_in_store(project.store, vault, gone)
    dispatch_due(project)
    states = {user: (state, why) for name, user, state, why, *_ in ledger(home) if name == "spring"}
    assert states.pop(early) == ("skipped", "suppressed")
    assert states.pop(late) == ("skipped", "suppressed")
    assert states.pop(number) == ("skipped", "suppressed")
    assert {state for state, _ in states.values()} == {"accepted"} and lifted in states
    assert set(states) == {lifted, apart, forgotten, *others}

    # who is one person with others no more has no keys from the next plan on
    (home / "identity.yml").unlink()
    assert len(known_users(project.store)) == len(chosen)
    write_people(home, "again", [",".join(line) for line in (header, *people[:60])])
    selected = choose(project, "again")
    plan_task(project, task(project.store, "again"))
    assert len(known_users(project.store)) == len(set(chosen) - selected) < len(chosen) / 2
