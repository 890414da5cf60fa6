"""Which users are one person, by which one_id, and what is said of links that join nobody."""

import hashlib
import re
import shutil
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.identity_desk import DAY, IdentityDesk, Link, before, phone

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.identity.definition import parse_identity
from usergrowth_dagster.identity.run import identify

NEXT = DAY + timedelta(days=1)
TYPES = """
types:
  - {name: member, priority: 1, unique: true, multi: false}
  - {name: card, priority: 2, unique: true}
  - {name: phone, priority: 3, most: 3, normalise: phone}
  - {name: device, priority: 20, most: 4, normalise: lower}
"""
MOST = {"phone": 3, "device": 4}
PRIORITY = {"member": 1, "card": 2, "phone": 3, "device": 20}


def together(*groups: str) -> set[frozenset[str]]:
    """Persons by their users: ``together("a b", "c")``."""
    return {frozenset(group.split()) for group in groups}


def reference(links: list[Link]) -> tuple[set[frozenset[Link | str]], int]:
    """Persons as sets of ids, and refused links, where no two links tie but by their order here.

    Plain Python: no hub links, and every set of ids has one value of a unique type at most.
    """
    links = list(dict.fromkeys(links))
    users = Counter((kind, value) for _, kind, value in links)
    ids: list[set[object]] = [{one} for one in dict.fromkeys(u for u, _, _ in links)]
    ids += [{one} for one, n in users.items() if n <= MOST.get(one[0], 10**9)]
    refused = 0
    for user, *other in sorted(links, key=lambda link: PRIORITY[link[1]]):
        value = (other[0], other[1])
        if users[value] > MOST.get(value[0], 10**9):
            continue
        mine = next(group for group in ids if user in group)
        theirs = next(group for group in ids if value in group)
        if mine is theirs:
            continue
        kinds = Counter(one[0] for one in mine | theirs if isinstance(one, tuple))
        if kinds["member"] > 1 or kinds["card"] > 1:
            refused += 1
            continue
        ids.remove(theirs)
        mine |= theirs
    return {frozenset(group) for group in ids}, refused  # type: ignore[arg-type]


LINKS = st.lists(
    st.tuples(
        st.sampled_from("abcdefgh"),
        st.sampled_from(["member", "card", "phone", "device"]),
        st.integers(1, 4),
    ),
    min_size=1,
    max_size=30,
    unique=True,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> IdentityDesk:
    desk = IdentityDesk(tmp_path_factory.mktemp("shared") / "home")
    desk.types(TYPES)
    return desk


@settings(max_examples=12, deadline=None)
@given(drawn=LINKS)
def test_persons_are_those_of_plain_python(
    shared: IdentityDesk, drawn: list[tuple[str, str, int]]
) -> None:
    """A component lost or joined too far, a hub that links, two members in one person, a link
    refused that need not be, and names that do not go with the persons.

    Links of one type come on different days, so that their order is known.
    """
    for name in ("landing/identity", "storage/tables"):
        shutil.rmtree(shared.home / name, ignore_errors=True)
    (shared.home / "tables.db").unlink(missing_ok=True)
    links: list[Link] = [
        (user, kind, phone(value) if kind == "phone" else f"{kind}{value}")
        for user, kind, value in drawn
    ]
    lines = [
        (*link, "crm", f"{before(len(links) + 1 - place):%Y%m%d}")
        for place, link in enumerate(links)
    ]
    shared.land(lines, before(1))
    made = shared.run()
    expected, refused = reference(links)
    users = {frozenset(one for one in ids if isinstance(one, str)) for ids in expected}
    assert shared.persons() == users - {frozenset()}
    assert (made.persons, made.refused) == (len(expected), refused)
    assert made.rows == len(links)
    assert made.links + sum(made.left_out.values()) == len(links)
    assert made.created == made.persons == sum(made.sizes.values())


def test_a_shared_device_joins_no_two_members(desk: IdentityDesk) -> None:
    """A tablet in a shop makes two members one person for ever; and which link counts depends on
    the order of rows or files."""
    links = [("a", "member_id", "M1"), ("b", "member_id", "M2"), ("c", "device", "T1")]
    links += [("a", "device", "T1"), ("b", "device", "t1 ")]
    desk.land(links, before(1))
    made = desk.run()
    assert (made.refused, made.left_out) == (1, {"unique": 1})
    assert desk.persons() in (together("a c", "b"), together("b c", "a"))
    (conflict,) = desk.conflicts()
    one_ids = desk.one_ids()
    assert conflict["because"] == "member_id" and conflict["id_type"] == "device"
    assert conflict["one_id"] == one_ids[conflict["user_id"]]
    assert conflict["other_one_id"] == one_ids["c"] != conflict["one_id"]
    desk.land(links[3:], before(1), "a.csv")
    desk.land(links[2::-1], before(1), "part.csv")
    shutil.rmtree(desk.home / "storage/tables")
    (desk.home / "tables.db").unlink()
    desk.run()
    assert desk.one_ids() == one_ids and desk.conflicts() == [conflict]


def test_a_member_that_is_seen_first_keeps_the_device(desk: IdentityDesk) -> None:
    """A later link of a weak type takes a device away from the person who had it first."""
    desk.land([("b", "member_id", "M2"), ("b", "device", "T1")], before(2))
    desk.land([("a", "member_id", "M1"), ("a", "device", "T1")], before(3))
    desk.run()
    (conflict,) = desk.conflicts()
    assert (conflict["user_id"], conflict["first_seen"]) == ("b", before(2))


def test_a_stronger_type_links_first(desk: IdentityDesk) -> None:
    """A device that was seen before the members decides who they are."""
    desk.land([("a", "device", "T1")], before(4))
    desk.land([("b", "device", "T1")], before(3))
    desk.land([("a", "member_id", "M1")], before(2))
    desk.land([("b", "member_id", "M2")], before(1))
    desk.run()
    assert desk.persons() == together("a", "b")
    assert [(one["id_type"], one["user_id"]) for one in desk.conflicts()] == [("device", "b")]


def test_hashes_meet_the_plain_value(desk: IdentityDesk) -> None:
    """A partner's hashes of numbers stay persons of their own, or meet somebody else's number."""
    desk.types(
        "types:\n"
        "  - {name: phone, normalise: phone}\n"
        "  - {name: phone_md5, hashes: {of: phone, with: md5, form: mainland}}\n"
        "  - {name: phone_sha, hashes: {of: phone, with: sha256, form: digits}}\n"
    )
    number = phone(7)
    desk.land(
        [
            ("a", "phone", f" {number[:4]} {number[4:]}"),
            ("b", "phone_md5", hashlib.md5(number.encode()).hexdigest().upper()),
            ("c", "phone_sha", hashlib.sha256(number[1:].encode()).hexdigest()),
            ("d", "phone_md5", hashlib.md5(phone(8).encode()).hexdigest()),
            ("e", "phone_md5", "no hash"),
        ],
        before(1),
    )
    made = desk.run()
    assert desk.persons() == together("a b c", "d")
    assert made.left_out == {"unreadable": 1}


def test_hubs_and_junk_link_nobody_and_are_counted(desk: IdentityDesk) -> None:
    """A hotline's number, ``null`` or 00000 makes thousands of users one person; or the rows of it
    are gone without a word."""
    desk.types("junk: [Kiosk-1]")
    desk.land(
        [(f"h{number}", "phone", phone(5)) for number in range(6)]
        + [(f"n{number}", "phone", phone(6)) for number in range(5)]
        + [("a", "device", "NULL"), ("b", "device", "null")]
        + [("a", "device", "0000-0000"), ("b", "device", "0000-0000")]
        + [("a", "device", "kiosk-1"), ("b", "device", "KIOSK-1")]
        + [("a", "badge", "x"), ("b", "phone", "call me"), ("guest", "openid", "o1")],
        before(1),
    )
    made = desk.run()
    assert made.left_out == {"hub": 6, "junk": 7, "unknown_type": 1, "unreadable": 1}
    assert made.rows == 20 and made.hubs == 1 and made.sizes == {"1": 6, "4-9": 1}
    assert {one["id_type"] for one in desk.conflicts() if one["reason"] == "unknown_type"} == {
        "badge"
    }


def test_names_stay_through_a_merge_and_a_split(desk: IdentityDesk) -> None:
    """A person gets another name every day, history lacks a change of name, or a part that
    is split off keeps the name of the others."""
    desk.land(
        [("a", "phone", phone(1)), ("b", "phone", phone(1)), ("c", "email", "c@x.example")],
        before(1),
    )
    desk.run()
    first = desk.one_ids()
    desk.land([("c", "phone", phone(1))], DAY, source="shop 4711007")
    made = desk.run(NEXT)
    assert (made.created, made.merged, made.split) == (0, 1, 0)
    assert set(desk.one_ids(NEXT).values()) == {first["a"]}
    (merged,) = desk.history(NEXT)
    assert (merged["why"], merged["old"], merged["new"]) == ("merged", first["c"], first["a"])
    assert (merged["id_type"], merged["source"], merged["ids"]) == ("phone", "shop *", 2)
    last = NEXT + timedelta(days=1)
    desk.land([("c", "email", "c@x.example")], DAY)  # the shop takes its link back
    made = desk.run(last)
    assert (made.created, made.merged, made.split) == (0, 0, 1)
    (split,) = desk.history(last)
    assert (split["why"], split["old"], split["id_type"]) == ("split", first["a"], None)
    assert desk.one_ids(last) == {"a": first["a"], "b": first["a"], "c": split["new"]}
    assert split["new"] not in set(first.values())
    with pytest.raises(UserError, match=r"2024-03-06 is made already"):
        identify(desk.project, NEXT)


def test_the_whole_made_anew_is_the_same_partition(desk: IdentityDesk) -> None:
    """Persons grow day by day into others than all links at once would make."""
    links = [(f"u{n % 17}", "device", f"d{n * 7 % 23}") for n in range(40)]
    links += [(f"u{n}", "member_id", f"m{n}") for n in range(0, 17, 3)]
    for place in range(4):
        desk.land(links[place::4], before(4 - place))
        desk.run(before(3 - place))
    grown = desk.persons()
    assert 1 < len(grown) < 17
    assert desk.run().state == "unchanged"
    shutil.rmtree(desk.home / "storage/tables")
    (desk.home / "tables.db").unlink()
    desk.run()
    assert desk.persons() == grown


def test_one_value_a_person_is_current_where_a_type_has_one(desk: IdentityDesk) -> None:
    """A person's old number counts as the present one, or a type of many loses all but one."""
    desk.types("types: [{name: phone, multi: false, normalise: phone}, {name: device}]")
    for days, number in ((3, 1), (2, 2), (4, 3)):
        desk.land([("a", "phone", phone(number)), ("a", "device", f"d{number}")], before(days))
    desk.run()
    rows = desk.rows("one_id")
    current = Counter((one["id_type"], one["last_seen"]) for one in rows if one["current"])
    assert current == Counter(
        [("user_id", before(2)), ("phone", before(2))]
        + [("device", before(days)) for days in (2, 3, 4)]
    )
    assert {one["user_id"] for one in rows} == {"a"}


def test_nothing_of_the_date_or_later_counts(desk: IdentityDesk) -> None:
    """A decision of a date knows links that were seen only after it."""
    desk.land([("a", "phone", phone(1))], before(1))
    desk.land([("b", "phone", phone(1))], DAY)
    desk.run()
    assert set(desk.one_ids()) == {"a"}


def test_only_the_raw_table_holds_numbers(desk: IdentityDesk) -> None:
    """A number or an e-mail address stands in a table that is exported, in the quarantine of broken
    rows, in a commit's note or in a sentence."""
    number, email = phone(123456), "li.wang@shop.example"
    desk.land(
        [
            ("a", "phone", number, f"sheet of {email}", r"\N"),
            ("b", "phone", number, f"call {number}", "20240301"),
            ("a", "email", email, "crm", "20240101"),
            ("a", "member_id", "M1"),
            ("b", "member_id", "M2"),
            ("c", number, email, "crm", r"\N"),
            ("d", "phone", number, "crm", "yesterday"),
            ("e", "email", email, "crm", "0"),
            ("", "phone", number, "crm", r"\N"),
            *[(f"u{n}", "openid", f"o{n}") for n in range(600)],
        ],
        before(1),
    )
    made = desk.run()
    assert made.left_out == {"unique": 1, "unknown_type": 1} and made.rows == 606
    rejects = desk.rows("quarantine", before(1))
    assert Counter(one["rule"] for one in rejects) == {"yyyymmdd": 2, "empty": 1}
    assert {one["id_type"] for one in desk.conflicts()} == {"phone", "other"}
    secrets = re.compile(rf"{number[1:]}|{email}".encode())
    reported = repr(
        [
            desk.rows(name, None)
            for name in desk.project.warehouse.tables()
            if name != "raw_identity"
        ]
    )
    assert not secrets.search(reported.encode()) and not secrets.search(made.sentence.encode())
    assert secrets.search(repr(desk.rows("raw_identity", None)).encode())
    for path in (desk.home / "storage/tables").rglob("*.json"):
        assert not secrets.search(path.read_bytes()), path


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("typos: []", "types"),
        ("types: [{name: phone, normalise: upper}]", "types.0.normalise: must be 'phone', 'email'"),
        ("types: [{name: a}, {name: a}]", "two types have the name 'a'"),
        (
            "types: [{name: h, hashes: {of: phone, with: md5}}]",
            "types.0.hashes.of: there is no type",
        ),
        (
            "types: [{name: m}, {name: h, hashes: {of: m, with: md5, form: digits}}]",
            "types.1.hashes.form: digits is of a type with normalise: phone",
        ),
        ("types: [{name: a, most: 0}]", "types.0.most"),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence(text: str, sentence: str) -> None:
    """A wrong key makes a traceback, or is taken as if it were not there."""
    with pytest.raises(UserError, match=re.escape(sentence)) as caught:
        parse_identity(text, "identity.yml")
    assert caught.value.code == "identity.invalid" and "\n" not in str(caught.value)
