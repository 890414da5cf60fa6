"""Users who may be one person are suggested to somebody, and joined by nobody else."""

import random

import pyarrow as pa
import pytest
from support.identity_desk import DAY, IdentityDesk, before
from typer.testing import CliRunner

from usergrowth_dagster.cli import app
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.identity import suggest as suggest_module
from usergrowth_dagster.identity.definition import parse_identity
from usergrowth_dagster.identity.suggest import suggest
from usergrowth_dagster.people.forget import forget

SUGGEST = """
suggest:
  fields:
    name: {value: "kvs_str['name']", compare: name}
    born: {value: "kvs_str['born']"}
    city: {value: "kvs_str['city']"}
  agree_on: [[born], [name]]
"""
PEOPLE, SECOND = 1_500, 100
FIRST = [
    "anna",
    "ben",
    "carla",
    "david",
    "emma",
    "felix",
    "greta",
    "hans",
    "ida",
    "jonas",
    "klara",
    "lukas",
    "mia",
    "noah",
    "olga",
]
LAST = [
    "berger",
    "fischer",
    "hofmann",
    "krause",
    "lehmann",
    "meier",
    "neumann",
    "otto",
    "peters",
    "richter",
]
CITIES = ("oslo", "bergen", "trondheim", "moss")


def write_users(desk: IdentityDesk, users: list[tuple[str, str | None, str | None, str]]) -> None:
    kvs = pa.map_(pa.string(), pa.string())
    pairs = [
        [(k, v) for k, v in (("name", name), ("born", born), ("city", city)) if v is not None]
        for _, name, born, city in users
    ]
    n = len(users)
    table = pa.table(
        {
            "ds": pa.array([before(2)] * n, pa.date32()),
            "user_id": [user for user, *_ in users],
            "gender": pa.array([None] * n, pa.int64()),
            "age": pa.array([None] * n, pa.int64()),
            "registered_on": pa.array([None] * n, pa.date32()),
            "user_type": pa.array([None] * n, pa.string()),
            "kvs_num": pa.array([None] * n, pa.map_(pa.string(), pa.float64())),
            "kvs_str": pa.array(pairs, kvs),
        }
    )
    desk.project.warehouse.replace("stg_user", table, days=[before(2)])


@pytest.fixture
def accounts(desk: IdentityDesk) -> IdentityDesk:
    """A home whose users have names; one in fifteen has a second account, half of them misspelt."""
    rng = random.Random(3)
    users: list[tuple[str, str | None, str | None, str]] = []
    for n in range(PEOPLE):
        name = f"{rng.choice(FIRST)} {rng.choice(LAST)}{rng.choice(['', 'mann', 'er', 'sen'])}"
        born = f"19{rng.randrange(50, 99)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}"
        city = rng.choice(CITIES)
        users.append((f"u{n:04}", name, born, city))
        if n < SECOND:
            at = rng.randrange(len(name) - 1)
            swapped = name[:at] + name[at + 1] + name[at] + name[at + 2 :]
            other = f"{swapped} " if n % 2 else name.upper()
            users.append((f"v{n:04}", other, born if n % 10 else None, city))
    write_users(desk, users)
    desk.types("types: [{name: card, priority: 1}]\n" + SUGGEST)
    return desk


def pairs_of(desk: IdentityDesk) -> dict[tuple[str, str], str | None]:
    return {
        (row["user_id"], row["other_user_id"]): row["answer"]
        for row in desk.rows("identity_suggestions", None)
    }


def test_second_accounts_are_suggested_and_answered(accounts: IdentityDesk) -> None:
    """Pairs of strangers, second accounts that are missed, users who are joined without an answer
    or not joined with one, and a rejected pair that comes back."""
    accounts.land([("u0001", "card", "7"), ("v0001", "card", "7")], before(1))
    accounts.run()
    done = suggest(accounts.project, DAY)
    found = pairs_of(accounts)
    assert not set(found.values()) - {None} and done.suggested == len(found)
    true = {(f"u{n:04}", f"v{n:04}") for n in range(SECOND)}
    assert done.one_person == 1 and ("u0001", "v0001") not in found
    assert len(set(found) & true) >= 0.85 * SECOND and len(set(found) - true) <= 2
    assert accounts.persons() == {frozenset({"u0001", "v0001"})}

    runner, home = CliRunner(), ["--home", str(accounts.home)]
    mine, wrong = sorted(set(found) & true)[:2]
    for command, pair in (("approve", mine), ("reject", wrong)):
        said = runner.invoke(app, ["identity", command, *reversed(pair), *home])
        assert said.exit_code == 0 and said.output.count(pair[0]) == 1
    again = runner.invoke(app, ["identity", "reject", *mine, *home])
    assert isinstance(again.exception, UserError) and "were approved already" in str(
        again.exception
    )
    listed = runner.invoke(app, ["identity", "suggestions", "--all", *home]).output
    assert f"{len(found) - 2} pairs wait for an answer, 2 have one" in listed
    assert "fischer" not in listed and "oslo" not in listed

    accounts.run(before(-1))
    assert frozenset(mine) in accounts.persons(before(-1))
    later = suggest(accounts.project, before(-1))
    assert later.answered == 2 and later.suggested == len(found) - 2
    newest = {
        (row["user_id"], row["other_user_id"]): row["answer"]
        for row in accounts.rows("identity_suggestions", before(-1))
    }
    assert newest[mine] == "approved" and newest[wrong] == "rejected"
    forget(accounts.project, wrong[1], actor="test")
    assert not any(wrong[1] in pair for pair in pairs_of(accounts))


def test_what_cannot_be_compared(accounts: IdentityDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours of comparing, and a home without alike users that fails."""
    monkeypatch.setattr(suggest_module, "MOST_PAIRS", 20)
    with pytest.raises(UserError, match=r"agree_on\.\d: .* pairs of users agree on .*; 20 are"):
        suggest(accounts.project, DAY)
    monkeypatch.undo()
    write_users(accounts, [("a", "anna", None, "oslo"), ("b", None, "1960-01-01", "oslo")])
    assert suggest(accounts.project, DAY).sentence == (
        "0 pairs suggested of 0 compared among 2 users; 0 are one person already, 0 were answered "
        "before"
    )
    accounts.types("{}")
    with pytest.raises(UserError, match="suggest: it is not there"):
        suggest(accounts.project, DAY)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("[[born], [name]]", "[[born], [nam]]", r"agree_on\.1: .*there is no field 'nam'"),
        ("[[born], [name]]", "[[born]]", "every list has 'born', so nothing can be learned"),
        ("compare: name", "compare: soundex", "suggest.fields.name.compare"),
    ],
)
def test_a_mistake_names_the_key(old: str, new: str, sentence: str) -> None:
    """Keys that compare something else than they say."""
    with pytest.raises(UserError, match=sentence):
        parse_identity(SUGGEST.replace(old, new), "identity.yml")
