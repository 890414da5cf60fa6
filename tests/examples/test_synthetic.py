"""The synthetic world: reproducible, within the contract, and true to its own truth."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import duckdb
import landing_grammar
import pytest

from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.examples.worlds.synthetic import (
    SyntheticWorld,
    truth_of,
    write_landing,
    write_population,
)

SMALL = SyntheticWorld(users=900, days=50, start=date(2024, 1, 1), seed=11)
WORLD = SyntheticWorld(users=50_000, days=100, start=date(2024, 1, 1), seed=5)


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "landing"
    write_landing(WORLD, Storage(str(root)), file_format="parquet")
    return root


@pytest.fixture(scope="module")
def con(landed: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(config={"threads": 2})
    landing_grammar.bind(connection, landed)
    for table in ("touches", "users"):
        connection.execute(
            f"create view {table} as from read_parquet('{landed.parent}/truth/{table}/*.parquet')"
        ).fetchall()
    connection.execute(
        'create table seen as select user_id, ds, count(*) as n from "behavior" group by all'
    ).fetchall()
    yield connection
    connection.close()


def one(con: duckdb.DuckDBPyConnection, sql: str) -> tuple[object, ...]:
    return tuple(con.execute(sql).fetchall()[0])


def test_a_seed_gives_the_same_bytes_whatever_the_chunk(tmp_path: Path) -> None:
    """A draw that depends on who else is in the chunk: figures change with the machine."""
    for name, world, chunk in (
        ("whole", SMALL, 50_000),
        ("chunks", SMALL, 331),
        ("other", SyntheticWorld(users=900, days=50, start=date(2024, 1, 1), seed=12), 50_000),
    ):
        write_landing(world, Storage(str(tmp_path / name / "landing")), chunk_users=chunk)

    def whole(name: str) -> dict[str, bytes]:
        rows: dict[str, bytes] = {}
        for file in sorted((tmp_path / name / "landing").glob("*/*/*.csv")):
            folder = "/".join(file.parts[-3:-1])
            rows[folder] = rows.get(folder, b"") + file.read_bytes().split(b"\n", 1)[1]
        return rows

    assert len(whole("whole")) == 50 + 36 + 2 + 1  # behavior, operation, user, item
    assert whole("chunks") == whole("whole")
    different = whole("other")
    assert not [day for day, rows in whole("whole").items() if rows == different.get(day)]
    truths = [
        duckdb.sql(
            f"select * from '{tmp_path}/{name}/truth/touches/*.parquet' order by ds, user_id"
        ).fetchall()
        for name in ("whole", "chunks")
    ]
    assert truths[0] == truths[1] != []
    assert landing_grammar.faults(duckdb.connect(), tmp_path / "chunks" / "landing") == []


def test_parquet_holds_the_rows_of_the_csv(tmp_path: Path) -> None:
    """The two formats drift apart, and a world of another size behaves otherwise."""
    contents = []
    for kind in ("csv", "parquet"):
        root = tmp_path / kind / "landing"
        counts = write_landing(SMALL, Storage(str(root)), file_format=kind)  # type: ignore[arg-type]
        connection = duckdb.connect()
        landing_grammar.bind(connection, root)
        tables = {}
        for table, header in landing_grammar.HEADERS.items():
            listed = ", ".join(f"{name}::varchar as {name}" for name in header.split(","))
            tables[table] = connection.execute(
                f'select {listed}, ds from "{table}" order by all'
            ).fetchall()
            assert len(tables[table]) == counts[table]
        contents.append(tables)
    assert contents[0] == contents[1]


def test_every_row_passes_the_contract(con: duckdb.DuckDBPyConnection, landed: Path) -> None:
    """A value outside the grammar is quarantined, and the benchmark measures rejects."""
    assert landing_grammar.faults(con, landed) == []


def test_landing_and_truth_agree(con: duckdb.DuckDBPyConnection) -> None:
    """Texts without a truth row, or sessions of users who are dead or not yet there."""
    assert one(
        con,
        "select (select count(*) from operation), count(*), count(distinct (user_id, ds)) "
        "from operation join touches using (user_id, ds, item_id) where treated",
    ) == (one(con, "select count(*) from touches where treated") * 3)
    outside = (
        "select count(*) from seen join users using (user_id) "
        "where ds < registered or ds >= died and not exists (select 1 from touches as t "
        "where t.user_id = seen.user_id and t.ds < seen.ds and t.treated)"
    )
    assert one(con, outside) == (0,)
    late = (
        "select count(*), count(*) filter (first = registered) from users left join "
        "(select user_id, min(ds) as first from seen group by user_id) using (user_id) "
        f"where registered >= date '{WORLD.start}'"
    )
    joined, on_time = one(con, late)
    assert joined == on_time != 0
    returned = (
        "select count(*) from touches where returned is not null and returned <> exists("
        "select 1 from seen where seen.user_id = touches.user_id "
        "and seen.ds between touches.ds + 1 and touches.ds + 28)"
    )
    assert one(con, returned) == (0,)
    snapshot = (
        'select count(*) from (select ds, count(*) as n from "user" group by ds) as s '
        "where n <> (select count(*) from users where registered <= s.ds)"
    )
    assert one(con, snapshot) == (0,)


def test_saved_chances_are_what_happens(con: duckdb.DuckDBPyConnection) -> None:
    """The truth is wrong, and every later estimate of an effect is judged by a false ruler.

    For treated and control touches in every latent state: the return rate against the mean saved
    chance, within four standard errors of a sum of independent draws.
    """
    groups = con.execute(
        """
        with touch as (
            select *, if(treated, return_with, return_without) as chance
            from touches where returned is not null
        )
        select state, treated, count(*), sum(returned::int) - sum(chance),
            sqrt(sum(chance * (1 - chance)))
        from touch group by grouping sets ((state, treated), (treated), (state, copy, treated))
        """
    ).fetchall()
    assert len(groups) > 20
    for state, treated, count, excess, deviation in groups:
        assert abs(excess) <= 4 * deviation + 1e-9, (state, treated, count, excess, deviation)
    weighted = con.execute(
        """
        -- weighted by the effect itself: sees effects that are too large or small by a factor
        select sum(effect * (returned::int - return_with)),
            sqrt(sum(effect ** 2 * return_with * (1 - return_with)))
        from touches where returned is not null and treated and effect <> 0
        group by effect > 0
        """
    ).fetchall()
    assert len(weighted) == 2
    for excess, deviation in weighted:
        assert abs(excess) <= 3 * deviation, (excess, deviation)


def test_chance_of_return_equals_a_walk_through_the_states() -> None:
    """The backward recursion drops a day of the window or a way to die.

    Against a forward walk in plain Python, one user, day and state at a time: the weight of each
    state among the paths without a session so far.
    """
    import numpy as np

    from usergrowth_dagster.examples.worlds._population import draw_users
    from usergrowth_dagster.examples.worlds._simulation import Calendar, chance_of_return

    users = draw_users(3, 0, 12, 60)
    calendar = Calendar(weekday=2, day_of_year=330, days=60)
    for window in (1, 5, 28):
        for who in range(12):
            cool, warm, sleep, wake, die, sudden = (float(rate[who]) for rate in users.chain)
            moves = [
                [1 - cool - sudden, cool, 0, sudden],
                [warm, 1 - warm - sleep, sleep, 0],
                [wake, 0, 1 - wake - die, die],
                [0, 0, 0, 1],
            ]
            for state in range(4):
                weight = [float(state == s) for s in range(4)]
                for day in range(20, 20 + window + 1):
                    mean = float(users.rate[who] * calendar.season(day))
                    mean *= float(users.weekend[who]) if calendar.weekend(day) else 1.0
                    quiet = [np.exp(-mean), np.exp(-0.33 * mean), 1, 1] if day > 20 else [1] * 4
                    weight = [
                        sum(weight[a] * moves[a][b] for a in range(4)) * quiet[b] for b in range(4)
                    ]
                chance = chance_of_return(
                    users, calendar, np.array([who]), np.array([20]), np.array([state]), window
                )
                assert chance[0] == pytest.approx(1 - sum(weight), abs=1e-12)


def test_randomised_effect_agrees_with_the_truth(con: duckdb.DuckDBPyConnection) -> None:
    """Treatment leans on something hidden: treated and control are no longer comparable.

    The difference of return rates within a propensity, weighted by touches, against the mean saved
    effect; and the shares treated against the propensities.
    """
    strata = con.execute(
        """
        select propensity, count(*), avg(treated::int), avg(effect),
            avg(returned::int) filter (treated) - avg(returned::int) filter (not treated),
            var_samp(returned::int) filter (treated) / count(*) filter (treated)
                + var_samp(returned::int) filter (not treated) / count(*) filter (not treated)
        from touches where returned is not null group by propensity
        """
    ).fetchall()
    assert sorted(row[0] for row in strata) == [0.35, 0.5, 0.65]
    total = sum(row[1] for row in strata)
    error = 0.0
    variance = 0.0
    for propensity, count, treated, effect, difference, var in strata:
        assert treated == pytest.approx(propensity, abs=4 * (0.25 / count) ** 0.5)
        error += (difference - effect) * count / total
        variance += var * (count / total) ** 2
    assert abs(error) < 4 * variance**0.5
    share_negative, share_positive, spread = one(
        con,
        "select avg((effect < -0.01)::int), avg((effect > 0.05)::int), stddev(effect) from touches",
    )
    assert 0.05 < share_negative < 0.4  # type: ignore[operator]
    assert 0.05 < share_positive < 0.5  # type: ignore[operator]
    assert spread > 0.05  # type: ignore[operator]


def test_models_find_churn_and_returns_but_not_too_easily(con: duckdb.DuckDBPyConnection) -> None:
    """A world without signal, or with a give-away, in which every model looks the same."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def auc(sql: str) -> float:
        rows = con.sql(sql).fetchnumpy()
        label = rows.pop("label").astype(int)
        features = list(zip(*rows.values(), strict=True))
        half = len(label) // 2
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
        model.fit(features[:half], label[:half])
        return float(roc_auc_score(label[half:], model.predict_proba(features[half:])[:, 1]))

    day = "date '2024-03-25'"
    churn = auc(
        f"""
        select ln(1 + min({day} - ds) filter (ds < {day})) as recency,
            ln(1 + count(*) filter (ds between {day} - 7 and {day} - 1)) as days_7,
            ln(1 + count(*) filter (ds between {day} - 28 and {day} - 1)) as days_28,
            ln(1 + sum(n) filter (ds between {day} - 28 and {day} - 1)) as events_28,
            (count(*) filter (ds between {day} and {day} + 6) = 0)::int as label
        from seen group by user_id
        having count(*) filter (ds between {day} - 28 and {day} - 1) > 0
        order by hash(user_id)
        """
    )
    winback = auc(
        """
        select ln(1 + coalesce(min(t.ds - s.ds), 100)) as recency,
            ln(1 + count(s.ds)) as days_90, any_value(t.returned)::int as label
        from touches as t left join seen as s on s.user_id = t.user_id and s.ds < t.ds
        where t.treated and t.returned is not null
        group by t.user_id, t.ds order by hash(t.user_id, t.ds)
        """
    )
    assert 0.75 < churn < 0.90
    assert 0.65 < winback < 0.95


def test_the_truth_lies_beside_the_landing_files() -> None:
    """Guards against a folder ``s3:`` where the demo was run, or another bucket that is written to."""
    places = {"/a/landing": "/a/truth", "s3://b/landing": "s3://b/truth", "s3://b": "s3://b/_truth"}
    for root, place in places.items():
        assert truth_of(Storage(root)).uri() == place


def test_a_second_run_writes_nothing_and_another_world_leaves_no_rest(tmp_path: Path) -> None:
    """Files of a larger or longer world stay behind and mix with the new one's."""
    landing = Storage(str(tmp_path / "landing"))
    first = write_landing(SMALL, landing, chunk_users=400)

    def tags() -> dict[str, str]:
        return {
            entry.path: entry.tag
            for tree in (landing, truth_of(landing))
            for entry in tree.files(deep=True)
        }

    before = tags()
    assert write_landing(SMALL, landing, chunk_users=400) == first
    assert tags() == before
    small = SyntheticWorld(users=300, days=20, start=date(2024, 1, 5), seed=11)
    counts = write_landing(small, landing)
    lines = sum(
        len((tmp_path / "landing" / path).read_bytes().splitlines()) - 1
        for path in tags()
        if path.endswith(".csv")
    )
    assert lines == sum(counts.values()) < sum(first.values())


def test_population_holds_the_registered_with_impossible_phones(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    """Users of the future are texted, or two users share a number."""
    landing = Storage(str(tmp_path))
    rows = write_population(WORLD, landing, "spring", date(2024, 3, 1))
    figures = con.execute(
        "select count(*), count(distinct phone), bool_and(regexp_full_match(phone, "
        "'\\+999[0-9]{10}')), bool_and(item_id in (select item_id from item)), "
        "bool_and(user_id in (select user_id from users where registered < date '2024-03-01')) "
        "from read_csv(?, all_varchar=true, header=true)",
        [str(tmp_path / "population/spring/population.csv")],
    ).fetchall()
    registered = one(con, "select count(*) from users where registered < date '2024-03-01'")
    assert figures == [(*registered, *registered, True, True, True)]
    assert registered == (rows,)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"users": 0}, "users must be from 1 to 10000000, not 0"),
        ({"days": 0}, "days must be from 1 to 3650, not 0"),
        ({"message_price": -1.0}, "message_price must not be negative"),
    ],
)
def test_an_impossible_world_is_refused(changed: dict[str, int], sentence: str) -> None:
    """A typo in a size gives an empty landing folder, or fills the disk."""
    with pytest.raises(UserError, match=sentence):
        SyntheticWorld(**{"users": 10, "days": 10, "start": date(2024, 1, 1), **changed})  # type: ignore[arg-type]
