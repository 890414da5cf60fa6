"""Trees of conditions: the SQL against plain Python, the laws of sets, and what a text cannot do."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.segment_world import CITIES, ITEMS, KINDS, LIKES, STAGES, D, Event, Person, people

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.segments.compile import Inputs, compile_segment
from usergrowth_dagster.segments.definition import (
    DEPTH,
    LEAVES,
    Named,
    Segment,
    parse_segment,
    segment_schema,
)
from usergrowth_dagster.segments.inputs import bind_inputs
from usergrowth_dagster.warehouse.engine import Engine, open_engine

Tree = dict[str, Any]
DAY = timedelta(days=1)

EVERY_TABLE: Tree = {
    "any": [
        {"tag": {"key": "flag", "value": True}},
        {"event": {"within_days": 60}},
        {"event": {"where": [{"item_number": "price", "cmp": "set"}], "within_days": 60}},
        {"rfm": {"r": [1]}},
        {"aipl": {"from": "A", "to": "I", "over_days": 7}},
    ]
}


def segment(where: Tree, missing: str = "exclude") -> Segment:
    return Segment.model_validate({"missing": missing, "where": where})


@pytest.fixture(scope="module")
def bound(shared_world: Path) -> Iterator[tuple[Engine, Inputs]]:
    """One engine that has every table as of D."""
    project = Project.open(shared_world)
    with open_engine(project.settings) as engine:
        named = Named("every", segment(EVERY_TABLE), "every.yml")
        yield engine, bind_inputs(engine, project, named, D).inputs


def found(bound: tuple[Engine, Inputs], where: Tree, missing: str = "exclude") -> list[str]:
    """The users that the SQL finds."""
    engine, inputs = bound
    sql = compile_segment(segment(where, missing), "x.yml", D, inputs)
    return sorted(user for (user,) in engine.rows(sql))


# --- the plain evaluator ------------------------------------------------------------------------


def compared(leaf: Tree, value: Any, missing: str) -> bool:
    cmp, wanted = leaf.get("cmp", "eq"), leaf.get("value")
    if cmp in ("set", "unset"):
        return (value is None) == (cmp == "unset")
    if value is None:
        return missing == "include" and cmp in ("ne", "nin", "none")
    tests = {
        "eq": lambda: value == wanted,
        "ne": lambda: value != wanted,
        "in": lambda: value in wanted,
        "nin": lambda: value not in wanted,
        "lt": lambda: value < wanted,
        "le": lambda: value <= wanted,
        "gt": lambda: value > wanted,
        "ge": lambda: value >= wanted,
        "between": lambda: wanted[0] <= value <= wanted[1],
        "contains": lambda: wanted in value,
        "starts": lambda: value.startswith(wanted),
        "any": lambda: bool(set(value) & set(wanted)),
        "all": lambda: set(value) >= set(wanted),
        "none": lambda: not set(value) & set(wanted),
    }
    return bool(tests[cmp]())


def days_of(person: Person, kind: str, first: date) -> set[date]:
    return {e.ds for e in person.events if e.kind == kind and first <= e.ds < D}


def window_of(leaf: Tree, key: str) -> tuple[date, date]:
    """First and last day of a window; the last is before D."""
    if key in leaf:
        return D - timedelta(days=leaf[key]), D - timedelta(days=1)
    return leaf["from"], min(leaf.get("to", D), D - timedelta(days=1))


def of_event(leaf: Tree, event: Event) -> Any:
    """The value that a condition of an event compares."""
    price, genre = ITEMS.get(event.item or "", (None, None))
    values = {
        "text": event.page if leaf.get("text") == "page" else None,
        "number": event.pay if leaf.get("number") == "pay" else None,
        "item_text": genre,
        "item_number": price,
        "category": None if genre is None else genre.split("|"),
    }
    return next(value for key, value in values.items() if key in leaf)


def lives(leaf: Tree, person: Person) -> bool:
    """Whether a habit begins, lasts, ends or comes back, day by day."""
    kinds = leaf.get("behavior", KINDS)
    ages = {(D - e.ds).days for e in person.events if e.kind in kinds and e.ds < D}
    if "first_seen" in leaf:
        first, last = window_of(leaf["first_seen"], "within_days")
        return bool(ages) and first <= D - timedelta(days=max(ages)) <= last
    if "regularly" in leaf:
        form = leaf["regularly"]
        size = 7 if form.get("unit", "weeks") == "weeks" else 1
        units = [set(range(n * size + 1, n * size + size + 1)) for n in range(form["of"])]
        return sum(bool(ages & unit) for unit in units) >= form["at_least"]
    if "stopped" in leaf:
        silent, active = leaf["stopped"]["silent_days"], leaf["stopped"]["active_days"]
        before = set(range(silent + 1, silent + active + 1))
        return not ages & set(range(1, silent + 1)) and bool(ages & before)
    silent, within = leaf["resumed"]["silent_days"], leaf["resumed"]["within_days"]
    return any(
        age <= within
        and not ages & set(range(age + 1, age + silent + 1))
        and any(other > age + silent for other in ages)
        for age in ages
    )


def holds(tree: Tree, person: Person, missing: str) -> bool:
    ((kind, leaf),) = tree.items()
    if kind == "all":
        return all(holds(one, person, missing) for one in leaf)
    if kind == "any":
        return any(holds(one, person, missing) for one in leaf)
    if kind == "not":
        return not holds(leaf, person, missing)
    tags = person.tags if int(person.user[1:]) < 57 else {}
    if kind == "tag":
        return compared(leaf, tags.get(leaf["key"]), missing)
    if kind == "feature":
        return compared(leaf, person.features[leaf["name"]], missing)
    if kind == "attribute":
        if "key" in leaf:
            return compared(leaf, person.features[leaf["key"]], missing)
        name = "number" if "number" in leaf else "text"
        pairs = dict(
            person.features["attribute_num" if name == "number" else "attribute_str"] or []
        )
        return compared(leaf, pairs.get(leaf[name]), missing)
    if kind == "event":
        first, last = window_of(leaf, "within_days")
        events = [
            e
            for e in person.events
            if first <= e.ds <= last
            and ("behavior" not in leaf or e.kind in leaf["behavior"])
            and ("items" not in leaf or e.item in leaf["items"])
            and all(compared(one, of_event(one, e), missing) for one in leaf.get("where", []))
        ]
        total = sum(e.pay if "sum_of" in leaf else e.events for e in events)
        low = leaf.get("at_least", None if "at_most" in leaf else 1)
        return (low is None or total >= low) and total <= leaf.get("at_most", 1e9)
    if kind == "sequence":
        first, last = window_of(leaf, "last_days")
        other, within = leaf.get("then") or leaf["not_then"], timedelta(days=leaf["within_days"])
        gap = timedelta(days=int(other == leaf["first"]))
        ends = days_of(person, other, first)
        starts = {day for day in days_of(person, leaf["first"], first) if day <= last}
        follows = {a: any(a + gap <= b <= a + within for b in ends) for a in starts}
        if "then" in leaf:
            return any(follows.values())
        return any(a + within < D and not follows[a] for a in starts)
    if kind == "lifecycle":
        return lives(leaf, person)
    if kind == "rfm":
        types, scores = leaf.get("types"), leaf.get("r")
        return (types is None or person.rfm["rfm_type"] in types) and (
            scores is None or person.rfm["r_score"] in scores
        )
    assert kind == "aipl"
    if "stage" in leaf:
        return person.stages[D] in leaf["stage"]
    before = person.stages.get(D - timedelta(days=leaf["over_days"]))
    return before in leaf["from"] and person.stages[D] in leaf["to"]


# --- random trees -------------------------------------------------------------------------------

ORDERED = st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"])


def values(cmps: st.SearchStrategy[str], value: st.SearchStrategy[Any]) -> st.SearchStrategy[Tree]:
    one = st.builds(lambda cmp, v: {"cmp": cmp, "value": v}, cmps, value)
    several = st.builds(
        lambda cmp, v: {"cmp": cmp, "value": v},
        st.sampled_from(["in", "nin"]),
        st.lists(value, min_size=1, max_size=3),
    )
    return one | several | st.sampled_from([{"cmp": "set"}, {"cmp": "unset"}])


def between(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Tree]:
    return st.lists(value, min_size=2, max_size=2).map(lambda v: {"cmp": "between", "value": v})


def leaf(kind: str, key: Tree, rest: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    return rest.map(lambda more: {kind: {**key, **more}})


NUMBERS = st.integers(-2, 60) | st.sampled_from([0.5, 1.5, 2.0])
TEXTS = values(
    st.sampled_from(["eq", "ne", "contains", "starts"]), st.sampled_from([*CITIES, "O", "t", "'"])
)
LISTS = st.builds(
    lambda cmp, v: {"cmp": cmp, "value": v},
    st.sampled_from(["any", "all", "none"]),
    st.lists(st.sampled_from(LIKES), min_size=1, max_size=2, unique=True),
)
DAYS = st.integers(1, 60)
STAGE = st.lists(st.sampled_from(STAGES), min_size=1, max_size=3)
SOME_KINDS = st.lists(st.sampled_from(KINDS), min_size=1, max_size=2, unique=True)


def window(key: str) -> st.SearchStrategy[Tree]:
    """So many days, or from a day to a day, which may be later than D."""
    first, length = st.integers(1, 60), st.integers(0, 90)
    dated = st.builds(
        lambda ago, days: {
            "from": D - timedelta(days=ago),
            **({"to": D + timedelta(days=days - ago)} if days < 60 else {}),
        },
        first,
        length,
    )
    return DAYS.map(lambda days: {key: days}) | dated


OF_EVENT = st.one_of(
    TEXTS.map(lambda rest: {"text": "page", **rest}),
    TEXTS.map(lambda rest: {"text": "nothing", **rest}),
    values(ORDERED, NUMBERS).map(lambda rest: {"number": "pay", **rest}),
    values(ORDERED, NUMBERS).map(lambda rest: {"item_number": "price", **rest}),
    values(st.sampled_from(["eq", "ne", "contains"]), st.sampled_from(["x;y", "tea"])).map(
        lambda rest: {"item_text": "genre", **rest}
    ),
    LISTS.map(lambda rest: {"category": "genre", **rest}),
)
HABIT = st.one_of(
    window("within_days").map(lambda days: {"first_seen": days}),
    st.builds(
        lambda a, b, unit: {
            "regularly": {"at_least": min(a, b), "of": max(a, b), "unit": unit},
        },
        st.integers(1, 6),
        st.integers(1, 6),
        st.sampled_from(["days", "weeks"]),
    ),
    st.builds(
        lambda a, s: {"stopped": {"active_days": a, "silent_days": s}},
        st.integers(1, 30),
        st.integers(1, 30),
    ),
    st.builds(
        lambda s, w: {"resumed": {"silent_days": s, "within_days": w}},
        st.integers(1, 20),
        st.integers(1, 40),
    ),
)
BEHAVED = st.one_of(
    st.builds(
        lambda window, event: {"event": {**window, **event}},
        window("within_days"),
        st.fixed_dictionaries(
            {},
            optional={
                "behavior": SOME_KINDS,
                "items": st.lists(st.sampled_from(["i1", "i2"]), min_size=1, unique=True),
                "where": st.lists(OF_EVENT, min_size=1, max_size=2),
                "sum_of": st.just("pay"),
                "at_least": st.integers(1, 40),
                "at_most": st.integers(40, 90),
            },
        ),
    ),
    st.builds(
        lambda first, how, other, within, last: {
            "sequence": {"first": first, how: other, "within_days": within, **last}
        },
        st.sampled_from(KINDS),
        st.sampled_from(["then", "not_then"]),
        st.sampled_from(KINDS),
        st.integers(1, 20),
        window("last_days"),
    ),
    st.builds(
        lambda form, kinds: {"lifecycle": {**form, **kinds}},
        HABIT,
        st.just({}) | SOME_KINDS.map(lambda kinds: {"behavior": kinds}),
    ),
)
LEAF = st.one_of(
    leaf("tag", {"key": "flag"}, st.booleans().map(lambda v: {"value": v})),
    leaf("tag", {"key": "level"}, values(ORDERED, NUMBERS) | between(NUMBERS)),
    leaf("tag", {"key": "spend"}, values(ORDERED, NUMBERS)),
    leaf("tag", {"key": "city"}, TEXTS),
    leaf("tag", {"key": "likes"}, LISTS),
    leaf("tag", {"key": "since"}, values(ORDERED, st.dates(D - timedelta(days=9), D))),
    leaf("feature", {"name": "events_7d"}, values(ORDERED, NUMBERS)),
    leaf("attribute", {"key": "age"}, values(ORDERED, NUMBERS) | between(NUMBERS)),
    leaf("attribute", {"number": "visits"}, values(ORDERED, NUMBERS)),
    leaf("attribute", {"text": "city"}, TEXTS),
    BEHAVED,
    st.lists(st.integers(1, 3), min_size=1, max_size=2).map(lambda v: {"rfm": {"r": v}}),
    st.just({"rfm": {"types": ["high_value"]}}),
    STAGE.map(lambda v: {"aipl": {"stage": v}}),
    st.builds(lambda a, b: {"aipl": {"from": a, "to": b, "over_days": 7}}, STAGE, STAGE),
)


def grow(below: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    several = st.lists(below, min_size=1, max_size=3)
    return (
        several.map(lambda v: {"all": v})
        | several.map(lambda v: {"any": v})
        | below.map(lambda v: {"not": v})
    )


TREE = LEAF | grow(LEAF) | grow(grow(LEAF)) | grow(grow(grow(LEAF)))
MANY = settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@MANY
@given(where=TREE, missing=st.sampled_from(["exclude", "include"]))
def test_the_sql_finds_whom_plain_python_finds(
    bound: tuple[Engine, Inputs], where: Tree, missing: str
) -> None:
    """Guards against a wrong window, NULL rule, quotation or join, and against events of D or later."""
    expected = sorted(one.user for one in people() if holds(where, one, missing))
    assert found(bound, where, missing) == expected


@settings(MANY, max_examples=400)
@example(
    where={
        "event": {"where": [{"item_number": "price", "cmp": "ne", "value": 1}], "from": D - 9 * DAY}
    },
    missing="include",
)
@given(where=BEHAVED, missing=st.sampled_from(["exclude", "include"]))
def test_a_leaf_of_events_finds_whom_plain_python_finds(
    bound: tuple[Engine, Inputs], where: Tree, missing: str
) -> None:
    """Guards against a window, a week, a silence or a return that is off by a day."""
    expected = sorted(one.user for one in people() if holds(where, one, missing))
    assert found(bound, where, missing) == expected


@settings(MANY, max_examples=25)
@given(a=LEAF, b=LEAF)
def test_the_laws_of_sets(bound: tuple[Engine, Inputs], a: Tree, b: Tree) -> None:
    """Guards against a person who is in neither of a condition and its opposite, or in both."""
    both, either = found(bound, {"all": [a, b]}), found(bound, {"any": [a, b]})
    one, other = set(found(bound, a)), set(found(bound, b))
    assert set(both) == one & other and set(either) == one | other
    assert set(found(bound, {"not": a})) == {p.user for p in people()} - one
    assert found(bound, {"not": {"any": [a, b]}}) == found(bound, {"all": [{"not": a}, {"not": b}]})


def test_a_sample_is_the_same_and_contains_a_smaller_one(bound: tuple[Engine, Inputs]) -> None:
    """Guards against a draw that changes between runs, or is not of the share."""
    small, large, other = (
        set(found(bound, {"sample": {"salt": salt, "share": share}}))
        for salt, share in (("it's", 0.2), ("it's", 0.5), ("x", 0.5))
    )
    assert small < large and large != other and 18 <= len(large) <= 42


HOSTILE = [
    "'",
    '"',
    "it's; drop table user_tags; --",
    "') or true --",
    "\\",
    "$1",
    ":x",
    "?",
    "{x}",
    "{{x}}",
    "/* */",
    "\n",
    "%",
    "数据🦊",
    "null",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_stays_a_text(bound: tuple[Engine, Inputs], text: str) -> None:
    """Guards against a value that ends its quotation, in every place where a text may stand."""
    nobody: list[Tree] = [
        {"tag": {"key": "city", "value": text}},
        {"tag": {"key": "city", "cmp": "in", "value": [text]}},
        {"tag": {"key": "likes", "cmp": "any", "value": [text]}},
        {"attribute": {"text": text, "value": text}},
        {"attribute": {"number": text, "value": 1}},
        {"attribute": {"key": "user_type", "value": text}},
        {"event": {"behavior": text, "within_days": 60}},
        {"event": {"items": text, "within_days": 60}},
        {"event": {"sum_of": text, "at_least": 1, "within_days": 60}},
        {"event": {"where": [{"text": text, "value": "x"}], "within_days": 60}},
        {"event": {"where": [{"text": "page", "value": f"{text}!"}], "within_days": 60}},
        {
            "event": {
                "where": [{"category": text, "cmp": "any", "value": [text]}],
                "from": D - timedelta(days=9),
            }
        },
        {"lifecycle": {"behavior": text, "resumed": {"silent_days": 1, "within_days": 60}}},
        {"sequence": {"first": text, "then": text, "within_days": 9, "last_days": 60}},
    ]
    assert found(bound, {"any": nobody}) == []
    assert found(bound, {"sample": {"salt": text, "share": 0.5}})
    for wrong in ({"tag": {"key": text, "value": 1}}, {"feature": {"name": text, "value": 1}}):
        with pytest.raises(UserError, match="has no column"):
            found(bound, wrong)
    assert bound[0].value("select count(*) from user_tags") == 57


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("where: {all: [{event: {}}]}", "where.all.0.event: give within_days, or from and to"),
        ("where: {event: {from: 20240101}}", "where.event.from: must be a day such as"),
        ("where: {event: {to: 2024-01-01, within_days: 3}}", "where.event.to: needs from"),
        (
            "where: {event: {from: 2024-01-02, to: 2024-01-01}}",
            "where.event.to: must not be before from",
        ),
        (
            "where: {event: {within_days: 3, where: [{text: a, category: b, cmp: set}]}}",
            "where.event.where.0: give one of text, number",
        ),
        ("where: {lifecycle: {behavior: buy}}", "where.lifecycle: give one of first_seen"),
        (
            "where: {lifecycle: {regularly: {at_least: 3, of: 2}}}",
            "where.lifecycle.regularly.at_least: must not be more than of",
        ),
        ("where: {evnt: {within_days: 1}}", "where.evnt: unknown key; did you mean 'event'?"),
        ("where: {all: []}", "where.all: tuple should have at least 1 item"),
        ("where: {tag: {key: a, cmp: between, value: [1]}}", "where.tag.value: between needs two"),
        ("where: {tag: {key: a, cmp: set, value: 1}}", "where.tag.value: set has no value"),
        ("where: {tag: {key: a, value: .nan}}", "where.tag.value: must be true, false, a number"),
        ("where: {tag: {key: a, value: {b: 1}}}", "where.tag.value: must be true, false, a number"),
        ("where: {score: {question: churn}}", "where.score: give decile, or at_least"),
        ("where: {upload: {file: ../keys.csv}}", "where.upload.file: must be a path below"),
        ("where: {aipl: {from: A}}", "where.aipl: give stage, or from with to"),
        (
            "where: {event: {within_days: 2, at_least: 0}}",
            "where.event.at_least: must be more than 0",
        ),
        ("refresh: on_upload\nwhere: {rfm: {r: [1]}}", "needs an upload among the conditions"),
        ("select: a\nwhere: {rfm: {r: [1]}}", "give where, select or source, one of them"),
        ('where: {tag: {key: a, value: "a\\0b"}}', "holds a character that no table has"),
    ],
)
def test_a_mistake_names_file_key_and_rule(text: str, said: str) -> None:
    """Guards against a traceback, or a sentence that does not say where the mistake is."""
    with pytest.raises(UserError) as error:
        parse_segment(text, "big.yml")
    assert str(error.value).startswith("big.yml: ") and said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"all": [{"tag": {"key": "cty", "value": "x"}}]}, "where.all.0.tag.key: user_tags has no column 'cty'; did you mean 'city'?"),
        ({"tag": {"key": "city", "value": 3}}, "where.tag.value: must be a text"),
        ({"tag": {"key": "level", "cmp": "contains", "value": "x"}}, "where.tag.cmp: contains is of texts"),
        ({"not": {"tag": {"key": "likes", "value": "tea"}}}, "where.not.tag.cmp: eq does not fit; a tag with several"),
        ({"tag": {"key": "since", "value": "soon"}}, "where.tag.value: must be a day such as"),
        ({"feature": {"name": "attribute_num", "value": 1}}, "where.feature.name: 'attribute_num' of user_features is a MAP"),
        ({"event": {"within_days": 366}}, "where.event.within_days: must not begin more than 365"),
        ({"event": {"from": "2022-01-01"}}, "where.event.from: must not begin more than 365 days"),
        ({"event": {"from": "2024-03-04"}}, "where.event.from: 2024-03-04 is not over on the"),
        ({"lifecycle": {"stopped": {"active_days": 360, "silent_days": 7}}}, "where.lifecycle.stopped.active_days: must not begin"),
        ({"event": {"within_days": 9, "where": [{"number": "pay", "value": "x"}]}}, "where.event.where.0.value: must be a number"),
    ],
)  # fmt: skip
def test_a_name_or_value_that_does_not_fit(
    bound: tuple[Engine, Inputs], where: Tree, said: str
) -> None:
    """Guards against a comparison of unlike types, which DuckDB would answer by a cast."""
    with pytest.raises(UserError) as error:
        found(bound, where)
    assert f"x.yml: {said}" in str(error.value)


def test_the_limits_of_a_tree() -> None:
    """Guards against a tree that exhausts the parser, and limits that are off by one."""
    one = "{rfm: {r: [1]}}"

    def nested(levels: int) -> str:
        return "{not: " * (levels - 1) + one + "}" * (levels - 1)

    parse_segment(f"where: {nested(DEPTH)}", "x.yml")
    with pytest.raises(UserError, match="more than 5 levels"):
        parse_segment(f"where: {nested(DEPTH + 1)}", "x.yml")
    parse_segment(f"where: {{any: [{', '.join([one] * LEAVES)}]}}", "x.yml")
    with pytest.raises(UserError, match="more than 50 conditions"):
        parse_segment(f"where: {{any: [{', '.join([one] * (LEAVES + 1))}]}}", "x.yml")
    deep = '{"not": ' * 5000 + '{"rfm": {"r": [1]}}' + "}" * 5000
    with pytest.raises(UserError, match="more than 5 levels"):
        parse_segment(f'{{"where": {deep}}}', "x.json")


def test_json_and_the_schema_say_the_same() -> None:
    """Guards against a schema that refuses what the reader takes, or takes what it refuses."""
    import json

    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(segment_schema())
    check = Draft202012Validator(segment_schema())
    made = json.dumps({"where": EVERY_TABLE})
    assert parse_segment(made, "x.json") == parse_segment(made, "x.yml")
    assert check.is_valid(json.loads(made))
    assert not check.is_valid({"where": {"rfm": {"r": [1]}, "tag": {"key": "a", "value": 1}}})
    assert not check.is_valid({"where": {"rmf": {"r": [1]}}})


def test_a_window_that_is_not_over_is_cut(shared_world: Path) -> None:
    """Guards against a campaign's window that counts days of the future, or is cut unseen."""
    project = Project.open(shared_world)
    where: Tree = {
        "any": [
            {"event": {"from": "2024-02-20", "to": "2024-03-20"}},
            {"lifecycle": {"first_seen": {"from": "2024-02-20", "to": str(D)}}},
            {"event": {"from": "2024-02-20", "to": "2024-03-03"}},
        ]
    }
    with open_engine(project.settings) as engine:
        notes = bind_inputs(engine, project, Named("x", segment(where), "x.yml"), D).notes
    assert notes == tuple(
        f"where.any.{place}.to: {to} is not over on the execution date 2024-03-04; days up to "
        "2024-03-03 count"
        for place, to in (("0.event", "2024-03-20"), ("1.lifecycle.first_seen", str(D)))
    )


def test_items_before_any_has_landed(shared_world: Path) -> None:
    """Guards against a condition on items that holds for nobody, since none is known yet."""
    project = Project.open(shared_world)
    where = {"event": {"within_days": 9, "where": [{"category": "genre", "cmp": "set"}]}}
    first = D - timedelta(days=9)
    with (
        open_engine(project.settings) as engine,
        pytest.raises(UserError, match="the table stg_item has nothing for 2024-02-23"),
    ):
        named = Named("x", segment(where), "x.yml")
        bind_inputs(engine, project, named, first)
