"""Shares, TGI, tests, overlaps, funnels and cohorts against plain Python."""

import math
from collections import Counter
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.profiles import cohorts, journeys
from usergrowth_dagster.profiles.cohorts import cohorts_of
from usergrowth_dagster.profiles.journeys import funnel_of, retention_of
from usergrowth_dagster.profiles.overlap import overlap_of
from usergrowth_dagster.profiles.profile import NO_VALUE, profile_of, value_share
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import Relation, bind_query

SLOW = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
D = date(2024, 3, 13)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """An engine with a table of tags to fill."""
    made = Engine(duckdb.connect(), tmp_path_factory.mktemp("engine"))
    made.run(
        "create table tags (user_id varchar, kind varchar, multi varchar[], amount double, "
        "own varchar)"
    )
    made.run("create table facts (ds date, user_id varchar, kinds map(varchar, double))")
    return made


def people(engine: Engine, users: Any) -> Relation:
    """A group of people."""
    listed = ", ".join(f"('{user}')" for user in users) or "(null)"
    sql = f"select user_id from (values {listed}) as t(user_id) where user_id is not null"
    return bind_query(engine, "people", sql, keep=True)


def tags_of(engine: Engine, rows: list[tuple[Any, ...]]) -> Relation:
    """The table of tags."""
    engine.run("delete from tags")
    for row in rows:
        engine.run("insert into tags values (?, ?, ?, ?, ?)", list(row))
    return Relation("tags", engine.describe("select * from tags"))


def test_tgi_and_its_interval() -> None:
    """A share of the wrong whole, an interval without the logarithm, a zero that divides."""
    share = value_share("x", 60, 200, 150, 1000)
    assert share.tgi == pytest.approx(200)
    width = 1.959964 * math.sqrt(0.7 / 60 + 0.85 / 150)
    assert (share.low, share.high) == pytest.approx((200 * math.exp(-width), 200 * math.exp(width)))
    assert share.is_telling
    assert not value_share("x", 29, 100, 150, 1000).is_telling  # too few people
    assert not value_share("x", 30, 200, 150, 1000).is_telling  # at par
    none = value_share("x", 0, 200, 150, 1000)
    assert none.group_share == 0 and 0 < none.tgi < 5 and not none.is_telling


users = st.integers(0, 39).map(lambda n: f"u{n:02}")
values = st.sampled_from(["a", "b", "c", None])


@SLOW
@given(
    st.dictionaries(users, st.tuples(values, st.lists(st.sampled_from("xyz"), max_size=3))),
    st.sets(users),
)
def test_shares_count_people(engine: Engine, tagged: Mapping[str, Any], group: set[str]) -> None:
    """People counted twice, missing values lost, a test against a base that holds the group."""
    rows = [(u, kind, multi, None, u) for u, (kind, multi) in tagged.items()]
    known = tags_of(engine, rows)
    types: Any = [("kind", "text"), ("multi", "multi")]
    profile = profile_of(engine, known, types, people(engine, group))
    inside = group & tagged.keys()
    assert (profile.group, profile.base) == (len(inside), len(tagged))
    assert profile.unknown == len(group - tagged.keys())
    found = {tag.key: {v.value: (v.group, v.base) for v in tag.values} for tag in profile.tags}
    if "kind" in found:
        kinds = {u: kind or NO_VALUE for u, (kind, _) in tagged.items()}
        everyone, mine = Counter(kinds.values()), Counter(kinds[u] for u in inside)
        assert found["kind"] == {v: (mine[v], n) for v, n in everyone.items()}
        table = [[mine[v], n - mine[v]] for v, n in everyone.items()]
        (strength,) = [tag.cramers_v for tag in profile.tags if tag.key == "kind"]
        if len(table) > 1 and inside and inside != tagged.keys():
            expected = chi2_contingency(table, correction=False)[0] / len(tagged)
            assert strength == pytest.approx(math.sqrt(expected))
        else:
            assert strength == 0
    if "multi" in found:
        sets = {u: set(multi) for u, (_, multi) in tagged.items()}
        everyone = Counter(v for held in sets.values() for v in held)
        mine = Counter(v for u in inside for v in sets[u])
        assert found["multi"] == {v: (mine[v], n) for v, n in everyone.items()}


def test_numbers_ids_and_order(engine: Engine) -> None:
    """An id that leads the list, numbers without a spread, chance differences called real."""
    rows = [
        (f"u{n}", "ab"[n % 2], [], float(n % 17 + (50 if n < 200 else 0)), f"id{n}")
        for n in range(1000)
    ]
    known = tags_of(engine, rows)
    types: Any = [("own", "text"), ("kind", "text"), ("amount", "float"), ("multi", "multi")]
    profile = profile_of(engine, known, types, people(engine, [f"u{n}" for n in range(200)]))
    assert dict(profile.left_out).keys() == {"own"}
    assert profile.tags[0].key == "amount"
    amount, *others = profile.tags
    assert amount.differs and not any(tag.differs for tag in others)
    assert amount.group_spread is not None and amount.base_spread is not None
    assert amount.group_spread.mean == pytest.approx(sum(r[3] for r in rows[:200]) / 200)
    assert sum(v.base for v in amount.values) == 1000


@SLOW
@given(st.dictionaries(st.sampled_from(["A", "B", "C", "D"]), st.sets(users), min_size=2))
def test_overlap_is_that_of_sets(engine: Engine, groups: dict[str, set[str]]) -> None:
    """People counted in a group that they are not in, or in two intersections."""
    made = overlap_of(engine, {name: people(engine, held) for name, held in groups.items()})
    assert dict(made.sizes) == {name: len(held) for name, held in groups.items()}
    expected = Counter(
        tuple(name for name in groups if user in groups[name])
        for user in set().union(*groups.values())
    )
    assert {one.groups: one.people for one in made.intersections} == expected
    for pair in made.pairs:
        assert pair.both == len(groups[pair.one] & groups[pair.other])


def test_overlap_of_one_group_is_refused(engine: Engine) -> None:
    """A single group that overlaps with itself."""
    with pytest.raises(UserError, match="give 2 to 10"):
        overlap_of(engine, {"A": people(engine, ["u1"])})


days = st.integers(1, 40)
events = st.lists(st.tuples(users, days, st.sampled_from(["see", "cart", "buy"])), max_size=60)


def fill_facts(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, log: list[tuple[str, int, str]]
) -> None:
    """The facts of a log; a bound window is a view of them."""
    engine.run("delete from facts")
    for user, back, kind in log:
        engine.run(
            "insert into facts values (?, ?, ?)", [D - timedelta(days=back), user, {kind: 1.0}]
        )

    def bind(engine: Engine, _project: Any, first: date, last: date) -> Relation:
        sql = f"select * from facts where ds between '{first}' and '{last}'"
        return bind_query(engine, "facts", sql)

    monkeypatch.setattr(journeys, "_bind", bind)


def reaches(log: list[tuple[str, int, str]], user: str, within: int) -> int:
    """How many of the steps see, cart, buy a user did in order: every chain is tried."""
    of_user = [(-back, kind) for who, back, kind in log if who == user]
    best = 0
    for began in [at for at, kind in of_user if kind == "see"]:
        best = max(best, 1)
        for cart in [
            at for at, kind in of_user if kind == "cart" and began <= at <= began + within
        ]:
            best = max(best, 2)
            if any(kind == "buy" and cart <= at <= began + within for at, kind in of_user):
                best = 3
    return best


PROJECT: Any = Project.__new__(Project)


@SLOW
@given(log=events, group=st.sets(users), within=st.integers(0, 15))
def test_funnel_tries_every_chain(
    engine: Engine, log: list[tuple[str, int, str]], group: set[str], within: int
) -> None:
    """A chain that begins at the first event only, or goes back in time."""
    with pytest.MonkeyPatch.context() as patch:
        fill_facts(engine, patch, log)
        bound = people(engine, group)
        steps = ["see", "cart", "buy"]
        made = funnel_of(engine, PROJECT, bound, steps, day=D, days=40, within_days=within)
    depth = [reaches(log, user, within) for user in group]
    assert made.people == len(group)
    assert [s.people for s in made.steps] == [sum(d > n for d in depth) for n in range(3)]


@SLOW
@given(log=events, group=st.sets(users))
def test_cohorts_are_of_the_first_week(
    engine: Engine, log: list[tuple[str, int, str]], group: set[str]
) -> None:
    """A person in two cohorts, a week that is not over, activity on the date itself."""
    with pytest.MonkeyPatch.context() as patch:
        fill_facts(engine, patch, [*log, ("u00", 0, "see")])
        cohorts = retention_of(engine, PROJECT, people(engine, group), day=D, weeks=4)
    monday = D - timedelta(days=D.weekday())
    weeks: dict[str, set[int]] = {}
    for user, back, _ in log:
        week = (D - timedelta(days=back) - monday).days // 7
        if user in group and -4 <= week < 0:
            weeks.setdefault(user, set()).add(week + 4)
    for place, cohort in enumerate(cohorts):
        members = [held for held in weeks.values() if min(held) == place]
        assert cohort.people == len(members)
        for later, share in enumerate(cohort.shares):
            if later >= 4 - place:
                assert share is None
            elif members:
                again = sum(place + later in held for held in members)
                assert share == pytest.approx(again / len(members))


@SLOW
@given(
    log=events,
    group=st.sets(users),
    tenure=st.dictionaries(users, st.integers(-3, 60) | st.none()),
)
def test_cohorts_are_of_the_week_of_registration(
    engine: Engine,
    log: list[tuple[str, int, str]],
    group: set[str],
    tenure: dict[str, int | None],
) -> None:
    """A person in two cohorts or in none without a count; an active person who is not counted."""
    values = ", ".join(
        f"('{user}', {'null' if days is None else days})" for user, days in tenure.items()
    )
    listed = values or "(null, null)"
    sql = f"select u as user_id, cast(t as bigint) as tenure_days from (values {listed}) as v(u, t)"
    with pytest.MonkeyPatch.context() as patch:
        fill_facts(engine, patch, [*log, ("u00", 0, "see")])
        bound = bind_query(engine, "features", sql, keep=True)
        patch.setattr(cohorts, "bind_features", lambda *_: bound)
        monday = D - timedelta(days=D.weekday())
        first = monday - timedelta(weeks=4)
        patch.setattr(
            cohorts,
            "bind_facts",
            lambda *_: journeys._bind(engine, PROJECT, first, monday - timedelta(days=1)),
        )
        made = cohorts_of(engine, PROJECT, people(engine, group), day=D, weeks=4)
    began = {user: tenure.get(user) for user in group}
    week_of = {
        user: None if days is None else (D - timedelta(days=days) - monday).days // 7 + 4
        for user, days in began.items()
    }
    assert made.people == len(group)
    assert made.unknown == sum(week is None for week in week_of.values())
    assert made.before == sum(week is not None and week < 0 for week in week_of.values())
    assert made.later == sum(week is not None and week >= 4 for week in week_of.values())
    active = {(user, (D - timedelta(days=back) - monday).days // 7 + 4) for user, back, _ in log}
    for place, cohort in enumerate(made.cohorts):
        members = {user for user, week in week_of.items() if week == place}
        assert cohort.people == len(members)
        assert list(cohort.active) == [
            sum((user, place + later) in active for user in members) if later < 4 - place else None
            for later in range(4)
        ]
