"""The commands and the assets of identity: what they show, and what they never show."""

import json
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import select
from support.identity_desk import DAY, IdentityDesk, before, phone
from typer.testing import CliRunner

from usergrowth_dagster.cli import app
from usergrowth_dagster.control import schema
from usergrowth_dagster.defs.build import build_definitions
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.people.forget import forget

EMAIL = "li.wang@shop.example"


@pytest.fixture
def peopled(desk: IdentityDesk) -> IdentityDesk:
    """Two members who share a device, a third user by a number, and a row of an unknown type."""
    desk.land(
        [
            *[("a", "member_id", "M1"), ("b", "member_id", "M2")],
            *[("a", "device", "T1"), ("b", "device", "T1")],
            *[("a", "phone", phone(4711)), ("c", "phone", phone(4711)), ("c", "email", EMAIL)],
            ("d", "badge", "x"),
        ],
        before(1),
    )
    return desk


def call(desk: IdentityDesk, *arguments: str) -> str:
    """What a command prints that does what it should."""
    done = CliRunner().invoke(app, ["identity", *arguments, "--home", str(desk.home)])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def test_the_identity_commands_in_a_row(peopled: IdentityDesk) -> None:
    """A command that shows an address, hides a row that links nobody, or counts wrongly."""
    with pytest.raises(UserError, match="not made yet; run usergrowth identity run"):
        CliRunner().invoke(
            app, ["identity", "conflicts", "--home", str(peopled.home)], catch_exceptions=False
        )
    ran = json.loads(call(peopled, "run", "--json"))
    assert (ran["rows_landed"], ran["rows_quarantined"], ran["made"]["persons"]) == (8, 0, 2)
    said = call(peopled, "run")
    assert said.startswith("0 rows landed.") and "nothing new, 2 persons of 8 ids" in said
    assert "1 rows left out: unique; 1 rows left out: unknown_type" in said
    look = json.loads(call(peopled, "check", "--json"))
    rows = {one["type"]: one["rows"] for one in look["types"] if one["rows"]}
    assert rows == {"member_id": 2, "phone": 2, "email": 1, "device": 2, "badge": 1}
    person = json.loads(call(peopled, "show", "c", "--json"))
    assert person["users"] == ["a", "c"] and person["conflicts"] == []
    values = {(one["id_type"], one["value"]) for one in person["ids"]}
    assert values >= {("phone", "+999********11"), ("email", "li.w**************le")}
    listed = json.loads(call(peopled, "conflicts", "--json"))
    assert {(one["reason"], one["links"]) for one in listed["counts"]} == {
        ("unique", 1),
        ("unknown_type", 1),
    }
    (only,) = json.loads(call(peopled, "conflicts", "--reason", "unique", "--json"))["links"]
    assert (only["user"], only["because"]) in {("a", "member_id"), ("b", "member_id")}
    history = json.loads(call(peopled, "history", person["one_id"], "--json"))
    assert [(one["why"], one["new"]) for one in history["changes"]] == [
        ("created", person["one_id"])
    ]
    shown = [call(peopled, *one.split()) for one in ("check", "show a", "conflicts", "history")]
    assert not any(secret in text for text in [*shown, said] for secret in ("9990000", EMAIL))


def test_a_forgotten_person_is_in_no_table_of_identity(peopled: IdentityDesk) -> None:
    """The ids of an erased person stay in persons or conflicts, or come back with the files."""
    peopled.run()
    forget(peopled.project, "b", actor="test")
    tables = ("raw_identity", "one_id", "identity_conflicts")
    kept = [row for name in tables for row in peopled.rows(name, None)]
    assert {row["user_id"] for row in kept} == {"a", "c", "d", None}
    assert not any(row.get("id_value") == "b" for row in kept)
    made = peopled.run()
    assert made.rows == 6 and set(peopled.one_ids()) == {"a", "c"}
    assert peopled.conflicts()[0]["user_id"] == "d" and len(peopled.conflicts()) == 1


def test_a_forgotten_person_stays_refused_by_landed_addresses(desk: IdentityDesk) -> None:
    """A person who was forgotten is texted at a number that only links knew, when another upload
    brings it; a hotline that many have, which nobody can be texted at any more."""
    shared = [(user, "phone", phone(9)) for user in "abc"]
    mails = [("a", "email", "Ann@x.example"), ("a", "device", "+9990000000007")]
    desk.land([("a", "phone", phone(1)), *mails, *shared], before(1))
    desk.run()
    vault = open_vault(desk.home)
    report = forget(desk.project, "a", actor="test")
    assert report.addresses == 2
    with desk.project.store.read() as connection:
        refused = set(connection.scalars(select(schema.suppression.c.phone_hash)))
    assert refused == {vault.digest(phone(1)), vault.digest("ann@x.example"), None}


def test_a_forgotten_person_is_nobodys_id(desk: IdentityDesk) -> None:
    """A user who was forgotten comes back as the id of another one, from the table or the files."""
    desk.land([("a", "user_id", "b"), ("a", "phone", phone(1)), ("c", "user_id", "a")], before(1))
    desk.run()
    assert desk.persons() == {frozenset("abc")}
    forget(desk.project, "b", actor="test")
    kept = desk.rows("raw_identity", None) + desk.rows("one_id", None)
    assert not any("b" in (row["user_id"], row["id_value"]) for row in kept)
    (desk.home / f"landing/identity/ds={before(1):%Y%m%d}/more.csv").write_text(
        "user_id,id_type,id_value,source,time\nd,user_id,b,crm,\\N\nd,user_id,e,crm,\\N\n"
    )
    desk.run()
    assert desk.persons() == {frozenset("ac"), frozenset("de")}


def test_the_asset_says_what_was_made(
    peopled: IdentityDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Persons that no job makes, figures of another date, an address in metadata or a log."""
    monkeypatch.setenv("USERGROWTH_HOME", str(peopled.home))
    names = set(build_definitions(str(peopled.home)).resolve_asset_graph().get_all_asset_keys())
    assert not {dg.AssetKey("one_id"), dg.AssetKey("raw_identity")} & names
    peopled.types("{}")
    definitions = build_definitions(str(peopled.home))
    graph = definitions.resolve_asset_graph()
    assert graph.get(dg.AssetKey("one_id")).parent_keys == {dg.AssetKey("raw_identity")}
    ingest = definitions.resolve_job_def("ingest").asset_layer.executable_asset_keys
    assert dg.AssetKey("raw_identity") in ingest
    decide = definitions.resolve_job_def("decide").asset_layer.executable_asset_keys
    assert dg.AssetKey("one_id") in decide
    assert dg.AssetKey("one_id") in graph.get(dg.AssetKey("decisions")).parent_keys
    peopled.run()
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_job_def("identity").execute_in_process(
            instance=instance, partition_key=DAY.isoformat()
        )
        (event,) = result.get_asset_materialization_events()
        metadata = event.materialization.metadata
        checks = {one.check_name: one.passed for one in result.get_asset_check_evaluations()}
        logged = [str(entry) for entry in instance.all_logs(result.run_id)]
    figures = {name: metadata[name].value for name in ("nodes", "people", "conflicts", "hubs")}
    assert figures == {"nodes": 8, "people": 2, "conflicts": 1, "hubs": 0}
    assert checks == {"no_refused_links": False, "all_links_taken_in": True}
    assert "nothing new" in metadata["sentence"].value
    assert logged and not any("9990000" in entry or EMAIL in entry for entry in logged)


def test_a_past_date_is_decided_by_the_persons_that_it_had(
    peopled: IdentityDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that landed late keeps every earlier date from being decided again, or renames its
    persons without a word."""
    monkeypatch.setenv("USERGROWTH_HOME", str(peopled.home))
    peopled.types("{}")
    peopled.run()
    peopled.run(before(-1))
    first = peopled.one_ids()
    peopled.land([("b", "phone", phone(4711))], before(2))  # late
    assert peopled.run(before(-2)).rows == 9
    job = build_definitions(str(peopled.home)).resolve_job_def("identity")
    with dg.DagsterInstance.ephemeral() as instance:
        for day, sentence in ((DAY, "kept as it was"), (before(1), "not made")):
            result = job.execute_in_process(instance=instance, partition_key=day.isoformat())
            (event,) = result.get_asset_materialization_events()
            late = [e for e in result.get_asset_check_evaluations() if not e.passed]
            assert sentence in event.materialization.metadata["sentence"].value
            assert "all_links_taken_in" in {one.check_name for one in late}
    assert peopled.one_ids() == first


def test_a_wrong_identity_file_stops_before_anything_is_landed(peopled: IdentityDesk) -> None:
    """Rows land by types that the file does not mean, or the mistake is a traceback."""
    peopled.types("types: [{name: phone, normalize: phone}]")
    with pytest.raises(
        UserError, match=r"types\.0\.normalize: unknown key; did you mean 'normalise'"
    ):
        CliRunner().invoke(
            app, ["identity", "run", "--home", str(peopled.home)], catch_exceptions=False
        )
    assert not Path(peopled.home / "storage/tables/raw_identity").exists()
