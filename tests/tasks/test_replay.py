"""A decision is rebuilt from what it was made from, and what differs is named."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet
import pytest
from chain_world import (
    D,
    World,
    cli,
    copy_home,
    day,
    errors,
    succeeded,
    write_campaign,
    write_people,
)
from deltalake import write_deltalake
from support.decided import read_decisions
from support.old_files import make_old

from usergrowth_dagster.control.apply import apply_campaign
from usergrowth_dagster.control.campaign import load_campaign
from usergrowth_dagster.control.tasks import task
from usergrowth_dagster.data.contracts import LANDING_TABLES
from usergrowth_dagster.explain import replay as replay_module
from usergrowth_dagster.explain.replay import Check, replay, replay_task
from usergrowth_dagster.learning.store import add_version, client, versions
from usergrowth_dagster.messaging.people.phones import open_vault
from usergrowth_dagster.messaging.policy.suppression import suppress
from usergrowth_dagster.messaging.schedules.occurrences import business_now
from usergrowth_dagster.people.forget import forget
from usergrowth_dagster.pipeline import inputs as inputs_module
from usergrowth_dagster.pipeline.decide import decide_rows, decide_task
from usergrowth_dagster.pipeline.inputs import DecisionInputs, recorded_inputs
from usergrowth_dagster.pipeline.maintenance import maintain
from usergrowth_dagster.pipeline.populate import load_population
from usergrowth_dagster.pipeline.provenance import (
    Provenance,
    deciding_settings,
    file_hash,
    read_provenance,
    recorded_project,
)
from usergrowth_dagster.pipeline.score import score_task, scoring_model
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import Settings, load_settings, settings_class
from usergrowth_dagster.training.train import effect_config
from usergrowth_dagster.warehouse.build import Builder
from usergrowth_dagster.warehouse.engine import open_engine
from usergrowth_dagster.warehouse.landing import land_days
from usergrowth_dagster.warehouse.relation import Relation, bind_query


def open_project(home: Path) -> Project:
    return Project(load_settings(home))


def pins_of(project: Project, name: str) -> Provenance:
    return read_provenance(project.warehouse, name)[D]


def ingest(project: Project, wanted: date) -> None:
    """Land a day and make its facts, and the features of D anew."""
    for table in LANDING_TABLES:
        land_days(project.settings, project.landing, project.warehouse, table, [wanted])
    builder = Builder(project.settings, project.warehouse)
    facts = ["stg_user", "stg_item", "stg_behavior", "stg_operation"]
    builder.build_with_inputs([*facts, "user_day", "user_item_day"], [wanted])
    builder.build_with_inputs(["user_features", "user_item_features"], [D])


def promote_another(project: Project, name: str) -> None:
    """A newer version is approved, and the one that scored is rejected."""
    made, (champion, *_) = client(project.settings), versions(project.settings, name)
    tags = dict(made.get_model_version(name, str(champion.version)).tags)
    add_version(made, project.settings, name, champion.run_id, {**tags, "fingerprint": "another"})
    made.set_model_version_tag(name, str(champion.version), "status", "rejected")


def decide_spring(project: Project, people: list[str]) -> list[str]:
    """A task with excluded people, a consent, strata and exploring, decided and not sent."""
    home = project.settings.home
    lines = [
        f"{people[0]},ok",
        *(f"{p},{'yes' if n % 4 else 'no'}" for n, p in enumerate(people[1:])),
    ]
    write_people(home, "spring", lines)
    path = write_campaign(
        home,
        "spring",
        selection="{top_n: 60, explore: 0.2}",
        holdout="{share: 0.2, strata: [activity]}",
        contact="{require_consent: ok}",
    )
    apply_campaign(project.store, load_campaign(path), "ann")
    users = [line.split(",")[0] for line in people[1:]]
    for user in users[:30]:
        refuse(project, user)
    for step in (load_population, score_task, decide_task):
        step(project, task(project.store, "spring"))  # type: ignore[operator]
    return users


def refuse(project: Project, user: str) -> None:
    vault, now = open_vault(project.settings.home), business_now(project.settings)
    suppress(project.store, vault, user_id=user, reason="by_hand", source="test", now=now)


def test_whatever_comes_later_the_decision_replays(world: World, tmp_path: Path) -> None:
    """A replay reads what is there today: data, models, settings, suppressions, uploads."""
    home = copy_home(world.decided, tmp_path / "home")
    project = open_project(home)
    source = home / "landing" / "population" / "care" / "population.csv"
    people = source.read_text("utf-8").splitlines()
    users = decide_spring(project, people[:400])
    before = {name: pins_of(project, name) for name in ("care", "comeback", "spring")}
    assert before["spring"].excluded == 30
    assert before["spring"].choice["holdout"]["strata"] == ["activity"]

    ingest(project, D)  # later data
    folder = home / "landing" / "behavior" / f"ds={day(1):%Y%m%d}"
    for path in folder.glob("*.csv"):  # the same day lands again, with other content
        lines = path.read_text("utf-8").splitlines(keepends=True)
        path.write_text("".join(lines[: len(lines) // 2]), "utf-8")
    ingest(project, day(1))
    promote_another(project, "churn")
    promote_another(project, "winback")
    write_people(home, "spring", [*people[:40]])  # uploaded again, not decided again
    load_population(project, task(project.store, "spring"))
    for user in users:
        refuse(project, user)
    with (home / "usergrowth.toml").open("a") as toml:
        toml.write("message_price = 0.5\nactive_days = 3\nglobal_holdout_share = 0.4\n")
        toml.write('billing = "international"\ncap_messages = 1\n')
    path = write_campaign(
        home,
        "spring",
        selection="{threshold: 0.9}",
        template="{name: spring, content: 'Other. 拒收请回复R'}",
    )
    project = open_project(home)
    apply_campaign(project.store, load_campaign(path), "ann")

    present = project.warehouse.files("user_features")[D]
    assert not {f.rsplit("/", 1)[-1] for f in present} & {
        f.rsplit("/", 1)[-1] for f in before["care"].files
    }
    assert scoring_model(project, task(project.store, "care")).version == 2
    for name, pins in before.items():
        (replayed,) = replay_task(project, name)
        assert replayed.state == "equal", replayed
        assert replayed.replayed_hash == replayed.decided_hash == pins.hash
        assert [c.part for c in replayed.checks] == sorted(
            (c.part for c in replayed.checks), key=replay_module.PARTS.index
        )
    printed = succeeded(cli(home, "replay", "--all"))
    assert [line.split(":")[1].split(";")[0] for line in printed.splitlines()] == [" equal"] * 3
    # what is decided today is another decision, so the three were not equal by chance
    decide_today(project, "spring")
    assert pins_of(project, "spring").hash != before["spring"].hash
    assert replay_task(project, "spring")[0].state == "equal"


def decide_today(project: Project, name: str) -> None:
    for step in (score_task, decide_task):
        step(project, task(project.store, name))  # type: ignore[operator]


@contextmanager
def altered(path: Path, change: Callable[[Path], None]) -> Iterator[None]:
    """A file with another content for a while."""
    content = path.read_bytes()
    try:
        change(path)
        yield
    finally:
        path.write_bytes(content)


def rewrite(select: str) -> Callable[[Path], None]:
    """Replace a data file's rows by a query of them; the file keeps its name."""

    def change(path: Path) -> None:
        with duckdb.connect(config={"threads": 2}) as connection:
            rows = connection.sql(select.format(f"read_parquet('{path}', hive_partitioning=false)"))
            table = rows.to_arrow_table()
        import pyarrow.parquet as pq

        pq.write_table(table, path)

    return change


def first_of(project: Project, name: str = "care") -> tuple[str | None, str]:
    (replayed,) = replay_task(project, name)
    assert (replayed.state == "equal") is (replayed.first is None)
    return replayed.first, replayed.sentence


def data_file(project: Project, pins: Provenance, table: str) -> Path:
    path = next(p for p in pins.files if p.startswith(f"tables/{table}/"))
    return Path(project.warehouse.storage.uri(path))


def test_the_first_difference_is_named(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decision whose inputs or rows were altered passes, or another part is blamed."""
    home = copy_home(world.decided, tmp_path / "home")
    project = open_project(home)
    pins = pins_of(project, "care")
    changes = {
        "population": ("population", "select * replace ('x' as item_id) from {}"),
        "stg_user": ("attributes", "select * from {} limit 5"),
        "user_features": (
            "features",
            "select * replace (recency_days + 1 as recency_days) from {}",
        ),
        "scores": ("scores", "select * replace (score / 2 as score) from {}"),
    }
    for table, (part, select) in changes.items():
        with altered(data_file(project, pins, table), rewrite(select)):
            assert first_of(project)[0] == part, table
    assert first_of(project)[0] is None

    # scores that were altered before they were pinned are not what the model gives
    scores = data_file(project, pins, "scores")
    with altered(scores, rewrite("select * replace (score * 0.999 as score) from {}")):
        relative = next(p for p in pins.files if p.startswith("tables/scores/"))
        files = {**pins.files, relative: file_hash(project.warehouse.storage, relative)}
        replayed = replay(project, pins.model_copy(update={"files": files}))
        assert (replayed.first, replayed.state) == ("scores", "different")
        assert "are not what the model gives" in replayed.sentence

    artifact = next((home / "mlflow" / "artifacts" / "churn").rglob("model.skops"))
    with altered(artifact, lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?")):
        part, sentence = first_of(project)
        assert part == "model" and "churn version 1" in sentence
    artifact.rename(artifact.with_suffix(".away"))
    assert first_of(project)[0] == "model"
    artifact.with_suffix(".away").rename(artifact)

    def with_spec(**changes: Any) -> Provenance:
        return pins.model_copy(update={"spec": {**pins.spec, **changes}})

    expected = {
        "policy": with_spec(selection={"top_n": 39}),
        "holdout": with_spec(holdout={**pins.spec["holdout"], "share": 0.2}),
        "price": pins.model_copy(update={"settings": {**pins.settings, "message_price": 1.0}}),
        "settings": pins.model_copy(update={"settings": {**pins.settings, "active_days": 3}}),
        "template": pins.model_copy(
            update={"settings": {**pins.settings, "billing": "international"}}
        ),
    }
    same = Check("scores", "same")  # they have been made again often enough by now
    monkeypatch.setattr(replay_module, "score_check", lambda *_: same)
    for part, other in expected.items():
        replayed = replay(project, other)
        assert (replayed.first, replayed.state) == (part, "different"), replayed.sentence

    newer = {**replay_module.code_version(), "lightgbm": "9.9"}
    monkeypatch.setattr(replay_module, "code_version", lambda: newer)
    (replayed,) = replay_task(project, "care")
    assert (
        replayed.state == "equal"
        and "lightgbm 4." in replayed.sentence
        and "9.9" in replayed.sentence
    )

    def otherwise(inputs: DecisionInputs) -> Relation:
        rows = decide_rows(inputs)
        changed = f"select * replace (cast(9 as double) as cost) from {rows}"
        return bind_query(inputs.engine, "otherwise", changed)

    with monkeypatch.context() as patched:
        patched.setattr(replay_module, "decide_rows", otherwise)
        part, sentence = first_of(project)
        assert part == "code" and "500 rows of 500 in cost" in sentence and "lightgbm" in sentence

    # a hand in the table itself
    with open_engine(project.settings) as engine:
        table = read_decisions(engine, project.warehouse, D, "care")
    outcome = table.column("outcome").to_pylist()
    place = outcome.index("not_in_top_n")
    outcome[place] = "selected"
    write_deltalake(
        project.warehouse.uri("decisions"),
        table.set_column(table.column_names.index("outcome"), "outcome", pa.array(outcome)),
        mode="overwrite",
        predicate=f"ds = '{D}' and task_id = 'care'",
    )
    part, sentence = first_of(project)
    assert part == "decision" and "1 row of 500 in outcome" in sentence
    assert f"version {project.warehouse.version('decisions')} of the table" in sentence
    assert first_of(project, "comeback")[0] is None
    (told_line,) = errors(cli(home, "replay", "care"))
    assert told_line == f"error: {sentence}"


def test_excluded_people_stay_excluded_in_a_replay(world: World, tmp_path: Path) -> None:
    """The replay asks today's suppressions, or takes altered ones for those of then."""
    home = copy_home(world.decided, tmp_path / "home")
    project = open_project(home)
    source = home / "landing" / "population" / "care" / "population.csv"
    decide_spring(project, source.read_text("utf-8").splitlines()[:300])
    pins = pins_of(project, "spring")
    with closing(sqlite3.connect(home / "control.db")) as connection, connection:
        connection.execute("delete from suppression")
    assert first_of(project, "spring")[0] is None
    with altered(data_file(project, pins, "barred"), rewrite("select * from {} limit 3")):
        assert first_of(project, "spring")[0] == "exclusions"


def test_effects_are_made_again_too(world: World, tmp_path: Path) -> None:
    """A replay leaves the model of effects out, or takes the newest one."""
    home = copy_home(world.decided, tmp_path / "home")
    project = open_project(home)
    made = client(project.settings)
    (winback,) = versions(project.settings, "winback")
    spec = task(project.store, "comeback").spec
    tags = {
        **made.get_model_version("winback", str(winback.version)).tags,
        "config_hash": effect_config(project, spec).config_hash(),
    }
    # what it says does not matter here, only that it is another model than that of the score
    add_version(made, project.settings, "uplift", winback.run_id, tags)
    source = home / "landing" / "population" / "care" / "population.csv"
    write_people(home, "spring", source.read_text("utf-8").splitlines()[:200])
    path = write_campaign(
        home,
        "spring",
        algorithm="{kind: winback, return_days: 14}",
        training="{window_days: 90}",
        selection="{top_n: 60, rank_by: uplift}",
    )
    apply_campaign(project.store, load_campaign(path), "ann")
    for step in (load_population, score_task, decide_task):
        step(project, task(project.store, "spring"))  # type: ignore[operator]
    pins = pins_of(project, "spring")
    assert pins.scored is not None and set(pins.scored.models) == {"response", "uplift"}
    assert pins.choice["note"] == "" and pins.choice["policy"]["rank_by"] == "uplift"
    add_version(made, project.settings, "uplift", winback.run_id, {**tags, "fingerprint": "new"})
    made.set_model_version_tag("uplift", "1", "status", "rejected")
    (replayed,) = replay_task(project, "spring")
    assert replayed.state == "equal", replayed.sentence
    assert [c.detail for c in replayed.checks if c.part == "uplift model"] == [
        "uplift version 1 (rejected now)"
    ]
    with altered(
        data_file(project, pins, "scores"),
        rewrite("select * replace (uplift * 0.9 as uplift) from {}"),
    ):
        relative = next(p for p in pins.files if p.startswith("tables/scores/"))
        files = {**pins.files, relative: file_hash(project.warehouse.storage, relative)}
        replayed = replay(project, pins.model_copy(update={"files": files}))
        assert replayed.first == "scores" and "are not what the model gives" in replayed.sentence


def test_what_cannot_be_replayed_says_why(world: World, tmp_path: Path) -> None:
    """A forgotten person, or a decision from before there were pins, is a traceback or passes."""
    home = copy_home(world.decided, tmp_path / "home")
    project = open_project(home)
    forgotten = next(iter(project.warehouse.files("population")[D]))
    with duckdb.connect() as connection:
        user = connection.execute(
            f"select user_id from read_parquet('{forgotten}') limit 1"
        ).fetchall()[0][0]
    forget(project, user, actor="ann")
    (replayed,) = replay_task(project, "care")
    assert (replayed.state, replayed.first) == ("gone", "population")
    assert f"population of {D}" in replayed.sentence and "one was forgotten on" in replayed.sentence
    assert user not in json.dumps(asdict(replayed), default=str)

    with open_engine(project.settings) as engine:
        table = read_decisions(engine, project.warehouse, D, "comeback")
    scope = {"task_id": "comeback"}
    project.warehouse.replace("decisions", table, days=[D], scope=scope, fingerprints={D: "old"})
    (replayed,) = replay_task(project, "comeback")
    assert replayed.state == "unpinned" and "before decisions kept" in replayed.sentence
    done = cli(home, "replay", "--all", "--json")
    assert [one["state"] for one in json.loads(done.stdout)] == ["gone", "unpinned"]
    assert len(errors(done)) == 2
    assert errors(cli(home, "replay", "nothing")) == [
        "error: task 'nothing' has no decision to replay; tasks with one: care, comeback"
    ]


def test_every_setting_that_a_decision_reads_is_pinned(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting is read when deciding that a replay would take from today's."""
    project = open_project(copy_home(world.decided, tmp_path / "home"))
    read: set[str] = set()

    class Watched(settings_class()):
        def __getattribute__(self, name: str) -> Any:
            read.add(name)
            return super().__getattribute__(name)

    for name in ("care", "comeback"):
        pins = pins_of(project, name)
        then = recorded_project(project, pins)
        watched = Project(Watched(**then.settings.model_dump()))
        watched.warehouse = then.warehouse
        with open_engine(project.settings) as engine:
            monkeypatch.setattr(inputs_module, "recorded_project", lambda *_, of=watched: of)
            read.clear()
            decide_rows(recorded_inputs(engine, project, pins))
        asked = read & set(Settings.model_fields)
        assert "message_price" in asked
        assert asked <= set(deciding_settings(project.settings)), asked
    secret = ("url", "token", "key", "password", "host")
    names = set(pins.settings) - {"timezone_key"}
    assert not [name for name in names if any(word in name for word in secret)]


def test_maintenance_keeps_what_replays_need(home: Path) -> None:
    """Guards against features that are removed while the decision made from them still stands."""
    project = open_project(home)
    recorded = {path for task in ("care", "comeback") for path in pins_of(project, task).files}
    for table in ("user_features", "churn_label"):
        on, (file,) = next(reversed(project.warehouse.files(table).items()))
        rows = pa.parquet.ParquetFile(file).read()
        rows = rows.append_column("ds", pa.array([on] * len(rows), pa.date32()))
        project.warehouse.replace(table, rows, days=[on])
        make_old(project.warehouse, table, days=100)
    done = {one.table: one for one in maintain(project)}
    assert done["user_features"].for_replays == 1 and done["churn_label"].removed == 1
    assert all(project.warehouse.storage.exists(path) for path in recorded)
    for name in ("care", "comeback"):
        assert [one.state for one in replay_task(open_project(home), name)] == ["equal"]
