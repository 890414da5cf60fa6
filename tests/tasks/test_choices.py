"""How a campaign's file becomes a choice: policies, fallback, strata, the global control group."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from chain_world import (
    D,
    World,
    control_dump,
    copy_home,
    output,
    rows,
    write_campaign,
    write_people,
)
from scipy import stats

from usergrowth_dagster.audience.holdout import ORIGIN, arm, drawn_on, epoch_in_force
from usergrowth_dagster.audience.policy import Budget, Money, Threshold, TopN
from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import load_campaign
from usergrowth_dagster.control.campaign_blocks import HoldoutSpec
from usergrowth_dagster.control.tasks import Task, task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.pipeline import score
from usergrowth_dagster.pipeline.candidates import stratum_sql
from usergrowth_dagster.pipeline.choice import choice_of, drawn_since
from usergrowth_dagster.pipeline.decide import Decided, decide_task
from usergrowth_dagster.pipeline.output import write_task_output
from usergrowth_dagster.pipeline.populate import load_population
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.warehouse.engine import Engine, open_engine

MONEY = "{money: {budget: 2, min_profit: 0.01}"
WORTH = "{value_per_return: 2}"


def registered(home: Path, **changes: str) -> tuple[Project, Task]:
    """A campaign with all the world's people; its task is not decided yet."""
    people = home / "landing" / "population" / "care" / "population.csv"
    write_people(home, "spring", people.read_text("utf-8").splitlines())
    project = Project(load_settings(home))
    apply_campaign(project.store, load_campaign(write_campaign(home, "spring", **changes)), "ann")
    return project, task(project.store, "spring")


def scored(project: Project) -> None:
    load_population(project, task(project.store, "spring"))
    score.score_task(project, task(project.store, "spring"))


def decide(project: Project) -> Decided:
    scored(project)
    return decide_task(project, task(project.store, "spring"))


def decisions(home: Path, columns: str) -> list[Any]:
    return rows(home, "decisions", "task_id = 'spring'", columns)


def test_a_choice_follows_the_file(world: World, tmp_path: Path) -> None:
    """Guards against a key of the file that nothing acts upon, and against a fallback that is
    taken in silence, or where none was named."""
    home = copy_home(world.landed, tmp_path / "home")
    settings = load_settings(home, global_holdout_share=0.03, global_holdout_rotate_days=7)

    def choice(selection: str, by_uplift: bool = True, **changes: str) -> Any:
        project, spring = registered(home, selection=selection, **changes)
        made = choice_of(settings, spring, by_uplift=by_uplift)
        project.store.close()
        return made

    assert choice("{threshold: 0.3, explore: 0.1}").policy == Threshold(threshold=0.3, explore=0.1)
    assert choice("{top_n: 3, rank_by: uplift}").policy == TopN(n=3, rank_by="uplift")
    assert choice("{budget: 3}", by_uplift=False).policy == Budget(budget=3)
    fallback = MONEY + ", explore: 0.2, fallback: {top_n: 7}}"
    money = Money(value_per_return=2, min_profit=0.01, budget=2, explore=0.2)
    made = choice(fallback, effect=WORTH)
    assert (made.policy, made.note) == (money, "")
    made = choice(fallback, by_uplift=False, effect=WORTH)
    assert made.policy == TopN(n=7, explore=0.2)
    assert "fallback decided by score (top_n)" in made.note
    with pytest.raises(UserError, match=r"selection\.fallback") as caught:
        choice(MONEY + "}", by_uplift=False, effect=WORTH)
    assert "\n" not in str(caught.value)

    holdout = "{share: 0.2, namespace: n, epoch: e, rotate_days: 28, strata: [activity]}"
    made = choice("{top_n: 3}", holdout=holdout)
    assert made.holdout.epoch == f"e/{(D - ORIGIN).days // 28}"
    assert made.holdout.strata == ("activity",)
    assert made.global_holdout.epoch == f"1/{(D - ORIGIN).days // 7}"
    assert (made.global_holdout.share, made.global_holdout.scope) == (0.03, "global")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"holdout": "{share: 0.123, strata: [city]}"}, "holdout.share: with strata"),
        ({"holdout": "{share: 0.1, strata: [city, city]}"}, "strata: names each"),
        ({"selection": "{money: {}}"}, "effect.value_per_return"),
        ({"selection": "{top_n: 3, explore: 0.6}"}, "selection.explore"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(
    tmp_path: Path, changes: dict[str, str], says: str
) -> None:
    """Guards against a campaign that fails only on the day it is decided."""
    with pytest.raises(UserError) as caught:
        load_campaign(write_campaign(tmp_path, "spring", **changes))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def set_uplift(project: Project, uplift: str, version: str) -> None:
    """Give the scores of the task the columns that an uplift model fills, or leaves empty."""
    warehouse, spring = project.warehouse, task(project.store, "spring")
    with open_engine(project.settings) as engine:
        standing = score.bind_scores(engine, project, spring)
        table = engine.arrow(
            f"select * replace (case when score is not null then {uplift} end as uplift, "
            f"cast({version} as varchar) as uplift_version) from {standing}"
        )
    scope = {"task_id": "spring"}
    marks = warehouse.fingerprints(score.SCORES, scope)
    warehouse.replace(score.SCORES, table, days=[D], scope=scope, fingerprints={D: marks[D]})


def test_money_decides_once_there_is_an_uplift_and_says_when_there_is_none(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a campaign by money that is decided by score without a word of it, and
    against a decision that stands although it could be made as the campaign asks."""
    monkeypatch.setitem(score.SCORE_COLUMNS, "uplift", ("DOUBLE", ""))
    monkeypatch.setitem(score.SCORE_COLUMNS, "uplift_version", ("VARCHAR", ""))
    project, _ = registered(home, selection=MONEY + ", fallback: {top_n: 20}}", effect=WORTH)
    scored(project)
    set_uplift(project, "null", "null")
    first = decide_task(project, task(project.store, "spring"))
    assert first.outcomes["selected"] == 20 and "fallback decided by score" in first.note
    write_task_output(project, task(project.store, "spring"))
    note = first.note.replace("'", "''")
    assert any("history" in line and note in line for line in control_dump(home))
    assert {net for (net,) in decisions(home, "net_value")} == {None}

    set_uplift(project, "0.02 * (hash(user_id) % 5)", "'7'")
    again = decide_task(project, task(project.store, "spring"))
    assert (again.state, again.note) == ("changed", "")
    price = project.settings.message_price
    assert 0 < again.spend.cost <= 2.0 and again.outcomes["not_profitable"] > 0
    for outcome, uplift, net, cost, version in decisions(
        home, "outcome, uplift, net_value, cost, uplift_version"
    ):
        assert version == "7"
        if uplift is not None and cost is not None:
            assert net == pytest.approx(2 * uplift - cost) and cost >= price
            assert (outcome != "selected") or net > 0.01


def test_strata_are_of_the_date_and_their_shares_are_exact(home: Path) -> None:
    """Guards against a stratum of the wrong band, and against a stratified group that misses its
    share in one of them."""
    project, _ = registered(
        home, selection="{top_n: 150}", holdout="{share: 0.2, strata: [activity, tenure]}"
    )
    assert decide(project).state == "new"
    decided = decisions(home, "stratum, user_id, outcome, holdout, holdout_epoch, global_epoch")
    assert {(epoch, everybody) for *_, epoch, everybody in decided} == {
        (f"1/{(D - ORIGIN).days // 7}", f"1/{(D - ORIGIN).days // 91}")
    }
    with open_engine(project.settings) as engine:
        features = project.warehouse.files("user_features")[D]
        engine.bind_arrow("f", pa.Table.from_pylist(_bands(engine, features)))
        bands = dict(engine.rows("select user_id, concat(active, tenure) from f"))
    strata = {user: stratum for stratum, user, *_ in decided}
    pairs = {(strata[user], bands[user]) for user in strata if user in bands}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) > 1
    chosen: dict[str, list[bool]] = {}
    for stratum, _, outcome, group, *_ in decided:
        if outcome in ("selected", "holdout") and group != "global":
            chosen.setdefault(stratum, []).append(group == "campaign")
    assert len(chosen) > 1
    for stratum, outcomes in chosen.items():
        assert abs(sum(outcomes) - 0.2 * len(outcomes)) < 1, stratum


def test_a_stratum_that_nobody_has_is_refused(home: Path) -> None:
    """Guards against a mistyped attribute: all are unknown then, and nothing is balanced."""
    project, _ = registered(
        home, selection="{top_n: 150}", holdout="{share: 0.2, strata: [activity, nosuchattr]}"
    )
    with pytest.raises(
        UserError, match=r"'spring': holdout.strata\[1\]: nobody .*'nosuchattr'"
    ) as refused:
        decide(project)
    known = str(refused.value).partition("known are ")[2].split(", ")
    assert {"activity", "tenure", "user_type"} <= set(known) and len(known) > 3, refused.value
    other = next(name for name in known if name not in ("activity", "tenure", "user_type", "…"))
    registered(home, selection="{top_n: 150}", holdout=f"{{share: 0.2, strata: [{other}]}}")
    assert decide(project).state == "new"


def _bands(engine: Engine, files: list[str]) -> list[dict[str, Any]]:
    """Bands of the users, counted in Python from the features."""
    people = engine.rows(f"select user_id, recency_days, tenure_days from read_parquet({files})")
    return [
        {
            "user_id": user,
            "active": -1 if recency is None else sum(recency > last for last in (7, 28, 90)),
            "tenure": -1 if tenure is None else sum(tenure > last for last in (29, 89, 364)),
        }
        for user, recency, tenure in people
    ]


def test_a_stratum_may_be_any_attribute(home: Path) -> None:
    """Guards against a column of the upload, or an attribute, that makes no stratum or a NULL."""
    with open_engine(load_settings(home)) as engine:
        strata = engine.rows(f"""
            select {stratum_sql(["city", "user_type", "activity"])}
            from (values (map {{'city': 'Lyon'}}, map {{}}, 8, ' vip '),
                (map {{'city': ''}}, map {{'city': 'Paris'}}, null, null),
                (map {{}}, map {{}}, 91, '')) t(variables, strs, recency_days, user_type),
            lateral (select variables) p,
            lateral (select strs as kvs_str, map {{}}::map(varchar, double) as kvs_num) a,
            lateral (select recency_days, user_type, 0 as tenure_days) f""")
    assert sorted(stratum for (stratum,) in strata) == [
        "city=Lyon; user_type=vip; activity=8-28 days",
        "city=Paris; user_type=unknown; activity=never seen",
        "city=unknown; user_type=unknown; activity=over 90 days",
    ]


def test_the_global_group_is_out_of_every_campaign(home: Path) -> None:
    """Guards against a person of the global control group who gets another campaign's text, and
    against a changed group that leaves the decisions as they were."""
    settings: Settings = load_settings(home)
    project, _ = registered(
        home, selection="{threshold: 0.05, explore: 0.3}", holdout="{share: 0.1, namespace: own}",
        contact="{cap_messages: null}",
    )  # fmt: skip
    first = decide(project)
    written = write_task_output(project, task(project.store, "spring"))
    texted = first.outcomes["selected"] + first.outcomes["explored"]
    assert written.rows == len(output(home, "spring").splitlines()) == texted
    assert first.spend.messages >= texted > first.outcomes["selected"]
    group = choice_of(settings, task(project.store, "spring"), by_uplift=False).global_holdout
    everywhere = rows(home, "decisions", columns="user_id, arm, holdout, propensity, outcome")
    for user, arm_, holdout, propensity, outcome in everywhere:
        assert 0 < propensity <= 1
        assert (holdout == "global") <= (arm(group, user) == "control")
        assert arm_ != "treatment" or arm(group, user) == "treatment", outcome
        assert arm_ != "control" or (holdout == "global") == (arm(group, user) == "control")
    held_out = sum(holdout == "global" for _, _, holdout, *_ in everywhere)
    chosen = sum(outcome in ("selected", "holdout") for *_, outcome in everywhere)
    assert held_out and stats.binomtest(held_out, chosen, 0.02).pvalue > 1e-4

    other = Project(load_settings(home, global_holdout_epoch="2"))
    again = decide_task(other, task(other.store, "spring"))
    assert again.state == "changed" and again.outcomes != {} and first.outcomes != {}
    more = Project(load_settings(home, global_holdout_epoch="2", global_holdout_share=0.3))
    assert decide_task(more, task(more.store, "spring")).state == "changed"
    epochs = {epoch for (epoch,) in decisions(home, "global_epoch")}
    assert epochs == {f"2/{(D - ORIGIN).days // 91}"}


def test_a_day_has_the_epoch_of_its_period() -> None:
    """Guards against a control group drawn afresh in the middle of a period."""
    from usergrowth_dagster.pipeline.choice import global_holdout

    settings = Settings(global_holdout_rotate_days=7)
    monday = date(2017, 5, 1)
    week = [global_holdout(settings, monday + timedelta(days=n)).epoch for n in range(8)]
    assert len(set(week[:7])) == 1 and week[7] != week[0]


def test_a_draw_is_not_kept_for_ever(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against the same people left alone for ever by default: they cannot refuse, those who
    are texted can, and campaign after campaign the arms drift apart. Both draws are kept when the
    file, the toml or the environment says null; weeks fit into the global draw."""
    spec = HoldoutSpec()
    assert (spec.rotate_days, Settings().global_holdout_rotate_days) == (7, 91)
    assert HoldoutSpec(rotate_days=None).rotate_days is None
    (home / "usergrowth.toml").write_text('global_holdout_rotate_days = "null"\n')
    kept = load_settings(home)
    assert kept.global_holdout_rotate_days is None
    monkeypatch.setenv("USERGROWTH_GLOBAL_HOLDOUT_ROTATE_DAYS", "null")
    assert Settings().global_holdout_rotate_days is None
    project, spring = registered(home, holdout="{share: 0.1}")
    assert drawn_since(Settings(global_holdout_rotate_days=91), spring) == (
        drawn_on(91, D),
        "holdout.rotate_days: 7, setting global_holdout_rotate_days: 91",
    )
    assert drawn_since(kept, spring)[0] is None  # one of them is kept
    project.store.close()
    for days in (7, 91, 10):
        starts = {drawn_on(days, D + timedelta(days=n)) for n in range(days + 1)}
        assert len(starts) == 2 and all(start is not None for start in starts)
        for start in starts:
            assert start is not None
            before, after = (
                epoch_in_force("1", days, start + timedelta(days=n)) for n in (-1, days)
            )
            assert len({before, epoch_in_force("1", days, start), after}) == 3
