"""The world that answers texts from outside: by the same mechanism, with the same luck."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import landing_grammar
import numpy as np
import pyarrow as pa
import pytest

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.examples.worlds._population import draw_users
from usergrowth_dagster.examples.worlds.living import ASKED_COLUMNS, LivingWorld, no_texts
from usergrowth_dagster.examples.worlds.synthetic import SyntheticWorld, write_landing

START = date(2024, 1, 1)
R = 10
TEXT = START + timedelta(days=50)
"""Day of the first texts from outside."""
WORLD = SyntheticWorld(
    users=1_500, days=75, start=START, seed=11, return_days=R, texts_until=50 - R, items=60
)


def texts(*rows: tuple[int, date, int, str]) -> pa.Table:
    """Texts by user number, day, item number and copy."""
    columns = zip(
        *[(f"u{n:08d}", day, f"i{item:06d}", copy) for n, day, item, copy in rows], strict=True
    )
    kinds = (pa.string(), pa.date32(), pa.string(), pa.string())
    return pa.table(
        {
            name: pa.array(values, kind)
            for name, values, kind in zip(ASKED_COLUMNS, columns, kinds, strict=True)
        }
    )


def everyone(
    day: date, step: int = 1, copy: str = "short", world: SyntheticWorld = WORLD
) -> pa.Table:
    """A text for every so manieth user who is there by the first day of texts."""
    users = draw_users(world.seed, 0, world.users, world.days)
    there = users.index[users.registered < (TEXT - START).days]
    return texts(*((int(n), day, int(n) % 60, copy) for n in there if n % step == 0))


def whole(root: Path) -> dict[str, bytes]:
    """Rows of each landing folder, whatever its files are called."""
    rows: dict[str, bytes] = {}
    for file in sorted(root.glob("*/*/*.csv")):
        folder = "/".join(file.parts[-3:-1])
        rows[folder] = rows.get(folder, b"") + file.read_bytes().split(b"\n", 1)[1]
    return rows


def landed(tmp_path: Path, name: str) -> LivingWorld:
    """The world, with a landing root of its own."""
    return LivingWorld(WORLD, Storage(str(tmp_path / name)))


def test_without_texts_it_is_the_world_and_with_texts_it_is_until_then(tmp_path: Path) -> None:
    """Living on in stretches, or a text of the future, changes days that have landed already."""
    write_landing(WORLD, Storage(str(tmp_path / "whole" / "landing")))
    known = whole(tmp_path / "whole" / "landing")
    quiet, texted = landed(tmp_path, "quiet"), landed(tmp_path, "texted")
    sent = everyone(TEXT, 2)
    for first, last in ((START - timedelta(days=1), TEXT - timedelta(days=1)), (TEXT, WORLD.end)):
        quiet.live_on(no_texts(), first, last)
        texted.live_on(sent, first, last)
    assert whole(tmp_path / "quiet") == known
    other = whole(tmp_path / "texted")
    assert set(other) == set(known)
    differing = {folder for folder in known if other[folder] != known[folder]}
    days = {folder.rsplit("=", 1)[1] for folder in differing}
    assert days and min(days) == f"{TEXT + timedelta(days=1):%Y%m%d}"
    assert {folder.split("/")[0] for folder in differing} == {"behavior"}


def test_two_policies_have_the_same_luck(tmp_path: Path) -> None:
    """Users who are texted alike live differently, since others are texted otherwise."""
    worlds = {}
    for name, step in (("even", 2), ("all", 1)):
        world = landed(tmp_path, name)
        world.live_on(everyone(TEXT, step), TEXT, WORLD.end)
        worlds[name] = whole(tmp_path / name)
    for folder, rows in worlds["even"].items():
        if folder.startswith("behavior"):
            others = worlds["all"][folder].splitlines()
            assert {line for line in rows.splitlines() if int(line[1:9]) % 2 == 0} == {
                line for line in others if int(line[1:9]) % 2 == 0
            }
    assert worlds["even"] != worlds["all"]


def test_chances_are_exact_for_texted_and_untexted(tmp_path: Path) -> None:
    """The ruler is wrong: over many worlds, returns differ from the chances that were given.

    The same question in worlds of many seeds, where half of the users are texted and the others
    are asked about only; by state, and by a second text a window later.
    """
    excess: dict[tuple[Any, ...], np.ndarray[Any, Any]] = {}
    second = TEXT + timedelta(days=R + 1)
    for seed in range(12):
        large = SyntheticWorld(**{**WORLD.__dict__, "seed": seed, "users": 3_000})
        world = LivingWorld(large, Storage(str(tmp_path / str(seed))))
        sent = [everyone(TEXT, 2, "long", large), everyone(second, 3, world=large)]
        asked = [everyone(TEXT, 1, "long", large), everyone(second, world=large)]
        chances = world.chances(pa.concat_tables(asked), pa.concat_tables(sent))
        assert chances.num_rows == sum(table.num_rows for table in asked)
        rows = duckdb.sql(
            "select state, treated, ds, sum(returned::int - c), sum(c * (1 - c)) from (select *, "
            "if(treated, return_with, return_without) as c from chances) group by all"
        ).fetchall()
        for state, treated, day, off, variance in rows:
            for key in ((state, treated), (treated, day)):
                excess[key] = excess.get(key, np.zeros(2)) + np.array([off, variance])
    assert len(excess) == 12
    for key, (off, variance) in excess.items():
        assert abs(off) <= 4 * variance**0.5 + 1e-9, (key, off, variance)


def test_effect_of_a_text_does_not_depend_on_whether_it_was_sent(tmp_path: Path) -> None:
    """A counterfactual that is another question: the chances move when the text goes out."""
    world = landed(tmp_path, "one")
    asked = everyone(TEXT, 2)
    before = world.chances(asked, no_texts()).drop_columns(["treated", "returned"])
    sent = everyone(TEXT, 6)
    after = world.chances(asked, sent)
    assert before.equals(after.drop_columns(["treated", "returned"]))
    assert sum(after.column("treated").to_pylist()) == sent.num_rows > 100
    long = world.chances(everyone(TEXT, 2, "long"), no_texts())
    short_cost, long_cost = before.column("cost").to_numpy(), long.column("cost").to_numpy()
    assert (long_cost == 2 * short_cost).all()
    gain = np.array(long.column("effect")) - np.array(before.column("effect"))
    assert (gain[np.array(before.column("effect")) > 0] > 0).all()


def test_a_second_text_in_the_window_is_refused(tmp_path: Path) -> None:
    """Overlapping windows, in which no chance is exact, are computed all the same."""
    world = landed(tmp_path, "one")
    for later in (1, R):
        both = texts((7, TEXT, 1, "short"), (7, TEXT + timedelta(days=later), 1, "short"))
        with pytest.raises(UserError, match="whose window is not over"):
            world.chances(both, both)
    apart = texts((7, TEXT, 1, "short"), (7, TEXT + timedelta(days=R + 1), 1, "short"))
    assert world.chances(apart, apart).num_rows == 2
    with pytest.raises(UserError, match="1 texts are for users or items that it does not have"):
        world.chances(texts((1_500, TEXT, 1, "short")), no_texts())
    late = draw_users(WORLD.seed, 0, WORLD.users, WORLD.days).registered.argmax()
    with pytest.raises(UserError, match="a user is not there yet"):
        world.chances(texts((int(late), TEXT, 1, "short")), no_texts())
    with pytest.raises(UserError, match="not on 2024-03-16"):
        world.live_on(no_texts(), TEXT, WORLD.end + timedelta(days=1))


def test_history_may_hold_those_held_out(tmp_path: Path) -> None:
    """Without rows of the held-out arm, or with a wrong propensity, no effect can be learned."""
    world = SyntheticWorld(**{**WORLD.__dict__, "held_out_rows": True})
    write_landing(world, Storage(str(tmp_path / "landed" / "landing")))
    write_landing(WORLD, Storage(str(tmp_path / "plain" / "landing")))
    con = duckdb.connect()
    landing_grammar.bind(con, tmp_path / "landed" / "landing")
    assert landing_grammar.faults(con, tmp_path / "landed" / "landing") == []
    truth = f"'{tmp_path}/landed/truth/touches/*.parquet'"
    matched = con.execute(
        "select target, count(*), bool_and(abs(regexp_extract(kvs_num, 'propensity:([0-9.]+)', 1)"
        "::double - if(treated, propensity, 1 - propensity)) < 1e-9), "
        f"bool_and(treated = (target = 'sms')) from operation join {truth} "
        "using (user_id, ds, item_id) group by target order by target"
    ).fetchall()
    counts = con.execute(
        f"select count(*) filter (not treated), count(*) filter (treated) from {truth}"
    ).fetchall()[0]
    assert matched == [("holdout", counts[0], True, True), ("sms", counts[1], True, True)]
    plain = whole(tmp_path / "plain" / "landing")
    assert not any(b"holdout" in rows or b"propensity" in rows for rows in plain.values())
    others = {
        f: r for f, r in whole(tmp_path / "landed" / "landing").items() if "operation" not in f
    }
    assert others == {f: r for f, r in plain.items() if "operation" not in f}
