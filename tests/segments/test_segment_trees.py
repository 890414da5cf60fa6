"""Trees of conditions: the SQL against plain Python, the laws of sets, and what a text cannot do."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.segment_world import CITIES, KINDS, LIKES, STAGES, D, Person, people

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

EVERY_TABLE: Tree = {
    "any": [
        {"tag": {"key": "flag", "value": True}},
        {"event": {"within_days": 60}},
        {"event": {"items": ["i1"], "within_days": 60}},
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
        first = D - timedelta(days=leaf["within_days"])
        events = [
            e
            for e in person.events
            if first <= e.ds < D
            and ("behavior" not in leaf or e.kind in leaf["behavior"])
            and ("items" not in leaf or e.item in leaf["items"])
        ]
        total = sum(e.pay if "sum_of" in leaf else e.events for e in events)
        low = leaf.get("at_least", None if "at_most" in leaf else 1)
        return (low is None or total >= low) and total <= leaf.get("at_most", 1e9)
    if kind == "sequence":
        first = D - timedelta(days=leaf["last_days"])
        other, within = leaf.get("then") or leaf["not_then"], timedelta(days=leaf["within_days"])
        gap = timedelta(days=int(other == leaf["first"]))
        starts, ends = days_of(person, leaf["first"], first), days_of(person, other, first)
        follows = {a: any(a + gap <= b <= a + within for b in ends) for a in starts}
        if "then" in leaf:
            return any(follows.values())
        return any(a + within < D and not follows[a] for a in starts)
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
    st.fixed_dictionaries(
        {"within_days": DAYS},
        optional={
            "behavior": st.lists(st.sampled_from(KINDS), min_size=1, max_size=2, unique=True),
            "items": st.lists(st.sampled_from(["i1", "i2"]), min_size=1, max_size=2, unique=True),
            "sum_of": st.just("pay"),
            "at_least": st.integers(1, 40),
            "at_most": st.integers(40, 90),
        },
    ).map(lambda made: {"event": made}),
    st.builds(
        lambda first, how, other, within, last: {
            "sequence": {"first": first, how: other, "within_days": within, "last_days": last}
        },
        st.sampled_from(KINDS),
        st.sampled_from(["then", "not_then"]),
        st.sampled_from(KINDS),
        st.integers(1, 20),
        DAYS,
    ),
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
        ("where: {all: [{event: {}}]}", "where.all.0.event.within_days: required, but missing"),
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
        ("select: a\nwhere: {rfm: {r: [1]}}", "give where or select, one of them"),
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
        ({"event": {"within_days": 91}}, "where.event.within_days: must not be more than 90"),
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
