"""A person who asks to be forgotten is gone everywhere, stays away, and takes nobody along."""

import contextlib
import sqlite3
from datetime import date
from pathlib import Path

import duckdb
import hypothesis
import pyarrow as pa
import pytest
from chain_world import D, World, cli, copy_home, ledger, outbox, output, rows, succeeded, warehouse
from hypothesis import given
from hypothesis import strategies as st

from usergrowth_dagster.control import audit
from usergrowth_dagster.data.forgotten import Forgotten, forgotten_ids_sql
from usergrowth_dagster.data.landing import day_folder
from usergrowth_dagster.intake.forgotten import forgotten_people
from usergrowth_dagster.messaging.people.forget import forgotten_hashes, tombstone_id
from usergrowth_dagster.messaging.people.phones import PhoneVault, open_vault
from usergrowth_dagster.messaging.policy import suppression
from usergrowth_dagster.people import forget as module
from usergrowth_dagster.people.forget import forget
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import Settings, load_settings
from usergrowth_dagster.warehouse.landing import land_days
from usergrowth_dagster.warehouse.population import land_population
from usergrowth_dagster.warehouse.tables import Warehouse

VAULT = PhoneVault.from_secret(b"0123456789abcdef")


@hypothesis.settings(deadline=None, max_examples=50)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), max_size=6)
)
def test_sql_makes_the_hash_of_the_vault(names: list[str]) -> None:
    """A person is hashed otherwise at landing than when forgotten, and comes back."""
    kept = [*names, "u1"]
    forgotten = Forgotten(VAULT.user_pads(), frozenset(map(VAULT.user_digest, names)))
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("people", pa.table({"person": kept}))
        forgotten.bind(connection)
        matching = connection.execute(forgotten_ids_sql("select person from people")).fetchall()
    assert {name for (name,) in matching} == set(names)
    assert VAULT.user_pads()[0].hex() not in repr(forgotten)


def pick(home: Path) -> tuple[str, str]:
    """A user that both tasks texted, and the phone."""
    texted = [
        {line.split(",")[0] for line in output(home, t).decode().splitlines()}
        for t in ("care", "comeback")
    ]
    user = sorted(texted[0] & texted[1])[0]
    ((phone,),) = rows(home, "population", f"user_id = '{user}' and task_id = 'care'", "phone")
    return user, phone


def holders(home: Path, *texts: str) -> list[str]:
    """Files of a home that hold one of the texts; Parquet files are decoded."""
    places, parquet = [], {}
    landing = {home / "landing" / name for name in ("user", "behavior", "operation", "population")}
    for path in sorted(home.rglob("*")):
        if path.is_dir() or landing & set(path.parents) or home / "truth" in path.parents:
            continue
        if path.suffix == ".parquet":
            parquet.setdefault(path.relative_to(home).parts[2], []).append(str(path))
        elif any(text.encode() in path.read_bytes() for text in texts):
            places.append(str(path.relative_to(home)))
    with duckdb.connect(config={"threads": 2}) as connection:
        for files in parquet.values():
            names = connection.execute(
                "select distinct filename from (select filename, t::varchar as text from "
                "read_parquet(?, union_by_name=true, hive_partitioning=false, filename=true) as t) "
                f"where {' or '.join('contains(text, ?)' for _ in texts)}",
                [files, *texts],
            ).fetchall()
            places += [str(Path(name).relative_to(home)) for (name,) in names]
    return sorted(places)


def whole(home: Path, table: str, user: str) -> list[tuple[int, int]]:
    """Everybody else's rows of a table in two numbers."""
    columns = ", ".join(f'"{name}"::varchar' for name in sorted(warehouse(home).columns(table)))
    return rows(home, table, f"user_id <> '{user}'", f"count(*), sum(hash([{columns}])::hugeint)")


def others(home: Path, user: str) -> dict[str, object]:
    """Everything of everybody else."""
    warehoused = warehouse(home)
    people = [t for t in warehoused.tables() if "user_id" in warehoused.columns(t)]
    return {
        **{table: whole(home, table, user) for table in people},
        "marks": {t: warehoused.fingerprints(t) for t in warehoused.tables()},
        "ledger": [row for row in ledger(home) if row[1] != user and "forgotten" not in row[1]],
        "outbox": [line for line in outbox(home) if user not in line and "forgotten" not in line],
        "output": [
            line
            for t in ("care", "comeback")
            for line in output(home, t).decode().splitlines()
            if not line.startswith(user)
        ],
    }


def test_gone_everywhere_and_for_good(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trace stays in some file, somebody else is touched, a kill leaves half, or a run undoes it."""
    home = copy_home(world.decided, tmp_path / "home")
    project = Project(load_settings(home))
    vault = open_vault(home)
    user, phone = pick(home)
    name = tombstone_id(vault.user_digest(user))
    suppression.suppress(
        project.store,
        vault,
        user_id=user,
        phone=phone,
        reason="by_hand",
        source="x",
        now=audit.utc_now(),
        actor="ann",
        scope="Example",
    )
    before = others(home, user)
    assert user in repr(audit.entries(project.store))
    holding = holders(home, user, phone, phone.removeprefix("+"))
    places = {part.split("/")[0].removesuffix("-wal") for part in holding}
    assert places == {"storage", "landing", "outbox", "control.db"}
    rehearsed = forget(project, user, actor="ann", dry_run=True)
    assert holders(home, user, phone) == holding
    assert others(home, user) == before
    assert rehearsed.name == name

    real, calls = module.erase_person, [0]

    def killed(*args: object, **kwargs: object) -> object:
        calls[0] += 1
        if calls[0] == 6:
            raise KeyboardInterrupt
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "erase_person", killed)
    with pytest.raises(KeyboardInterrupt):
        forget(project, user, actor="ann")
    assert forgotten_hashes(project.store) == {vault.user_digest(user)}
    monkeypatch.setattr(module, "erase_person", real)
    done = forget(project, user, actor="ann")
    assert done.failures == []
    assert sum(t.rows for t in done.tables) < sum(t.rows for t in rehearsed.tables)
    project.store.close()
    assert holders(home, user, phone, phone.removeprefix("+")) == []
    assert others(home, user) == before
    assert [row[1] for row in ledger(home)].count(name) == 2
    again = forget(project, user, actor="ann")
    assert not again.anything
    log = audit.entries(project.store, action="forget")
    assert [entry.subject for entry in log] == [name, name]
    assert "messages" in log[-1].detail
    # a day that lands again, and a run of the date, bring nothing of the person back
    day = date(2017, 5, 1)
    folder = home / "landing" / day_folder("behavior", day)
    header = "user_id,behavior,item_id,kvs_num,kvs_str\n"
    (folder / "late.csv").write_text(
        f'{header}"{user}",login,\\N,hh14:1,\\N\n{user},login,\\N,bad,\\N\nnew,login,\\N,\\N,\\N\n'
    )
    project.store.close()
    succeeded(cli(home, "run", "--date", str(D)))
    assert ("new",) in rows(home, "raw_behavior", f"ds = '{day}'", "user_id")
    rejects = rows(
        home,
        "quarantine",
        f"ds = '{day}' and table_name = 'behavior'",
        "rule, raw_row, file like '%late.csv'",
    )
    assert rejects.count(("forgotten", None, True)) == 2
    assert holders(home, user) == []
    after = others(home, user)
    for kept in ("output", "ledger", "outbox", "decisions", "scores", "population"):
        assert after[kept] == before[kept], kept


def test_set_aside_at_landing(settings: Settings, warehouse: Warehouse, tmp_path: Path) -> None:
    """Rows of forgotten persons fail a day, vanish without a count, or leave their text behind."""
    project = Project(settings)
    for name in ("gone", "too"):
        forget(project, name, ["+9991234567890"], actor="ann")
    lines = [f"u{n},i1,+9990000000{n:03d},Name{n}" for n in range(20)]
    lines += ["gone,i1,+9991234567890,Gone", "too,i1,\\N,Too", "gone,,+9991234567890,Gone", "bad"]
    folder = Path(settings.landing_root) / "population" / "spring"
    folder.mkdir(parents=True)
    (folder / "p.csv").write_text("user_id,item_id,phone,name\n" + "\n".join(lines) + "\n")
    relaxed = load_settings(settings.home, max_reject_share=0.05)
    people = forgotten_people(project)
    landed = land_population(relaxed, project.landing, warehouse, "spring", D, forgotten=people)
    assert (landed.rows_in, landed.accepted, landed.quarantined, landed.forgotten) == (24, 20, 4, 3)
    quarantined = rows(settings.home, "quarantine", columns="rule, raw_row, line")
    assert quarantined == [
        ("field_count", "bad", 25),
        ("forgotten", None, 22),
        ("forgotten", None, 23),
        ("forgotten", None, 24),
    ]
    days = Path(settings.landing_root) / "user" / f"ds={D:%Y%m%d}"
    days.mkdir(parents=True)
    (days / "u.csv").write_text(
        "user_id,gender,age,reg_time,user_type,kvs_num,kvs_str\na,1,20,\\N,\\N,\\N,\\N\ngone,1,20,\\N,\\N,\\N,\\N\ntoo,1,20,\\N,\\N,\\N,\\N\n"
    )
    (day,) = land_days(settings, project.landing, warehouse, "user", [D], forgotten=people)
    assert (day.accepted, day.quarantined, day.forgotten) == (1, 2, 2)
    # let in again by hand, the person lands again
    vault = open_vault(settings.home)
    assert (
        suppression.lift(
            project.store, vault, user_id="gone", phone="+9991234567890", now=audit.utc_now()
        )
        == 0
    )
    suppression.lift(project.store, vault, user_id="gone", forgotten=True, now=audit.utc_now())
    (days / "v.csv").write_text("user_id,gender,age,reg_time,user_type,kvs_num,kvs_str\n")
    (day,) = land_days(
        settings, project.landing, warehouse, "user", [D], forgotten=forgotten_people(project)
    )
    assert day.accepted == 2


def test_messages_on_their_way(world: World, tmp_path: Path) -> None:
    """A message of a forgotten person still goes out, or a doubtful one can be sent again.

    An address that is given takes what was sent there under another user id along.
    """
    home = copy_home(world.decided, tmp_path / "home")
    project = Project(load_settings(home))
    user, phone = pick(home)
    with contextlib.closing(sqlite3.connect(home / "control.db")) as connection, connection:
        mine = connection.execute(
            "select id from message where user_id = ? order by id", [user]
        ).fetchall()
        for (row,), state in zip(mine, ("planned", "in_doubt"), strict=True):
            connection.execute("update message set state = ? where id = ?", (state, row))
        other = connection.execute(
            "select id, user_id, phone_number from message where user_id > ? limit 1", [user]
        ).fetchone()
        connection.execute(
            "update message set state = 'claimed', claimed_by = 'w' where id = ?", [other[0]]
        )
    second = open_vault(home).open(other[2])
    sent = outbox(home)
    done = forget(project, user, [second], actor="ann")
    assert done.store["message skipped"] == 2
    assert done.addresses == 2
    assert done.outbox >= 3
    with contextlib.closing(sqlite3.connect(home / "control.db")) as connection:
        states = connection.execute(
            "select state, reason, user_id like 'forgotten-%', phone_number, template_params from message "
            "where id in (?, ?, ?) order by state",
            [mine[0][0], mine[1][0], other[0]],
        ).fetchall()
        hashes = connection.execute(
            "select count(*), count(phone_number), count(user_id) from suppression where reason = 'forgotten'"
        ).fetchone()
    assert [row[0] for row in states] == ["in_doubt", "skipped", "skipped"]
    assert {row[2:] for row in states} == {(1, None, "{}")}
    assert hashes == (3, 0, 0)
    assert len(outbox(home)) == len(sent)
    assert not [line for line in outbox(home) if phone in line or second in line]
    # a doubtful row without an address is no trouble for the dispatcher, and is not sent again
    succeeded(cli(home, "dispatch", "--once"))
    assert [row[2] for row in ledger(home)].count("in_doubt") == 1
    assert len(outbox(home)) == len(sent)


def test_an_edited_output_is_reported(world: World, tmp_path: Path) -> None:
    """A file that somebody edited is overwritten, or keeps the person without a word."""
    home = copy_home(world.decided, tmp_path / "home")
    project = Project(load_settings(home))
    user, _ = pick(home)
    path = home / "landing" / "population_output" / "care" / "output.csv"
    path.write_bytes(path.read_bytes() + b"x,y,z,0.1\n")
    edited = path.read_bytes()
    done = forget(project, user, actor="ann")
    assert [sentence for sentence in done.failures if "by hand" in sentence] == done.failures != []
    assert path.read_bytes() == edited
    answer = cli(home, "forget", user)
    assert answer.returncode == 2
    assert user not in answer.stdout + answer.stderr
