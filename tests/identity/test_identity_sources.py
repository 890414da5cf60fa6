"""Ids of users that a table of the business has, one column a type, become links of identity."""

import pytest
from support.identity_desk import DAY, IdentityDesk, before
from typer.testing import CliRunner

from usergrowth_dagster.cli import app
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.sources.definition import parse_sources
from usergrowth_dagster.views.identity import run_identity

ACCOUNTS = """account,mobile,mail,card,device,seen
a,+999 000 0000001,Ann@x.example,,d1,2024-03-01
b,9990000000001,,K7,,2024-03-02
c,,ann@X.example,,d2,2024-03-01
d,,  ,,,2024-03-01
e,+9990000000005,,K7,d1,
"""
SOURCES = """
sources:
  - name: accounts
    fills: identity
    from: accounts.csv
    day: {time: seen}
    columns: {user_id: account}
    ids: {phone: mobile, email: mail, card: card, device: lower(device)}
"""
TYPES = """
types:
  - {name: card, priority: 1}
  - {name: phone, priority: 3, normalise: phone}
  - {name: email, priority: 9, normalise: email}
  - {name: device, priority: 20}
"""


@pytest.fixture
def accounts(desk: IdentityDesk) -> IdentityDesk:
    """A home with a table of accounts as its source."""
    (desk.home / "accounts.csv").write_text(ACCOUNTS, encoding="utf-8")
    (desk.home / "sources.yml").write_text(SOURCES, encoding="utf-8")
    desk.types(TYPES)
    desk.project = Project.open(desk.home)
    return desk


def test_each_id_of_a_record_is_a_link(accounts: IdentityDesk) -> None:
    """An id that is lost or another user's, a record without ids or without a day that vanishes
    without a word, and persons of a source that nobody landed."""
    ran = run_identity(accounts.project, DAY)
    assert ran.rows_landed == 7 and ran.rows_quarantined == 0
    assert ran.notices == (
        "source accounts: 1 records have none of the ids and give no row",
        "source accounts: 3 rows have no day and do not land",
    )
    landed = accounts.rows("raw_identity", None)
    found = {(row["user_id"], row["id_type"], row["source"], row["ds"]) for row in landed}
    assert found == {
        ("a", "phone", "accounts", before(3)),
        ("a", "email", "accounts", before(3)),
        ("a", "device", "accounts", before(3)),
        ("b", "phone", "accounts", before(2)),
        ("b", "card", "accounts", before(2)),
        ("c", "email", "accounts", before(3)),
        ("c", "device", "accounts", before(3)),
    }
    assert accounts.persons() == {frozenset("ac"), frozenset("b")}
    again = run_identity(accounts.project, DAY)
    assert again.made.state == "unchanged" and again.rows_landed == 0


def test_a_preview_masks_ids(accounts: IdentityDesk) -> None:
    """A preview that shows an address of the source."""
    done = CliRunner().invoke(
        app,
        ["sources", "preview", "accounts", "--home", str(accounts.home)],
        catch_exceptions=False,
    )
    assert done.exit_code == 0 and "accounts" in done.output
    for address in ("0000001", "nn@x.example", "0000005", "ann@X"):
        assert address not in done.output


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"fills: identity": "fills: user"}, "ids: only identity has them, and the source fills"),
        ({"user_id: account": "user_id: account, id_type: card"}, "stands in ids already"),
        ({"phone: mobile": "Phone: mobile"}, "'Phone' is no name of a type"),
        ({"    ids": "    num: {n: '1'}\n    ids"}, "identity has no pairs of keys and values"),
        ({"    ids: ": "    # "}, "identity needs id_type"),
    ],
)
def test_a_mistake_names_the_key(change: dict[str, str], sentence: str) -> None:
    """A source of ids that lands something else than it says."""
    text = SOURCES
    for old, new in change.items():
        text = text.replace(old, new)
    with pytest.raises(UserError, match=sentence):
        parse_sources(text, "sources.yml")


def test_an_inexact_number_is_no_id(accounts: IdentityDesk) -> None:
    """A card number that lands rounded, so that two people share it."""
    text = SOURCES.replace("card: card", "card: try_cast(mobile as double)")
    (accounts.home / "sources.yml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"ids\.card: .* loses digits"):
        run_identity(accounts.project, DAY)
    assert not accounts.rows("raw_identity", None)
