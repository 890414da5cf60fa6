"""The decision against a plain Python reference on random populations, and its single rules."""

import math
import random
from collections import Counter
from datetime import date
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats
from support.decided import decided_table, outcome_counts, spent

from usergrowth_dagster.audience.decisions import DECISION_COLUMNS, decide
from usergrowth_dagster.audience.eligibility import OUTCOMES, address_sql
from usergrowth_dagster.audience.holdout import NOBODY, Holdout, arm, hash_cell, salt
from usergrowth_dagster.audience.policy import Budget, Money, Threshold, TopN
from usergrowth_dagster.audience.records import Spend
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import open_engine

DAY = date(2017, 10, 2)
SCHEMA = {
    "row": pa.int64(),
    "user_id": pa.string(),
    "item_id": pa.string(),
    "phone": pa.string(),
    "score": pa.float64(),
    "uplift": pa.float64(),
    "messages": pa.int32(),
    "cost": pa.float64(),
    "content_problem": pa.string(),
    "suppressed": pa.bool_(),
    "reason": pa.string(),
    "model_name": pa.string(),
    "model_version": pa.string(),
}


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    home = tmp_path_factory.mktemp("decide")
    with (
        open_engine(load_settings(home, threads=1)) as one,
        open_engine(load_settings(home, threads=4)) as four,
    ):
        yield one, four


def person(row, user, score, **more):
    """One input row; the phone is the row's own unless given."""
    values = {
        "row": row, "user_id": user, "item_id": "i", "phone": f"+999{row:010d}", "score": score,
        "uplift": None, "messages": 1, "cost": 0.045, "content_problem": None, "suppressed": False, "reason": None,
        "model_name": "winback", "model_version": "3",
    }  # fmt: skip
    return values | more


def run(engine, people, policy, holdout=None, persons=(), **more):
    """The decision of a list of input rows, as dicts in row order.

    ``persons`` are sets of users, each of one person; with none the relation knows no persons.
    """
    table = pa.Table.from_pylist(people, schema=pa.schema(list(SCHEMA.items())))
    if persons:
        ids = [sorted(ids_of(p["user_id"], persons)) for p in people]
        several = [one if len(one) > 1 else None for one in ids]
        names = pa.array([one and f"p_{one[0]}" for one in several], pa.string())
        table = table.append_column("person", names)
        table = table.append_column("person_users", pa.array(several, pa.list_(pa.string())))
    engine.bind_arrow("scored", table)
    values = {"task_id": "spring", "execution_date": DAY, "campaign": "Spring", "policy": policy}
    rows = decide(engine, "scored", holdout=holdout or Holdout(share=0), **(values | more))
    return decided_table(engine, rows)


def ids_of(user, persons):
    """The user ids of a user's person."""
    return next((ids for ids in persons if user in ids), {user})


def outcomes(table):
    return dict(zip(table["row"].to_pylist(), table["outcome"].to_pylist(), strict=True))


def worth(policy, p):
    """(ranks better when smaller, net value, whether the text is profitable) of a row."""
    if not isinstance(policy, Money):
        by = "uplift" if getattr(policy, "rank_by", "score") == "uplift" else "score"
        return (-p[by],), None, True
    value = policy.value_per_return * p["uplift"]
    net = value - p["cost"]
    ratio = value / p["cost"] if p["cost"] else math.copysign(math.inf, value or -1)
    profitable = net > policy.min_profit
    return (not profitable, -ratio, -net), net, profitable


def reference(people, policy, holdout, everybody=NOBODY, persons=()):
    """row → (outcome, rank, arm), row by row in plain Python, straight from the documented rules."""
    decided, seen, eligible = {}, set(), []
    people = sorted(people, key=lambda p: p["row"])

    def key(p):
        return NUMBERS.get(p["phone"], p["phone"])

    def is_number(p):
        return (key(p) or "").startswith("+")

    def barred(p):
        return p["suppressed"] or p["reason"] is not None

    for p in people:
        same = [q for q in people if barred(q)]
        same = [
            q for q in same if q["user_id"] == p["user_id"] or (is_number(p) and key(q) == key(p))
        ]
        if (p["user_id"], p["item_id"]) in seen:
            decided[p["row"]] = "duplicate"
        elif p["score"] is None:
            decided[p["row"]] = "no_features"
        elif not is_number(p):
            decided[p["row"]] = key(p) or "no_phone"
        elif same:
            capped = all(q["reason"] == "capped" for q in same)
            decided[p["row"]] = "capped" if capped else "suppressed"
        elif p["content_problem"]:
            decided[p["row"]] = p["content_problem"]
        elif policy.by_uplift and p["uplift"] is None:
            decided[p["row"]] = "no_features"
        else:
            eligible.append(p)
        seen.add((p["user_id"], p["item_id"]))

    pairs = {}
    for p in sorted(eligible, key=lambda p: (*worth(policy, p)[0], p["row"])):
        pairs.setdefault(p["user_id"], p)
        if pairs[p["user_id"]] is not p:
            decided[p["row"]] = "other_item"
    tie = salt("tie", "spring", DAY.isoformat())
    ranked, phones, seen_persons = [], set(), set()
    for p in sorted(
        pairs.values(),
        key=lambda p: (*worth(policy, p)[0], hash_cell(tie, p["user_id"]), p["row"]),
    ):
        if key(p) in phones:
            decided[p["row"]] = "shared_phone"
        elif (who := frozenset(ids_of(p["user_id"], persons))) in seen_persons:
            decided[p["row"]] = "same_person"
        else:
            seen_persons.add(who)
            ranked.append(p)
        phones.add(key(p))

    result, treated, paid, stopped = {}, 0, Decimal(0), False
    for rank, p in enumerate(ranked, start=1):
        if isinstance(policy, Threshold):
            fits = p["score"] > policy.threshold
        elif isinstance(policy, TopN):
            fits = treated < policy.n
        else:
            fits = policy.purse is None or paid + Decimal(repr(p["cost"])) <= policy.purse
        profitable = worth(policy, p)[2]
        stopped = stopped or not fits or not profitable
        if stopped:
            outside = OUTSIDE[policy.kind] if profitable else "not_profitable"
            result[p["row"]] = (outside, rank, "none")
        elif any(
            arm(draw, user) == "control"
            for draw in (holdout, everybody)
            for user in ids_of(p["user_id"], persons)
        ):
            result[p["row"]] = ("holdout", rank, "control")
        else:
            result[p["row"]] = ("selected", rank, "treatment")
            treated, paid = treated + 1, paid + Decimal(repr(p["cost"]))
    return result | {row: (outcome, None, "none") for row, outcome in decided.items()}


OUTSIDE = {"threshold": "below_threshold", "top_n": "not_in_top_n", "budget": "over_budget",
           "money": "over_budget"}  # fmt: skip
SCORES = [0.3, math.nextafter(0.5, 0), 0.5, math.nextafter(0.5, 1), 0.7, -0.1]
NUMBERS = {
    "+999 000-0000001": "+9990000000001", "009990000000001": "+9990000000001",
    "＋９９９０００００００００２": "+9990000000002", "": None, "  ": None,
    "9990000000001": "no_country", "(212) 555-0101": "no_country", "12345": "bad_phone",
    "+99900x0001": "bad_phone", "+9991234567890123": "bad_phone", "+0791112345": "bad_phone",
}  # fmt: skip
"""By what is uploaded: the number, or why it is none."""
PHONES = [*NUMBERS, *(f"+999000000000{n}" for n in range(1, 5))]


@st.composite
def populations(draw):
    size = draw(st.integers(0, 25))
    rows = draw(st.permutations(range(1, size + 1)))
    pick = st.sampled_from
    often = st.sampled_from([None] * 8 + ["capped", "opt_out"])
    return [
        person(
            row,
            draw(pick(["a", "b", "c", "d", "e", "f", "g", "h'\"", "用"])),
            draw(st.none() | pick(SCORES)),
            item_id=draw(pick(["i", "j", "k"])),
            uplift=draw(st.none() | pick([-0.1, 0.0, 0.02, 0.045, 0.1])),
            phone=draw(st.none() | pick(PHONES) | st.just(f"+999{row:010d}")),
            cost=draw(pick([0.0, 0.045, 0.1, 0.3, 0.09])),
            content_problem=draw(pick([None] * 8 + ["missing_variable", "too_long"])),
            suppressed=draw(pick([False] * 8 + [None, True])),
            reason=draw(often),
        )
        for row in rows
    ]


POLICIES = st.one_of(
    st.builds(Threshold, threshold=st.sampled_from([0.5, 0.3, 0.69])),
    st.builds(TopN, n=st.integers(1, 6), rank_by=st.sampled_from(["score", "uplift"])),
    st.builds(
        Budget,
        budget=st.sampled_from([0.045, 0.09, 0.135, 0.3, 0.31, 1.0]),
        rank_by=st.sampled_from(["score", "uplift"]),
    ),
    st.builds(
        Money,
        value_per_return=st.sampled_from([1.0, 2.5]),
        min_profit=st.sampled_from([0.0, 0.02, 0.15]),
        budget=st.none() | st.sampled_from([0.09, 0.3, 1.0]),
    ),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    people=populations(),
    policy=POLICIES,
    share=st.sampled_from([0, 0.3, 0.8]),
    global_share=st.sampled_from([0, 0.02, 0.5]),
    persons=st.sampled_from([(), ({"a", "b"}, {"c", "d", "z"}), ({"a", "c", "e", "f", "h'\""},)]),
    seed=st.integers(),
)
def test_equals_the_reference(engines, people, policy, share, global_share, persons, seed):
    """Guards against any row lost, doubled, or decided by another rule than the documented one,
    and against a decision that depends on the order of the rows or the number of threads; against
    a person who is texted at two accounts, or at one although the other is held out."""
    holdout = Holdout(namespace="t", share=share)
    everybody = Holdout(scope="global", share=global_share, epoch=str(seed))
    table = run(engines[0], people, policy, holdout, persons, global_holdout=everybody)
    shuffled = people[:]
    random.Random(seed).shuffle(shuffled)
    again = run(engines[1], shuffled, policy, holdout, persons, global_holdout=everybody)
    assert again.equals(table)

    got = table.to_pylist()
    assert [d["row"] for d in got] == sorted(p["row"] for p in people)
    assert {d["outcome"] for d in got} <= set(OUTCOMES)
    expected = reference(people, policy, holdout, everybody, persons)
    assert {d["row"]: (d["outcome"], d["rank"], d["arm"]) for d in got} == expected

    phones = {p["row"]: NUMBERS.get(p["phone"], p["phone"]) for p in people}
    texted = [d for d in got if d["outcome"] == "selected"]
    assert len({d["user_id"] for d in texted}) == len({phones[d["row"]] for d in texted})
    assert len({d["user_id"] for d in texted}) == len(texted)
    for d in got:
        ids = ids_of(d["user_id"], persons)
        neither = ((1 - share) * (1 - global_share)) ** len(ids)
        chances = {"treatment": neither, "control": 1 - neither, "none": 1}
        assert d["propensity"] == pytest.approx(chances[d["arm"]], abs=1e-15)
        assert d["users"] == (len(ids) if len(ids) > 1 else None)
        if d["users"] and d["rank"]:
            assert d["held_globally"] == any(arm(everybody, user) == "control" for user in ids)
        else:
            assert d["held_globally"] is None
    if isinstance(policy, Money):
        inputs = {p["row"]: p for p in people}
        for d in got:
            known = d["uplift"] is not None
            assert d["net_value"] == (worth(policy, inputs[d["row"]])[1] if known else None)
    assert sum(outcome_counts(engines[0], table).values()) == len(people)
    assert spent(engines[0], table).messages == len(texted)
    if policy.purse is not None:
        assert spent(engines[0], table).cost <= float(policy.purse)


@given(threshold=st.floats(1e-9, 1 - 1e-9))
@settings(max_examples=60, deadline=None)
def test_threshold_is_strict_on_the_double(engines, threshold):
    """Guards against a threshold that is rounded on its way into SQL, or taken as >=."""
    scores = [math.nextafter(threshold, 0), threshold, math.nextafter(threshold, 1)]
    people = [person(n, f"u{n}", score) for n, score in enumerate(scores)]
    table = run(engines[0], people, Threshold(threshold=threshold))
    assert outcomes(table) == {0: "below_threshold", 1: "below_threshold", 2: "selected"}


def test_money_is_exact(engines):
    """Guards against a sum of doubles: 1,000 texts at 0.045 cost 45 and fit a budget of 45."""
    people = [person(n, f"u{n}", 0.5) for n in range(1200)]
    table = run(engines[0], people, Budget(budget=45.0))
    assert outcome_counts(engines[0], table) == {"over_budget": 200, "selected": 1000}
    assert spent(engines[0], table) == Spend(1000, 45.0)
    less = run(engines[0], people, Budget(budget=44.999999))
    assert outcome_counts(engines[0], less) == {
        "over_budget": 201, "selected": 999,
    }  # fmt: skip


def test_control_is_comparable_and_its_share_is_right(engines):
    """Guards against a control group that is smaller, weaker or better than the treated one, and
    against control users who eat the treated users' budget."""
    rng = random.Random(7)
    people = [person(n, f"u{n}", rng.random(), cost=0.1) for n in range(20_000)]
    holdout = Holdout(namespace="h", share=0.2)
    for policy in (Threshold(threshold=0.4), TopN(n=8_000), Budget(budget=800.0)):
        table = run(engines[1], people, policy, holdout)
        counts = outcome_counts(engines[1], table)
        if not isinstance(policy, Threshold):
            assert counts["selected"] == 8_000
        chosen = counts["selected"] + counts["holdout"]
        assert stats.binomtest(counts["holdout"], chosen, 0.2).pvalue > 1e-4
        by_arm = {"treatment": [], "control": [], "none": []}
        for d in table.select(["arm", "score", "rank"]).to_pylist():
            by_arm[d["arm"]].append(d["score"])
        assert stats.ks_2samp(by_arm["treatment"], by_arm["control"]).pvalue > 1e-4
        assert min(by_arm["treatment"] + by_arm["control"]) >= max(by_arm["none"])


def test_ties_do_not_favor_the_same_users_every_day(engines):
    """Guards against a tie-break by position or by an unsalted hash, which would text the same
    users whenever scores are equal."""
    people = [person(n, f"u{n}", 0.5) for n in range(2_000)]
    chosen = []
    for day in (2, 3):
        table = run(engines[0], people, TopN(n=1_000), execution_date=date(2017, 10, day))
        kept = outcomes(table)
        chosen.append({row for row, outcome in kept.items() if outcome == "selected"})
    assert 400 < len(chosen[0] & chosen[1]) < 600
    assert 400 < sum(row < 1_000 for row in chosen[0]) < 600


def test_equal_scores_on_one_phone_go_by_the_tie_break(engines):
    """Guards against the first row always winning a shared phone."""
    people = [
        person(n, f"u{n}", 0.5, phone=f"+9990000{n // 2:06d}") for n in range(400)
    ]  # fmt: skip
    policy = Threshold(threshold=0.4)
    got = {d["row"]: d["outcome"] for d in run(engines[0], people, policy).to_pylist()}
    assert got == {
        row: expected[0] for row, expected in reference(people, policy, Holdout(share=0)).items()
    }
    assert 50 < sum(got[n] == "selected" for n in range(0, 400, 2)) < 150


def test_an_email_campaign_judges_addresses_as_emails(engines):
    """Guards against e-mail addresses that are judged as phone numbers, or phone numbers that get
    an e-mail; against a person with one address in two spellings who gets two."""
    people = [
        person(1, "a", 0.9, phone="Ann@Shop.example"),
        person(2, "b", 0.8, phone=" ann@shop.example "),
        person(3, "c", 0.9, phone=None),
        person(4, "d", 0.9, phone="  "),
        person(5, "e", 0.9, phone="+9990000000001"),
        person(6, "f", 0.9, phone="ben@shop"),
        person(7, "g", 0.7, phone="cid@shop.example"),
        person(8, "h", 0.9, phone="cid@shop.example", suppressed=True),
    ]
    policy = Threshold(threshold=0.5)
    assert outcomes(run(engines[0], people, policy, channels=("email",))) == {
        1: "selected",
        2: "shared_email",
        3: "no_email",
        4: "no_email",
        5: "bad_email",
        6: "bad_email",
        7: "suppressed",
        8: "suppressed",
    }
    by_sms = outcomes(run(engines[0], people, policy))
    assert (by_sms[3], by_sms[5]) == ("no_phone", "selected") and by_sms[1] == "bad_phone"


def test_each_channel_has_one_spelling_of_an_address(engines):
    """Guards against refusals that are looked up by another spelling than they are kept by."""
    texts = [" Ann@Shop.example ", "+999 0000 000001", "ben", None]
    by_channel = {
        channel: [
            row[0]
            for row in engines[0].rows(
                f"select {address_sql('x', channel)} from "
                "unnest(?) with ordinality as t(x, n) order by n",
                [texts],
            )
        ]
        for channel in ("sms", "email")
    }
    assert by_channel == {
        "sms": [None, "+9990000000001", None, None],
        "email": ["ann@shop.example", None, None, None],
    }


def test_a_blocked_pair_does_not_block_the_user(engines):
    """Guards against losing a user whose best item has no text while another item has one."""
    people = [
        person(1, "a", 0.9, item_id="x", content_problem="missing_variable"),
        person(2, "a", 0.8, item_id="y"),
        person(3, "a", 0.8, item_id="z"),
        person(4, "a", 0.95, item_id="y"),
    ]
    assert outcomes(run(engines[0], people, Threshold(threshold=0.5))) == {
        1: "missing_variable", 2: "selected", 3: "other_item", 4: "duplicate",
    }  # fmt: skip


def test_an_opt_out_holds_for_the_person(engines):
    """Guards against texting an opted-out person through a second row, user id or spelling."""
    people = [
        person(1, "a", 0.9, phone="+999 0000 000001", reason="opt_out", suppressed=True),
        person(2, "b", 0.9, phone="009990000000001"),
        person(3, "a", 0.9, item_id="j"),
        person(4, "c", 0.9, reason="capped"),
        person(5, "d", 0.9),
    ]
    assert outcomes(run(engines[0], people, Threshold(threshold=0.5))) == {
        1: "suppressed", 2: "suppressed", 3: "suppressed", 4: "capped", 5: "selected",
    }  # fmt: skip


def test_columns_and_stamps(engines):
    """Guards against a decision that cannot be traced to its model, features and policy."""
    policy = TopN(n=1)
    table = run(
        engines[0], [person(1, "a", 0.9)], policy, feature_version=12, population_version="v'7"
    )
    assert table.column_names == list(DECISION_COLUMNS)
    (row,) = table.to_pylist()
    assert row == {
        "ds": DAY, "task_id": "spring", "campaign": "Spring", "row": 1, "user_id": "a",
        "item_id": "i", "score": 0.9, "rank": 1, "messages": 1, "cost": 0.045, "arm": "treatment",
        "propensity": 1.0, "outcome": "selected", "model_name": "winback", "model_version": "3",
        "uplift": None, "net_value": None, "holdout": None, "users": None, "held_globally": None,
        "stratum": None, "variant": None,
        "holdout_epoch": "1", "global_epoch": "1",
        "variant_propensity": None, "uplift_version": None,
        "feature_version": "12", "population_version": "v'7", "policy_hash": policy.policy_hash,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"row": 2}, "row is not unique"),
        ({"user_id": None}, "user_id or item_id is NULL"),
        ({"score": math.nan}, "score is not a finite number"),
        ({"cost": -0.1}, "cost is missing, negative"),
        ({"cost": None}, "cost is missing, negative"),
        ({"content_problem": "selected"}, "content_problem is an outcome"),
    ],
)
def test_a_broken_relation_is_refused(engines, change, says):
    """Guards against NaN scores, which DuckDB ranks above all, and other upstream faults."""
    people = [person(1, "a", 0.9) | change, person(2, "b", 0.8)]
    with pytest.raises(ValueError, match=says):
        run(engines[0], people, Budget(budget=5))


def test_summary_of_nothing(engines):
    """Guards against an empty population breaking the decision."""
    table = run(engines[0], [], Threshold(threshold=0.5))
    assert (outcome_counts(engines[0], table), spent(engines[0], table)) == ({}, Spend(0, 0.0))
    assert Counter(str(kind) for kind in table.schema.types)["date32[day]"] == 1


def test_a_number_without_its_country_is_an_outcome(tmp_path):
    """Guards against a national number that is sent to by a guess, or vanishes without a reason."""
    uploaded = ["+8613855550101", "13855550103", "(212) 555-0105", "07700 900107", "00000000000"]
    people = [person(n, f"u{n}", 0.9, phone=phone) for n, phone in enumerate(uploaded)]
    for country, wanted in {
        None: ["selected", "no_country", "no_country", "no_country", "bad_phone"],
        "US": ["selected", "selected", "selected", "bad_phone", "bad_phone"],
        "GB": ["selected", "bad_phone", "selected", "selected", "bad_phone"],
    }.items():
        with open_engine(load_settings(tmp_path, default_country=country)) as engine:
            got = outcomes(run(engine, people, Threshold(threshold=0.5)))
        assert [got[n] for n in range(len(uploaded))] == wanted


def test_digits_of_two_countries_are_four_people(engines):
    """Guards against a number of Utah and one of China that are taken for one phone."""
    uploaded = ["+13855550111", "+8613855550111", "+13855550112", "+8613855550112"]
    people = [person(n, f"c{n}", 0.9, phone=phone) for n, phone in enumerate(uploaded)]
    people[0].update(suppressed=True, reason="suppressed")
    got = outcomes(run(engines[0], people, Threshold(threshold=0.5)))
    assert got == {0: "suppressed", 1: "selected", 2: "selected", 3: "selected"}


def test_numbers_that_nobody_has_by_setting(tmp_path):
    """Guards against the numbers of an example that are handed to a real provider."""
    people = [person(1, "a", 0.9, phone="+9990000000001")]
    for values, wanted in (
        ({"gateway": "twilio"}, "bad_phone"),
        ({"gateway": "twilio", "fictional_numbers": True}, "selected"),
        ({"fictional_numbers": False}, "bad_phone"),
        ({}, "selected"),
    ):
        with open_engine(load_settings(tmp_path, **values)) as engine:
            assert outcomes(run(engine, people, Threshold(threshold=0.5))) == {1: wanted}
