"""A task's effect from the tables and the ledger: what is read, written again, and left alone."""

import json
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from usergrowth_dagster.audience.decisions import DECISION_COLUMNS
from usergrowth_dagster.audience.holdout import arm, drawn_on, is_control_sql
from usergrowth_dagster.control import schema
from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import parse_campaign
from usergrowth_dagster.control.codes import MessageState, OccurrenceState, TemplateType
from usergrowth_dagster.control.tasks import Task, register_task, task
from usergrowth_dagster.effects.report.words import day as day_words
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.measure import effects as effects_module
from usergrowth_dagster.measure.effects import OUTCOMES, measure, window_of
from usergrowth_dagster.measure.period import measure_all, parts_of
from usergrowth_dagster.measure.report import report_period, report_task
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.policy.suppression import suppress
from usergrowth_dagster.pipeline.choice import global_holdout
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.training.train import effect_config, training_config
from usergrowth_dagster.warehouse.engine import open_engine

D = date(2026, 3, 2)
USERS = 400

CAMPAIGN = """
name: {name}
algorithm: {algorithm}
training: {{window_days: 60}}
population: population/{name}
execution_date: {day}
selection: {{threshold: 0.3}}
holdout: {{share: 0.25}}
signature: {{name: Example}}
template: {{name: {name}, content: 'Hello ${{name}}, come back. 拒收请回复R'}}
schedule: {{name: {name}}}
effect: {effect}
"""


def make(project: Project, name: str = "spring", day: date = D, **keys: str) -> Task:
    """A campaign with one task."""
    values = {"algorithm": "{kind: winback, return_days: 14}", "effect": "{amount: pay}"} | keys
    text = CAMPAIGN.format(name=name, day=day, **values)
    apply_campaign(project.store, parse_campaign(text), "test")
    return task(project.store, name)


def decide(
    project: Project,
    the_task: Task,
    arms: list[str],
    *,
    group: str = "campaign",
    epoch: str | None = None,
) -> None:
    """Decisions for u0, u1, … with the arms given, the control users held out by a group."""
    n, ds = len(arms), the_task.execution_date
    named = {
        "treatment": "selected",
        "control": "holdout",
        "none": "below_threshold",
        "explored": "explored",
    }
    chance = {"treatment": 0.75, "control": 0.25, "none": 1.0, "explored": 0.1}
    values: dict[str, Any] = {
        "ds": [ds] * n,
        "task_id": [the_task.task_id] * n,
        "campaign": [the_task.campaign] * n,
        "row": list(range(1, n + 1)),
        "user_id": [f"u{i}" for i in range(n)],
        "item_id": ["i1"] * n,
        "score": [1 - i / n for i in range(n)],
        "rank": list(range(1, n + 1)),
        "cost": [0.1] * n,
        "arm": ["treatment" if arm == "explored" else arm for arm in arms],
        "holdout": [group if arm == "control" else None for arm in arms],
        "propensity": [chance[arm] for arm in arms],
        "global_epoch": [epoch] * n,
        "outcome": [named[arm] for arm in arms],
    }
    types = {
        "DATE": pa.date32(),
        "BIGINT": pa.int64(),
        "DOUBLE": pa.float64(),
        "INTEGER": pa.int32(),
        "BOOLEAN": pa.bool_(),
    }
    columns = {
        name: pa.array(values.get(name, [None] * n), types.get(kind, pa.string()))
        for name, kind in DECISION_COLUMNS.items()
    }
    project.warehouse.replace(
        "decisions", pa.table(columns), days=[ds], scope={"task_id": the_task.task_id}
    )


def behave(project: Project, lives: dict[date, list[tuple[str, float]]]) -> None:
    """Landed behavior: by day, (user, amount) of each purchase."""
    for ds, bought in lives.items():
        n = len(bought)
        table = pa.table(
            {
                "ds": pa.array([ds] * n, pa.date32()),
                "user_id": pa.array([user for user, _ in bought], pa.string()),
                "behavior": pa.array(["buy"] * n, pa.string()),
                "item_id": pa.array(["i9"] * n, pa.string()),
                "events": pa.array([1.0] * n, pa.float64()),
                "hours": pa.array([None] * n, pa.map_(pa.string(), pa.float64())),
                "amounts": pa.array(
                    [[("pay", amount)] for _, amount in bought], pa.map_(pa.string(), pa.float64())
                ),
                "kvs_str": pa.array([None] * n, pa.map_(pa.string(), pa.string())),
            }
        )
        project.warehouse.replace("stg_behavior", table, days=[ds])


def text(
    project: Project, the_task: Task, users: list[str], state: MessageState, sent: date | None
) -> None:
    """Rows of the ledger for a task's users, in an occurrence of their own."""
    now = datetime(2026, 3, 2, 12, tzinfo=project.settings.zone)
    with project.store.write() as connection:
        schedule = connection.execute(
            schema.schedule.select().where(schema.schedule.c.name == the_task.spec.schedule.name)
        ).one()
        made = connection.execute(
            schema.occurrence.insert().values(
                schedule_id=schedule.id,
                name=f"{the_task.task_id} {state} {users[0]} {sent}",
                task_id=the_task.task_id,
                channel="sms",
                state=OccurrenceState.SENDING,
                due=now,
                send_by=now,
                signature="Example",
                template_code="SMS_1",
                template_type=TemplateType.PROMOTION,
                content="",
                price=0.05,
                currency="CNY",
                created_time=now,
                updated_time=now,
            )
        )
        moment = None
        if sent is not None:
            moment = datetime.combine(sent, now.timetz())
        connection.execute(
            schema.message.insert(),
            [
                {
                    "occurrence_id": made.inserted_primary_key[0],
                    "channel": "sms",
                    "user_id": user,
                    "template_params": "{}",
                    "segments": 2,
                    "state": state,
                    "attempts": 1,
                    "sent_time": moment,
                    "updated_time": now,
                }
                for user in users
            ],
        )


@pytest.fixture
def project(settings: Settings) -> Project:
    return Project(settings)


def arms_of(seed: int = 1) -> list[str]:
    rng = np.random.default_rng(seed)
    drawn = ["treatment" if x >= 0.25 else "control" for x in rng.random(USERS)]
    return [*drawn, *["none"] * 20]


def lives_of(arms: list[str], days: int, seed: int = 2) -> dict[date, list[tuple[str, float]]]:
    """From 30 days before D to ``days`` after it: one in ten buys; a text adds as many."""
    rng = np.random.default_rng(seed)
    lives = {}
    for ahead in range(-30, days + 1):
        chance = np.where((np.array(arms) == "treatment") & (ahead > 0), 0.04, 0.01)
        who = np.flatnonzero(rng.random(len(arms)) < chance)
        lives[D + timedelta(days=ahead)] = [(f"u{i}", 3.0) for i in who] or [("nobody", 1.0)]
    return lives


def test_a_task_from_its_tables(project: Project) -> None:
    """A lift of other users, days, texts or prices than the task's own."""
    the_task, arms = make(project), arms_of()
    with pytest.raises(UserError, match="has not been decided"):
        measure(project, the_task)
    decide(project, the_task, arms)
    lives = lives_of(arms, 20)
    behave(project, lives)
    treated = [f"u{i}" for i, arm in enumerate(arms) if arm == "treatment"]
    control = [f"u{i}" for i, arm in enumerate(arms) if arm == "control"]
    text(project, the_task, treated[:200], MessageState.DELIVERED, D)
    text(project, the_task, treated[200:], MessageState.REJECTED, D)
    other = make(project, "autumn")
    text(project, other, [control[0], treated[0]], MessageState.ACCEPTED, D + timedelta(days=14))
    text(project, other, [control[1]], MessageState.ACCEPTED, D + timedelta(days=15))
    text(project, other, [control[2]], MessageState.SKIPPED, None)

    effect = measure(project, the_task)
    came = {u for n in range(1, 15) for u, _ in lives[D + timedelta(days=n)]}
    spent = sum(
        a for n in range(1, 15) for u, a in lives[D + timedelta(days=n)] if u in set(treated)
    )
    treatment, control_arm = effect.arms
    assert (treatment.users, control_arm.users) == (len(treated), len(control))
    assert treatment.returned == len(came & set(treated))
    assert control_arm.returned == len(came & set(control))
    assert treatment.amount == pytest.approx(spent)
    assert treatment.cost == pytest.approx(200 * 2 * 0.05) and treatment.messages == 400
    assert treatment.delivered == 200 and control_arm.cost == 0
    assert effect.crossover == {
        "control_texted_by_others": 1,
        "treated_texted_by_others": 1,
        "control_texted_by_this": 0,
    }
    assert effect.complete and effect.verdict == "works", effect.sentence
    assert effect.window_last == D + timedelta(days=14) == effect.counted_until
    assert effect.landed_until == D + timedelta(days=20)
    assert effect.daily[-1].treated == treatment.returned and len(effect.daily) == 14
    assert [c.view for c in effect.contrasts] == ["intention_to_treat", "delivered_only"]
    assert project.warehouse.row_counts(OUTCOMES) == {D: len(arms)}


def test_written_again_only_when_something_changed(project: Project) -> None:
    """A commit a day for nothing; or old outcomes after a receipt, a landing or a changed window."""
    the_task, arms = make(project), arms_of()
    decide(project, the_task, arms)
    behave(project, lives_of(arms, 10))
    users = [f"u{i}" for i, arm in enumerate(arms) if arm == "treatment"]
    text(project, the_task, users, MessageState.ACCEPTED, D)

    def version() -> int | None:
        measure(project, the_task)
        return project.warehouse.version(OUTCOMES)

    first = version()
    assert version() == first
    early = measure(project, the_task)
    assert early.verdict == "not_yet" and not early.complete
    with project.store.write() as connection:
        connection.execute(
            schema.message.update()
            .where(schema.message.c.user_id == users[0])
            .values(state=MessageState.DELIVERED)
        )
    receipt = version()
    assert receipt is not None and first is not None and receipt > first
    behave(project, lives_of(arms, 20))
    landed = version()
    assert landed is not None and landed > receipt
    assert version() == landed
    behave(project, {D + timedelta(days=21): [("u1", 1.0)]})
    assert version() == landed, "a day after the window changes nothing"
    # the morning of a day knows the days before it alone
    assert not measure(project, the_task, as_of=D + timedelta(days=14)).complete
    assert measure(project, the_task, as_of=D + timedelta(days=15)).complete
    assert version() == landed, "a look back has left the table alone"


def test_outcomes_of_code_that_made_the_same_are_kept(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renamed function makes the outcomes of every task anew, or other code leaves old ones."""
    the_task, arms = make(project), arms_of()
    decide(project, the_task, arms)
    behave(project, lives_of(arms, 10))

    def version(*code: str) -> int | None:
        monkeypatch.setattr(effects_module, "_outcome_code", lambda: code)
        measure(project, the_task)
        return project.warehouse.version(OUTCOMES)

    first = version("one")
    assert version("two", "one") == first is not None
    assert version("two") == first + 1
    monkeypatch.undo()
    present, *earlier = effects_module._outcome_code()
    assert tuple(earlier) == effects_module._EARLIER_OUTCOMES and present not in earlier
    monkeypatch.setattr(effects_module, "SAME_OUTCOMES", "other code")
    assert effects_module._outcome_code() == (present,)


def test_looks_are_counted_until_their_day(project: Project) -> None:
    """A report between two planned looks that looks once more."""
    the_task = make(project, effect="{looks: 2}")
    arms = arms_of()
    decide(project, the_task, arms)
    behave(project, lives_of(arms, 20))
    text(project, the_task, ["u0"], MessageState.ACCEPTED, D)
    before = measure(project, the_task, as_of=D + timedelta(days=7))
    assert before.verdict == "not_yet"
    at_seven = measure(project, the_task, as_of=D + timedelta(days=8))
    at_ten = measure(project, the_task, as_of=D + timedelta(days=11))
    assert at_seven.counted_until == at_ten.counted_until == D + timedelta(days=7)
    assert at_seven.arms == at_ten.arms and at_seven.level == at_ten.level > 0.99
    last = measure(project, the_task)
    assert last.complete and 0.95 < last.level < 0.96


def test_what_counts_follows_the_campaign(project: Project) -> None:
    """A churn campaign that waits for a kind of behavior, a win-back one that forgets its own."""
    churn = make(project, "care", algorithm="churn", effect="{}")
    window = window_of(churn.spec, D)
    assert (window.return_days, window.behaviors, window.on_item) == (28, (), False)
    decide(project, churn, arms_of())
    behave(project, lives_of(arms_of(), 30))
    text(project, churn, ["u0"], MessageState.ACCEPTED, D)
    assert "stayed" in measure(project, churn).sentence
    algorithm = "{kind: winback, return_days: 14, return_behaviors: [redeem], return_on_item: true}"
    winback = make(project, "back", algorithm=algorithm, effect="{}")
    window = window_of(winback.spec, D)
    assert (window.return_days, window.behaviors, window.on_item) == (14, ("redeem",), True)
    decide(project, winback, arms_of())
    assert measure(project, winback).arms[0].returned == 0
    with_rules = make(
        project,
        "own",
        algorithm=algorithm,
        effect="{return_days: 7, return_behaviors: [buy], return_on_item: false}",
    )
    assert window_of(with_rules.spec, D).behaviors == ("buy",)
    decide(project, with_rules, arms_of())
    assert measure(project, with_rules).arms[0].returned > 0


def test_a_campaign_may_count_the_day_of_the_text(project: Project) -> None:
    """A same-day outcome that the report, its days, its looks or the model's label leave out."""
    arms = arms_of()
    lives = lives_of(arms, 20)
    lives[D] = [(f"u{i}", 3.0) for i in range(0, USERS, 20)]
    tasks = {
        name: make(project, name, effect=f"{{return_days: 8, looks: 2{more}}}")
        for name, more in (("after", ""), ("same", ", same_day: true"))
    }
    for one in tasks.values():
        decide(project, one, arms)
        text(project, one, ["u0"], MessageState.ACCEPTED, D)
    behave(project, {ds: who for ds, who in lives.items() if ds <= D})
    assert measure(project, tasks["after"]).counted_until is None
    first = measure(project, tasks["same"])
    returned = sum(arm.returned for arm in first.arms[:2])
    assert (first.window_first, returned) == (D, len(lives[D]))
    behave(project, {ds: who for ds, who in lives.items() if ds > D})
    after, same = (measure(project, one) for one in tasks.values())
    assert [d.day for d in after.daily] == list(range(1, 9))
    assert [d.day for d in same.daily] == list(range(9))
    assert same.daily[0].treated + same.daily[0].control == len(lives[D])
    assert same.window_last == after.window_last and same.complete
    assert same.daily[-1].treated == same.arms[0].returned > after.arms[0].returned
    assert not any("hold no behavior at all" in note for note in [*same.notes, *after.notes])
    chosen = make(project, "learned", algorithm="{kind: winback, same_day: true}", effect="{}")
    assert window_of(chosen.spec, D).same_day
    assert training_config(project, chosen.spec).problem.same_day
    assert effect_config(project, chosen.spec).problem.same_day


def test_lost_decisions_of_one_arm_are_named(project: Project) -> None:
    """Treated rows that are gone from the decision: the split is uneven, and nothing is concluded."""
    the_task, arms = make(project), arms_of()
    rng = np.random.default_rng(3)
    lost = [arm for arm in arms if arm != "treatment" or rng.random() > 0.45]
    decide(project, the_task, lost)
    behave(project, lives_of(lost, 20))
    text(project, the_task, ["u0"], MessageState.ACCEPTED, D)
    effect = measure(project, the_task)
    assert effect.verdict == "uneven_split" and effect.sample_ratio is not None
    assert effect.sample_ratio.off in ("treatment", "control") and "arm" in effect.sentence


def test_texted_users_without_a_row_block_the_verdict(project: Project) -> None:
    """A decision without the commit's note that lost people whom the ledger says were texted."""
    the_task, arms = make(project), arms_of()
    decide(project, the_task, arms)
    behave(project, lives_of(arms, 20))
    users = [f"u{i}" for i, arm in enumerate(arms) if arm == "treatment"]
    text(project, the_task, users, MessageState.ACCEPTED, D)
    text(project, the_task, ["forgotten-1"], MessageState.ACCEPTED, D)
    assert measure(project, the_task).verdict == "works"
    project.warehouse.open("decisions").delete(f"user_id in ('{users[3]}', '{users[8]}')")
    effect = measure(project, the_task)
    assert effect.verdict == "uneven_split"
    assert "2 users were texted because of the decision and are not in it" in effect.sentence


def test_explored_texts_are_paid_for(project: Project) -> None:
    """A cost of fewer texts than the funnel says were sent, or a lift of people texted at random."""
    the_task, arms = make(project), arms_of()
    arms = [*arms, *["explored"] * 15]
    decide(project, the_task, arms)
    behave(project, lives_of(arms, 20))
    users = [f"u{i}" for i, arm in enumerate(arms) if arm in ("treatment", "explored")]
    text(project, the_task, users, MessageState.ACCEPTED, D)
    done = report_task(project, the_task)
    effect = done.effect
    assert effect.funnel.steps["sent"] == len(users)
    assert effect.arms[0].users == len(users) - 15
    assert effect.explored is not None and effect.explored.users == 15
    assert effect.explored.messages == 30 and effect.explored.cost == pytest.approx(1.5)
    assert effect.messages_in_all == 2 * len(users)
    assert effect.cost_in_all == pytest.approx(0.1 * len(users))
    assert effect.money.cost == pytest.approx(0.1 * (len(users) - 15))
    page, document = done.page.read_text("utf-8"), json.loads(done.data.read_text("utf-8"))
    assert "explored: texted at random" in page and "all texts" in page
    assert (
        document["cost_in_all"] == pytest.approx(0.1 * len(users))
        and document["explored"]["users"] == 15
    )


def test_all_campaigns_by_the_global_control_group(project: Project) -> None:
    """Users counted twice, or who was chosen instead of who could be, or another draw than decided."""
    settings = project.settings.model_copy(update={"global_holdout_share": 0.3})
    project = Project(settings)
    one, two = make(project), make(project, "second", D + timedelta(days=7))
    with open_engine(settings) as engine:
        engine.run(f"create table people as select 'u' || i as user_id from range({USERS}) t(i)")
        held_out = {
            user
            for (user,) in engine.rows(
                f"select user_id from people where {is_control_sql(global_holdout(settings, D), 'user_id')}"
            )
        }
    arms = ["control" if f"u{i}" in held_out else "treatment" for i in range(USERS)]
    decide(project, one, arms[:250], group="global")
    decide(project, two, arms, group="global")
    lives = lives_of(arms, 40)
    behave(project, lives)
    texted = [f"u{i}" for i, arm in enumerate(arms) if arm == "treatment"]
    text(project, one, texted, MessageState.ACCEPTED, D)
    text(project, two, texted, MessageState.ACCEPTED, D + timedelta(days=7))
    effect = measure_all(project, D, D + timedelta(days=7), return_days=21)
    treatment, control = effect.arms
    assert (treatment.users, control.users) == (USERS - len(held_out), len(held_out))
    assert effect.window_last == D + timedelta(days=28) and effect.complete
    assert treatment.cost == pytest.approx(2 * len(texted) * 0.1)
    first = {f"u{i}": D if i < 250 else D + timedelta(days=7) for i in range(USERS)}
    spent = sum(
        amount
        for ds, bought in lives.items()
        for user, amount in bought
        if user in held_out and first[user] < ds <= D + timedelta(days=28)
    )
    assert control.amount == pytest.approx(spent)
    assert effect.sample_ratio is not None and effect.sample_ratio.passed
    assert effect.verdict == "works" and "any text" in effect.sentence and effect.deciles == []
    assert measure_all(project, D, D, as_of=D + timedelta(days=5)).verdict == "not_yet"
    other = Project(settings.model_copy(update={"global_holdout_epoch": "2"}))
    with pytest.raises(UserError, match="another global control group"):
        measure_all(other, D, D)
    with pytest.raises(UserError, match="has been decided"):
        measure_all(project, date(2025, 1, 1), date(2025, 2, 1))


def test_texts_after_the_window_are_not_in_it(project: Project) -> None:
    """A repeat's cost that is charged to the first window, and texts that are said to have brought
    back people who were back before they got one."""
    the_task, arms = make(project), arms_of()
    decide(project, the_task, arms)
    behave(project, lives_of(arms, 60))
    users = [f"u{i}" for i, arm in enumerate(arms) if arm == "treatment"]
    text(project, the_task, users[:5], MessageState.DELIVERED, D + timedelta(days=15))
    late = report_task(project, the_task)
    assert late.effect.verdict == "nothing_sent" and late.effect.cost_in_all == 0
    assert f"no text had gone out by the end of {D + timedelta(days=14)}" in late.effect.sentence
    assert late.effect.funnel.steps["sent"] == 0
    assert ("after_window", 5) in {(x.reason, x.rows) for x in late.effect.funnel.losses}
    text(project, the_task, users, MessageState.DELIVERED, D + timedelta(days=14))
    once = measure(project, the_task)
    for week in range(3, 9):  # the same people again, by a schedule with a frozen audience
        text(project, the_task, users, MessageState.DELIVERED, D + timedelta(days=7 * week))
    effect = report_task(project, the_task).effect
    assert effect.verdict == once.verdict == "works"
    assert effect.arms == once.arms and effect.cost_in_all == pytest.approx(0.1 * len(users))
    assert effect.funnel.steps["sent"] == len(users)
    assert any(f"{len(users)} users got a text of this task after" in note for note in effect.notes)
    assert project.warehouse.row_counts(OUTCOMES) == {D: len(arms)}


def test_a_period_over_several_draws_is_cut(project: Project) -> None:
    """A person's arm by the draw of their first date, with texts by another draw reported as mistakes:
    a period in which the global group was drawn afresh gives a report for each draw."""
    settings = project.settings.model_copy(update={"global_holdout_share": 0.3})
    project = Project(settings)
    second = drawn_on(settings.global_holdout_rotate_days, D + timedelta(days=91))
    assert second is not None and second > D
    tasks = [make(project), make(project, "second", second + timedelta(days=3))]
    behave(project, lives_of(["none"] * USERS, 140))
    for one in tasks:
        draw = global_holdout(settings, one.execution_date)
        arms = [arm(draw, f"u{i}") for i in range(USERS)]
        decide(project, one, list(arms), group="global", epoch=draw.epoch)
        texted = [f"u{i}" for i in range(USERS) if arms[i] == "treatment"]
        text(project, one, texted, MessageState.ACCEPTED, one.execution_date)
    # a repeat of the first, with its audience frozen, when the group has been drawn afresh
    frozen = [
        f"u{i}" for i in range(USERS) if arm(global_holdout(settings, D), f"u{i}") != "control"
    ]
    text(project, tasks[0], frozen, MessageState.DELIVERED, second + timedelta(days=5))
    last = second + timedelta(days=20)
    parts = parts_of(project, D, last)
    assert [(part.first, part.last) for part in parts] == [
        (D, second - timedelta(days=1)),
        (second, last),
    ]
    with pytest.raises(UserError, match=f"ask for {D} to {second - timedelta(days=1)}, {second}"):
        measure_all(project, D, last)
    reports = report_period(project, D, last)
    assert [one.effect.execution_date for one in reports] == [D, second]
    assert f"drawn on {day_words(second)}" in dict(reports[1].basis.facts)["Held out"]
    for one in reports:
        treatment, control = one.effect.arms
        assert one.effect.crossover["control_texted_by_this"] == 0
        assert control.cost == 0 and treatment.cost >= 0.1 * treatment.users - 1e-9
    later = reports[1].effect
    assert later.crossover["control_texted_by_others"] > 0
    assert any("decided under another draw" in note for note in later.notes)
    assert later.arms[0].cost == pytest.approx(0.1 * later.arms[0].users)
    # what was decided counts, not what the settings say by now
    kept = Project(settings.model_copy(update={"global_holdout_rotate_days": None}))
    cut = parts_of(kept, D, last)
    assert [part.first for part in cut] == [D, tasks[1].execution_date]
    again = measure_all(kept, D, cut[0].last)
    assert [a.users for a in again.arms] == [a.users for a in reports[0].effect.arms]
    assert parts_of(project, date(2020, 1, 1), date(2020, 1, 2))[0].drawn is None


def test_people_who_refused_are_counted_as_the_cause(project: Project) -> None:
    """A kept draw whose report blames something unknown for those who refused since."""
    days = 90  # D is the 12th day of the draw
    project = Project(project.settings.model_copy(update={"global_holdout_rotate_days": days}))
    the_task = make(project)
    arms = ["control"] * 150 + ["treatment"] * 250 + ["none"] * 200
    decide(project, the_task, arms)
    behave(project, lives_of(arms, 20))
    earlier = make(project, "earlier", D - timedelta(days=1))
    gone = [f"u{i}" for i in range(400, 600)]
    text(project, earlier, [*gone, "u3"], MessageState.DELIVERED, D - timedelta(days=1))
    project.warehouse.open("decisions").update(
        predicate="arm = 'none'", updates={"outcome": "'suppressed'", "score": "0.99"}
    )
    vault = open_vault(project.settings.home)
    with project.store.write() as connection:
        for user in [*gone, "u3"]:
            connection.execute(
                schema.message.update()
                .where(schema.message.c.user_id == user)
                .values(user_hash=vault.user_digest(user))
            )
    blamed = measure(project, the_task)
    assert blamed.verdict == "uneven_split" and "something has added" in blamed.sentence
    for user in gone:
        suppress(
            project.store, vault, user_id=user, reason="reply", source="test",
            now=datetime(2026, 3, 1, 20, tzinfo=project.settings.zone),
        )  # fmt: skip
    known = measure(project, the_task)
    assert known.verdict == "uneven_split"
    assert "200 people of the upload have refused texts since the control group was drawn" in (
        known.sentence
    )
    assert "holdout.rotate_days: 7, setting global_holdout_rotate_days: 90" in known.sentence
    project.warehouse.open("decisions").update(
        predicate="outcome = 'suppressed'", updates={"score": "0.001"}
    )
    unlikely = measure(project, the_task)
    assert "something has added" in unlikely.sentence, "they would not have been chosen"


def test_registering_is_enough(project: Project) -> None:
    """A task without any behavior landed since: no window, no figures, and no crash."""
    the_task = make(project)
    register_task(project.store, "spring", "spring", D, "test")
    decide(project, the_task, arms_of())
    effect = measure(project, the_task)
    assert effect.landed_until is None and effect.counted_until is None
    assert effect.verdict == "nothing_sent" and effect.daily == []
